//! read(2), write(2) and their relatives: nothing of the program's enters the stream, and nothing of the
//! handshake's leaves it, before the handshake is over.

use std::ffi::{c_int, c_uint, c_ulong, c_void};
use std::sync::atomic::Ordering;
use std::time::Duration;

use libc::{iovec, pollfd, ssize_t};
use socks_client::Errno;

use crate::enter::enter;
use crate::hooks::question::{Sent, ask_connected};
use crate::looped::LOOPED;
use crate::next;
use crate::pending::{FAILED, Needs, PENDING, WATCHED};
use crate::state::State;
use crate::sys::{errno, io};
use crate::wait::{self, Deadline};

/// What an early read or write meets.
#[derive(Debug, Clone, Copy)]
enum Early {
    /// The stream is the program's.
    Free,
    /// The call ends with this errno.
    Fail(Errno),
    /// The program has made the socket a blocking one meanwhile: this is waited for, at most so long in
    /// all.
    Wait {
        events: i16,
        milliseconds: c_int,
        timeout: Option<Duration>,
    },
}

/// Waits or fails as a plain socket that is still connecting does; false if the call is to fail, with
/// errno set. `flags` are send's and recv's. Nothing in here has a destructor while poll runs.
pub(crate) fn is_free(fd: c_int, flags: c_int) -> bool {
    let dontwait = flags & libc::MSG_DONTWAIT != 0;
    let mut deadline = None;
    loop {
        // Only a handshake has octets of the program's to fear: any other descriptor is libc's.
        let broken = if PENDING.has(fd) {
            Early::Fail(Errno::BROKEN)
        } else {
            Early::Free
        };
        match enter(Early::Free, broken, |state| state.wait_before(fd, dontwait)) {
            Early::Free => return true,
            Early::Fail(error) => {
                errno::set(error.0);
                return false;
            }
            Early::Wait {
                events,
                milliseconds,
                timeout,
            } => {
                let deadline = *deadline.get_or_insert_with(|| Deadline::after(timeout));
                if deadline.is_over() {
                    errno::set(libc::EAGAIN);
                    return false;
                }
                let limit = Duration::from_millis(u64::try_from(milliseconds).unwrap_or(0));
                let left = wait::milliseconds(Some(deadline.left_within(limit)));
                let mut waited = pollfd {
                    fd,
                    events,
                    revents: 0,
                };
                // SAFETY: one pollfd.
                if unsafe { next::POLL.get()(&raw mut waited, 1, left) } < 0 {
                    return false;
                }
            }
        }
    }
}

/// Whether anything comes before or after libc's own function in this process.
pub(crate) fn is_watched() -> bool {
    WATCHED.load(Ordering::Relaxed) != 0
}

/// What comes before it: a wait for a handshake, or the end of the call.
///
/// # Safety
/// What is `sent` is readable.
#[inline(never)] // so that nothing of it is in a call that nothing comes before
pub(crate) unsafe fn early(fd: c_int, flags: c_int, sent: Sent) -> Option<ssize_t> {
    if PENDING.is_any() && !is_free(fd, flags) {
        return Some(-1);
    }
    if !matches!(sent, Sent::Nothing) && LOOPED.has(fd) {
        // SAFETY: our caller's contract.
        unsafe { ask_connected(fd, sent) }
    } else {
        None
    }
}

/// The errno of the destination in place of the kernel's, if this is a handshake that failed.
pub(crate) fn tell(fd: c_int, result: ssize_t) -> ssize_t {
    if result < 0
        && FAILED.is_any()
        && errno::get() == libc::ECONNREFUSED
        && let Some(Errno(value)) = enter(None, None, |state| state.take_failure(fd))
    {
        errno::set(value);
    }
    result
}

impl State {
    fn wait_before(&self, fd: c_int, dontwait: bool) -> Early {
        match self.drive_pending(fd) {
            Needs::Nothing => Early::Free,
            Needs::Wait(events, milliseconds) if !dontwait && io::is_blocking(fd) => Early::Wait {
                events,
                milliseconds,
                timeout: io::shorter_timeout(fd),
            },
            // As on a plain socket that is still connecting.
            Needs::Wait(..) => Early::Fail(Errno(libc::EAGAIN)),
        }
    }
}

macro_rules! stream {
    ($($(#[$doc:meta])*
        fn $name:ident = $next:ident($($argument:ident: $type:ty),*) sends $sent:expr;)*
    ) => {
        $($(#[$doc])*
        ///
        /// A cancellation point, and async-signal-safe where libc's is.
        ///
        /// # Safety
        /// The C contract of the function.
        #[unsafe(no_mangle)]
        unsafe extern "C-unwind" fn $name(fd: c_int $(, $argument: $type)*) -> ssize_t {
            // SAFETY: the application's own arguments.
            unsafe {
                if !is_watched() {
                    return next::$next.get()(fd $(, $argument)*); // by a jump
                }
                if let Some(result) = early(fd, 0, $sent) {
                    return result;
                }
                tell(fd, next::$next.get()(fd $(, $argument)*))
            }
        })*
    };
}

/// The same for functions with flags among their arguments.
macro_rules! with_flags {
    ($($(#[$doc:meta])*
        fn $name:ident = $next:ident($($argument:ident: $type:ty),*; flags) sends $sent:expr;)*
    ) => {
        $($(#[$doc])*
        ///
        /// A cancellation point, and async-signal-safe where libc's is.
        ///
        /// # Safety
        /// The C contract of the function.
        #[unsafe(no_mangle)]
        unsafe extern "C-unwind" fn $name(
            fd: c_int,
            $($argument: $type,)*
            flags: c_int
        ) -> ssize_t {
            // SAFETY: the application's own arguments.
            unsafe {
                if !is_watched() {
                    return next::$next.get()(fd, $($argument,)* flags); // by a jump
                }
                if let Some(result) = early(fd, flags, $sent) {
                    return result;
                }
                tell(fd, next::$next.get()(fd, $($argument,)* flags))
            }
        }
        )*
    };
}

stream! {
    /// `read(2)`
    fn read = READ(buf: *mut c_void, len: usize) sends Sent::Nothing;
    /// glibc's other name for read(2).
    fn __read = READ(buf: *mut c_void, len: usize) sends Sent::Nothing;
    /// read(2) of fortified programs; libc's own checks the size of the buffer.
    fn __read_chk = READ_CHK(buf: *mut c_void, len: usize, room: usize) sends Sent::Nothing;
    /// `readv(2)`
    fn readv = READV(pieces: *const iovec, count: c_int) sends Sent::Nothing;
    /// `preadv2(2)`, which reads a socket when its offset is -1
    fn preadv2 = PREADV2(pieces: *const iovec, count: c_int, offset: i64, how: c_int) sends Sent::Nothing;
    /// `preadv2(2)` for programs with 64-bit file offsets
    fn preadv64v2 = PREADV2(pieces: *const iovec, count: c_int, offset: i64, how: c_int) sends Sent::Nothing;
    /// `write(2)`
    fn write = WRITE(buf: *const c_void, len: usize) sends Sent::Octets(buf, len);
    /// glibc's other name for write(2).
    fn __write = WRITE(buf: *const c_void, len: usize) sends Sent::Octets(buf, len);
    /// `writev(2)`
    fn writev = WRITEV(pieces: *const iovec, count: c_int) sends Sent::of_pieces(pieces, count);
    /// `pwritev2(2)`, which writes to a socket when its offset is -1
    fn pwritev2 = PWRITEV2(pieces: *const iovec, count: c_int, offset: i64, how: c_int) sends Sent::of_pieces(pieces, count);
    /// `pwritev2(2)` for programs with 64-bit file offsets
    fn pwritev64v2 = PWRITEV2(pieces: *const iovec, count: c_int, offset: i64, how: c_int) sends Sent::of_pieces(pieces, count);
    /// `sendfile(2)`
    fn sendfile = SENDFILE(from: c_int, offset: *mut i64, len: usize) sends Sent::File;
    /// `sendfile(2)` for programs with 64-bit file offsets.
    fn sendfile64 = SENDFILE(from: c_int, offset: *mut i64, len: usize) sends Sent::File;
}

with_flags! {
    /// `recv(2)`
    fn recv = RECV(buf: *mut c_void, len: usize; flags) sends Sent::Nothing;
    /// recv(2) of fortified programs.
    fn __recv_chk = RECV_CHK(buf: *mut c_void, len: usize, room: usize; flags) sends Sent::Nothing;
    /// `send(2)`
    fn send = SEND(buf: *const c_void, len: usize; flags) sends Sent::Octets(buf, len);
    /// glibc's other name for send(2).
    fn __send = SEND(buf: *const c_void, len: usize; flags) sends Sent::Octets(buf, len);
}

/// `ioctl(2)`: a socket that is still connecting has nothing to be read, and nothing to be sent (tcp(7)).
///
/// libc's is variadic; here the third argument is whatever the register holds, as fcntl(2)'s.
///
/// # Safety
/// The C contract of ioctl(2).
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn ioctl(fd: c_int, request: c_ulong, argument: *mut c_int) -> c_int {
    let mut is_early = false;
    if PENDING.is_any() && matches!(request, libc::FIONREAD | libc::TIOCOUTQ | SIOCOUTQNSD) {
        let broken = PENDING.has(fd).then_some(Errno::BROKEN);
        let needs = enter(
            Ok(Needs::Nothing),
            broken.map_or(Ok(Needs::Nothing), Err),
            |state| Ok(state.drive_pending(fd)),
        );
        match needs {
            Ok(needs) => is_early = needs != Needs::Nothing,
            Err(error) => return errno::fail(error),
        }
    }
    // SAFETY: the application's own arguments.
    let result = unsafe { next::IOCTL.get()(fd, request, argument) };
    if result == 0 && is_early {
        // SAFETY: the kernel has just written an int there.
        unsafe { argument.write_unaligned(0) };
    }
    result
}

/// linux/sockios.h, absent from the libc crate.
const SIOCOUTQNSD: c_ulong = 0x894b;

/// `splice(2)`: a cancellation point.
///
/// # Safety
/// The C contract of the function.
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn splice(
    from: c_int,
    from_offset: *mut i64,
    to: c_int,
    to_offset: *mut i64,
    len: usize,
    flags: c_uint,
) -> ssize_t {
    // SAFETY: nothing of what is sent is in memory.
    let early = |fd, sent| unsafe { early(fd, 0, sent) };
    if is_watched()
        && let Some(result) = early(from, Sent::Nothing).or_else(|| early(to, Sent::File))
    {
        return result;
    }
    // SAFETY: the application's own arguments.
    unsafe { next::SPLICE.get()(from, from_offset, to, to_offset, len, flags) }
}
