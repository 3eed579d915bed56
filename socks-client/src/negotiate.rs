//! How long a handshake may take, in the application's terms and in ours.

use crate::Errno;

/// A reading of CLOCK_MONOTONIC, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Clock(pub u64);

/// The TCP connect, the handshake and the gateway's own dial together: a little more than the 127 s
/// after which Linux gives up on a SYN, so that the gateway's ETIMEDOUT arrives first. In milliseconds.
pub const HANDSHAKE_LIMIT: u64 = 135_000;

/// How long one call of connect() waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// When the first connect() of this handshake began.
    pub began: Clock,
    /// When this call began.
    pub called: Clock,
    /// `SO_SNDTIMEO` in milliseconds; `None` if it is not set or the socket does not block.
    pub send_timeout: Option<u64>,
    /// Whether this is a further connect(), which goes on with a handshake begun before.
    pub is_further: bool,
}

impl Patience {
    /// Milliseconds left to wait, at least 1.
    ///
    /// # Errors
    /// The errno that this call ends with: [`Errno::GATEWAY`] when the whole handshake took too
    /// long, otherwise what connect(2) gives when `SO_SNDTIMEO` has run out and the connection goes
    /// on being made.
    pub fn left(&self, now: Clock) -> Result<u64, Errno> {
        let of_limit = self
            .began
            .0
            .saturating_add(HANDSHAKE_LIMIT)
            .saturating_sub(now.0);
        if of_limit == 0 {
            return Err(Errno::GATEWAY);
        }
        let Some(timeout) = self.send_timeout else {
            return Ok(of_limit);
        };
        match self.called.0.saturating_add(timeout).saturating_sub(now.0) {
            0 if self.is_further => Err(Errno::ALREADY),
            0 => Err(Errno::STILL_CONNECTING),
            left => Ok(left.min(of_limit)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patience(send_timeout: Option<u64>) -> Patience {
        Patience {
            began: Clock(1_000),
            called: Clock(1_000),
            send_timeout,
            is_further: false,
        }
    }

    #[test]
    fn the_shorter_of_the_two_limits_counts() {
        assert_eq!(patience(None).left(Clock(1_000)), Ok(HANDSHAKE_LIMIT));
        assert_eq!(patience(None).left(Clock(135_999)), Ok(1));
        assert_eq!(patience(None).left(Clock(136_000)), Err(Errno::GATEWAY));
        assert_eq!(patience(Some(2_000)).left(Clock(1_500)), Ok(1_500));
        assert_eq!(
            patience(Some(200_000)).left(Clock(136_000)),
            Err(Errno::GATEWAY)
        );
    }

    /// socket(7), SO_SNDTIMEO, and connect(2): EINPROGRESS first, EALREADY when asked again.
    #[test]
    fn the_send_timeout_gives_what_connect_gives() {
        let first = patience(Some(2_000));
        assert_eq!(first.left(Clock(3_000)), Err(Errno::STILL_CONNECTING));
        let further = Patience {
            called: Clock(5_000),
            is_further: true,
            ..first
        };
        assert_eq!(further.left(Clock(5_500)), Ok(1_500));
        assert_eq!(further.left(Clock(7_000)), Err(Errno::ALREADY));
    }
}
