//! Datagrams and connections that stay on this host, in the application's own sockets, so that the kernel's queue wakes
//! every kind of wait.

use std::ffi::c_int;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use fake_dns::Family;
use rustix::io::Errno as Raw;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, sockopt};
use socks_client::{Errno, Kind, Servers};

use crate::sys::file::File;
use crate::sys::io::{self, Facts};
use crate::sys::swap;

/// Sends `octets` to the unconnected socket `fd` from one of `ports` of the address that [`Servers::source`] gives. The
/// socket gets a port if it has none.
///
/// # Errors
/// The kernel's. ECONNREFUSED if the socket takes nothing from loopback, as one that is bound to a device.
pub(crate) fn deliver(
    fd: c_int,
    family: Family,
    mut ports: impl Iterator<Item = u16>,
    octets: &[u8],
) -> Result<(), Raw> {
    if io::local(fd).is_none_or(|local| local.port() == 0) {
        // As sendto(2) does. Not to loopback, since what it sends next may be direct.
        io::bind_to_any(fd, family);
    }
    let local = io::local(fd).ok_or(Raw::NOTSOCK)?;
    let to = match local.ip().to_canonical() {
        any if !any.is_unspecified() => any,
        _ if family == Family::V6 && io::is_v6only(fd) => Ipv6Addr::LOCALHOST.into(),
        // An AF_INET6 socket takes both, and a host may have no IPv6 at all.
        _ => Ipv4Addr::LOCALHOST.into(),
    };
    let from = Servers::source(to);
    let socket = loop {
        match from_port(SocketAddr::new(from, ports.next().ok_or(Raw::ADDRINUSE)?)) {
            Err(Raw::ADDRINUSE) => {}
            result => break result?,
        }
    };
    rustix::net::connect(&socket, &SocketAddr::new(to, local.port()))?;
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    rustix::net::send(&socket, octets, flags)?;
    // On loopback the refusal is there when send() returns.
    sockopt::socket_error(&socket)?
}

/// Connects a socket to itself: a stream, which is not connected yet, by simultaneous open (RFC 9293 §3.5). When this
/// returns it stands, though a stream that does not block has yet to be told.
///
/// # Errors
/// The kernel's; or the socket's packets would leave this host.
pub(crate) fn connect_to_itself(fd: c_int, facts: Facts) -> Result<(), Errno> {
    if facts.kind == Kind::Stream {
        return stream_to_itself(fd, facts.family);
    }
    if io::is_looped(fd) {
        return Ok(());
    }
    // One that is not connected keeps its port, of which the program may have told others.
    if io::is_connected(fd) {
        io::dissolve(fd);
    }
    let result = datagrams_to_itself(fd, facts.family);
    if result.is_err() {
        io::dissolve(fd);
    }
    result
}

/// The address and the port are connect(2)'s choice where the program has made none: those of bind(2) would outlast the
/// association, and loopback's address would be in the way of a later one that is direct.
fn datagrams_to_itself(fd: c_int, family: Family) -> Result<(), Errno> {
    let bound = io::local(fd).ok_or(Errno::CLOSED)?;
    let port = if bound.port() == 0 {
        DISCARD
    } else {
        bound.port()
    };
    if bound.ip().is_unspecified() {
        first(family, |ip| io::associate(fd, SocketAddr::new(ip, port)))?;
    } else if bound.port() == 0 {
        io::associate(fd, SocketAddr::new(bound.ip(), port))?;
    }
    let itself = io::local(fd).ok_or(Errno::CLOSED)?;
    if !is_here(fd, itself) {
        return Err(Errno::FAIL_CLOSED);
    }
    io::associate(fd, itself)
}

/// RFC 863. Nothing is ever sent there.
const DISCARD: u16 = 9;

fn stream_to_itself(fd: c_int, family: Family) -> Result<(), Errno> {
    let mut itself = io::local(fd).ok_or(Errno::CLOSED)?;
    if itself.port() == 0 {
        first(family, |ip| io::bind(fd, SocketAddr::new(ip, 0)))?;
        itself = io::local(fd).ok_or(Errno::CLOSED)?;
    }
    let connect = |itself| match io::connect(fd, itself) {
        Ok(()) | Err(Errno(libc::EINPROGRESS)) if io::is_connected(fd) => Ok(()),
        Ok(()) => Err(Errno::FAIL_CLOSED),
        error => error,
    };
    let connected = if itself.ip().is_unspecified() {
        first(family, |ip| connect(SocketAddr::new(ip, itself.port())))
    } else {
        connect(itself)
    };
    if let Err(error) = connected {
        io::dissolve(fd);
        return Err(error);
    }
    if io::is_blocking(fd) {
        // The second time says 0, whatever the address, and the third EISCONN.
        io::connect(fd, itself)?;
    }
    Ok(())
}

/// Tries the loopback addresses of a family: a host may have no IPv6 at all, and an AF_INET6 socket takes both.
fn first(family: Family, attempt: impl Fn(IpAddr) -> Result<(), Errno>) -> Result<(), Errno> {
    match family {
        Family::V4 => attempt(Ipv4Addr::LOCALHOST.into()),
        Family::V6 => attempt(Ipv6Addr::LOCALHOST.into()).or_else(|error| {
            let mapped = Ipv4Addr::LOCALHOST.to_ipv6_mapped();
            attempt(mapped.into()).or(Err(error))
        }),
    }
}

/// Whether what a socket with this address sends to it comes back to it: not if the address is nobody's (IP_FREEBIND), or
/// the program has chosen an interface for what it sends.
fn is_here(fd: c_int, itself: SocketAddr) -> bool {
    let ip = itself.ip().to_canonical();
    let source = io::source_towards(itself).map(|source| source.to_canonical());
    let is_own = ip.is_loopback() || source == Some(ip);
    is_own
        && !INTERFACES
            .into_iter()
            .any(|(level, name)| swap::is_set(fd, level, name))
}

/// asm-generic/socket.h, absent from the libc crate: the interface of SO_BINDTODEVICE as a number.
const SO_BINDTOIFINDEX: c_int = 62;

const INTERFACES: [(c_int, c_int); 3] = [
    (libc::SOL_SOCKET, SO_BINDTOIFINDEX),
    (libc::IPPROTO_IP, libc::IP_UNICAST_IF),
    (libc::IPPROTO_IPV6, libc::IPV6_UNICAST_IF),
];

fn from_port(address: SocketAddr) -> Result<File, Raw> {
    let family = match address.ip() {
        IpAddr::V4(_) => AddressFamily::INET,
        IpAddr::V6(_) => AddressFamily::INET6,
    };
    let (datagram, cloexec) = (SocketType::DGRAM, SocketFlags::CLOEXEC);
    let socket = rustix::net::socket_with(family, datagram, cloexec, None).map(File::new)?;
    rustix::net::bind(&socket, &address)?;
    Ok(socket)
}
