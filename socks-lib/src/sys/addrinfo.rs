//! `addrinfo` lists: libc makes them and libc frees them (DESIGN §2, "libc makes the answer").

use std::ffi::{CStr, c_char, c_int};
use std::fmt::Write;
use std::net::IpAddr;
use std::ptr;

use libc::{addrinfo, socklen_t};

use crate::next;
use crate::sys::abi::{self, Given};

/// An address as a C string: what a numeric host is given to libc as.
#[derive(Debug)]
pub(crate) struct Numeric {
    text: [u8; 64],
    len: usize,
}

impl Numeric {
    pub(crate) fn new(address: IpAddr) -> Self {
        let mut numeric = Self {
            text: [0; 64],
            len: 0,
        };
        // The longest address has 45 octets.
        let _fits = write!(numeric, "{address}");
        numeric
    }

    pub(crate) fn as_ptr(&self) -> *const c_char {
        self.text.as_ptr().cast()
    }
}

impl Write for Numeric {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        for octet in text.bytes() {
            let room = self.text.len().saturating_sub(1);
            let to = self.text.get_mut(self.len).filter(|_| self.len < room);
            *to.ok_or(std::fmt::Error)? = octet;
            self.len = self.len.saturating_add(1);
        }
        Ok(())
    }
}

/// Joins `second` behind `first`.
///
/// # Safety
/// Both are lists of getaddrinfo(3); `first` is not empty.
pub(crate) unsafe fn join(first: *mut addrinfo, second: *mut addrinfo) {
    let mut last = first;
    // SAFETY: a list of getaddrinfo(3) is linked by ai_next and ends in null.
    while let Some(next) = unsafe { (*last).ai_next.as_mut() } {
        last = next;
    }
    // SAFETY: `last` is the last entry of a list that is not empty.
    unsafe { (*last).ai_next = second };
}

/// Puts `flags` into every entry.
///
/// # Safety
/// `list` is a list of getaddrinfo(3).
pub(crate) unsafe fn set_flags(list: *mut addrinfo, flags: c_int) {
    let mut entry = list;
    // SAFETY: linked by ai_next and ends in null.
    while let Some(this) = unsafe { entry.as_mut() } {
        this.ai_flags = flags;
        entry = this.ai_next;
    }
}

/// Gives the first entry the canonical name that AI_CANONNAME asks for: a malloc'd copy, which
/// freeaddrinfo(3) frees. False if there is no memory.
///
/// # Safety
/// `list` is a list of getaddrinfo(3) that is not empty.
pub(crate) unsafe fn set_canonical_name(list: *mut addrinfo, name: &[u8]) -> bool {
    // SAFETY: the name has no NUL of its own: it came from a C string; strndup adds one.
    let copy = unsafe { libc::strndup(name.as_ptr().cast(), name.len()) };
    // SAFETY: our caller's contract. The name it had, if any, is libc's to free.
    let old = unsafe { ptr::replace(&raw mut (*list).ai_canonname, copy) };
    // SAFETY: null, or a malloc'd name of getaddrinfo(3) that nothing points to any more.
    unsafe { libc::free(old.cast()) };
    !copy.is_null()
}

/// The addresses of `name` by libc's own look-up: for the gateway's name and nothing else.
pub(crate) fn look_up(name: &CStr) -> Vec<IpAddr> {
    let mut list = ptr::null_mut();
    // SAFETY: all zeroes is a valid addrinfo: no flags, any family, no pointers.
    let mut hints: addrinfo = unsafe { std::mem::zeroed() };
    hints.ai_socktype = libc::SOCK_STREAM;
    // SAFETY: a NUL-terminated name, valid hints, and room for the list.
    let eai = unsafe {
        next::GETADDRINFO.get()(name.as_ptr(), ptr::null(), &raw const hints, &raw mut list)
    };
    if eai != 0 {
        return Vec::new();
    }
    let mut addresses = Vec::new();
    // SAFETY: a list of getaddrinfo(3).
    unsafe { for_each_address(list, |address| addresses.push(address)) };
    // SAFETY: a list that getaddrinfo(3) gave and nobody else has.
    unsafe { libc::freeaddrinfo(list) };
    addresses
}

/// Each address of a list.
///
/// # Safety
/// `list` is null or a list of getaddrinfo(3).
pub(crate) unsafe fn for_each_address(list: *const addrinfo, mut with: impl FnMut(IpAddr)) {
    let mut entry = list;
    // SAFETY: linked by ai_next and ends in null.
    while let Some(this) = unsafe { entry.as_ref() } {
        // SAFETY: ai_addr is readable for ai_addrlen octets.
        if let Given::Inet(address) = unsafe { abi::copy_in(this.ai_addr, this.ai_addrlen) } {
            with(address.ip());
        }
        entry = this.ai_next;
    }
}

/// Whether the host has v4 and v6 addresses other than loopback, as AI_ADDRCONFIG counts them.
pub(crate) fn own_families() -> (bool, bool) {
    let mut list = ptr::null_mut();
    // SAFETY: room for the list.
    if unsafe { libc::getifaddrs(&raw mut list) } != 0 {
        return (true, true);
    }
    let (mut v4, mut v6) = (false, false);
    let mut entry: *const libc::ifaddrs = list;
    // SAFETY: entries of a list of getifaddrs(3), which ends in null.
    while let Some(this) = unsafe { entry.as_ref() } {
        // SAFETY: null, or a sockaddr of an interface; those of the two families have full length.
        match unsafe { abi::copy_in(this.ifa_addr, sockaddr_len(this.ifa_addr)) } {
            Given::Inet(address) if address.ip().is_loopback() => {}
            Given::Inet(address) if address.is_ipv4() => v4 = true,
            Given::Inet(_) => v6 = true,
            Given::Unspec | Given::Other => {}
        }
        entry = this.ifa_next;
    }
    // SAFETY: a list that getifaddrs(3) gave and nobody else has.
    unsafe { libc::freeifaddrs(list) };
    (v4, v6)
}

/// The length of an interface's address, which getifaddrs(3) does not tell.
///
/// # Safety
/// As for [`own_families`]: null or a whole sockaddr.
unsafe fn sockaddr_len(addr: *const libc::sockaddr) -> socklen_t {
    if addr.is_null() {
        return 0;
    }
    // SAFETY: not null, so at least a family is there.
    let family = c_int::from(unsafe { (*addr).sa_family });
    let octets = match family {
        libc::AF_INET => size_of::<libc::sockaddr_in>(),
        libc::AF_INET6 => size_of::<libc::sockaddr_in6>(),
        _ => size_of::<libc::sa_family_t>(),
    };
    socklen_t::try_from(octets).unwrap_or(0)
}
