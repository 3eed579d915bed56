//! An AF_INET socket and a gateway that only v6 reaches: another socket under the same number
//! (DESIGN §2, "Sockets of the wrong family").

use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};
use std::path::Path;

use libc::socklen_t;
use rustix::event::epoll;
use rustix::fd::{AsFd, AsRawFd, BorrowedFd};
use rustix::fs::{OFlags, RawDir};
use rustix::io::{DupFlags, FdFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use socks_client::{Errno, Registration, Row, Sockets};

use crate::next;
use crate::pending;
use crate::sys::file::{self, File};
use crate::sys::io;

/// What has changed.
#[derive(Debug)]
pub(crate) struct Swapped {
    /// The new socket's SO_COOKIE.
    pub(crate) cookie: u64,
    /// A local address that was bound and that the new family cannot express.
    pub(crate) lost_address: Option<SocketAddr>,
}

/// Options that an application can set before connect() and that the new socket takes over, where the
/// old one has them: (level, name). IP's own count for v4-mapped traffic and are read back as set.
const OPTIONS: &[(c_int, c_int)] = &[
    (libc::SOL_SOCKET, libc::SO_BINDTODEVICE),
    (libc::SOL_SOCKET, libc::SO_BROADCAST),
    (libc::SOL_SOCKET, libc::SO_BUSY_POLL),
    (libc::SOL_SOCKET, libc::SO_DEBUG),
    (libc::SOL_SOCKET, libc::SO_DONTROUTE),
    (libc::SOL_SOCKET, libc::SO_INCOMING_CPU),
    (libc::SOL_SOCKET, libc::SO_KEEPALIVE),
    (libc::SOL_SOCKET, libc::SO_LINGER),
    (libc::SOL_SOCKET, libc::SO_MARK),
    (libc::SOL_SOCKET, libc::SO_MAX_PACING_RATE),
    (libc::SOL_SOCKET, libc::SO_OOBINLINE),
    (libc::SOL_SOCKET, libc::SO_PRIORITY),
    (libc::SOL_SOCKET, libc::SO_RCVLOWAT),
    (libc::SOL_SOCKET, libc::SO_RCVTIMEO),
    (libc::SOL_SOCKET, libc::SO_REUSEADDR),
    (libc::SOL_SOCKET, libc::SO_REUSEPORT),
    (libc::SOL_SOCKET, libc::SO_SNDTIMEO),
    (libc::SOL_SOCKET, libc::SO_TIMESTAMP),
    (libc::SOL_SOCKET, libc::SO_TIMESTAMPING),
    (libc::SOL_SOCKET, libc::SO_TIMESTAMPNS),
    (libc::SOL_SOCKET, libc::SO_ZEROCOPY),
    (libc::IPPROTO_TCP, libc::TCP_CONGESTION),
    (libc::IPPROTO_TCP, libc::TCP_CORK),
    (libc::IPPROTO_TCP, libc::TCP_FASTOPEN_CONNECT),
    (libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT),
    (libc::IPPROTO_TCP, libc::TCP_KEEPCNT),
    (libc::IPPROTO_TCP, libc::TCP_KEEPIDLE),
    (libc::IPPROTO_TCP, libc::TCP_KEEPINTVL),
    (libc::IPPROTO_TCP, libc::TCP_INQ),
    (libc::IPPROTO_TCP, libc::TCP_LINGER2),
    (libc::IPPROTO_TCP, libc::TCP_MAXSEG),
    (libc::IPPROTO_TCP, libc::TCP_NODELAY),
    (libc::IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT),
    (libc::IPPROTO_TCP, libc::TCP_QUICKACK),
    (libc::IPPROTO_TCP, libc::TCP_SYNCNT),
    (libc::IPPROTO_TCP, libc::TCP_THIN_DUPACK),
    (libc::IPPROTO_TCP, libc::TCP_THIN_LINEAR_TIMEOUTS),
    (libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT),
    (libc::IPPROTO_TCP, libc::TCP_WINDOW_CLAMP),
    (libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT),
    (libc::IPPROTO_IP, libc::IP_FREEBIND),
    (libc::IPPROTO_IP, libc::IP_MINTTL),
    (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER),
    (libc::IPPROTO_IP, libc::IP_PKTINFO),
    (libc::IPPROTO_IP, libc::IP_RECVERR),
    (libc::IPPROTO_IP, libc::IP_RECVTOS),
    (libc::IPPROTO_IP, libc::IP_RECVTTL),
    (libc::IPPROTO_IP, libc::IP_TOS),
    (libc::IPPROTO_IP, libc::IP_TRANSPARENT),
    (libc::IPPROTO_IP, libc::IP_TTL),
];

/// fcntl.h, absent from the libc crate: the signal in place of SIGIO.
const F_SETSIG: c_int = 10;
const F_GETSIG: c_int = 11;

/// Buffer sizes are read back doubled (socket(7)).
const BUFFERS: [c_int; 2] = [libc::SO_RCVBUF, libc::SO_SNDBUF];

/// Puts a new AF_INET6 socket under the number of the unconnected stream socket `fd`, and under those of
/// its duplicates in this process, with its flags, options, port and epoll registrations.
pub(crate) fn to_v6(fd: c_int, sockets: Sockets) -> Result<Swapped, Errno> {
    // SAFETY: the application's own socket (facts were read from it), borrowed for this call.
    let old = unsafe { BorrowedFd::borrow_raw(fd) };
    let old_cookie = sockopt::socket_cookie(old).map_err(of_raw)?;
    let protocol = sockopt::socket_protocol(old).map_err(of_raw)?;
    let bound = io::local(fd).filter(|bound| bound.port() != 0);
    let (stream, cloexec) = (SocketType::STREAM, SocketFlags::CLOEXEC);
    let new = rustix::net::socket_with(AddressFamily::INET6, stream, cloexec, protocol)
        .map(File::new)
        .map_err(of_raw)?;
    let new_number = new.as_fd().as_raw_fd();
    for &(level, name) in OPTIONS {
        copy_option(fd, new_number, level, name);
    }
    copy_buffers(fd, new_number);
    if sockopt::socket_domain(old) == Ok(AddressFamily::INET) {
        copy_in_v6_terms(old, new.as_fd());
    }
    copy_flags(fd, new_number);
    let cookie = sockopt::socket_cookie(&new).map_err(of_raw)?;
    let mut failed = None;
    for_each_duplicate(old_cookie, |number| {
        let result = replace(number, &new, sockets);
        failed = failed.or(result);
    });
    if let Some(errno) = failed {
        return Err(errno);
    }
    // Now that the old socket is gone, its port is free, unless another process has a duplicate.
    let any = bound.map(|bound| SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, bound.port(), 0, 0));
    any.map_or(Ok(()), |any| rustix::net::bind(&new, &any))
        .map_err(of_raw)?;
    let lost_address = bound.filter(|bound| !bound.ip().is_unspecified());
    Ok(Swapped {
        cookie,
        lost_address,
    })
}

/// Calls `visit` with each descriptor of this process whose socket has this cookie.
pub(crate) fn for_each_duplicate(cookie: u64, mut visit: impl FnMut(c_int)) {
    for_each_descriptor(|fd| {
        if io::cookie(fd) == Some(cookie) {
            visit(fd);
        }
    });
}

fn of_raw(error: rustix::io::Errno) -> Errno {
    Errno(error.raw_os_error())
}

/// An option's value, as far as 64 octets hold it; `None` if the socket does not have it.
fn option(fd: c_int, level: c_int, name: c_int) -> Option<([u8; 64], socklen_t)> {
    let mut value = [0; 64];
    let mut len = socklen_t::try_from(value.len()).unwrap_or(0);
    let room = value.as_mut_ptr().cast::<c_void>();
    // SAFETY: `room` is writable for `len` octets.
    let result = unsafe { next::GETSOCKOPT.get()(fd, level, name, room, &raw mut len) };
    (result == 0).then_some((value, len))
}

/// Whether the socket has this option, and it is not zero.
pub(crate) fn is_set(fd: c_int, level: c_int, name: c_int) -> bool {
    option(fd, level, name).is_some_and(|(value, _)| value.iter().any(|&octet| octet != 0))
}

/// Only what differs is set, since one option's zero may undo another (SO_TIMESTAMP, SO_TIMESTAMPNS).
/// The kernel refuses what does not apply; then the new socket keeps its default, as the old one had.
fn copy_option(old: c_int, new: c_int, level: c_int, name: c_int) {
    let wanted = option(old, level, name);
    if let Some((value, len)) = wanted.filter(|_| wanted != option(new, level, name)) {
        // SAFETY: getsockopt(2) wrote `len` octets of `value`.
        unsafe { next::SETSOCKOPT.get()(new, level, name, value.as_ptr().cast(), len) };
    }
}

fn copy_buffers(old: c_int, new: c_int) {
    let read = |fd, name| {
        let mut size: c_int = 0;
        let mut len = socklen_t::try_from(size_of::<c_int>()).unwrap_or(0);
        // SAFETY: `size` is writable for `len` octets.
        let result = unsafe {
            next::GETSOCKOPT.get()(
                fd,
                libc::SOL_SOCKET,
                name,
                (&raw mut size).cast(),
                &raw mut len,
            )
        };
        (result == 0).then_some(size)
    };
    for name in BUFFERS {
        // Unless it was set, it is left to the kernel, which tunes it as the connection goes.
        let (Some(wanted), Some(default)) = (read(old, name), read(new, name)) else {
            continue;
        };
        if wanted != default {
            let half = wanted.checked_div(2).unwrap_or(0);
            let len = socklen_t::try_from(size_of::<c_int>()).unwrap_or(0);
            // SAFETY: `half` is readable for `len` octets.
            unsafe {
                next::SETSOCKOPT.get()(new, libc::SOL_SOCKET, name, (&raw const half).cast(), len)
            };
        }
    }
}

/// File status flags, and who is told by SIGIO.
fn copy_flags(old: c_int, new: c_int) {
    let fcntl = next::FCNTL.get();
    for (read, write) in [
        (libc::F_GETOWN, libc::F_SETOWN),
        (F_GETSIG, F_SETSIG),
        (libc::F_GETFL, libc::F_SETFL),
    ] {
        // SAFETY: fcntl(2) with a number, or without an argument.
        let value = unsafe { fcntl(old, read, 0) };
        if let Ok(value @ 1..) = usize::try_from(value) {
            // SAFETY: as above.
            unsafe { fcntl(new, write, value) };
        }
    }
}

/// What IPv4 calls TOS and TTL, in v6's terms, so that it also counts on the way to the gateway.
fn copy_in_v6_terms(old: BorrowedFd<'_>, new: BorrowedFd<'_>) {
    if let Ok(tos) = sockopt::ip_tos(old) {
        let _kept = sockopt::set_ipv6_tclass(new, u32::from(tos));
    }
    if let Ok(ttl) = sockopt::ip_ttl(old) {
        let _kept = sockopt::set_ipv6_unicast_hops(new, u8::try_from(ttl).ok());
    }
}

/// dup3 with the number's own FD_CLOEXEC, and its epoll registrations deleted before and added after:
/// an old one keeps firing as long as a duplicate of the old socket lives anywhere.
fn replace(number: c_int, new: &File, sockets: Sockets) -> Option<Errno> {
    let mut target = file::borrowed_target(number);
    let is_cloexec =
        rustix::io::fcntl_getfd(&*target).is_ok_and(|flags| flags.contains(FdFlags::CLOEXEC));
    let flags = if is_cloexec {
        DupFlags::CLOEXEC
    } else {
        DupFlags::empty()
    };
    let registrations = || sockets.row(number).into_iter().flat_map(Row::registrations);
    for Registration { set, .. } in registrations() {
        // SAFETY: an epoll descriptor of the application's, borrowed for this call.
        let gone = epoll::delete(unsafe { BorrowedFd::borrow_raw(set) }, &*target);
        // One of a socket that had this number before: the set must not be given this one.
        if let (Err(_), Some(row)) = (gone, sockets.row(number)) {
            row.unregistered(set);
        }
    }
    let result = rustix::io::dup3(new, &mut target, flags);
    for registration in registrations() {
        let Registration { set, events, data } = registration;
        // A new one-shot fires for an unconnected socket; spent already, it does that with nothing for the program.
        let marker = sockets.row(number).map(pending::marker);
        let spent = marker.filter(|_| registration.is_spent());
        let (data, events) = (
            epoll::EventData::new_u64(spent.unwrap_or(data)),
            epoll::EventFlags::from_bits_retain(events),
        );
        // SAFETY: as above.
        let _added = epoll::add(
            unsafe { BorrowedFd::borrow_raw(set) },
            &*target,
            data,
            events,
        );
    }
    result.err().map(of_raw)
}

fn for_each_descriptor(mut visit: impl FnMut(c_int)) {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let Ok(folder) = File::open(Path::new("/proc/self/fd"), flags) else {
        return;
    };
    let mut room = [MaybeUninit::uninit(); 512];
    let mut entries = RawDir::new(&folder, &mut room);
    while let Some(Ok(entry)) = entries.next() {
        let number = str::from_utf8(entry.file_name().to_bytes())
            .ok()
            .and_then(|n| n.parse().ok());
        if let Some(number) = number {
            visit(number);
        }
    }
}
