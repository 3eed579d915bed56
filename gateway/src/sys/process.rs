//! What has to do with the process as a whole: descriptors that it was started with, those of a child, and its user.

use std::ffi::CStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::ptr;
use std::sync::Mutex;

use libc::c_int;
use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};
use rustix::process::{getegid, geteuid};

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

/// A user of this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl Account {
    /// Whether this process belongs to it already.
    pub(crate) fn is_current(self) -> bool {
        let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
        uid == self.uid && gid == self.gid
    }
}

/// By getpwnam_r(3); `None` if there is no such user.
pub(crate) fn account(name: &CStr) -> io::Result<Option<Account>> {
    let mut room = vec![0; 16 << 10];
    let mut entry = MaybeUninit::<libc::passwd>::uninit();
    let mut found = ptr::null_mut();
    // SAFETY: a C string, and memory of ours to be written to, with the length that it has.
    let errno = unsafe {
        libc::getpwnam_r(
            name.as_ptr(),
            entry.as_mut_ptr(),
            room.as_mut_ptr(),
            room.len(),
            &raw mut found,
        )
    };
    // SAFETY: null, or a pointer to `entry`, which has been filled in then (getpwnam_r(3)).
    match unsafe { found.as_ref() } {
        Some(entry) => Ok(Some(Account {
            uid: entry.pw_uid,
            gid: entry.pw_gid,
        })),
        None if errno == 0 => Ok(None),
        None => Err(io::Error::from_raw_os_error(errno)),
    }
}

/// Makes this process that user's, with all of the user's groups and none of its own, for good.
pub(crate) fn become_account(name: &CStr, Account { uid, gid }: Account) -> io::Result<()> {
    // SAFETY: a C string and numbers, here and below; libc changes all threads, of which there is one.
    check(unsafe { libc::initgroups(name.as_ptr(), gid) })?;
    // SAFETY: numbers alone.
    check(unsafe { libc::setresgid(gid, gid, gid) })?;
    // SAFETY: numbers alone.
    check(unsafe { libc::setresuid(uid, uid, uid) })
}

fn check(returned: c_int) -> io::Result<()> {
    if returned == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
