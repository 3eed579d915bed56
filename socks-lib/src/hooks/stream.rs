//! read(2), write(2) and their relatives: nothing of the program's enters the stream, and nothing of the
//! handshake's leaves it, before the handshake is over.

use std::ffi::{c_int, c_uint, c_void};
use std::time::Duration;

use libc::{iovec, mmsghdr, msghdr, pollfd, sockaddr, socklen_t, ssize_t, timespec};
use socks_client::Errno;

use crate::enter::enter;
use crate::next;
use crate::pending::{FAILED, Needs, PENDING};
use crate::state::State;
use crate::sys::{errno, io};
use crate::wait::{self, Deadline};

/// What an early read or write meets.
#[derive(Debug, Clone, Copy)]
enum Early {
    /// The stream is the program's.
    Free,
    /// EAGAIN, as on a plain socket that is still connecting.
    Again,
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
        match enter(Early::Free, Early::Again, |state| state.early(fd, dontwait)) {
            Early::Free => return true,
            Early::Again => {
                errno::set(libc::EAGAIN);
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

/// The errno of the destination in place of the kernel's, if this is a handshake that failed; and the one for
/// what a datagram socket sends that only the program takes for connected.
pub(crate) fn tell(fd: c_int, result: ssize_t) -> ssize_t {
    if result >= 0 {
        return result;
    }
    if errno::get() == libc::EDESTADDRREQ && enter(false, true, |state| state.is_held(fd)) {
        errno::set(Errno::FAIL_CLOSED.0);
    }
    if FAILED.is_any()
        && errno::get() == libc::ECONNREFUSED
        && let Some(Errno(value)) = enter(None, None, |state| state.take_failure(fd))
    {
        errno::set(value);
    }
    result
}

impl State {
    fn early(&self, fd: c_int, dontwait: bool) -> Early {
        match self.drive_pending(fd) {
            Needs::Nothing => Early::Free,
            Needs::Wait(events, milliseconds) if !dontwait && io::is_blocking(fd) => Early::Wait {
                events,
                milliseconds,
                timeout: io::shorter_timeout(fd),
            },
            Needs::Wait(..) => Early::Again,
        }
    }
}

macro_rules! stream {
    ($($(#[$doc:meta])*
        fn $name:ident = $next:ident, $flags:expr => (fd: c_int $(, $argument:ident: $type:ty)*);)*
    ) => {
        $($(#[$doc])*
        ///
        /// A cancellation point, and async-signal-safe where libc's is.
        ///
        /// # Safety
        /// The C contract of the function.
        #[unsafe(no_mangle)]
        unsafe extern "C-unwind" fn $name(fd: c_int $(, $argument: $type)*) -> ssize_t {
            if PENDING.is_any() && !is_free(fd, $flags) {
                return -1;
            }
            // SAFETY: the application's own arguments.
            tell(fd, unsafe { next::$next.get()(fd $(, $argument)*) })
        })*
    };
}

/// The same for functions with flags among their arguments.
macro_rules! with_flags {
    ($($(#[$doc:meta])*
        fn $name:ident = $next:ident(
            $($before:ident: $before_type:ty),*; flags $(, $after:ident: $after_type:ty)*
        );)*
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
            $($before: $before_type,)*
            flags: c_int
            $(, $after: $after_type)*
        ) -> ssize_t {
            if PENDING.is_any() && !is_free(fd, flags) {
                return -1;
            }
            // SAFETY: the application's own arguments.
            tell(fd, unsafe { next::$next.get()(fd, $($before,)* flags $(, $after)*) })
        }
        )*
    };
}

stream! {
    /// `read(2)`
    fn read = READ, 0 => (fd: c_int, buf: *mut c_void, len: usize);
    /// glibc's other name for read(2).
    fn __read = READ, 0 => (fd: c_int, buf: *mut c_void, len: usize);
    /// read(2) of fortified programs; libc's own checks the size of the buffer.
    fn __read_chk = READ_CHK, 0 => (fd: c_int, buf: *mut c_void, len: usize, room: usize);
    /// `readv(2)`
    fn readv = READV, 0 => (fd: c_int, pieces: *const iovec, count: c_int);
    /// `preadv2(2)`, which reads a socket when its offset is -1
    fn preadv2 = PREADV2, 0 => (fd: c_int, pieces: *const iovec, count: c_int, offset: i64, how: c_int);
    /// `preadv2(2)` for programs with 64-bit file offsets
    fn preadv64v2 = PREADV2, 0 => (fd: c_int, pieces: *const iovec, count: c_int, offset: i64, how: c_int);
    /// `write(2)`
    fn write = WRITE, 0 => (fd: c_int, buf: *const c_void, len: usize);
    /// glibc's other name for write(2).
    fn __write = WRITE, 0 => (fd: c_int, buf: *const c_void, len: usize);
    /// `writev(2)`
    fn writev = WRITEV, 0 => (fd: c_int, pieces: *const iovec, count: c_int);
    /// `pwritev2(2)`, which writes to a socket when its offset is -1
    fn pwritev2 = PWRITEV2, 0 => (fd: c_int, pieces: *const iovec, count: c_int, offset: i64, how: c_int);
    /// `pwritev2(2)` for programs with 64-bit file offsets
    fn pwritev64v2 = PWRITEV2, 0 => (fd: c_int, pieces: *const iovec, count: c_int, offset: i64, how: c_int);
    /// `sendfile(2)`
    fn sendfile = SENDFILE, 0 => (fd: c_int, from: c_int, offset: *mut i64, len: usize);
    /// `sendfile(2)` for programs with 64-bit file offsets.
    fn sendfile64 = SENDFILE, 0 => (fd: c_int, from: c_int, offset: *mut i64, len: usize);
}

with_flags! {
    /// `recv(2)`
    fn recv = RECV(buf: *mut c_void, len: usize; flags);
    /// recv(2) of fortified programs.
    fn __recv_chk = RECV_CHK(buf: *mut c_void, len: usize, room: usize; flags);
    /// `recvfrom(2)`
    fn recvfrom = RECVFROM(buf: *mut c_void, len: usize; flags, addr: *mut sockaddr, addr_len: *mut socklen_t);
    /// recvfrom(2) of fortified programs.
    fn __recvfrom_chk = RECVFROM_CHK(buf: *mut c_void, len: usize, room: usize; flags, addr: *mut sockaddr, addr_len: *mut socklen_t);
    /// `recvmsg(2)`
    fn recvmsg = RECVMSG(message: *mut msghdr; flags);
    /// `send(2)`
    fn send = SEND(buf: *const c_void, len: usize; flags);
    /// glibc's other name for send(2).
    fn __send = SEND(buf: *const c_void, len: usize; flags);
}

/// `recvmmsg(2)`: a cancellation point.
///
/// # Safety
/// The C contract of the function.
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn recvmmsg(
    fd: c_int,
    messages: *mut mmsghdr,
    count: c_uint,
    flags: c_int,
    timeout: *mut timespec,
) -> c_int {
    if PENDING.is_any() && !is_free(fd, flags) {
        return -1;
    }
    // SAFETY: the application's own arguments.
    unsafe { next::RECVMMSG.get()(fd, messages, count, flags, timeout) }
}

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
    if PENDING.is_any() && !(is_free(from, 0) && is_free(to, 0)) {
        return -1;
    }
    // SAFETY: the application's own arguments.
    unsafe { next::SPLICE.get()(from, from_offset, to, to_offset, len, flags) }
}
