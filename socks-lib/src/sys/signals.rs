//! Signals round a step of the handshake, and whether connect() would be restarted after one.

use std::mem::MaybeUninit;
use std::ptr;

use libc::sigset_t;

/// Every signal that can be blocked is, until this is dropped: a handler that runs in the middle of a
/// step could find the step's claim held by its own thread, or leave it behind by siglongjmp.
pub(crate) struct Blocked {
    /// The signals that were blocked, one bit each; a sigset_t has room for 1024, and the stack has not.
    before: u64,
}

impl Blocked {
    #[inline(never)]
    pub(crate) fn all() -> Self {
        let mut all = MaybeUninit::<sigset_t>::uninit();
        let mut before = MaybeUninit::<sigset_t>::zeroed();
        // SAFETY: sigfillset(3) writes the whole set.
        unsafe { libc::sigfillset(all.as_mut_ptr()) };
        // SAFETY: `all` was filled in the line above; `before` is writable.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr()) };
        // SAFETY: the first word of a set that was zeroed and then written by pthread_sigmask(3).
        let before = unsafe { before.as_ptr().cast::<u64>().read() };
        Self { before }
    }
}

impl Drop for Blocked {
    #[inline(never)]
    fn drop(&mut self) {
        let mut before = MaybeUninit::<sigset_t>::zeroed();
        // SAFETY: the first word, which holds all the signals that there are, of a set.
        unsafe { before.as_mut_ptr().cast::<u64>().write(self.before) };
        // SAFETY: the set that pthread_sigmask(3) gave.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), ptr::null_mut()) };
    }
}

/// A write to a pipe that nobody reads any more raises SIGPIPE in this thread: not for the program, which
/// wrote nothing. sigtimedwait(2) takes it back, unless one was pending before.
pub(crate) fn without_sigpipe<T>(
    write: impl FnOnce() -> Result<T, rustix::io::Errno>,
) -> Result<T, rustix::io::Errno> {
    let blocked = Blocked::all();
    let was_pending = is_sigpipe_pending();
    let result = write();
    if matches!(result, Err(rustix::io::Errno::PIPE)) && !was_pending {
        let none = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let pipe = only_sigpipe();
        // SAFETY: a valid set and time; the gate has disabled cancellation.
        unsafe { libc::sigtimedwait(&raw const pipe, ptr::null_mut(), &raw const none) };
    }
    drop(blocked);
    result
}

fn only_sigpipe() -> sigset_t {
    let mut set = MaybeUninit::<sigset_t>::zeroed();
    // SAFETY: sigemptyset(3) writes the whole set, sigaddset(3) changes it.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), libc::SIGPIPE);
        set.assume_init()
    }
}

fn is_sigpipe_pending() -> bool {
    let mut set = MaybeUninit::<sigset_t>::zeroed();
    // SAFETY: sigpending(2) writes the whole set.
    unsafe {
        libc::sigpending(set.as_mut_ptr());
        libc::sigismember(set.as_ptr(), libc::SIGPIPE) == 1
    }
}

/// Whether every handler of this program is under SA_RESTART, so that a plain connect() would have
/// gone on after the signal, whichever it was (signal(7)).
pub(crate) fn every_handler_restarts() -> bool {
    (1..=libc::SIGRTMAX()).all(|signal| {
        let mut action = MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: asks only; `action` is writable.
        if unsafe { libc::sigaction(signal, ptr::null(), action.as_mut_ptr()) } != 0 {
            return true; // libc's own signals
        }
        // SAFETY: zeroed, then written by sigaction(2).
        let action = unsafe { action.assume_init() };
        let has_handler =
            action.sa_sigaction != libc::SIG_DFL && action.sa_sigaction != libc::SIG_IGN;
        !has_handler || action.sa_flags & libc::SA_RESTART != 0
    })
}
