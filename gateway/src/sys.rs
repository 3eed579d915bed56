//! The three things for which libc has to be asked directly: names, the host's own addresses, and
//! how much of a stream the kernel still holds.
#![expect(
    unsafe_code,
    reason = "libc's resolver and interface lists are C structures"
)]

use std::ffi::CStr;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use libc::{addrinfo, c_int, ifaddrs, sockaddr};

/// What getaddrinfo(3) said in place of an answer: an EAI_ code, and errno behind EAI_SYSTEM.
#[derive(Debug)]
pub(crate) struct Eai {
    pub(crate) code: c_int,
    pub(crate) system: Option<io::Error>,
}

/// The stream addresses of a name, in the order of RFC 6724, with port 0. std's `ToSocketAddrs`
/// does the same and hides the EAI_ code, without which a name that does not exist looks like a
/// name server that does not answer. Blocks for as long as resolv.conf allows.
pub(crate) fn addresses_of(name: &CStr) -> Result<Vec<SocketAddr>, Eai> {
    // No AI_ADDRCONFIG: an address of a family without a route fails its attempt at once, and the
    // flag would hide every address of a family that the host has on loopback only.
    let hints = addrinfo {
        ai_flags: 0,
        ai_family: libc::AF_UNSPEC,
        ai_socktype: libc::SOCK_STREAM,
        ai_protocol: 0,
        ai_addrlen: 0,
        ai_addr: ptr::null_mut(),
        ai_canonname: ptr::null_mut(),
        ai_next: ptr::null_mut(),
    };
    let mut list: *mut addrinfo = ptr::null_mut();
    // SAFETY: `name` is a C string, `hints` is fully initialised, `list` is ours to be written to;
    // a null service is allowed.
    let code =
        unsafe { libc::getaddrinfo(name.as_ptr(), ptr::null(), &raw const hints, &raw mut list) };
    if code != 0 {
        let system = (code == libc::EAI_SYSTEM).then(io::Error::last_os_error);
        return Err(Eai { code, system });
    }
    let mut addresses = Vec::new();
    let mut next = list;
    // SAFETY: `next` is null or an element of the list that getaddrinfo has just made.
    while let Some(entry) = unsafe { next.as_ref() } {
        // SAFETY: ai_addr points to an address of the family that it says, as getaddrinfo promises.
        addresses.extend(unsafe { socket_address(entry.ai_addr) });
        next = entry.ai_next;
    }
    // SAFETY: the list is getaddrinfo's and nothing refers to it any more.
    unsafe { libc::freeaddrinfo(list) };
    Ok(addresses)
}

/// Every address of this host's interfaces.
pub(crate) fn own_addresses() -> io::Result<Vec<IpAddr>> {
    let mut list: *mut ifaddrs = ptr::null_mut();
    // SAFETY: `list` is ours to be written to.
    if unsafe { libc::getifaddrs(&raw mut list) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let mut addresses = Vec::new();
    let mut next = list;
    // SAFETY: `next` is null or an element of the list that getifaddrs has just made.
    while let Some(entry) = unsafe { next.as_ref() } {
        // SAFETY: ifa_addr is null or points to an address of the family that it says.
        addresses.extend(unsafe { socket_address(entry.ifa_addr) }.map(|address| address.ip()));
        next = entry.ifa_next;
    }
    // SAFETY: the list is getifaddrs's and nothing refers to it any more.
    unsafe { libc::freeifaddrs(list) };
    Ok(addresses)
}

/// Octets that were written to a TCP socket and that its peer has not acknowledged.
pub(crate) fn unsent(socket: BorrowedFd<'_>) -> io::Result<u32> {
    let mut octets: c_int = 0;
    // SAFETY: TIOCOUTQ (SIOCOUTQ by another name) writes one int through the pointer.
    if unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut octets) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(u32::try_from(octets).unwrap_or(0))
}

/// An IP address out of a C one; `None` if it is null or of another family.
///
/// # Safety
/// `address` is null, or readable for as much as the family that it begins with needs.
unsafe fn socket_address(address: *const sockaddr) -> Option<SocketAddr> {
    if address.is_null() {
        return None;
    }
    // SAFETY: not null, hence readable for a family at least: our caller's contract.
    let family = c_int::from(unsafe { (*address).sa_family });
    match family {
        libc::AF_INET => {
            // SAFETY: of this family, hence a whole sockaddr_in: our caller's contract.
            let v4 = unsafe { address.cast::<libc::sockaddr_in>().read_unaligned() };
            let ip = Ipv4Addr::from_bits(u32::from_be(v4.sin_addr.s_addr));
            Some(SocketAddrV4::new(ip, u16::from_be(v4.sin_port)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: of this family, hence a whole sockaddr_in6: our caller's contract.
            let v6 = unsafe { address.cast::<libc::sockaddr_in6>().read_unaligned() };
            let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
            let port = u16::from_be(v6.sin6_port);
            Some(SocketAddrV6::new(ip, port, v6.sin6_flowinfo, v6.sin6_scope_id).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_literal_is_its_own_address_in_both_families() {
        let v4 = addresses_of(c"192.0.2.7").unwrap();
        assert_eq!(v4, ["192.0.2.7:0".parse().unwrap()]);
        let v6 = addresses_of(c"2001:db8::7").unwrap();
        assert_eq!(v6, ["[2001:db8::7]:0".parse().unwrap()]);
    }

    #[test]
    fn a_name_that_cannot_exist_says_which_kind_of_failure_it_is() {
        // RFC 6761 §6.4: `invalid` never resolves. Without a name server it is EAI_AGAIN.
        let eai = addresses_of(c"no.such.name.invalid").unwrap_err();
        assert!(
            [libc::EAI_NONAME, libc::EAI_AGAIN].contains(&eai.code),
            "{eai:?}"
        );
    }

    #[test]
    fn loopback_is_among_the_own_addresses() {
        assert!(
            own_addresses()
                .unwrap()
                .contains(&IpAddr::from([127, 0, 0, 1]))
        );
    }
}
