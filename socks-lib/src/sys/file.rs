//! Small files, read and appended to by raw system calls.

use std::mem::ManuallyDrop;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

/// A descriptor of our own, closed by a raw system call: std's OwnedFd calls libc's close, which is a
/// cancellation point, and pthread_cancel cannot unwind through the gate.
#[derive(Debug)]
pub(crate) struct File(ManuallyDrop<OwnedFd>);

impl File {
    pub(crate) fn new(fd: OwnedFd) -> Self {
        Self(ManuallyDrop::new(fd))
    }

    /// Its number, which somebody else closes.
    pub(crate) fn into_raw(self) -> i32 {
        ManuallyDrop::new(self).0.as_raw_fd()
    }

    pub(crate) fn open(path: &Path, flags: OFlags) -> Result<Self, Errno> {
        let flags = flags | OFlags::CLOEXEC | OFlags::NOCTTY;
        let mode = Mode::from_raw_mode(0o600);
        rustix::fs::open(path.as_os_str().as_bytes(), flags, mode).map(Self::new)
    }

    /// The next octets; 0 at the end.
    pub(crate) fn read(&self, room: &mut [u8]) -> Result<usize, Errno> {
        loop {
            match rustix::io::read(self, &mut *room) {
                Err(Errno::INTR) => {}
                result => return result,
            }
        }
    }

    /// The whole content, of at most `most` octets.
    pub(crate) fn read_whole(path: &Path, most: usize) -> Result<Vec<u8>, Errno> {
        // A FIFO would wait for somebody to write to it.
        let file = Self::open(path, OFlags::RDONLY | OFlags::NONBLOCK)?;
        let kind = FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode);
        if kind != FileType::RegularFile {
            return Err(Errno::INVAL);
        }
        let mut content = Vec::new();
        let mut piece = [0; 4096];
        loop {
            let len = file.read(&mut piece)?;
            if len == 0 {
                return Ok(content);
            }
            content.extend_from_slice(piece.get(..len).unwrap_or_default());
            if content.len() > most {
                return Err(Errno::FBIG);
            }
        }
    }
}

impl AsFd for File {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        // SAFETY: dropped once, and nothing uses it afterwards.
        let fd = unsafe { ManuallyDrop::take(&mut self.0) }.into_raw_fd();
        // SAFETY: ours, and nobody else has it.
        unsafe { rustix::io::close(fd) };
    }
}

/// The number of a descriptor of the application's, so that it can be dup3'd over without being closed.
pub(crate) fn borrowed_target(number: i32) -> ManuallyDrop<OwnedFd> {
    // SAFETY: never dropped: it stays the application's.
    ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(number) })
}
