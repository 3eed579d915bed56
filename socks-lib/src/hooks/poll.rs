//! poll(2) and ppoll(2): for a descriptor in mid-handshake they wait for what the handshake needs in
//! place of what the program asked for, and report it only once the handshake is over.

use std::ffi::c_int;
use std::time::Duration;

use libc::{nfds_t, pollfd, sigset_t, timespec};

use crate::enter::enter;
use crate::next;
use crate::pending::{Needs, PENDING, undriven};
use crate::wait::{self, Borrowed, Deadline, Rounds};

/// As many descriptors as the stack has room for, which may be a signal handler's.
const ON_STACK: usize = 16;

/// `poll(2)`: async-signal-safe and a cancellation point, and so is everything on this path.
///
/// # Safety
/// The C contract: `fds` points to `count` pollfd.
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn poll(fds: *mut pollfd, count: nfds_t, timeout: c_int) -> c_int {
    if !PENDING.is_any() {
        // SAFETY: the application's own arguments.
        return unsafe { next::POLL.get()(fds, count, timeout) };
    }
    let wait = |fds, left: Option<Duration>| {
        // SAFETY: the application's array, or a copy of it.
        unsafe { next::POLL.get()(fds, count, wait::milliseconds(left)) }
    };
    // SAFETY: our caller's contract.
    unsafe { driven(fds, count, Deadline::in_milliseconds(timeout), wait) }
}

/// glibc's other name for poll(2).
///
/// # Safety
/// As [`poll`].
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn __poll(fds: *mut pollfd, count: nfds_t, timeout: c_int) -> c_int {
    // SAFETY: our caller's contract, passed on.
    unsafe { poll(fds, count, timeout) }
}

/// poll(2) of fortified programs, which tell the size of the array.
///
/// # Safety
/// As [`poll`], with `octets` the array's size.
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn __poll_chk(
    fds: *mut pollfd,
    count: nfds_t,
    timeout: c_int,
    octets: usize,
) -> c_int {
    check(count, octets);
    // SAFETY: our caller's contract, passed on.
    unsafe { poll(fds, count, timeout) }
}

/// `ppoll(2)`: a cancellation point.
///
/// # Safety
/// The C contract: `fds` points to `count` pollfd; `timeout` and `mask` are null or valid.
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn ppoll(
    fds: *mut pollfd,
    count: nfds_t,
    timeout: *const timespec,
    mask: *const sigset_t,
) -> c_int {
    // SAFETY: the application's own arguments.
    let pass = || unsafe { next::PPOLL.get()(fds, count, timeout, mask) };
    if !PENDING.is_any() {
        return pass();
    }
    // SAFETY: our caller's contract: null or valid.
    let Ok(timeout) = unsafe { timeout.as_ref() }.map(wait::duration).transpose() else {
        return pass();
    };
    let wait = |fds, left: Option<Duration>| {
        let left = left.map(wait::timespec_of);
        let left = left.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        // SAFETY: the application's array, or a copy of it; its own mask.
        unsafe { next::PPOLL.get()(fds, count, left, mask) }
    };
    // SAFETY: our caller's contract.
    unsafe { driven(fds, count, Deadline::after(timeout), wait) }
}

/// ppoll(2) of fortified programs, which tell the size of the array.
///
/// # Safety
/// As [`ppoll`], with `octets` the array's size.
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn __ppoll_chk(
    fds: *mut pollfd,
    count: nfds_t,
    timeout: *const timespec,
    mask: *const sigset_t,
    octets: usize,
) -> c_int {
    check(count, octets);
    // SAFETY: our caller's contract, passed on.
    unsafe { ppoll(fds, count, timeout, mask) }
}

unsafe extern "C" {
    /// What glibc's own `_chk` functions end an overflowing program with.
    fn __chk_fail() -> !;
}

fn check(count: nfds_t, octets: usize) {
    let room = octets.checked_div(size_of::<pollfd>()).unwrap_or(0);
    if usize::try_from(count).unwrap_or(usize::MAX) > room {
        // SAFETY: takes nothing; the program asked for this check.
        unsafe { __chk_fail() }
    }
}

/// # Safety
/// `fds` points to `count` pollfd; `wait` calls libc's function on that many.
unsafe fn driven(
    fds: *mut pollfd,
    count: nfds_t,
    deadline: Deadline,
    wait: impl Fn(*mut pollfd, Option<Duration>) -> c_int,
) -> c_int {
    let len = usize::try_from(count).unwrap_or(0);
    if len == 0 {
        return wait(fds, deadline.left());
    }
    // The kernel says first what it thinks of the array, EFAULT or EINVAL, and of a signal that is there already: EINTR.
    let tried = wait(fds, Some(Duration::ZERO));
    if tried < 0 {
        return tried;
    }
    if len <= ON_STACK {
        let mut copy = [pollfd {
            fd: -1,
            events: 0,
            revents: 0,
        }; ON_STACK];
        let mut is_pending = [false; ON_STACK];
        // SAFETY: both have room for `len`; our caller's contract.
        return unsafe {
            repeat(
                fds,
                copy.as_mut_ptr(),
                is_pending.as_mut_ptr(),
                len,
                deadline,
                wait,
            )
        };
    }
    let per_fd = size_of::<pollfd>().saturating_add(size_of::<bool>());
    let Some(memory) = Borrowed::take(per_fd.saturating_mul(len)) else {
        return wait(fds, deadline.left());
    };
    let copy = memory.start.cast::<pollfd>();
    // SAFETY: `len` pollfd and behind them `len` flags, zeroed, which is false; our caller's contract.
    let result = unsafe { repeat(fds, copy, copy.add(len).cast::<bool>(), len, deadline, wait) };
    // SAFETY: nothing uses it any more.
    unsafe { memory.give_back() };
    result
}

/// # Safety
/// All three pointers have `len` elements.
unsafe fn repeat(
    fds: *mut pollfd,
    copy: *mut pollfd,
    is_pending: *mut bool,
    len: usize,
    deadline: Deadline,
    wait: impl Fn(*mut pollfd, Option<Duration>) -> c_int,
) -> c_int {
    let mut rounds = Rounds::new();
    loop {
        // SAFETY: our caller's contract. The program may read its array from another thread; so it is
        // read here by pointer, and written only at the end.
        let question = unsafe { std::slice::from_raw_parts(fds, len) };
        let asked = enter(Some(Asked::default()), None, |state| {
            // SAFETY: our caller's contract.
            let mut asked =
                unsafe { ask(question, copy, is_pending, |fd| state.drive_pending(fd)) };
            let is_asked = |fd| question.iter().any(|asked| asked.fd == fd);
            asked.has_others = state.own_pending().any(|fd| !is_asked(fd));
            Some(asked)
        });
        // SAFETY: our caller's contract.
        let asked = asked.unwrap_or_else(|| unsafe { ask(question, copy, is_pending, undriven) });
        let others = asked.has_others.then(|| rounds.next());
        let Some(limit) = others.into_iter().chain(asked.limit).min() else {
            return wait(fds, deadline.left());
        };
        let mut ready = wait(copy, Some(deadline.left_within(limit)));
        if ready < 0 {
            return ready;
        }
        if ready == 0 && asked.has_others {
            enter((), (), |state| state.drive_each(state.own_pending()));
        }
        for index in 0..len {
            // SAFETY: `index` is below `len`.
            let waited = unsafe { &mut *copy.add(index) };
            if waited.revents != 0 && enter(false, false, |state| state.is_ready_in_vain(waited.fd))
            {
                waited.revents = 0;
                ready = ready.saturating_sub(1);
            }
        }
        let mut visible: c_int = 0;
        for index in 0..len {
            // SAFETY: `index` is below `len`.
            let is_visible = unsafe { !*is_pending.add(index) && (*copy.add(index)).revents != 0 };
            visible = visible.saturating_add(c_int::from(is_visible));
        }
        if visible > 0 || (ready == 0 && deadline.is_over()) {
            for index in 0..len {
                // SAFETY: `index` is below `len`.
                unsafe {
                    let revents = if *is_pending.add(index) {
                        0
                    } else {
                        (*copy.add(index)).revents
                    };
                    (*fds.add(index)).revents = revents;
                }
            }
            return visible;
        }
    }
}

/// What libc is asked in place of the program's question.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Asked {
    /// Until a descriptor in it has to be looked at; `None` if none is in mid-handshake.
    pub(crate) limit: Option<Duration>,
    /// Whether this thread has begun handshakes that are not in it.
    pub(crate) has_others: bool,
}

/// Writes the question as libc is to be asked it.
///
/// # Safety
/// `copy` and `is_pending` have as many elements as `fds`.
unsafe fn ask(
    fds: &[pollfd],
    copy: *mut pollfd,
    is_pending: *mut bool,
    drive: impl Fn(c_int) -> Needs,
) -> Asked {
    let mut limit = None::<Duration>;
    for (index, asked) in fds.iter().enumerate() {
        let mut asked = *asked;
        let needs = drive(asked.fd);
        if let Needs::Wait(events, milliseconds) = needs {
            asked.events = events;
            if events == 0 {
                asked.fd = -1; // not even for its end
            }
            let left = Duration::from_millis(u64::try_from(milliseconds).unwrap_or(0));
            limit = Some(limit.map_or(left, |limit| limit.min(left)));
        }
        // SAFETY: our caller's contract.
        unsafe {
            copy.add(index).write(asked);
            is_pending.add(index).write(needs != Needs::Nothing);
        }
    }
    Asked {
        limit,
        has_others: false,
    }
}
