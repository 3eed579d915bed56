//! The shim's log: off unless SOCKS6_LOG names a level; one write(2) a line, no heap, no lock.

use std::fmt::{self, Write};

use rustix::fd::BorrowedFd;
use rustix::fs::OFlags;
use rustix::io::Errno;
use socks_client::{Log, LogLevel, LogTarget};

use crate::sys::file::File;
use crate::sys::signals;

/// Longest line: room for nearly every name there is, and not more, since it may be on the stack of a signal handler.
const LINE_OCTETS: usize = 320;

/// Where log lines go, and what keeps them from going anywhere else: a program may close descriptor 2
/// and have a socket there the next moment.
#[derive(Debug)]
pub(crate) struct Sink {
    log: Log,
    /// Device and inode of the descriptor at the start; `None` for a file, which is opened for each line.
    identity: Option<(u64, u64)>,
}

impl Sink {
    pub(crate) fn new(log: Log) -> Self {
        let identity = match &log.target {
            LogTarget::File(_) => None,
            LogTarget::Fd(fd) => identity(*fd),
            LogTarget::Stderr => identity(2),
        };
        Self { log, identity }
    }

    /// Writes `message` if `level` is logged.
    pub(crate) fn log(&self, level: LogLevel, message: fmt::Arguments<'_>) {
        if self.takes(level) {
            self.write_line(message);
        }
    }

    pub(crate) fn takes(&self, level: LogLevel) -> bool {
        level <= self.log.level
    }

    /// Writes one line, whatever the level. A log that cannot be written is no reason to fail.
    #[cold]
    #[inline(never)] // its line is on the stack only when it is needed
    pub(crate) fn write_line(&self, message: fmt::Arguments<'_>) {
        let mut line = Line {
            octets: [0; LINE_OCTETS],
            len: 0,
        };
        let pid = rustix::process::getpid().as_raw_nonzero();
        // Cut lines are lines too.
        let _cut = write!(line, "socks6[{pid}]: {message}");
        let octets = line.finished();
        let _lost = match &self.log.target {
            LogTarget::File(path) => {
                let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE;
                File::open(path, flags).and_then(|file| rustix::io::write(&file, octets))
            }
            LogTarget::Fd(fd) => self.write_to(*fd, octets),
            LogTarget::Stderr => self.write_to(2, octets),
        };
    }

    fn write_to(&self, fd: i32, octets: &[u8]) -> Result<usize, Errno> {
        if self.identity.is_none() || self.identity != identity(fd) {
            return Err(Errno::BADF);
        }
        // SAFETY: open (fstat has just said so), borrowed for this call.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) };
        signals::without_sigpipe(|| rustix::io::write(fd, octets))
    }
}

fn identity(fd: i32) -> Option<(u64, u64)> {
    if fd < 0 {
        return None;
    }
    // SAFETY: borrowed for this call; a number that is no descriptor gives EBADF.
    let stat = rustix::fs::fstat(unsafe { BorrowedFd::borrow_raw(fd) }).ok()?;
    Some((stat.st_dev, stat.st_ino))
}

struct Line {
    octets: [u8; LINE_OCTETS],
    len: usize,
}

impl Line {
    fn finished(&mut self) -> &[u8] {
        // One octet is always left for the end of the line.
        if let Some(end) = self.octets.get_mut(self.len) {
            *end = b'\n';
        }
        self.octets.get(..=self.len).unwrap_or_default()
    }
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for octet in text.bytes() {
            let room = self.octets.len().saturating_sub(1);
            let Some(to) = self.octets.get_mut(self.len).filter(|_| self.len < room) else {
                return Err(fmt::Error);
            };
            *to = if octet == b'\n' { b' ' } else { octet };
            self.len = self.len.saturating_add(1);
        }
        Ok(())
    }
}
