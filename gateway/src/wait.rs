//! poll(2) until a moment instead of for a while, so that no loop has to count down.

use std::os::fd::OwnedFd;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// How many of `fds` have something to report; 0 once `deadline` has passed, never if it is `None`.
/// A signal makes no difference.
pub(crate) fn poll_until(
    fds: &mut [PollFd<'_>],
    deadline: Option<Instant>,
) -> Result<usize, Errno> {
    loop {
        let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
        // A duration too long for a timespec is as good as none.
        let timeout = left.and_then(|left| Timespec::try_from(left).ok());
        match poll(fds, timeout.as_ref()) {
            Err(Errno::INTR) => {}
            polled => return polled,
        }
    }
}

/// Whether a stream has octets, its end or an error to say, or a listener a client.
pub(crate) fn is_readable(socket: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(socket, PollFlags::IN)];
    poll_until(&mut fds, Some(Instant::now())).is_ok_and(|ready| ready > 0)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    use super::*;

    #[test]
    fn silence_ends_at_the_deadline_and_a_past_one_does_not_wait() {
        let (_outside, inside) = UnixStream::pair().unwrap();
        let mut fds = [PollFd::from_borrowed_fd(inside.as_fd(), PollFlags::IN)];

        let start = Instant::now();
        assert_eq!(
            poll_until(&mut fds, Some(start + Duration::from_millis(20))),
            Ok(0)
        );
        assert!(start.elapsed() >= Duration::from_millis(20));
        assert_eq!(poll_until(&mut fds, Some(start)), Ok(0));
    }
}
