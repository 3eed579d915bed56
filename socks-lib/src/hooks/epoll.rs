//! epoll_ctl(2) and epoll_wait(2): what a set is told of a socket is remembered, since its connect() may
//! come later; and events of handshakes are ours and not the program's.

use std::ffi::c_int;
use std::time::Duration;

use libc::{epoll_event, sigset_t, timespec};
use socks_client::{Errno, Registration};

use crate::enter::enter;
use crate::nested;
use crate::next;
use crate::pending::{PENDING, Stray};
use crate::start;
use crate::state::State;
use crate::sys::errno;
use crate::wait::{self, Deadline, Rounds};

/// `epoll_ctl(2)`.
///
/// # Safety
/// The C contract: `event` is null or valid.
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn epoll_ctl(
    set: c_int,
    operation: c_int,
    fd: c_int,
    event: *mut epoll_event,
) -> c_int {
    if operation == libc::EPOLL_CTL_DEL || event.is_null() {
        // SAFETY: the application's own arguments.
        let result = unsafe { next::EPOLL_CTL.get()(set, operation, fd, event) };
        if result == 0 {
            enter((), (), |state| state.unregister(set, fd));
        }
        return result;
    }
    // SAFETY: our caller's contract: valid; alignment is not promised.
    let given = unsafe { event.read_unaligned() };
    let new = Registration {
        set,
        events: given.events | ALWAYS,
        data: given.u64,
    };
    nested::is_set(set);
    // The events of a handshake are not the program's to see.
    let broken = PENDING.has(fd).then_some(Err(Errno::BROKEN));
    if PENDING.is_any()
        && let Some(result) = enter(None, broken, |state| {
            state.control_pending(operation, fd, new)
        })
    {
        return result.map_or_else(errno::fail, |()| 0);
    }
    // Remembered before the kernel has it, so that a connect() in another thread knows of it.
    let before = enter(None, None, |state| state.register(fd, new));
    // SAFETY: the application's own arguments.
    let result = unsafe { next::EPOLL_CTL.get()(set, operation, fd, event) };
    if result != 0 {
        enter((), (), |state| state.undo(set, fd, before.flatten()));
    } else if PENDING.is_any() {
        enter((), (), |state| {
            state.drive_pending(fd);
        });
    }
    result
}

/// epoll_ctl(2): "it is not necessary to set them in events".
const ALWAYS: u32 = (libc::EPOLLERR | libc::EPOLLHUP).cast_unsigned();

/// Takes markers out of `events`, but for what `on_marker` makes of one, and what is there `in_vain`; gives how many
/// events are the program's.
///
/// # Safety
/// `events` points to `count` events.
unsafe fn without_markers(
    state: &State,
    events: *mut epoll_event,
    count: usize,
    mut on_marker: impl FnMut(c_int, epoll_event) -> Option<epoll_event>,
    in_vain: impl Fn(&epoll_event) -> bool,
) -> usize {
    let mut kept = 0_usize;
    for index in 0..count {
        // SAFETY: `index` is below `count`, and so is `kept`.
        unsafe {
            let event = events.add(index).read_unaligned();
            let event = match state.marked(event.u64) {
                Some(fd) => on_marker(fd, event),
                None if in_vain(&event) => None,
                None => Some(event),
            };
            if let Some(event) = event {
                events.add(kept).write_unaligned(event);
                kept = kept.saturating_add(1);
            }
        }
    }
    kept
}

/// `epoll_wait(2)`: a cancellation point.
///
/// # Safety
/// The C contract: `events` has room for `most`.
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn epoll_wait(
    set: c_int,
    events: *mut epoll_event,
    most: c_int,
    timeout: c_int,
) -> c_int {
    let wait = |left: Option<Duration>| {
        // SAFETY: the application's own arguments, with the time that is left.
        unsafe { next::EPOLL_WAIT.get()(set, events, most, wait::milliseconds(left)) }
    };
    if !PENDING.was_any() {
        // SAFETY: the application's own arguments.
        let ready = unsafe { next::EPOLL_WAIT.get()(set, events, most, timeout) };
        if !PENDING.was_any() {
            return ready;
        }
        // SAFETY: our caller's contract.
        return unsafe { filtered(set, events, ready, Deadline::in_milliseconds(timeout), wait) };
    }
    // SAFETY: our caller's contract.
    unsafe { driven(set, events, Deadline::in_milliseconds(timeout), wait) }
}

/// `epoll_pwait(2)`: a cancellation point.
///
/// # Safety
/// The C contract: `events` has room for `most`; `mask` is null or valid.
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn epoll_pwait(
    set: c_int,
    events: *mut epoll_event,
    most: c_int,
    timeout: c_int,
    mask: *const sigset_t,
) -> c_int {
    let wait = |left: Option<Duration>| {
        // SAFETY: the application's own arguments, with the time that is left.
        unsafe { next::EPOLL_PWAIT.get()(set, events, most, wait::milliseconds(left), mask) }
    };
    if !PENDING.was_any() {
        // SAFETY: the application's own arguments.
        let ready = unsafe { next::EPOLL_PWAIT.get()(set, events, most, timeout, mask) };
        if !PENDING.was_any() {
            return ready;
        }
        // SAFETY: our caller's contract.
        return unsafe { filtered(set, events, ready, Deadline::in_milliseconds(timeout), wait) };
    }
    // SAFETY: our caller's contract.
    unsafe { driven(set, events, Deadline::in_milliseconds(timeout), wait) }
}

/// `epoll_pwait2(2)`: a cancellation point.
///
/// # Safety
/// The C contract: `events` has room for `most`; `timeout` and `mask` are null or valid.
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn epoll_pwait2(
    set: c_int,
    events: *mut epoll_event,
    most: c_int,
    timeout: *const timespec,
    mask: *const sigset_t,
) -> c_int {
    let wait = |left: Option<Duration>| {
        let left = left.map(wait::timespec_of);
        let left = left.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        // SAFETY: the application's own arguments, with the time that is left.
        unsafe { next::EPOLL_PWAIT2.get()(set, events, most, left, mask) }
    };
    // SAFETY: our caller's contract: null or valid.
    let limit = unsafe { timeout.as_ref() }.map(wait::duration).transpose();
    let deadline = limit.map(Deadline::after);
    match deadline {
        // SAFETY: our caller's contract.
        Ok(deadline) if PENDING.was_any() => unsafe { driven(set, events, deadline, wait) },
        deadline => {
            // SAFETY: the application's own arguments.
            let ready = unsafe { next::EPOLL_PWAIT2.get()(set, events, most, timeout, mask) };
            match deadline {
                // SAFETY: our caller's contract.
                Ok(deadline) if PENDING.was_any() => unsafe {
                    filtered(set, events, ready, deadline, wait)
                },
                _ => ready,
            }
        }
    }
}

/// # Safety
/// `wait` fills `events`.
unsafe fn driven(
    set: c_int,
    events: *mut epoll_event,
    deadline: Deadline,
    wait: impl Fn(Option<Duration>) -> c_int,
) -> c_int {
    let (mut was_last, mut stray, mut rounds) = (false, Stray::default(), Rounds::new());
    loop {
        let is_any = PENDING.is_any();
        let left = if is_any {
            Some(deadline.left_within(rounds.next()))
        } else {
            deadline.left()
        };
        let ready = wait(left);
        if ready < 0 || (ready == 0 && deadline.is_over()) {
            return ready;
        }
        if is_any && ready == 0 {
            enter((), (), |state| {
                state.drive_each(state.own_pending().chain(state.registered_pending()));
            });
            continue;
        }
        // SAFETY: the kernel has written as many events as it says.
        let kept = unsafe { kept(set, events, ready, &mut stray) };
        // Once past its time it looks once more: what a handshake's end has just made true.
        if kept > 0 || ready == 0 || was_last {
            return kept;
        }
        was_last = deadline.is_over();
    }
}

/// What remains of an answer that the kernel gave before there was anything pending.
///
/// # Safety
/// As [`driven`]; `events` has as many events as `ready` says.
unsafe fn filtered(
    set: c_int,
    events: *mut epoll_event,
    ready: c_int,
    deadline: Deadline,
    wait: impl Fn(Option<Duration>) -> c_int,
) -> c_int {
    if ready <= 0 {
        return ready;
    }
    // SAFETY: our caller's contract.
    let kept = unsafe { kept(set, events, ready, &mut Stray::default()) };
    if kept > 0 {
        return kept;
    }
    // SAFETY: our caller's contract.
    unsafe { driven(set, events, deadline, wait) }
}

/// # Safety
/// `events` has as many events as `ready` says.
unsafe fn kept(set: c_int, events: *mut epoll_event, ready: c_int, stray: &mut Stray) -> c_int {
    let count = usize::try_from(ready).unwrap_or(0);
    let before = errno::get();
    let kept = enter(Some(count), None, |state| {
        let on_marker = |fd, event| state.on_marker(set, fd, event, stray);
        // SAFETY: our caller's contract.
        Some(unsafe {
            without_markers(state, events, count, on_marker, |event| {
                state.is_event_in_vain(set, event)
            })
        })
    });
    // Even after a panic the program must not take a row of ours for data of its own.
    let kept = kept.or_else(|| {
        // SAFETY: our caller's contract.
        Some(unsafe { without_markers(start::built()?, events, count, |_, _| None, |_| false) })
    });
    let kept = kept.unwrap_or(count);
    errno::set(before);
    c_int::try_from(kept).unwrap_or(0)
}
