//! pthread_setcancelstate(3) round the gate, and pthread_cleanup_push(3) round a wait.

use std::ffi::{c_int, c_void};
use std::ptr;

unsafe extern "C-unwind" {
    /// pthread.h, absent from the libc crate. Restoring may act on a cancellation that came meanwhile.
    fn pthread_setcancelstate(state: c_int, old: *mut c_int) -> c_int;
    /// What pthread.h's macro of that name was, and still is in the library. The one of today keeps a
    /// jump buffer, which is C's alone.
    fn _pthread_cleanup_push(cleanup: *mut Cleanup, routine: Routine, argument: *mut c_void);
    fn _pthread_cleanup_pop(cleanup: *mut Cleanup, execute: c_int);
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

type Routine = unsafe extern "C" fn(*mut c_void);

/// `struct _pthread_cleanup_buffer` of pthread.h.
#[repr(C)]
struct Cleanup {
    routine: Option<Routine>,
    argument: *mut c_void,
    cancel_type: c_int,
    previous: *mut Self,
}

/// Calls `wait`, and `routine` if pthread_cancel ends the thread in there.
pub(crate) fn cleaning_up<T>(
    routine: Routine,
    argument: *mut c_void,
    wait: impl FnOnce() -> T,
) -> T {
    let mut cleanup = Cleanup {
        routine: None,
        argument: ptr::null_mut(),
        cancel_type: 0,
        previous: ptr::null_mut(),
    };
    // SAFETY: a buffer that stays where it is until it is popped, or unwound with this frame.
    unsafe { _pthread_cleanup_push(&raw mut cleanup, routine, argument) };
    let waited = wait();
    // SAFETY: the one that was pushed last.
    unsafe { _pthread_cleanup_pop(&raw mut cleanup, 0) };
    waited
}
