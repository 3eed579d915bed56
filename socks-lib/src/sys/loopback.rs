//! A datagram into the application's own socket, put there by loopback, so that the kernel's queue wakes
//! every kind of wait.

use std::ffi::c_int;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use fake_dns::Family;
use rustix::io::Errno as Raw;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, sockopt};
use socks_client::{Errno, Servers};

use crate::sys::file::File;
use crate::sys::io;

/// Sends `octets` to the socket `fd` from one of `ports` of the address that [`Servers::source`] gives. The
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

/// Connects an unconnected stream socket to itself. When this returns it stands, though a socket that does not
/// block has yet to be told.
///
/// # Errors
/// The kernel's.
pub(crate) fn connect_to_itself(fd: c_int, family: Family) -> Result<(), Errno> {
    let loopback = match family {
        Family::V4 => IpAddr::from(Ipv4Addr::LOCALHOST),
        Family::V6 => Ipv6Addr::LOCALHOST.into(),
    };
    let mut local = io::local(fd).ok_or(Errno::CLOSED)?;
    if local.port() == 0 {
        io::bind(fd, SocketAddr::new(loopback, 0))?;
        local = io::local(fd).ok_or(Errno::CLOSED)?;
    }
    if local.ip().is_unspecified() {
        local.set_ip(loopback);
    }
    match io::connect(fd, local) {
        Ok(()) | Err(Errno(libc::EINPROGRESS)) if io::is_connected(fd) => {}
        Ok(()) => return Err(Errno::FAIL_CLOSED),
        Err(error) => {
            io::dissolve(fd);
            return Err(error);
        }
    }
    if io::is_blocking(fd) {
        // The second time says 0, and the third EISCONN.
        io::connect(fd, local)?;
    }
    Ok(())
}

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
