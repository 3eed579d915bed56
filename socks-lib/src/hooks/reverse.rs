//! getnameinfo(3) and gethostbyaddr(3): a fake address has the name that it stands for; any other is
//! looked up in /etc/hosts, and at the gateway under `resolve = "verify"`, since asking DNS would tell the network whom the program talks to.

use std::ffi::{c_char, c_int, c_void};
use std::ptr;

use libc::{hostent, sockaddr, socklen_t};
use socks_client::{Eai, HostErrno};

use crate::hooks::ask::name_of;
use crate::hooks::forward::Reentrant;
use crate::next;
use crate::state::NameOf;
use crate::sys::abi::{self, Given};
use crate::sys::{errno, hostent as entry};

/// `getnameinfo(3)`.
///
/// # Safety
/// The C contract: `addr` readable for `addr_len`, `host` and `service` null or writable for their
/// lengths.
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn getnameinfo(
    addr: *const sockaddr,
    addr_len: socklen_t,
    host: *mut c_char,
    host_len: socklen_t,
    service: *mut c_char,
    service_len: socklen_t,
    flags: c_int,
) -> c_int {
    // SAFETY: our caller's contract.
    let pass = |flags| unsafe {
        next::GETNAMEINFO.get()(addr, addr_len, host, host_len, service, service_len, flags)
    };
    let wants_name = !host.is_null() && host_len > 0 && flags & libc::NI_NUMERICHOST == 0;
    // SAFETY: our caller's contract.
    let Given::Inet(address) = (unsafe { abi::copy_in(addr, addr_len) }) else {
        return pass(flags);
    };
    if !wants_name {
        return pass(flags);
    }
    let name = match name_of(address.ip()) {
        NameOf::Pass => return pass(flags),
        NameOf::Fail(eai) => return eai.0,
        NameOf::Unknown if flags & libc::NI_NAMEREQD != 0 => return Eai::NONAME.0,
        NameOf::Unknown => return pass(flags | libc::NI_NUMERICHOST),
        NameOf::Name(name) => name,
    };
    if !service.is_null() && service_len > 0 {
        let (no_host, no_room) = (ptr::null_mut(), 0);
        // SAFETY: our caller's contract; no host is asked for.
        let eai = unsafe {
            next::GETNAMEINFO.get()(
                addr,
                addr_len,
                no_host,
                no_room,
                service,
                service_len,
                flags,
            )
        };
        if eai != 0 {
            return eai;
        }
    }
    let octets = name.as_bytes();
    if octets.len() >= usize::try_from(host_len).unwrap_or(0) {
        return Eai::OVERFLOW.0;
    }
    // SAFETY: the name and its NUL fit (checked above); our caller's contract.
    unsafe {
        ptr::copy_nonoverlapping(octets.as_ptr(), host.cast(), octets.len());
        host.add(octets.len()).write(0);
    }
    0
}

/// `gethostbyaddr(3)`.
///
/// # Safety
/// The C contract: `addr` is readable for `len` octets.
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn gethostbyaddr(
    addr: *const c_void,
    len: socklen_t,
    family: c_int,
) -> *mut hostent {
    // SAFETY: our caller's contract.
    let pass = || unsafe { next::GETHOSTBYADDR.get()(addr, len, family) };
    // SAFETY: our caller's contract.
    let Some(address) = (unsafe { abi::copy_in_ip(addr, len, family) }) else {
        return pass();
    };
    match name_of(address) {
        NameOf::Pass => pass(),
        // libc gives the v4 address of a v4-mapped one.
        NameOf::Name(name) => entry::of_process(name.as_bytes(), address.to_canonical()),
        NameOf::Fail(eai) => {
            errno::set_host(HostErrno::of_eai(eai));
            ptr::null_mut()
        }
        NameOf::Unknown => {
            errno::set_host(HostErrno::HOST_NOT_FOUND);
            ptr::null_mut()
        }
    }
}

/// `gethostbyaddr_r(3)`.
///
/// # Safety
/// The C contract: `addr` readable for `len`, `buf` writable for `buf_len`, the rest writable.
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn gethostbyaddr_r(
    addr: *const c_void,
    len: socklen_t,
    family: c_int,
    entry: *mut hostent,
    buf: *mut c_char,
    buf_len: usize,
    result: *mut *mut hostent,
    h_errno: *mut c_int,
) -> c_int {
    let room = Reentrant {
        entry,
        buf,
        buf_len,
        result,
        h_errno,
    };
    // SAFETY: our caller's contract.
    unsafe {
        let pass =
            || next::GETHOSTBYADDR_R.get()(addr, len, family, entry, buf, buf_len, result, h_errno);
        let Some(address) = abi::copy_in_ip(addr, len, family) else {
            return pass();
        };
        match name_of(address) {
            NameOf::Pass => pass(),
            NameOf::Name(name) => room.give(name.as_bytes(), address.to_canonical()),
            NameOf::Fail(eai) => room.not_found(HostErrno::of_eai(eai)),
            NameOf::Unknown => room.not_found(HostErrno::HOST_NOT_FOUND),
        }
    }
}
