//! What has to do with the process as a whole: descriptors that it was started with, and those of a child.

use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Mutex;

use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};

/// A descriptor that this process was started with; `None` if there is none of this number, or it has been taken.
/// Nothing may have been opened yet.
pub(crate) fn take(number: RawFd) -> Option<OwnedFd> {
    static TAKEN: Mutex<Vec<RawFd>> = Mutex::new(Vec::new());
    let mut taken = TAKEN.lock().ok()?;
    // 0 to 2 are std's.
    if number < 3 || taken.contains(&number) {
        return None;
    }
    // SAFETY: a number that is not open makes fcntl(2) fail, which is what is asked here.
    fcntl_getfd(unsafe { BorrowedFd::borrow_raw(number) }).ok()?;
    taken.push(number);
    // SAFETY: open, by the line above; nothing else in this process has it, since it was inherited (our caller's
    // contract) and has not been taken before.
    Some(unsafe { OwnedFd::from_raw_fd(number) })
}

/// These descriptors are to stay open in the program that `command` starts, under their own numbers.
pub(crate) fn keep_open(command: &mut Command, numbers: Vec<RawFd>) {
    let keep = move || {
        for number in &numbers {
            // SAFETY: a number makes no difference to memory; one that is not open makes the call fail.
            let fd = unsafe { BorrowedFd::borrow_raw(*number) };
            fcntl_setfd(fd, FdFlags::empty())?;
        }
        Ok(())
    };
    // SAFETY: between fork and exec the closure makes one system call for each number, and neither allocates nor takes
    // a lock.
    unsafe { command.pre_exec(keep) };
}
