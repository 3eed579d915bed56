//! The shim's log: off unless SOCKS6_LOG names a level; one write(2) a line, no heap, no lock.

use std::fmt::{self, Write};

use rustix::fd::BorrowedFd;
use rustix::fs::OFlags;
use socks_client::{Log, LogLevel, LogTarget};

use crate::sys::file::File;

/// Longest line; a name has at most 255 octets, twice that when escaped.
const LINE_OCTETS: usize = 1024;

/// Writes `message` if `level` is logged.
pub(crate) fn log(log: Option<&Log>, level: LogLevel, message: fmt::Arguments<'_>) {
    if let Some(log) = log.filter(|log| level <= log.level) {
        write_line(&log.target, message);
    }
}

/// Writes one line, whatever the level. A log that cannot be written is no reason to fail.
pub(crate) fn write_line(target: &LogTarget, message: fmt::Arguments<'_>) {
    let mut line = Line {
        octets: [0; LINE_OCTETS],
        len: 0,
    };
    let pid = rustix::process::getpid().as_raw_nonzero();
    // Cut lines are lines too.
    let _cut = write!(line, "socks6[{pid}]: {message}");
    let octets = line.finished();
    match target {
        LogTarget::File(path) => {
            let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE;
            if let Ok(file) = File::open(path, flags) {
                let _lost = rustix::io::write(&file, octets);
            }
        }
        LogTarget::Fd(fd) => write_to(*fd, octets),
        LogTarget::Stderr => write_to(2, octets),
    }
}

fn write_to(fd: i32, octets: &[u8]) {
    // SAFETY: a number that is no descriptor makes write(2) fail with EBADF, no more.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    let _lost = rustix::io::write(fd, octets);
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
