//! What the program sends to port 53, and from whom the answer comes: recvfrom(2), recvmsg(2), recvmmsg(2).

use std::ffi::{c_int, c_uint, c_void};
use std::net::SocketAddr;

use libc::{iovec, mmsghdr, msghdr, sockaddr, socklen_t, ssize_t, timespec};
use socks_client::Errno;

use crate::enter::enter;
use crate::hooks::stream::{is_free, tell};
use crate::looped::{LOOPED, Sends};
use crate::next;
use crate::pending::PENDING;
use crate::questions::SERVERS;
use crate::sys::abi::{self, Given};
use crate::sys::errno;

/// Where a call that sends has its octets.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Sent {
    /// It sends none.
    Nothing,
    /// In a file or a pipe: nothing asks that way.
    File,
    Octets(*const c_void, usize),
    Pieces(*const iovec, usize),
}

/// Longer than any question is, and the length before it in a stream; what is cut off makes it a malformed one.
const QUERY_OCTETS: usize = 2 + 512;

/// Answers a question to `server`; as send(2) returns.
///
/// # Safety
/// What is `sent` is readable.
#[inline(never)] // its question is on the stack only while it is read
pub(crate) unsafe fn ask(fd: c_int, server: SocketAddr, sent: Sent) -> ssize_t {
    let mut room = [0; QUERY_OCTETS];
    // SAFETY: our caller's contract.
    let len = match unsafe { sent.copy_in(0, &mut room) } {
        Ok(len) => len,
        Err(error) => return failed(error),
    };
    let query = room.get(..len).unwrap_or(&room);
    let broken = Err(Errno::BROKEN);
    match enter(broken, broken, |state| {
        state.answer_question(fd, server, query)
    }) {
        Ok(()) => ssize_t::try_from(len).unwrap_or(ssize_t::MAX),
        Err(error) => failed(error),
    }
}

/// The same on one of [`LOOPED`]; `None` if what is sent is the kernel's to send.
///
/// # Safety
/// What is `sent` is readable.
pub(crate) unsafe fn ask_connected(fd: c_int, sent: Sent) -> Option<ssize_t> {
    Some(
        match enter(Sends::Kernels, Sends::Nowhere, |state| state.sends(fd)) {
            Sends::Kernels => return None,
            Sends::Nowhere => failed(Errno::FAIL_CLOSED),
            Sends::Question(_) | Sends::Questions if matches!(sent, Sent::File) => {
                failed(Errno::FAIL_CLOSED)
            }
            // SAFETY: our caller's contract.
            Sends::Question(server) => unsafe { ask(fd, server, sent) },
            // SAFETY: our caller's contract.
            Sends::Questions => unsafe { ask_in_stream(fd, sent) },
        },
    )
}

/// As a stream that blocks does, it takes all that it is given.
///
/// # Safety
/// What is `sent` is readable.
#[inline(never)] // as `ask`
unsafe fn ask_in_stream(fd: c_int, sent: Sent) -> ssize_t {
    let mut room = [0; QUERY_OCTETS];
    let mut taken: usize = 0;
    loop {
        // SAFETY: our caller's contract.
        let octets = match unsafe { sent.copy_in(taken, &mut room) } {
            Ok(rest) => room.get(..rest).unwrap_or(&room),
            Err(error) => return failed(error),
        };
        let broken = Err(Errno::BROKEN);
        match enter(broken, broken, |state| state.answer_stream(fd, octets)) {
            Ok(0) => break,
            Ok(more) => taken = taken.saturating_add(more),
            Err(_) if taken > 0 => break,
            Err(error) => return failed(error),
        }
    }
    ssize_t::try_from(taken).unwrap_or(ssize_t::MAX)
}

fn failed(error: Errno) -> ssize_t {
    errno::set(error.0);
    -1
}

impl Sent {
    pub(crate) fn of_pieces(pieces: *const iovec, count: c_int) -> Self {
        Self::Pieces(pieces, usize::try_from(count).unwrap_or(0))
    }

    /// Copies what lies behind `skipped` octets, as much of it as there is room for; how much of it there is.
    ///
    /// # Errors
    /// It is at a null pointer.
    ///
    /// # Safety
    /// It is readable, or at one.
    unsafe fn copy_in(self, skipped: usize, room: &mut [u8]) -> Result<usize, Errno> {
        match self {
            Self::Octets(octets, len) if octets.is_null() && len > 0 => Err(Errno::BAD_ADDRESS),
            Self::Octets(octets, len) => {
                let len = len.saturating_sub(skipped);
                let kept = len.min(room.len());
                if kept > 0 {
                    // SAFETY: our caller's contract: within what is readable, as `len` was not 0 before; `room` is as long.
                    unsafe {
                        let octets = octets.cast::<u8>().add(skipped);
                        octets.copy_to_nonoverlapping(room.as_mut_ptr(), kept);
                    };
                }
                Ok(len)
            }
            Self::Pieces(pieces, count) if pieces.is_null() && count > 0 => Err(Errno::BAD_ADDRESS),
            Self::Pieces(pieces, count) => {
                let (mut skipped, mut len) = (skipped, 0_usize);
                for index in 0..count {
                    // SAFETY: one of `count` iovecs; alignment is not promised.
                    let piece = unsafe { pieces.add(index).read_unaligned() };
                    let rest = room.get_mut(len..).unwrap_or_default();
                    let octets = Self::Octets(piece.iov_base, piece.iov_len);
                    // SAFETY: our caller's contract.
                    let behind = unsafe { octets.copy_in(skipped, rest) }?;
                    skipped = skipped.saturating_sub(piece.iov_len);
                    len = len.saturating_add(behind);
                }
                Ok(len)
            }
            Self::Nothing | Self::File => Ok(0),
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
    if !(SERVERS.is_any() || LOOPED.is_any()) || addr.is_null() || len.is_null() {
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
        tell(fd, result)
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
        tell(fd, result)
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
        tell(fd, result)
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
    let count_given = if messages.is_null() {
        0
    } else {
        usize::try_from(count).unwrap_or(0)
    };
    // SAFETY: the application's own arguments.
    unsafe {
        // The kernel writes over how much each has, and what is kept of it is one number: the least of those with room.
        let rooms =
            (0..count_given).map(|index| name_room(&raw const (*messages.add(index)).msg_hdr));
        let room = rooms.filter(|&room| room > 0).min().unwrap_or(0);
        let received = next::RECVMMSG.get()(fd, messages, count, flags, timeout);
        for index in 0..usize::try_from(received).unwrap_or(0) {
            name_server_in(fd, &raw mut (*messages.add(index)).msg_hdr, room);
        }
        received
    }
}

/// Asked before the call, whatever it is for: the question may be sent while this thread waits for the answer.
///
/// # Safety
/// `message` is null or points to a valid msghdr.
unsafe fn name_room(message: *const msghdr) -> socklen_t {
    if message.is_null() {
        return 0;
    }
    // SAFETY: our caller's contract; alignment is not promised.
    unsafe {
        if (&raw const (*message).msg_name).read_unaligned().is_null() {
            return 0;
        }
        room(&raw const (*message).msg_namelen)
    }
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
