//! `sockaddr` in and out. The application's memory is copied in once, unaligned, and judged as a copy.

use std::ffi::c_int;
use std::mem::size_of;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use libc::{sa_family_t, sockaddr, sockaddr_in, sockaddr_in6, sockaddr_storage, socklen_t};

/// A `sockaddr` of either family, to be handed to libc.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) union Sockaddr {
    v4: sockaddr_in,
    v6: sockaddr_in6,
}

impl Sockaddr {
    pub(crate) fn new(address: SocketAddr) -> (Self, socklen_t) {
        match address {
            SocketAddr::V4(v4) => (
                Self {
                    v4: sockaddr_in {
                        sin_family: family_number(libc::AF_INET),
                        sin_port: v4.port().to_be(),
                        sin_addr: libc::in_addr {
                            s_addr: u32::from(*v4.ip()).to_be(),
                        },
                        sin_zero: [0; 8],
                    },
                },
                len_of::<sockaddr_in>(),
            ),
            SocketAddr::V6(v6) => (
                Self {
                    v6: sockaddr_in6 {
                        sin6_family: family_number(libc::AF_INET6),
                        sin6_port: v6.port().to_be(),
                        sin6_flowinfo: v6.flowinfo().to_be(),
                        sin6_addr: libc::in6_addr {
                            s6_addr: v6.ip().octets(),
                        },
                        sin6_scope_id: v6.scope_id(),
                    },
                },
                len_of::<sockaddr_in6>(),
            ),
        }
    }

    pub(crate) fn as_ptr(&self) -> *const sockaddr {
        (&raw const *self).cast()
    }
}

/// What a `sockaddr` argument holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Given {
    /// An IPv4 or IPv6 address of full length.
    Inet(SocketAddr),
    /// `AF_UNSPEC`: connect(2) dissolves the association.
    Unspec,
    /// Null, too short, or of another family: libc knows what to do.
    Other,
}

/// RFC 2133's sockaddr_in6 had no scope; the kernel still takes it.
const SIN6_LEN_RFC2133: socklen_t = 24;

/// Copies the `sockaddr` of a datagram in: on an AF_INET socket AF_UNSPEC means AF_INET (ip(7)).
///
/// # Safety
/// `addr` is null or readable for `len` octets.
pub(crate) unsafe fn copy_in_to(addr: *const sockaddr, len: socklen_t) -> Given {
    // SAFETY: our caller's contract.
    match unsafe { copy_in(addr, len) } {
        Given::Unspec if len >= len_of::<sockaddr_in>() => {
            // SAFETY: not null (it has a family) and readable for `len` octets, which is enough.
            Given::Inet(unsafe { copy_in_v4(addr) })
        }
        given => given,
    }
}

/// # Safety
/// `addr` is readable for a sockaddr_in.
unsafe fn copy_in_v4(addr: *const sockaddr) -> SocketAddr {
    // SAFETY: our caller's contract; alignment is not promised.
    let v4 = unsafe { addr.cast::<sockaddr_in>().read_unaligned() };
    let ip = Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr));
    SocketAddrV4::new(ip, u16::from_be(v4.sin_port)).into()
}

/// Copies a `sockaddr` in.
///
/// # Safety
/// `addr` is null or readable for `len` octets.
pub(crate) unsafe fn copy_in(addr: *const sockaddr, len: socklen_t) -> Given {
    // The kernel takes no more than a sockaddr_storage (EINVAL).
    let is_whole = (len_of::<sa_family_t>()..=len_of::<sockaddr_storage>()).contains(&len);
    if addr.is_null() || !is_whole {
        return Given::Other;
    }
    // SAFETY: not null and long enough for the family (both checked above); alignment is not promised.
    let family = c_int::from(unsafe { addr.cast::<sa_family_t>().read_unaligned() });
    match family {
        libc::AF_UNSPEC => Given::Unspec,
        libc::AF_INET if len >= len_of::<sockaddr_in>() => {
            // SAFETY: readable for `len` octets, which is enough (checked in the guard).
            Given::Inet(unsafe { copy_in_v4(addr) })
        }
        libc::AF_INET6 if len >= SIN6_LEN_RFC2133 => {
            // SAFETY: all zeroes is a valid sockaddr_in6.
            let mut v6: sockaddr_in6 = unsafe { std::mem::zeroed() };
            let octets = usize::try_from(len)
                .unwrap_or(0)
                .min(size_of::<sockaddr_in6>());
            // SAFETY: readable for `len` octets (our caller's contract), and within `v6`.
            unsafe {
                std::ptr::copy_nonoverlapping(addr.cast::<u8>(), (&raw mut v6).cast(), octets);
            }
            let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
            let flowinfo = u32::from_be(v6.sin6_flowinfo);
            let port = u16::from_be(v6.sin6_port);
            Given::Inet(SocketAddrV6::new(ip, port, flowinfo, v6.sin6_scope_id).into())
        }
        _ => Given::Other,
    }
}

/// Writes a name as getpeername(2) does: cut to the room given, with the true length told.
///
/// # Safety
/// `addr` is writable for `room` octets and `len` is writable.
pub(crate) unsafe fn copy_out(
    name: SocketAddr,
    addr: *mut sockaddr,
    room: socklen_t,
    len: *mut socklen_t,
) {
    let (value, value_len) = Sockaddr::new(name);
    let octets = usize::try_from(room.min(value_len)).unwrap_or(0);
    // SAFETY: `octets` is within both the value and the room that our caller vouches for.
    unsafe {
        std::ptr::copy_nonoverlapping(value.as_ptr().cast::<u8>(), addr.cast::<u8>(), octets);
    }
    // SAFETY: our caller's contract; alignment is not promised.
    unsafe { len.write_unaligned(value_len) };
}

/// The address of a `gethostbyaddr` argument; `None` if it is too short, or `::`, which libc answers
/// without asking anybody. What is longer than an address libc takes as well.
///
/// # Safety
/// `addr` is null or readable for `len` octets.
pub(crate) unsafe fn copy_in_ip(
    addr: *const libc::c_void,
    len: socklen_t,
    family: c_int,
) -> Option<IpAddr> {
    if addr.is_null() {
        return None;
    }
    match family {
        libc::AF_INET if len >= 4 => {
            // SAFETY: readable for `len` octets, which is enough.
            Some(IpAddr::from(unsafe {
                addr.cast::<[u8; 4]>().read_unaligned()
            }))
        }
        libc::AF_INET6 if len >= 16 => {
            // SAFETY: readable for `len` octets, which is enough.
            let address = IpAddr::from(unsafe { addr.cast::<[u8; 16]>().read_unaligned() });
            (!address.is_unspecified()).then_some(address)
        }
        _ => None,
    }
}

/// Whether this is a v4 address as an AF_INET6 socket has it.
pub(crate) fn is_mapped(address: SocketAddr) -> bool {
    address.is_ipv6() && address.ip().to_canonical().is_ipv4()
}

fn len_of<T>() -> socklen_t {
    socklen_t::try_from(size_of::<T>()).unwrap_or(0)
}

fn family_number(family: c_int) -> sa_family_t {
    sa_family_t::try_from(family).unwrap_or(0)
}
