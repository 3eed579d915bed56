//! getpeername(2), getsockname(2), getsockopt(2): answered in the application's terms. None of them
//! waits, so they are redhook's.
//!
//! libc's own function answers first: it knows EBADF, ENOTCONN, EFAULT and EINVAL. Then the name it
//! gave is replaced by the one that the application knows.
#![expect(
    unsafe_op_in_unsafe_fn,
    reason = "what redhook's macro expands to is its own style; each body calls one function of ours"
)]

use std::ffi::{c_int, c_void};
use std::net::{IpAddr, SocketAddr};

use fake_dns::Family;
use libc::{sockaddr, socklen_t};
use socks_client::{Errno, is_local};

use crate::enter::enter;
use crate::next;
use crate::pending::{FAILED, Needs, PENDING};
use crate::state::State;
use crate::sys::{abi, errno, io};

/// asm-generic/socket.h, absent from the libc crate: getpeername(2) by another name.
const SO_PEERNAME: c_int = 28;

/// netinet/tcp.h, absent from the libc crate: `tcpi_state`, the first octet of TCP_INFO, of a socket that is connecting.
const TCP_SYN_SENT: u8 = 2;

/// What the application is told instead of the kernel's answer.
#[derive(Debug, Clone, Copy)]
enum Told {
    /// The kernel's answer.
    Kernels,
    /// This name.
    Name(SocketAddr),
    /// This errno.
    Fail(Errno),
}

redhook::hook! {
    unsafe fn getpeername(fd: c_int, addr: *mut sockaddr, len: *mut socklen_t) -> c_int => socks6_getpeername {
        let room = room(len);
        let result = next::GETPEERNAME.get()(fd, addr, len);
        told(result, enter_if(result, |state| state.peer_name(fd)), addr, room, len)
    }
}

redhook::hook! {
    unsafe fn getsockname(fd: c_int, addr: *mut sockaddr, len: *mut socklen_t) -> c_int => socks6_getsockname {
        let room = room(len);
        let result = next::GETSOCKNAME.get()(fd, addr, len);
        told(result, enter_if(result, |state| state.own_name(fd)), addr, room, len)
    }
}

redhook::hook! {
    unsafe fn getsockopt(
        fd: c_int,
        level: c_int,
        name: c_int,
        value: *mut c_void,
        len: *mut socklen_t
    ) -> c_int => socks6_getsockopt {
        let is_ours = PENDING.is_any() || FAILED.is_any();
        let is_error = level == libc::SOL_SOCKET && name == libc::SO_ERROR && is_ours;
        let is_info = level == libc::IPPROTO_TCP && name == libc::TCP_INFO && PENDING.is_any();
        let is_connecting = (is_error || is_info)
            && enter(false, false, |state| state.drive_pending(fd) != Needs::Nothing);
        let room = room(len);
        let result = next::GETSOCKOPT.get()(fd, level, name, value, len);
        let is_domain = level == libc::SOL_SOCKET && name == libc::SO_DOMAIN;
        if result == 0 && is_domain && enter(false, false, |state| state.is_swapped(fd)) {
            let octets = usize::try_from(room).unwrap_or(0).min(size_of::<c_int>());
            let family = libc::AF_INET.to_ne_bytes();
            family.as_ptr().copy_to_nonoverlapping(value.cast(), octets);
        }
        if result == 0 && is_info && is_connecting && room > 0 {
            value.cast::<u8>().write(TCP_SYN_SENT);
        }
        let is_limit = level == libc::IPPROTO_TCP && name == libc::TCP_USER_TIMEOUT;
        if result == 0 && is_limit && enter(false, false, |state| state.is_hurried(fd)) {
            let octets = usize::try_from(room).unwrap_or(0).min(size_of::<c_int>());
            value.cast::<u8>().write_bytes(0, octets);
        }
        if level == libc::SOL_SOCKET && name == SO_PEERNAME {
            let known = enter_if(result, |state| state.peer_name(fd));
            return told(result, known, value.cast(), room, len);
        }
        if result == 0
            && is_error
            && room >= 4
            && let Some(errno) = enter(None, None, |state| state.take_failure(fd))
        {
            value.cast::<c_int>().write_unaligned(errno.0);
        }
        result
    }
}

/// How much room the application gives; read before libc's function overwrites it.
unsafe fn room(len: *mut socklen_t) -> socklen_t {
    if len.is_null() {
        0
    } else {
        len.read_unaligned()
    }
}

fn enter_if(result: c_int, ask: impl FnOnce(&State) -> Told) -> Told {
    if result != 0 {
        return Told::Kernels;
    }
    enter(Told::Kernels, Told::Fail(Errno::BROKEN), ask)
}

unsafe fn told(
    result: c_int,
    told: Told,
    addr: *mut sockaddr,
    room: socklen_t,
    len: *mut socklen_t,
) -> c_int {
    match told {
        Told::Kernels => result,
        Told::Fail(error) => errno::fail(error),
        Told::Name(name) => {
            // libc's own call succeeded with these pointers.
            abi::copy_out(name, addr, room, len);
            0
        }
    }
}

impl State {
    /// The address that the application connected to.
    fn peer_name(&self, fd: c_int) -> Told {
        match self.socket(fd) {
            None => Told::Kernels,
            Some(known) if known.is_connected => Told::Name(known.connection.asked),
            Some(_) => Told::Fail(Errno(libc::ENOTCONN)),
        }
    }

    fn is_held(&self, fd: c_int) -> bool {
        let row = io::cookie(fd).and_then(|cookie| Some((cookie, self.sockets.row(fd)?)));
        row.is_some_and(|(cookie, row)| row.is_held(cookie))
    }

    /// A swapped socket's own address cannot be said in the application's family: the first address of
    /// the fake range, which is no name's, with the true port (RFC 3089 §5).
    fn own_name(&self, fd: c_int) -> Told {
        let Some(local) = io::local(fd) else {
            return Told::Kernels;
        };
        let is_nowhere = local.ip().is_unspecified() || local.ip().is_loopback();
        if is_nowhere && self.is_held(fd) {
            return self.held_own_name(fd, local);
        }
        if local.is_ipv4() {
            return Told::Kernels;
        }
        let is_v4s = self.is_swapped(fd)
            || self
                .socket(fd)
                .is_some_and(|known| known.connection.family == Family::V4);
        if !is_v4s {
            return Told::Kernels;
        }
        let address = match local.ip().to_canonical() {
            v4 if v4.is_ipv4() => v4,
            any if any.is_unspecified() => std::net::Ipv4Addr::UNSPECIFIED.into(),
            _ => self.table.pool().own(Family::V4),
        };
        Told::Name(SocketAddr::new(address, local.port()))
    }

    /// As a relayed socket's: the address on the way to the gateway, or to a name server on this host.
    fn held_own_name(&self, fd: c_int, local: SocketAddr) -> Told {
        let gateway = self.candidates.get(0).map(|candidate| candidate.address);
        let asked = self.socket(fd).map(|known| known.connection.asked);
        let way = asked.filter(|asked| is_local(asked.ip())).or(gateway);
        let Some(source) = way.and_then(io::source_towards) else {
            return Told::Kernels;
        };
        let address = match (source, local.is_ipv4()) {
            (IpAddr::V6(_), true) => self.table.pool().own(Family::V4),
            (IpAddr::V4(v4), false) => v4.to_ipv6_mapped().into(),
            _ => source,
        };
        Told::Name(SocketAddr::new(address, local.port()))
    }

    /// Whether the limit in TCP_USER_TIMEOUT is ours, for as long as it takes to reach a gateway.
    fn is_hurried(&self, fd: c_int) -> bool {
        let is_under_way = || self.socket(fd).is_some_and(|known| !known.is_connected);
        self.candidates.is_choice() && io::is_hurried(fd) && is_under_way()
    }

    fn is_swapped(&self, fd: c_int) -> bool {
        let Some(cookie) = io::cookie(fd) else {
            return false;
        };
        self.sockets
            .row(fd)
            .is_some_and(|row| row.is_swapped(cookie))
            || self.socket(fd).is_some_and(|known| {
                known.connection.family == Family::V4 && io::local(fd).is_some_and(|l| l.is_ipv6())
            })
    }
}
