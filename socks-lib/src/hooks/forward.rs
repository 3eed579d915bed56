//! getaddrinfo(3) and gethostbyname(3): names become fake addresses, and libc makes the answer.

use std::ffi::{CStr, c_char, c_int};
use std::net::IpAddr;
use std::ptr;

use fake_dns::Family;
use libc::{addrinfo, hostent};
use socks_client::{Asked, Eai, HostErrno, Question, literal};

use crate::enter::enter;
use crate::hooks::ask::answer;
use crate::next;
use crate::start;
use crate::state::Answer;
use crate::sys::addrinfo::{self as list_of, Numeric};
use crate::sys::{errno, hostent as entry, idn};

/// glibc's hints where the application gives none (getaddrinfo(3)).
const DEFAULT_FLAGS: c_int = libc::AI_V4MAPPED | libc::AI_ADDRCONFIG;
/// netdb.h, absent from the libc crate: the name is in the locale's encoding.
const AI_IDN: c_int = 0x0040;
const EAI_IDN_ENCODE: c_int = -105;
/// What would make libc look past the numeric host that it is given.
const CLEARED: c_int = libc::AI_ADDRCONFIG
    | libc::AI_V4MAPPED
    | libc::AI_ALL
    | libc::AI_CANONNAME
    | AI_IDN
    | AI_CANONIDN;
const AI_CANONIDN: c_int = 0x0080;

/// `getaddrinfo(3)`.
///
/// # Safety
/// The C contract: null or NUL-terminated strings, null or valid hints, `list` writable.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C-unwind" fn getaddrinfo(
    node: *const c_char,
    service: *const c_char,
    hints: *const addrinfo,
    list: *mut *mut addrinfo,
) -> c_int {
    // SAFETY: our caller's contract.
    let pass = || unsafe { next::GETADDRINFO.get()(node, service, hints, list) };
    if node.is_null() {
        return pass();
    }
    // SAFETY: our caller's contract: null or valid.
    let given = unsafe { hints.as_ref() };
    let flags = given.map_or(DEFAULT_FLAGS, |hints| hints.ai_flags);
    let asked = match given.map_or(libc::AF_UNSPEC, |hints| hints.ai_family) {
        libc::AF_UNSPEC => Asked::Any,
        libc::AF_INET => Asked::Only(Family::V4),
        libc::AF_INET6 => Asked::Only(Family::V6),
        // libc knows that it does not know it.
        _ => return pass(),
    };
    // SAFETY: our caller's contract: a NUL-terminated string.
    let name = unsafe { CStr::from_ptr(node) };
    let ascii;
    let name = if flags & AI_IDN != 0 && !name.to_bytes().is_ascii() {
        let Some(converted) = idn::to_ascii(name) else {
            return EAI_IDN_ENCODE;
        };
        ascii = converted;
        ascii.as_c_str().to_bytes()
    } else {
        name.to_bytes()
    };
    let question = Question {
        name,
        asked,
        is_getaddrinfo: true,
        is_numeric_only: flags & libc::AI_NUMERICHOST != 0,
        is_v4_mapped: flags & libc::AI_V4MAPPED != 0,
        is_addrconfig: flags & libc::AI_ADDRCONFIG != 0,
        is_verified: false,
    };
    let is_libcs = start::has_failed() && literal(name).is_some();
    let broken = if is_libcs {
        Answer::Pass
    } else {
        Answer::Fail(Eai::FAIL)
    };
    match answer(&question, broken) {
        Answer::Pass => pass(),
        Answer::Direct(slot) => {
            let eai = pass();
            if eai == 0 {
                // SAFETY: getaddrinfo(3) has succeeded: a list is there.
                unsafe { list_of::for_each_address(*list, |address| note(address, slot)) };
            }
            eai
        }
        Answer::PassAs(family) => {
            let mut hints = hints_or_default(given);
            hints.ai_family = number_of(family);
            // SAFETY: our caller's contract; the hints are a valid copy.
            unsafe { next::GETADDRINFO.get()(node, service, &raw const hints, list) }
        }
        Answer::Addresses(addresses) => {
            // Without the dot that makes it absolute, as a name server gives it.
            let canonical = name.strip_suffix(b".").unwrap_or(name);
            let canonical = (flags & libc::AI_CANONNAME != 0).then_some(canonical);
            // SAFETY: our caller's contract; the hints are a valid copy.
            unsafe { numeric(addresses, canonical, service, hints_or_default(given), list) }
        }
        Answer::Fail(eai) => {
            // What is wrong with the hints or the service is said first, as libc says it.
            // SAFETY: our caller's contract; the hints are a valid copy.
            let checked = unsafe { check(service, hints_or_default(given)) };
            if checked == 0 { eai.0 } else { checked }
        }
    }
}

fn note(address: IpAddr, slot: u32) {
    enter((), (), |state| state.note_direct(address, slot));
}

fn hints_or_default(given: Option<&addrinfo>) -> addrinfo {
    given.copied().unwrap_or_else(|| {
        // SAFETY: all zeroes is a valid addrinfo: no flags, any family, no pointers.
        let mut hints: addrinfo = unsafe { std::mem::zeroed() };
        hints.ai_flags = DEFAULT_FLAGS;
        hints
    })
}

const fn number_of(family: Family) -> c_int {
    match family {
        Family::V4 => libc::AF_INET,
        Family::V6 => libc::AF_INET6,
    }
}

/// libc's list for addresses that it is given as numeric hosts, one call for each family.
///
/// # Safety
/// `service` is null or NUL-terminated; `list` is writable.
unsafe fn numeric(
    addresses: [Option<IpAddr>; 2],
    canonical: Option<&[u8]>,
    service: *const c_char,
    mut hints: addrinfo,
    list: *mut *mut addrinfo,
) -> c_int {
    // libc repeats the hints' flags in each entry.
    let given_flags = hints.ai_flags;
    hints.ai_flags = (given_flags & !CLEARED) | libc::AI_NUMERICHOST;
    let mut whole: *mut addrinfo = ptr::null_mut();
    for address in addresses.into_iter().flatten() {
        hints.ai_family = number_of(Family::of(address));
        let host = Numeric::new(address);
        let mut part: *mut addrinfo = ptr::null_mut();
        // SAFETY: a NUL-terminated host, our caller's service, valid hints, room for the list.
        let eai = unsafe {
            next::GETADDRINFO.get()(host.as_ptr(), service, &raw const hints, &raw mut part)
        };
        if eai != 0 {
            // SAFETY: null or a list of getaddrinfo(3) that nobody else has.
            unsafe { free(whole) };
            return eai;
        }
        if whole.is_null() {
            whole = part;
        } else {
            // SAFETY: two lists of getaddrinfo(3), the first not empty (checked).
            unsafe { list_of::join(whole, part) };
        }
    }
    if whole.is_null() {
        return Eai::NONAME.0;
    }
    let is_named = canonical.is_none_or(|name| {
        // SAFETY: a list that is not empty.
        unsafe { list_of::set_canonical_name(whole, name) }
    });
    if !is_named {
        // SAFETY: a list of getaddrinfo(3) that nobody else has.
        unsafe { free(whole) };
        return libc::EAI_MEMORY;
    }
    // SAFETY: a list of getaddrinfo(3).
    unsafe { list_of::set_flags(whole, given_flags) };
    // SAFETY: our caller's contract.
    unsafe { list.write(whole) };
    0
}

/// What libc says of the hints and the service, whatever the host.
///
/// # Safety
/// `service` is null or NUL-terminated.
unsafe fn check(service: *const c_char, hints: addrinfo) -> c_int {
    let mut list = ptr::null_mut();
    let v4 = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    let v6 = IpAddr::V6(std::net::Ipv6Addr::LOCALHOST);
    let any = if hints.ai_family == libc::AF_INET6 {
        v6
    } else {
        v4
    };
    // SAFETY: our caller's contract, and room for the list.
    let eai = unsafe { numeric([Some(any), None], None, service, hints, &raw mut list) };
    // SAFETY: null or a list of getaddrinfo(3) that nobody else has.
    unsafe { free(list) };
    eai
}

/// # Safety
/// `list` is null or a list of getaddrinfo(3) that nobody else has.
unsafe fn free(list: *mut addrinfo) {
    if !list.is_null() {
        // SAFETY: our caller's contract.
        unsafe { libc::freeaddrinfo(list) };
    }
}

/// How a look-up of the `gethostby…` family ends.
enum Found {
    Pass,
    /// As [`Answer::Direct`].
    Direct(u32),
    Address(IpAddr),
    Fail(HostErrno),
}

/// # Safety
/// `name` is NUL-terminated.
unsafe fn found(name: *const c_char, family: c_int) -> Found {
    let (Some(family), false) = (entry::family_of(family), name.is_null()) else {
        return Found::Pass;
    };
    // SAFETY: our caller's contract.
    let name = unsafe { CStr::from_ptr(name) }.to_bytes();
    let question = Question {
        name,
        asked: Asked::Only(family),
        is_getaddrinfo: false,
        is_numeric_only: false,
        is_v4_mapped: false,
        is_addrconfig: false,
        is_verified: false,
    };
    let broken = Answer::Fail(Eai::FAIL);
    match answer(&question, broken) {
        Answer::Pass | Answer::PassAs(_) => Found::Pass,
        Answer::Direct(slot) => Found::Direct(slot),
        Answer::Addresses([v6, v4]) => v6
            .or(v4)
            .map_or(Found::Fail(HostErrno::HOST_NOT_FOUND), Found::Address),
        Answer::Fail(eai) => Found::Fail(HostErrno::of_eai(eai)),
    }
}

/// h_name: what was asked for, without the dot that makes a name absolute, as a name server gives it.
///
/// # Safety
/// `name` is NUL-terminated.
unsafe fn shown<'a>(name: *const c_char) -> &'a [u8] {
    // SAFETY: our caller's contract.
    let name = unsafe { CStr::from_ptr(name) }.to_bytes();
    name.strip_suffix(b".").unwrap_or(name)
}

/// `gethostbyname(3)`.
///
/// # Safety
/// The C contract: `name` is NUL-terminated.
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn gethostbyname(name: *const c_char) -> *mut hostent {
    // SAFETY: our caller's contract.
    match unsafe { found(name, libc::AF_INET) } {
        // SAFETY: our caller's contract.
        Found::Pass => unsafe { next::GETHOSTBYNAME.get()(name) },
        // SAFETY: our caller's contract, and what libc gives.
        Found::Direct(slot) => unsafe { noted(next::GETHOSTBYNAME.get()(name), slot) },
        // SAFETY: our caller's contract.
        Found::Address(address) => entry::of_process(unsafe { shown(name) }, address),
        Found::Fail(error) => not_found(error),
    }
}

/// `gethostbyname2(3)`.
///
/// # Safety
/// The C contract: `name` is NUL-terminated.
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn gethostbyname2(name: *const c_char, family: c_int) -> *mut hostent {
    // SAFETY: our caller's contract.
    match unsafe { found(name, family) } {
        // SAFETY: our caller's contract.
        Found::Pass => unsafe { next::GETHOSTBYNAME2.get()(name, family) },
        // SAFETY: our caller's contract, and what libc gives.
        Found::Direct(slot) => unsafe { noted(next::GETHOSTBYNAME2.get()(name, family), slot) },
        // SAFETY: our caller's contract.
        Found::Address(address) => entry::of_process(unsafe { shown(name) }, address),
        Found::Fail(error) => not_found(error),
    }
}

/// # Safety
/// `entry` is null or of libc's making.
unsafe fn noted(entry: *mut hostent, slot: u32) -> *mut hostent {
    // SAFETY: our caller's contract.
    unsafe { entry::for_each_address(entry, |address| note(address, slot)) };
    entry
}

fn not_found(error: HostErrno) -> *mut hostent {
    errno::set_host(error);
    ptr::null_mut()
}

/// Where the `_r` forms put their answer.
#[derive(Clone, Copy)]
pub(super) struct Reentrant {
    pub(super) entry: *mut hostent,
    pub(super) buf: *mut c_char,
    pub(super) buf_len: usize,
    pub(super) result: *mut *mut hostent,
    pub(super) h_errno: *mut c_int,
}

impl Reentrant {
    /// # Safety
    /// The C contract of gethostbyname_r(3).
    pub(super) unsafe fn give(self, name: &[u8], address: IpAddr) -> c_int {
        // SAFETY: our caller's contract.
        if unsafe { entry::write(name, address, self.entry, self.buf, self.buf_len) } {
            // SAFETY: our caller's contract.
            unsafe { self.result.write(self.entry) };
            return 0;
        }
        // SAFETY: our caller's contract.
        unsafe { self.fail(HostErrno::NETDB_INTERNAL, libc::ERANGE) }
    }

    /// # Safety
    /// The C contract of gethostbyname_r(3).
    pub(super) unsafe fn fail(self, error: HostErrno, value: c_int) -> c_int {
        // SAFETY: our caller's contract.
        unsafe {
            self.result.write(ptr::null_mut());
            self.h_errno.write(error.0);
        }
        if value != 0 {
            errno::set(value);
        }
        value
    }

    /// # Safety
    /// The C contract of gethostbyname_r(3).
    pub(super) unsafe fn not_found(self, error: HostErrno) -> c_int {
        // What glibc returns beside each h_errno.
        let value = if error == HostErrno::TRY_AGAIN {
            libc::EAGAIN
        } else {
            0
        };
        // SAFETY: our caller's contract.
        unsafe { self.fail(error, value) }
    }
}

/// `gethostbyname_r(3)`.
///
/// # Safety
/// The C contract: `name` is NUL-terminated, `buf` writable for `buf_len`, the rest writable.
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn gethostbyname_r(
    name: *const c_char,
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
        match found(name, libc::AF_INET) {
            Found::Pass => next::GETHOSTBYNAME_R.get()(name, entry, buf, buf_len, result, h_errno),
            Found::Direct(slot) => {
                let value = next::GETHOSTBYNAME_R.get()(name, entry, buf, buf_len, result, h_errno);
                noted(*result, slot);
                value
            }
            Found::Address(address) => room.give(shown(name), address),
            Found::Fail(error) => room.not_found(error),
        }
    }
}

/// `gethostbyname2_r(3)`.
///
/// # Safety
/// The C contract: `name` is NUL-terminated, `buf` writable for `buf_len`, the rest writable.
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn gethostbyname2_r(
    name: *const c_char,
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
        match found(name, family) {
            Found::Pass => {
                next::GETHOSTBYNAME2_R.get()(name, family, entry, buf, buf_len, result, h_errno)
            }
            Found::Direct(slot) => {
                let ask = next::GETHOSTBYNAME2_R.get();
                let value = ask(name, family, entry, buf, buf_len, result, h_errno);
                noted(*result, slot);
                value
            }
            Found::Address(address) => room.give(shown(name), address),
            Found::Fail(error) => room.not_found(error),
        }
    }
}
