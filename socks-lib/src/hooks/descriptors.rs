//! The dup family and close(2): a duplicate of a socksified socket is one.
#![expect(
    unsafe_op_in_unsafe_fn,
    reason = "what redhook's macro expands to is its own style; each body calls one function of ours"
)]

use std::ffi::c_int;

use socks_client::Errno;

use crate::enter::enter;
use crate::looped::LOOPED;
use crate::next;
use crate::pending::{DUPLICATED, FAILED, PENDING};
use crate::sys::{errno, io};

redhook::hook! {
    unsafe fn dup(old: c_int) -> c_int => socks6_dup {
        duplicated(old, next::DUP.get()(old))
    }
}

redhook::hook! {
    unsafe fn dup2(old: c_int, new: c_int) -> c_int => socks6_dup2 {
        duplicated(old, next::DUP2.get()(old, new))
    }
}

redhook::hook! {
    unsafe fn __dup2(old: c_int, new: c_int) -> c_int => socks6_dup2_alias {
        duplicated(old, next::DUP2.get()(old, new))
    }
}

redhook::hook! {
    unsafe fn dup3(old: c_int, new: c_int, flags: c_int) -> c_int => socks6_dup3 {
        duplicated(old, next::DUP3.get()(old, new, flags))
    }
}

/// `fcntl(2)`: async-signal-safe, and a cancellation point for F_SETLKW.
///
/// libc's is variadic; here the third argument is whatever the register holds, passed on as it is,
/// which the calling conventions of Linux on x86-64 and AArch64 allow.
///
/// # Safety
/// The C contract of fcntl(2).
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn fcntl(fd: c_int, command: c_int, argument: usize) -> c_int {
    let result = next::FCNTL.get()(fd, command, argument);
    if is_dup(command) {
        duplicated(fd, result)
    } else {
        result
    }
}

/// `fcntl(2)` for programs with 64-bit file offsets.
///
/// # Safety
/// The C contract of fcntl(2).
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn fcntl64(fd: c_int, command: c_int, argument: usize) -> c_int {
    let result = next::FCNTL64.get()(fd, command, argument);
    if is_dup(command) {
        duplicated(fd, result)
    } else {
        result
    }
}

/// glibc's other name for fcntl(2).
///
/// # Safety
/// The C contract of fcntl(2).
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn __fcntl(fd: c_int, command: c_int, argument: usize) -> c_int {
    fcntl(fd, command, argument)
}

const fn is_dup(command: c_int) -> bool {
    matches!(command, libc::F_DUPFD | libc::F_DUPFD_CLOEXEC)
}

/// `close(2)`: async-signal-safe and a cancellation point, and so is everything on this path. Only a
/// handshake under way is ended here; other rows name their socket by its cookie.
///
/// # Safety
/// The C contract of close(2).
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn close(fd: c_int) -> c_int {
    if PENDING.is_any() || FAILED.is_any() || LOOPED.is_any() {
        enter((), (), |state| state.closing(fd));
    }
    next::CLOSE.get()(fd)
}

/// glibc's other name for close(2).
///
/// # Safety
/// The C contract of close(2).
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn __close(fd: c_int) -> c_int {
    close(fd)
}

/// A vfork child's descriptors are its own and its memory is not: there the rows stay as they are.
fn duplicated(old: c_int, new: c_int) -> c_int {
    if new < 0 || new == old {
        return new;
    }
    let _room = DUPLICATED.insert(old) && DUPLICATED.insert(new);
    let kept = errno::get();
    // What is written to a copy of which nobody knows that it is in mid-handshake would go to the gateway.
    let broken = !PENDING.has(old);
    let may_stay = enter(true, broken, |state| {
        let is_known = state.sockets.is_known(old) || PENDING.has(new);
        if is_known && state.process.own().is_some() {
            PENDING.remove(new);
            state.sockets.duplicated(old, new);
            // Without room the duplicate is not driven; its original is.
            for set in [&PENDING, &LOOPED] {
                let _room = !set.has(old) || set.insert(new);
            }
        }
        true
    });
    if !may_stay {
        io::close(new);
        return errno::fail(Errno::BROKEN);
    }
    errno::set(kept);
    new
}
