//! AI_IDN: names in the locale's encoding, made into what DNS carries by libidn2, as glibc does it.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr;

type Lookup = unsafe extern "C" fn(*const c_char, *mut *mut c_char, c_int) -> c_int;

/// The name in ASCII, malloc'd; `None` if libidn2 is not there or does not take it (EAI_IDN_ENCODE).
/// Loads a library: for look-ups alone, outside the gate.
pub(crate) fn to_ascii(name: &CStr) -> Option<Ascii> {
    // SAFETY: a NUL-terminated name; glibc loads the same one.
    let library = unsafe { libc::dlopen(c"libidn2.so.0".as_ptr(), libc::RTLD_LAZY) };
    if library.is_null() {
        return None;
    }
    // SAFETY: a library that is never unloaded, and a NUL-terminated name.
    let found: *mut c_void = unsafe { libc::dlsym(library, c"idn2_lookup_ul".as_ptr()) };
    if found.is_null() {
        return None;
    }
    // SAFETY: idn2.h has this signature for it.
    let lookup = unsafe { std::mem::transmute::<*mut c_void, Lookup>(found) };
    let mut ascii = ptr::null_mut();
    // SAFETY: a NUL-terminated name and room for the result.
    let result = unsafe { lookup(name.as_ptr(), &raw mut ascii, 0) };
    (result == 0 && !ascii.is_null()).then_some(Ascii(ascii))
}

/// A name that libidn2 has malloc'd.
pub(crate) struct Ascii(*mut c_char);

impl Ascii {
    pub(crate) fn as_c_str(&self) -> &CStr {
        // SAFETY: not null and NUL-terminated; freed only on drop.
        unsafe { CStr::from_ptr(self.0) }
    }
}

impl Drop for Ascii {
    fn drop(&mut self) {
        // SAFETY: malloc'd by libidn2 and nobody else's.
        unsafe { libc::free(self.0.cast()) }
    }
}
