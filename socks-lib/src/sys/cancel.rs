//! pthread_setcancelstate(3) round the gate.

use std::ffi::c_int;

unsafe extern "C-unwind" {
    /// pthread.h, absent from the libc crate. Restoring may act on a cancellation that came meanwhile.
    fn pthread_setcancelstate(state: c_int, old: *mut c_int) -> c_int;
}

/// pthread.h.
const PTHREAD_CANCEL_DISABLE: c_int = 1;

pub(crate) fn disable() -> c_int {
    let mut old = 0;
    // SAFETY: `old` is writable.
    unsafe { pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &raw mut old) };
    old
}

pub(crate) fn restore(state: c_int) {
    let mut old = 0;
    // SAFETY: a state that `disable` gave; `old` is writable.
    unsafe { pthread_setcancelstate(state, &raw mut old) };
}
