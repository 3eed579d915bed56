//! getaddrinfo_a(3).

use std::ffi::{c_char, c_int};
use std::ptr;

use libc::addrinfo;

use crate::hooks::forward::getaddrinfo;
use crate::sys::errno;

/// `struct gaicb` of netdb.h, absent from the libc crate.
#[repr(C)]
pub(crate) struct Gaicb {
    name: *const c_char,
    service: *const c_char,
    hints: *const addrinfo,
    list: *mut addrinfo,
    /// What gai_error(3) gives.
    result: c_int,
    reserved: [c_int; 5],
}

/// `getaddrinfo_a(3)`: libc's would look up in a thread of its own, past every hook. A fake answer is
/// there at once, so each request is done when this returns; a notification other than none is not
/// supported.
///
/// # Safety
/// The C contract: `requests` points to `count` pointers, each null or to a valid gaicb.
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn getaddrinfo_a(
    _mode: c_int,
    requests: *mut *mut Gaicb,
    count: c_int,
    event: *mut libc::sigevent,
) -> c_int {
    // SAFETY: our caller's contract: null or valid.
    if unsafe { event.as_ref() }.is_some_and(|event| event.sigev_notify != libc::SIGEV_NONE) {
        errno::set(libc::ENOSYS);
        return libc::EAI_SYSTEM;
    }
    for index in 0..usize::try_from(count).unwrap_or(0) {
        // SAFETY: one of `count` pointers, null or to a valid gaicb.
        let request = unsafe { requests.add(index).read().as_mut() };
        if let Some(request) = request {
            let mut list = ptr::null_mut();
            // SAFETY: the strings and hints of a valid gaicb.
            request.result =
                unsafe { getaddrinfo(request.name, request.service, request.hints, &raw mut list) };
            request.list = list;
        }
    }
    0
}
