//! What the program sends to port 53, and from whom the answer comes: recvfrom(2), recvmsg(2), recvmmsg(2).

use std::ffi::{c_int, c_uint, c_void};
use std::net::SocketAddr;

use libc::{iovec, mmsghdr, msghdr, sockaddr, socklen_t, ssize_t, timespec};
use socks_client::Errno;

use crate::enter::enter;
use crate::hooks::stream::{is_free, tell};
use crate::next;
use crate::pending::PENDING;
use crate::questions::SERVERS;
use crate::sys::abi::{self, Given};
use crate::sys::errno;

/// Where a call that sends has its octets.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Sent {
    /// It sends none, or from a file.
    Nothing,
    Octets(*const c_void, usize),
    Pieces(*const iovec, usize),
}

/// Longer than any question is; what is cut off makes it a malformed one.
const QUERY_OCTETS: usize = 512;

/// Answers a question to `server`; as send(2) returns.
///
/// # Safety
/// What is `sent` is readable.
pub(crate) unsafe fn ask(fd: c_int, server: SocketAddr, sent: Sent) -> ssize_t {
    let mut room = [0; QUERY_OCTETS];
    // SAFETY: our caller's contract.
    let len = unsafe { sent.copy_in(&mut room) };
    let query = room.get(..len).unwrap_or(&room);
    let broken = Err(Errno::BROKEN);
    match enter(broken, broken, |state| {
        state.answer_question(fd, server, query)
    }) {
        Ok(()) => ssize_t::try_from(len).unwrap_or(ssize_t::MAX),
        Err(error) => failed(error),
    }
}

/// The same on a stream to a name server; `None` if this is none.
///
/// # Safety
/// What is `sent` is readable.
#[inline(never)] // its message is on the stack only while it is read
pub(crate) unsafe fn ask_in_stream(fd: c_int, sent: Sent) -> Option<ssize_t> {
    let is_one = !matches!(sent, Sent::Nothing)
        && enter(false, false, |state| state.is_stream_of_questions(fd));
    if !is_one {
        return None;
    }
    let mut room = [0; QUERY_OCTETS];
    // SAFETY: our caller's contract.
    let len = unsafe { sent.copy_in(&mut room) };
    // As a stream does, it may take less than it is given.
    let octets = room.get(..len).unwrap_or(&room);
    let broken = Err(Errno::BROKEN);
    let taken = enter(broken, broken, |state| state.answer_stream(fd, octets));
    Some(taken.map_or_else(failed, |taken| ssize_t::try_from(taken).unwrap_or(0)))
}

fn failed(error: Errno) -> ssize_t {
    errno::set(error.0);
    -1
}

impl Sent {
    pub(crate) fn of_pieces(pieces: *const iovec, count: c_int) -> Self {
        Self::Pieces(pieces, usize::try_from(count).unwrap_or(0))
    }

    /// Copies as much as there is room for; how much there is.
    ///
    /// # Safety
    /// It is readable.
    unsafe fn copy_in(self, room: &mut [u8]) -> usize {
        match self {
            Self::Nothing => 0,
            Self::Octets(octets, len) => {
                let kept = len.min(room.len());
                if !octets.is_null() {
                    // SAFETY: our caller's contract; `room` is as long.
                    unsafe {
                        octets
                            .cast::<u8>()
                            .copy_to_nonoverlapping(room.as_mut_ptr(), kept);
                    };
                }
                len
            }
            Self::Pieces(pieces, count) => (0..count).fold(0, |len: usize, index| {
                // SAFETY: one of `count` iovecs; alignment is not promised.
                let piece = unsafe { pieces.add(index).read_unaligned() };
                let rest = room.get_mut(len..).unwrap_or_default();
                // SAFETY: our caller's contract.
                let piece = unsafe { Self::Octets(piece.iov_base, piece.iov_len).copy_in(rest) };
                len.saturating_add(piece)
            }),
        }
    }

    /// # Safety
    /// `message` is null or points to a valid msghdr.
    pub(crate) unsafe fn of(message: *const msghdr) -> Self {
        if message.is_null() {
            return Self::Nothing;
        }
        // SAFETY: our caller's contract; alignment is not promised.
        let message = unsafe { message.read_unaligned() };
        Self::Pieces(message.msg_iov, message.msg_iovlen)
    }
}

/// In place of the loopback address that an answer came from, the server that was asked. `room` is what the
/// application gave in `len`.
///
/// # Safety
/// `addr` and `len` are as libc's function has just accepted and written them.
unsafe fn name_server(fd: c_int, addr: *mut sockaddr, room: socklen_t, len: *mut socklen_t) {
    if !SERVERS.is_any() || addr.is_null() || len.is_null() {
        return;
    }
    // SAFETY: written by libc.
    let written = unsafe { len.read_unaligned() }.min(room);
    // SAFETY: our caller's contract: so many octets were written.
    let Given::Inet(source) = (unsafe { abi::copy_in(addr, written) }) else {
        return;
    };
    if let Some(server) = enter(None, None, |state| state.server_of(fd, source)) {
        // SAFETY: our caller's contract.
        unsafe { abi::copy_out(server, addr, room, len) };
    }
}

/// # Safety
/// `len` is null or readable.
unsafe fn room(len: *const socklen_t) -> socklen_t {
    if len.is_null() {
        return 0;
    }
    // SAFETY: our caller's contract; alignment is not promised.
    unsafe { len.read_unaligned() }
}

/// `recvfrom(2)`: async-signal-safe and a cancellation point.
///
/// # Safety
/// The C contract of the function.
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn recvfrom(
    fd: c_int,
    buf: *mut c_void,
    len: usize,
    flags: c_int,
    addr: *mut sockaddr,
    addr_len: *mut socklen_t,
) -> ssize_t {
    if PENDING.is_any() && !is_free(fd, flags) {
        return -1;
    }
    // SAFETY: the application's own arguments.
    unsafe {
        let room = room(addr_len);
        let result = next::RECVFROM.get()(fd, buf, len, flags, addr, addr_len);
        if result >= 0 {
            name_server(fd, addr, room, addr_len);
        }
        tell(fd, result, Sent::Nothing)
    }
}

/// recvfrom(2) of fortified programs.
///
/// # Safety
/// The C contract of the function.
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn __recvfrom_chk(
    fd: c_int,
    buf: *mut c_void,
    len: usize,
    buf_len: usize,
    flags: c_int,
    addr: *mut sockaddr,
    addr_len: *mut socklen_t,
) -> ssize_t {
    if PENDING.is_any() && !is_free(fd, flags) {
        return -1;
    }
    // SAFETY: the application's own arguments.
    unsafe {
        let room = room(addr_len);
        let result = next::RECVFROM_CHK.get()(fd, buf, len, buf_len, flags, addr, addr_len);
        if result >= 0 {
            name_server(fd, addr, room, addr_len);
        }
        tell(fd, result, Sent::Nothing)
    }
}

/// `recvmsg(2)`: async-signal-safe and a cancellation point.
///
/// # Safety
/// The C contract of the function.
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn recvmsg(fd: c_int, message: *mut msghdr, flags: c_int) -> ssize_t {
    if PENDING.is_any() && !is_free(fd, flags) {
        return -1;
    }
    // SAFETY: the application's own arguments.
    unsafe {
        let room = name_room(message);
        let result = next::RECVMSG.get()(fd, message, flags);
        if result >= 0 {
            name_server_in(fd, message, room);
        }
        tell(fd, result, Sent::Nothing)
    }
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
    // SAFETY: the application's own arguments; where it has one message, it has room for a name in each alike.
    unsafe {
        let room = if messages.is_null() || count == 0 {
            0
        } else {
            name_room(&raw const (*messages).msg_hdr)
        };
        let received = next::RECVMMSG.get()(fd, messages, count, flags, timeout);
        for index in 0..usize::try_from(received).unwrap_or(0) {
            name_server_in(fd, &raw mut (*messages.add(index)).msg_hdr, room);
        }
        received
    }
}

/// # Safety
/// `message` is null or points to a valid msghdr.
unsafe fn name_room(message: *const msghdr) -> socklen_t {
    if !SERVERS.is_any() || message.is_null() {
        return 0;
    }
    // SAFETY: our caller's contract; alignment is not promised.
    unsafe { room(&raw const (*message).msg_namelen) }
}

/// # Safety
/// `message` was received into, and had `room` octets for a name before.
unsafe fn name_server_in(fd: c_int, message: *mut msghdr, room: socklen_t) {
    if room > 0 {
        // SAFETY: our caller's contract.
        unsafe {
            let addr = (&raw const (*message).msg_name).read_unaligned();
            name_server(fd, addr.cast(), room, &raw mut (*message).msg_namelen);
        }
    }
}
