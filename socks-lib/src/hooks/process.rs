//! execve(2) and its relatives, and what starts a shell from inside libc. The environment carries the shim
//! into the next program; with `sticky` it is put back where a program has cleaned what it hands on.

use std::ffi::{c_char, c_int, c_void};

use libc::{FILE, pid_t, posix_spawn_file_actions_t, posix_spawnattr_t};

use crate::kept::{Environment, mend_own_environment, own_environment, with};
use crate::next;
use crate::sys::errno;

/// `execve(2)`: async-signal-safe.
///
/// # Safety
/// The C contract: C strings, and lists of them that end in null.
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn execve(
    path: *const c_char,
    argv: Environment,
    environment: Environment,
) -> c_int {
    // SAFETY: our caller's contract.
    unsafe { executed(environment, |env| next::EXECVE.get()(path, argv, env)) }
}

/// `execv(3)`: async-signal-safe.
///
/// # Safety
/// As [`execve`].
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn execv(path: *const c_char, argv: Environment) -> c_int {
    // SAFETY: our caller's contract; environ(7) is a list that ends in null.
    unsafe { executed(own_environment(), |env| next::EXECVE.get()(path, argv, env)) }
}

/// `execvp(3)`.
///
/// # Safety
/// As [`execve`].
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn execvp(file: *const c_char, argv: Environment) -> c_int {
    // SAFETY: our caller's contract; environ(7) is a list that ends in null.
    unsafe {
        executed(own_environment(), |env| {
            next::EXECVPE.get()(file, argv, env)
        })
    }
}

/// `execvpe(3)`.
///
/// # Safety
/// As [`execve`].
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn execvpe(
    file: *const c_char,
    argv: Environment,
    environment: Environment,
) -> c_int {
    // SAFETY: our caller's contract.
    unsafe { executed(environment, |env| next::EXECVPE.get()(file, argv, env)) }
}

/// `fexecve(3)`: async-signal-safe.
///
/// # Safety
/// As [`execve`].
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn fexecve(
    fd: c_int,
    argv: Environment,
    environment: Environment,
) -> c_int {
    // SAFETY: our caller's contract.
    unsafe { executed(environment, |env| next::FEXECVE.get()(fd, argv, env)) }
}

/// `execveat(2)`: async-signal-safe.
///
/// # Safety
/// As [`execve`].
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn execveat(
    folder: c_int,
    path: *const c_char,
    argv: Environment,
    environment: Environment,
    flags: c_int,
) -> c_int {
    // SAFETY: our caller's contract.
    unsafe {
        executed(environment, |env| {
            next::EXECVEAT.get()(folder, path, argv, env, flags)
        })
    }
}

/// `posix_spawn(3)`.
///
/// # Safety
/// The C contract: as [`execve`], and null or valid actions and attributes.
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn posix_spawn(
    pid: *mut pid_t,
    path: *const c_char,
    actions: *const posix_spawn_file_actions_t,
    attributes: *const posix_spawnattr_t,
    argv: Environment,
    environment: Environment,
) -> c_int {
    let spawn = next::POSIX_SPAWN.get();
    // SAFETY: our caller's contract.
    unsafe {
        spawned(environment, |env| {
            spawn(pid, path, actions, attributes, argv, env)
        })
    }
}

/// `posix_spawnp(3)`.
///
/// # Safety
/// As [`posix_spawn`].
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn posix_spawnp(
    pid: *mut pid_t,
    file: *const c_char,
    actions: *const posix_spawn_file_actions_t,
    attributes: *const posix_spawnattr_t,
    argv: Environment,
    environment: Environment,
) -> c_int {
    let spawn = next::POSIX_SPAWNP.get();
    // SAFETY: our caller's contract.
    unsafe {
        spawned(environment, |env| {
            spawn(pid, file, actions, attributes, argv, env)
        })
    }
}

macro_rules! shell {
    ($($(#[$doc:meta])*
        fn $name:ident = $next:ident($($argument:ident: $type:ty),*) -> $result:ty, else $failed:expr;)*
    ) => {
        $($(#[$doc])*
        ///
        /// libc hands environ(7) on from inside, and waits: a cancellation point.
        ///
        /// # Safety
        /// The C contract of the function.
        #[unsafe(no_mangle)]
        unsafe extern "C-unwind" fn $name($($argument: $type),*) -> $result {
            if let Err(error) = mend_own_environment() {
                errno::set(error.0);
                return $failed;
            }
            // SAFETY: the application's own arguments.
            unsafe { next::$next.get()($($argument),*) }
        })*
    };
}

shell! {
    /// `system(3)`
    fn system = SYSTEM(command: *const c_char) -> c_int, else -1;
    /// `popen(3)`
    fn popen = POPEN(command: *const c_char, mode: *const c_char) -> *mut FILE, else std::ptr::null_mut();
    /// `wordexp(3)`, for `$(command)`
    fn wordexp = WORDEXP(words: *const c_char, expansion: *mut c_void, flags: c_int) -> c_int, else WRDE_NOSPACE;
}

/// wordexp.h, absent from the libc crate.
const WRDE_NOSPACE: c_int = 1;

/// # Safety
/// As [`with`].
pub(crate) unsafe fn executed(
    environment: Environment,
    exec: impl FnOnce(Environment) -> c_int,
) -> c_int {
    // SAFETY: our caller's contract.
    unsafe { with(environment, exec) }.unwrap_or_else(errno::fail)
}

/// # Safety
/// As [`with`].
unsafe fn spawned(environment: Environment, spawn: impl FnOnce(Environment) -> c_int) -> c_int {
    // SAFETY: our caller's contract. posix_spawn(3) gives the errno itself.
    unsafe { with(environment, spawn) }.unwrap_or_else(|errno| errno.0)
}
