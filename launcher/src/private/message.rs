//! What the supervisor tells the process that stands in for the command: one octet of kind, four of
//! value. The other way goes one octet for each signal that is to be passed on.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;

/// What happened to the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Report {
    /// It runs.
    Started,
    /// It ended with this status.
    Exited(i32),
    /// It was killed by this signal.
    Killed(i32),
    /// It was stopped.
    Stopped,
    /// It could not be executed, for this errno.
    Failed(i32),
}

impl Report {
    /// # Errors
    /// If the other side is gone.
    pub(super) fn send(self, mut to: &UnixStream) -> io::Result<()> {
        let (kind, value) = match self {
            Self::Started => (b'r', 0),
            Self::Exited(status) => (b'e', status),
            Self::Killed(signal) => (b'k', signal),
            Self::Stopped => (b's', 0),
            Self::Failed(errno) => (b'f', errno),
        };
        let [a, b, c, d] = value.to_ne_bytes();
        to.write_all(&[kind, a, b, c, d])
    }

    /// # Errors
    /// If the other side is gone.
    pub(super) fn receive(mut from: &UnixStream) -> io::Result<Self> {
        let mut octets = [0; 5];
        from.read_exact(&mut octets)?;
        let [kind, value @ ..] = octets;
        let value = i32::from_ne_bytes(value);
        match kind {
            b'r' => Ok(Self::Started),
            b'e' => Ok(Self::Exited(value)),
            b'k' => Ok(Self::Killed(value)),
            b's' => Ok(Self::Stopped),
            b'f' => Ok(Self::Failed(value)),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}
