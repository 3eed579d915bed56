//! accept(2), in a program that has connections under way: the one that is waited for may be its own, begun by the same
//! thread and relayed, whose handshake nobody else drives.

use std::ffi::c_int;
use std::time::Duration;

use libc::{pollfd, sockaddr, socklen_t};

use crate::enter::enter;
use crate::next;
use crate::pending::PENDING;
use crate::state::State;
use crate::sys::{errno, io, signals};
use crate::wait::{self, Deadline, Rounds};

/// `accept(2)`: async-signal-safe and a cancellation point.
///
/// # Safety
/// The C contract of the function.
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn accept(fd: c_int, addr: *mut sockaddr, len: *mut socklen_t) -> c_int {
    if PENDING.is_any() && !has_waited(fd) {
        return -1;
    }
    // SAFETY: the application's own arguments.
    unsafe { next::ACCEPT.get()(fd, addr, len) }
}

/// `accept4(2)`: a cancellation point.
///
/// # Safety
/// The C contract of the function.
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn accept4(
    fd: c_int,
    addr: *mut sockaddr,
    len: *mut socklen_t,
    flags: c_int,
) -> c_int {
    if PENDING.is_any() && !has_waited(fd) {
        return -1;
    }
    // SAFETY: the application's own arguments.
    unsafe { next::ACCEPT4.get()(fd, addr, len, flags) }
}

/// Waits in libc's place as long as handshakes are under way; false if the call is over, with errno set. Nothing in here
/// has a destructor while poll runs.
fn has_waited(fd: c_int) -> bool {
    let (mut deadline, mut rounds) = (None, Rounds::new());
    while let Some(timeout) = enter(None, None, |state| state.before_accept(fd)) {
        let deadline = *deadline.get_or_insert_with(|| Deadline::after(timeout));
        if deadline.is_over() {
            errno::set(libc::EAGAIN);
            return false;
        }
        let left = wait::milliseconds(Some(deadline.left_within(rounds.next())));
        let mut waited = pollfd {
            fd,
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: one pollfd.
        let ready = unsafe { next::POLL.get()(&raw mut waited, 1, left) };
        // As a plain accept() after a handler (signal(7)).
        let goes_on = || timeout.is_none() && signals::every_handler_restarts();
        if ready > 0 {
            break;
        }
        if ready < 0 && !(errno::get() == libc::EINTR && goes_on()) {
            return false;
        }
    }
    true
}

impl State {
    /// Takes this thread's handshakes as far as they go; how long `fd` would wait for a client (`None` is for ever), or
    /// `None` if there is none under way or it does not wait.
    fn before_accept(&self, fd: c_int) -> Option<Option<Duration>> {
        if fd < 0 || !io::is_listening(fd) || !io::is_blocking(fd) {
            return None;
        }
        self.drive_each(self.own_pending());
        let is_any = self.own_pending().next().is_some();
        is_any.then(|| io::receive_timeout(fd))
    }
}
