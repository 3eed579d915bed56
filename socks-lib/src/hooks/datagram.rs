//! sendto(2), sendmsg(2), sendmmsg(2) with an address: TCP Fast Open, and datagrams.
//!
//! MSG_FASTOPEN is connect() and send() in one: it connects through the gateway and then sends. A
//! datagram to anywhere but this host fails closed until UDP ASSOCIATE carries it.

use std::ffi::{c_int, c_uint, c_void};
use std::net::SocketAddr;

use libc::{mmsghdr, msghdr, sockaddr, socklen_t, ssize_t};
use socks_client::{Errno, Kind, LogLevel, Route, SocketFacts, decide, is_local};

use crate::enter::enter;
use crate::hooks::connect::dial;
use crate::hooks::question::{Sent, ask};
use crate::hooks::stream::{early, is_free, is_watched, tell};
use crate::looped::LOOPED;
use crate::next;
use crate::pending::PENDING;
use crate::state::State;
use crate::sys::abi::{self, Given};
use crate::sys::{errno, io};

/// What becomes of a message with an address.
#[derive(Debug, Clone, Copy)]
enum Addressed {
    /// libc's function is called with the application's arguments.
    Pass,
    /// The socket is connected now: the message is sent without address and without MSG_FASTOPEN.
    Connected,
    /// It is a question to this name server.
    Question(SocketAddr),
    /// -1 with this errno.
    Fail(Errno),
}

/// `sendto(2)`: async-signal-safe and a cancellation point, and so is everything on this path.
///
/// # Safety
/// The C contract: `addr` is null or readable for `addr_len` octets, `buf` readable for `len`.
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn sendto(
    fd: c_int,
    buf: *const c_void,
    len: usize,
    flags: c_int,
    addr: *const sockaddr,
    addr_len: socklen_t,
) -> ssize_t {
    // SAFETY: our caller's contract, passed on.
    match addressed(fd, flags, unsafe { abi::copy_in_to(addr, addr_len) }) {
        // SAFETY: the application's own arguments, to the function it meant to call.
        Addressed::Pass => unsafe {
            if is_watched()
                && let Some(result) = early(fd, flags, Sent::Octets(buf, len))
            {
                return result;
            }
            let sent = next::SENDTO.get()(fd, buf, len, flags, addr, addr_len);
            tell(fd, sent)
        },
        // SAFETY: our caller's contract.
        Addressed::Question(server) => unsafe { ask(fd, server, Sent::Octets(buf, len)) },
        // SAFETY: the application's own buffer, to the function that remains of what it meant.
        Addressed::Connected => unsafe {
            let flags = flags & !libc::MSG_FASTOPEN;
            if is_watched()
                && let Some(result) = early(fd, flags, Sent::Octets(buf, len))
            {
                return result;
            }
            next::SEND.get()(fd, buf, len, flags)
        },
        Addressed::Fail(error) => fail(error),
    }
}

/// `sendmsg(2)`: async-signal-safe and a cancellation point, and so is everything on this path.
///
/// # Safety
/// The C contract: `message` points to a valid msghdr.
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn sendmsg(fd: c_int, message: *const msghdr, flags: c_int) -> ssize_t {
    // SAFETY: our caller's contract, passed on.
    match addressed(fd, flags, unsafe { name_of(message) }) {
        // SAFETY: the application's own arguments, to the function it meant to call.
        Addressed::Pass => unsafe {
            if is_watched()
                && let Some(result) = early(fd, flags, Sent::of(message))
            {
                return result;
            }
            tell(fd, next::SENDMSG.get()(fd, message, flags))
        },
        // SAFETY: our caller's contract.
        Addressed::Question(server) => unsafe { ask(fd, server, Sent::of(message)) },
        // SAFETY: the application's own message, without its name; `name_of` has read it: it is not null.
        Addressed::Connected => unsafe {
            let flags = flags & !libc::MSG_FASTOPEN;
            if is_watched()
                && let Some(result) = early(fd, flags, Sent::of(message))
            {
                return result;
            }
            let message = without_name(message);
            next::SENDMSG.get()(fd, &raw const message, flags)
        },
        Addressed::Fail(error) => fail(error),
    }
}

/// `sendmmsg(2)`: a cancellation point. Each message's address is looked at; the first that may not go
/// ends the call, as it does in the kernel.
///
/// # Safety
/// The C contract: `messages` points to `count` valid mmsghdr.
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn sendmmsg(
    fd: c_int,
    messages: *mut mmsghdr,
    count: c_uint,
    flags: c_int,
) -> c_int {
    let at = |index: c_uint| {
        let index = usize::try_from(index).unwrap_or(0);
        // SAFETY: one of the `count` messages that our caller vouches for.
        unsafe { messages.add(index) }
    };
    let mut plain = 0;
    while plain < count {
        // SAFETY: our caller's contract.
        let name = unsafe { name_of(&raw const (*at(plain)).msg_hdr) };
        if LOOPED.has(fd) || !matches!(judged(fd, flags, name), Addressed::Pass) {
            break;
        }
        plain = plain.saturating_add(1);
    }
    if plain > 0 || count == 0 {
        if PENDING.is_any() && !is_free(fd, flags) {
            return -1;
        }
        // SAFETY: the application's own arguments, cut to the messages that may go.
        let sent = unsafe { next::SENDMMSG.get()(fd, messages, plain, flags) };
        // As it came: a c_int.
        let sent = tell(fd, ssize_t::try_from(sent).unwrap_or(-1));
        return c_int::try_from(sent).unwrap_or(-1);
    }
    // One by one: what connects the socket, or is a question.
    let mut sent = 0;
    while sent < count {
        let message = at(sent);
        // SAFETY: one of our caller's messages.
        let octets = unsafe { sendmsg(fd, &raw const (*message).msg_hdr, flags) };
        let Ok(octets) = c_uint::try_from(octets) else {
            break;
        };
        // SAFETY: the same, which sendmmsg(2) writes to.
        unsafe { (*message).msg_len = octets };
        sent = sent.saturating_add(1);
    }
    if sent == 0 {
        return -1;
    }
    c_int::try_from(sent).unwrap_or(-1)
}

/// Connects the socket, if the message is to.
fn addressed(fd: c_int, flags: c_int, name: Given) -> Addressed {
    match (judged(fd, flags, name), name) {
        (Addressed::Connected, Given::Inet(to)) => match dial(fd, to) {
            None => Addressed::Pass,
            Some(Ok(())) => Addressed::Connected,
            Some(Err(error)) => Addressed::Fail(error),
        },
        (verdict, _) => verdict,
    }
}

/// What is to become of it; `Connected` here means: connect it first.
fn judged(fd: c_int, flags: c_int, name: Given) -> Addressed {
    let Given::Inet(to) = name else {
        return Addressed::Pass;
    };
    let is_fast_open = flags & libc::MSG_FASTOPEN != 0;
    let broken = Addressed::Fail(Errno::BROKEN);
    enter(Addressed::Pass, broken, |state| {
        state.on_send(fd, to, is_fast_open)
    })
}

impl State {
    fn on_send(&self, fd: c_int, to: SocketAddr, is_fast_open: bool) -> Addressed {
        let facts = match io::facts(fd) {
            Ok(Some(facts)) => facts,
            Ok(None) => return Addressed::Pass,
            // A sandbox does not let us ask: what leaves the host is refused.
            Err(_) if is_local(to.ip()) => return Addressed::Pass,
            Err(_) => return Addressed::Fail(Errno::FAIL_CLOSED),
        };
        match facts.kind {
            // send(2): a stream socket ignores the address, unless it is Fast Open.
            Kind::Stream if is_fast_open && !io::is_connected(fd) => Addressed::Connected,
            Kind::Stream => Addressed::Pass,
            Kind::Datagram | Kind::Other => {
                let facts = SocketFacts {
                    family: facts.family,
                    kind: facts.kind,
                    is_v6only: abi::is_mapped(to) && io::is_v6only(fd),
                };
                let errno = match decide(facts, to, &self.config, &self.table, &self.direct_names) {
                    Route::Refuse(errno) => errno,
                    Route::Hold => Errno::FAIL_CLOSED,
                    Route::Answer => return Addressed::Question(to),
                    Route::Direct | Route::Relay(_) => return Addressed::Pass,
                };
                let refused = format_args!("refused: {}", errno.name());
                self.log_route(LogLevel::Warn, "datagram", to, refused);
                Addressed::Fail(errno)
            }
        }
    }
}

/// # Safety
/// `message` is null or points to a valid msghdr.
unsafe fn name_of(message: *const msghdr) -> Given {
    // SAFETY: our caller's contract.
    let Some(message) = (unsafe { message.as_ref() }) else {
        return Given::Other;
    };
    // SAFETY: msg_name is null or readable for msg_namelen octets: a valid msghdr.
    unsafe { abi::copy_in_to(message.msg_name.cast(), message.msg_namelen) }
}

/// # Safety
/// `message` points to a valid msghdr.
unsafe fn without_name(message: *const msghdr) -> msghdr {
    // SAFETY: our caller's contract.
    let mut message = unsafe { message.read_unaligned() };
    message.msg_name = std::ptr::null_mut();
    message.msg_namelen = 0;
    message
}

fn fail(error: Errno) -> ssize_t {
    errno::set(error.0);
    -1
}
