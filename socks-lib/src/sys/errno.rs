//! `errno` and `h_errno`, per thread and libc's.

use std::ffi::c_int;

use socks_client::{Errno, HostErrno};

unsafe extern "C" {
    /// netdb.h, behind the macro `h_errno`.
    safe fn __h_errno_location() -> *mut c_int;
}

pub(crate) fn get() -> c_int {
    // SAFETY: errno(3): the location is valid for as long as the thread lives.
    unsafe { *libc::__errno_location() }
}

pub(crate) fn set(value: c_int) {
    // SAFETY: as in `get`.
    unsafe { *libc::__errno_location() = value }
}

/// The end of a failed call.
pub(crate) fn fail(errno: Errno) -> c_int {
    set(errno.0);
    -1
}

pub(crate) fn set_host(value: HostErrno) {
    // SAFETY: netdb.h: the location is valid for as long as the thread lives.
    unsafe { *__h_errno_location() = value.0 }
}
