//! select(2) and pselect(2), as hooks::poll does it.

use std::ffi::{c_int, c_ulong};
use std::path::Path;
use std::ptr;
use std::time::Duration;

use libc::{POLLIN, POLLOUT, fd_set, sigset_t, timespec, timeval};

use crate::enter::enter;
use crate::hooks::poll::Asked;
use crate::nested::SETS;
use crate::next;
use crate::pending::{Needs, PENDING, undriven};
use crate::state::State;
use crate::sys::file::File;
use crate::sys::io;
use crate::wait::{self, Borrowed, Deadline, Rounds};

/// Words of the sets that the stack, which may be a signal handler's, has room for: 128 descriptors.
const ON_STACK: usize = 2;
const WORD_BITS: usize = 64;

/// A set as the kernel sees it: words, as many as the highest number needs.
type Words = *mut c_ulong;

/// `select(2)`: a cancellation point. Linux leaves the time that was not slept in `timeout`.
///
/// # Safety
/// The C contract: each set null or with room for `count` bits; `timeout` null or valid.
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn select(
    count: c_int,
    read: *mut fd_set,
    write: *mut fd_set,
    except: *mut fd_set,
    timeout: *mut timeval,
) -> c_int {
    // SAFETY: the application's own arguments.
    let pass = || unsafe { next::SELECT.get()(count, read, write, except, timeout) };
    if !PENDING.is_any() {
        return pass();
    }
    // SAFETY: our caller's contract: null or valid.
    let Ok(limit) = unsafe { timeout.as_ref() }.map(of_timeval).transpose() else {
        return pass();
    };
    let deadline = Deadline::after(limit);
    let wait = |[read, write, except]: [Words; 3], left: Option<Duration>| {
        let mut left = left.map(to_timeval);
        let left = left.as_mut().map_or(ptr::null_mut(), ptr::from_mut);
        // SAFETY: the application's sets, or copies of them.
        unsafe { next::SELECT.get()(count, read.cast(), write.cast(), except.cast(), left) }
    };
    let sets = [read.cast(), write.cast(), except.cast()];
    // SAFETY: our caller's contract.
    let result = unsafe { driven(count, sets, deadline, wait) };
    // SAFETY: our caller's contract: null or valid.
    if let (Some(timeout), Some(left)) = (unsafe { timeout.as_mut() }, deadline.left()) {
        *timeout = to_timeval(left);
    }
    result
}

/// glibc's other name for select(2).
///
/// # Safety
/// As [`select`].
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn __select(
    count: c_int,
    read: *mut fd_set,
    write: *mut fd_set,
    except: *mut fd_set,
    timeout: *mut timeval,
) -> c_int {
    // SAFETY: our caller's contract, passed on.
    unsafe { select(count, read, write, except, timeout) }
}

/// `pselect(2)`: async-signal-safe and a cancellation point.
///
/// # Safety
/// The C contract: each set null or with room for `count` bits; the rest null or valid.
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn pselect(
    count: c_int,
    read: *mut fd_set,
    write: *mut fd_set,
    except: *mut fd_set,
    timeout: *const timespec,
    mask: *const sigset_t,
) -> c_int {
    // SAFETY: the application's own arguments.
    let pass = || unsafe { next::PSELECT.get()(count, read, write, except, timeout, mask) };
    if !PENDING.is_any() {
        return pass();
    }
    // SAFETY: our caller's contract: null or valid.
    let Ok(limit) = unsafe { timeout.as_ref() }.map(wait::duration).transpose() else {
        return pass();
    };
    let wait = |[read, write, except]: [Words; 3], left: Option<Duration>| {
        let left = left.map(wait::timespec_of);
        let left = left.as_ref().map_or(ptr::null(), ptr::from_ref);
        // SAFETY: the application's sets, or copies of them; its own mask.
        unsafe { next::PSELECT.get()(count, read.cast(), write.cast(), except.cast(), left, mask) }
    };
    let sets = [read.cast(), write.cast(), except.cast()];
    // SAFETY: our caller's contract.
    unsafe { driven(count, sets, Deadline::after(limit), wait) }
}

fn of_timeval(time: &timeval) -> Result<Duration, ()> {
    let nanoseconds = time.tv_usec.checked_mul(1_000).ok_or(())?;
    // select(2) takes more than a second's microseconds.
    let seconds = time
        .tv_sec
        .checked_add(nanoseconds.div_euclid(1_000_000_000))
        .ok_or(())?;
    let nanoseconds = nanoseconds.rem_euclid(1_000_000_000);
    if time.tv_usec < 0 {
        return Err(());
    }
    wait::duration(&timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds,
    })
}

fn to_timeval(left: Duration) -> timeval {
    timeval {
        tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
        tv_usec: i64::from(left.subsec_micros()),
    }
}

/// # Safety
/// Each set is null or has room for `count` bits; `wait` calls libc's function with `count`.
unsafe fn driven(
    count: c_int,
    sets: [Words; 3],
    deadline: Deadline,
    wait: impl Fn([Words; 3], Option<Duration>) -> c_int,
) -> c_int {
    let Some(bits) = bits_looked_at(count) else {
        return wait(sets, deadline.left());
    };
    let words = bits.div_ceil(WORD_BITS);
    if words <= ON_STACK {
        let mut copies = [[0; ON_STACK]; 4];
        let [read, write, except, pending] = &mut copies;
        let copies = [read, write, except, pending].map(|set| set.as_mut_ptr());
        // SAFETY: the copies have room for `words`; our caller's contract.
        return unsafe { repeat(sets, copies, words, deadline, wait) };
    }
    let set_octets = words.saturating_mul(size_of::<c_ulong>());
    let Some(memory) = Borrowed::take(set_octets.saturating_mul(4)) else {
        return wait(sets, deadline.left());
    };
    let start = memory.start.cast::<c_ulong>();
    // SAFETY: four sets of `words`, one behind the other.
    let copies = unsafe {
        let second = start.add(words);
        let third = second.add(words);
        [start, second, third, third.add(words)]
    };
    // SAFETY: the copies have room for `words`; our caller's contract.
    let result = unsafe { repeat(sets, copies, words, deadline, wait) };
    // SAFETY: nothing uses it any more.
    unsafe { memory.give_back() };
    result
}

/// # Safety
/// Sets are null or have `words` words, copies have them.
unsafe fn repeat(
    sets: [Words; 3],
    copies: [Words; 4],
    words: usize,
    deadline: Deadline,
    wait: impl Fn([Words; 3], Option<Duration>) -> c_int,
) -> c_int {
    let [read, write, except, pending] = copies;
    let mut rounds = Rounds::new();
    loop {
        for (set, copy) in sets.into_iter().chain([ptr::null_mut()]).zip(copies) {
            // SAFETY: our caller's contract.
            unsafe {
                if set.is_null() {
                    copy.write_bytes(0, words);
                } else {
                    copy.copy_from_nonoverlapping(set, words);
                }
            }
        }
        let asked = enter(Some(Asked::default()), None, |state| {
            let thread = io::thread();
            let is_own = |fd| state.is_begun_by(thread, fd);
            // SAFETY: our caller's contract.
            Some(unsafe { ask(copies, words, is_own, |fd| state.drive_pending(fd)) })
        });
        // SAFETY: our caller's contract.
        let asked = asked.unwrap_or_else(|| unsafe { ask(copies, words, |_| false, undriven) });
        let others = asked.has_others.then(|| rounds.next());
        let Some(limit) = others.into_iter().chain(asked.limit).min() else {
            return wait(sets, deadline.left());
        };
        let ready = wait([read, write, except], Some(deadline.left_within(limit)));
        if ready < 0 {
            return ready;
        }
        if ready == 0 && asked.has_others {
            enter((), (), |state| state.drive_each(state.own_pending()));
        }
        // SAFETY: our caller's contract.
        enter((), (), |state| unsafe { without_vain(state, read, words) });
        let mut visible = 0_u32;
        for copy in [read, write, except] {
            for index in 0..words {
                // SAFETY: `index` is below `words`.
                unsafe {
                    *copy.add(index) &= !*pending.add(index);
                    visible = (*copy.add(index)).count_ones().saturating_add(visible);
                }
            }
        }
        if visible > 0 || (ready == 0 && deadline.is_over()) {
            for (set, copy) in sets.into_iter().zip(copies) {
                if !set.is_null() {
                    // SAFETY: our caller's contract.
                    unsafe { set.copy_from_nonoverlapping(copy, words) };
                }
            }
            return c_int::try_from(visible).unwrap_or(c_int::MAX);
        }
    }
}

/// Changes the copies into the question that libc is to be asked.
///
/// # Safety
/// The copies have `words` words.
unsafe fn ask(
    copies: [Words; 4],
    words: usize,
    is_own: impl Fn(c_int) -> bool,
    drive: impl Fn(c_int) -> Needs,
) -> Asked {
    let [read, write, _, pending] = copies;
    let (mut limit, mut has_others) = (None::<Duration>, false);
    for fd in PENDING.iter() {
        let Some((index, bit)) = place(fd, words) else {
            has_others |= is_own(fd);
            continue;
        };
        // SAFETY: `index` is below `words` (checked by `place`).
        let is_asked = copies
            .iter()
            .any(|copy| unsafe { *copy.add(index) } & bit != 0);
        if !is_asked {
            has_others |= is_own(fd);
            continue;
        }
        let Needs::Wait(events, milliseconds) = drive(fd) else {
            continue;
        };
        for copy in copies {
            // SAFETY: as above.
            unsafe { *copy.add(index) &= !bit };
        }
        for (wanted, set) in [
            (events & POLLIN, read),
            (events & POLLOUT, write),
            (1, pending),
        ] {
            if wanted != 0 {
                // SAFETY: as above.
                unsafe { *set.add(index) |= bit };
            }
        }
        let left = Duration::from_millis(u64::try_from(milliseconds).unwrap_or(0));
        limit = Some(limit.map_or(left, |limit| limit.min(left)));
    }
    Asked { limit, has_others }
}

/// Takes out of what is readable the epoll sets in which nothing is the program's.
///
/// # Safety
/// `read` has `words` words.
unsafe fn without_vain(state: &State, read: Words, words: usize) {
    for fd in SETS.iter() {
        // SAFETY: `index` is below `words` (checked by `place`).
        unsafe {
            if let Some((index, bit)) = place(fd, words)
                && *read.add(index) & bit != 0
                && state.is_ready_in_vain(fd)
            {
                *read.add(index) &= !bit;
            }
        }
    }
}

/// How many bits of each set the kernel looks at: no more than its table of this process's descriptors
/// has room for, so that a program may give a count far above its sets' size (core_sys_select).
fn bits_looked_at(count: c_int) -> Option<usize> {
    let count = usize::try_from(count).ok()?;
    if count <= libc::FD_SETSIZE {
        return Some(count);
    }
    let size = enter(None, None, |_| {
        let status = File::read_whole(Path::new("/proc/self/status"), MOST_STATUS_OCTETS).ok()?;
        let status = str::from_utf8(&status).ok()?;
        let size = status
            .lines()
            .find_map(|line| line.strip_prefix("FDSize:"))?;
        size.trim().parse().ok()
    });
    Some(count.min(size?))
}

const MOST_STATUS_OCTETS: usize = 16 * 1024;

/// Where a descriptor stands in a set.
fn place(fd: c_int, words: usize) -> Option<(usize, c_ulong)> {
    let fd = usize::try_from(fd).ok()?;
    let index = fd.checked_div(WORD_BITS).filter(|&index| index < words)?;
    let shift = u32::try_from(fd.checked_rem(WORD_BITS)?).ok()?;
    Some((index, 1_u64.checked_shl(shift)?))
}
