//! read(2), write(2) and their relatives: nothing of the program's enters the stream, and nothing of the
//! handshake's leaves it, before the handshake is over.

use std::ffi::{c_int, c_void};

use libc::{iovec, msghdr, pollfd, sockaddr, socklen_t, ssize_t};
use socks_client::Errno;

use crate::enter::enter;
use crate::next;
use crate::pending::{Needs, PENDING};
use crate::state::State;
use crate::sys::{errno, io};

/// What an early read or write meets.
#[derive(Debug, Clone, Copy)]
enum Early {
    /// The stream is the program's.
    Free,
    /// EAGAIN, as on a plain socket that is still connecting.
    Again,
    /// The program has made the socket a blocking one meanwhile: this is waited for.
    Wait(i16, c_int),
}

/// Waits or fails as a plain socket that is still connecting does; false if the call is to fail, with
/// errno set. Nothing in here has a destructor while poll runs.
pub(crate) fn is_free(fd: c_int) -> bool {
    loop {
        match enter(Early::Free, Early::Again, |state| state.early(fd)) {
            Early::Free => return true,
            Early::Again => {
                errno::set(libc::EAGAIN);
                return false;
            }
            Early::Wait(events, milliseconds) => {
                let mut waited = pollfd {
                    fd,
                    events,
                    revents: 0,
                };
                // SAFETY: one pollfd.
                if unsafe { next::POLL.get()(&raw mut waited, 1, milliseconds) } < 0 {
                    return false;
                }
            }
        }
    }
}

/// The errno of the destination in place of the kernel's, if this is a handshake that failed.
pub(crate) fn tell(fd: c_int, result: ssize_t) -> ssize_t {
    if result < 0
        && PENDING.is_any()
        && errno::get() == libc::ECONNREFUSED
        && let Some(Errno(value)) = enter(None, None, |state| state.take_failure(fd))
    {
        errno::set(value);
    }
    result
}

impl State {
    fn early(&self, fd: c_int) -> Early {
        match self.drive_pending(fd) {
            Needs::Nothing => Early::Free,
            Needs::Wait(events, left) if io::is_blocking(fd) => Early::Wait(events, left),
            Needs::Wait(..) => Early::Again,
        }
    }
}

macro_rules! stream {
    ($($(#[$doc:meta])* fn $name:ident = $next:ident(fd: c_int $(, $argument:ident: $type:ty)*);)*) => {
        $($(#[$doc])*
        ///
        /// A cancellation point, and async-signal-safe where libc's is.
        ///
        /// # Safety
        /// The C contract of the function.
        #[unsafe(no_mangle)]
        unsafe extern "C-unwind" fn $name(fd: c_int $(, $argument: $type)*) -> ssize_t {
            if PENDING.is_any() {
                if !is_free(fd) {
                    return -1;
                }
                // SAFETY: the application's own arguments.
                return tell(fd, unsafe { next::$next.get()(fd $(, $argument)*) });
            }
            // SAFETY: the application's own arguments.
            unsafe { next::$next.get()(fd $(, $argument)*) }
        })*
    };
}

stream! {
    /// `read(2)`
    fn read = READ(fd: c_int, buf: *mut c_void, len: usize);
    /// glibc's other name for read(2).
    fn __read = READ(fd: c_int, buf: *mut c_void, len: usize);
    /// read(2) of fortified programs; libc's own checks the size of the buffer.
    fn __read_chk = READ_CHK(fd: c_int, buf: *mut c_void, len: usize, room: usize);
    /// `readv(2)`
    fn readv = READV(fd: c_int, pieces: *const iovec, count: c_int);
    /// `recv(2)`
    fn recv = RECV(fd: c_int, buf: *mut c_void, len: usize, flags: c_int);
    /// recv(2) of fortified programs.
    fn __recv_chk = RECV_CHK(fd: c_int, buf: *mut c_void, len: usize, room: usize, flags: c_int);
    /// recvfrom(2) of fortified programs.
    fn __recvfrom_chk = RECVFROM_CHK(fd: c_int, buf: *mut c_void, len: usize, room: usize, flags: c_int, addr: *mut sockaddr, addr_len: *mut socklen_t);
    /// `recvfrom(2)`
    fn recvfrom = RECVFROM(fd: c_int, buf: *mut c_void, len: usize, flags: c_int, addr: *mut sockaddr, addr_len: *mut socklen_t);
    /// `recvmsg(2)`
    fn recvmsg = RECVMSG(fd: c_int, message: *mut msghdr, flags: c_int);
    /// `write(2)`
    fn write = WRITE(fd: c_int, buf: *const c_void, len: usize);
    /// glibc's other name for write(2).
    fn __write = WRITE(fd: c_int, buf: *const c_void, len: usize);
    /// `writev(2)`
    fn writev = WRITEV(fd: c_int, pieces: *const iovec, count: c_int);
    /// `send(2)`
    fn send = SEND(fd: c_int, buf: *const c_void, len: usize, flags: c_int);
    /// glibc's other name for send(2).
    fn __send = SEND(fd: c_int, buf: *const c_void, len: usize, flags: c_int);
    /// `sendfile(2)`
    fn sendfile = SENDFILE(fd: c_int, from: c_int, offset: *mut i64, len: usize);
    /// `sendfile(2)` for programs with 64-bit file offsets.
    fn sendfile64 = SENDFILE(fd: c_int, from: c_int, offset: *mut i64, len: usize);
}
