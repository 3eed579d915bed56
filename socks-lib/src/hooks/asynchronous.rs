//! getaddrinfo_a(3).

use std::ffi::{c_char, c_int, c_void};
use std::{mem, ptr};

use libc::{addrinfo, pthread_attr_t, pthread_t, sigevent, sigval};

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

/// netdb.h, absent from the libc crate.
const GAI_WAIT: c_int = 0;
const GAI_NOWAIT: c_int = 1;

/// `getaddrinfo_a(3)`: libc's would look up in a thread of its own, past every hook. A fake answer is
/// there at once, so each request is done when this returns, and the notification is on its way.
///
/// # Safety
/// The C contract: `requests` points to `count` pointers, each null or to a valid gaicb; `event` is null or
/// valid.
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn getaddrinfo_a(
    mode: c_int,
    requests: *mut *mut Gaicb,
    count: c_int,
    event: *mut sigevent,
) -> c_int {
    if !matches!(mode, GAI_WAIT | GAI_NOWAIT) {
        errno::set(libc::EINVAL);
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
    // SAFETY: our caller's contract: null or valid.
    if let Some(event) = unsafe { event.as_ref() }
        && mode == GAI_NOWAIT
    {
        // SAFETY: the same.
        unsafe { notify(event) };
    }
    0
}

/// # Safety
/// `event` is valid.
unsafe fn notify(event: &sigevent) {
    match event.sigev_notify {
        libc::SIGEV_SIGNAL => signal(event.sigev_signo, event.sigev_value),
        libc::SIGEV_THREAD => {
            // SAFETY: sigevent(3type): with SIGEV_THREAD these two are there.
            let wanted = unsafe { &*ptr::from_ref(event).cast::<ThreadEvent>() };
            // SAFETY: our caller's contract.
            unsafe { thread(wanted) };
        }
        _ => {}
    }
}

/// The signal as getaddrinfo_a(3) sends it, told from one of sigqueue(3) by its `si_code`.
fn signal(number: c_int, value: sigval) {
    const SI_ASYNCNL: c_int = -60;
    /// siginfo_t as far as this kind of signal fills it.
    #[repr(C)]
    struct Queued {
        number: c_int,
        errno: c_int,
        code: c_int,
        padding: c_int,
        pid: libc::pid_t,
        uid: libc::uid_t,
        value: sigval,
        rest: [u64; 12],
    }
    // SAFETY: asks for numbers.
    let (pid, uid) = unsafe { (libc::getpid(), libc::getuid()) };
    let info = Queued {
        number,
        errno: 0,
        code: SI_ASYNCNL,
        padding: 0,
        pid,
        uid,
        value,
        rest: [0; 12],
    };
    // SAFETY: rt_sigqueueinfo(2) reads a siginfo_t, which this is.
    unsafe { libc::syscall(libc::SYS_rt_sigqueueinfo, pid, number, &raw const info) };
}

/// It may end its thread by pthread_exit(3), which unwinds.
type Notified = extern "C-unwind" fn(sigval);

unsafe extern "C" {
    /// pthread_create(3), for a function that may be unwound through.
    fn pthread_create(
        id: *mut pthread_t,
        attributes: *const pthread_attr_t,
        function: extern "C-unwind" fn(*mut c_void) -> *mut c_void,
        argument: *mut c_void,
    ) -> c_int;
}

/// sigevent as SIGEV_THREAD has it, absent from the libc crate.
#[repr(C)]
struct ThreadEvent {
    value: sigval,
    number: c_int,
    notify: c_int,
    function: Option<Notified>,
    attributes: *const pthread_attr_t,
}

struct Notification {
    function: Notified,
    value: sigval,
}

/// # Safety
/// The attributes are null or valid.
unsafe fn thread(event: &ThreadEvent) {
    let Some(function) = event.function else {
        return;
    };
    let notification = Box::into_raw(Box::new(Notification {
        function,
        value: event.value,
    }));
    let mut id = mem::MaybeUninit::uninit();
    // SAFETY: our caller's attributes; the box is the new thread's.
    let failed = unsafe {
        pthread_create(
            id.as_mut_ptr(),
            event.attributes,
            notified,
            notification.cast(),
        )
    };
    if failed != 0 {
        // SAFETY: no thread has it.
        drop(unsafe { Box::from_raw(notification) });
        return;
    }
    if event.attributes.is_null() {
        // SAFETY: a thread that was just made and that nobody joins.
        unsafe { libc::pthread_detach(id.assume_init()) };
    }
}

extern "C-unwind" fn notified(notification: *mut c_void) -> *mut c_void {
    // SAFETY: the box of `thread`, which this thread owns.
    let notification = *unsafe { Box::from_raw(notification.cast::<Notification>()) };
    (notification.function)(notification.value);
    ptr::null_mut()
}
