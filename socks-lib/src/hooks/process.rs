//! execve(2) and its relatives. The environment carries the shim into the next program; with
//! `sticky` it is put back where a program has cleaned what it hands on.
//!
//! A vfork child shares its parent's memory and a handler may run here: the new environment is on the
//! stack, and points to strings that are there for good. libc's variadic forms (execl and its like) and
//! those that start a shell inside libc (system, popen) hand on the program's own environment as it is.

use std::ffi::{CStr, CString, c_char, c_int};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

use libc::{pid_t, posix_spawn_file_actions_t, posix_spawnattr_t};

use socks_client::Errno;

use crate::enter::enter;
use crate::next;
use crate::sys::{errno, memory};

/// Entries of an environment that are looked for room for on the stack: one that was cleaned is short.
const ENTRIES: usize = 200;
/// Room for an LD_PRELOAD of ours and of the program's own.
const PRELOAD_OCTETS: usize = 1024;
const PRELOAD: &[u8] = b"LD_PRELOAD=";
/// The launcher's mark on its own way out of the shim: it has to find the gateway.
const LAUNCHER: &[u8] = b"SOCKS6_LAUNCHER=";

/// Whether anything is put back. One load of it is what exec costs where nothing is.
static IS_STICKY: AtomicBool = AtomicBool::new(false);

/// What is put back: `NAME=VALUE` of LD_PRELOAD, and of all that the shim was told.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    /// The path of this library.
    library: Vec<u8>,
    entries: Vec<CString>,
}

impl Kept {
    /// Of an LD_PRELOAD that names this library, and of other entries; none if it does not name it.
    pub(crate) fn new(preload: &[u8], others: Vec<CString>) -> Self {
        let is_ours = |path: &&[u8]| path.ends_with(b"/libsocks6.so");
        let library = preload.split(|o| b" :".contains(o)).find(is_ours);
        let entry = CString::new([PRELOAD, preload].concat());
        let (Some(library), Ok(entry)) = (library, entry) else {
            return Self::default();
        };
        IS_STICKY.store(true, Ordering::Relaxed);
        Self {
            library: library.to_vec(),
            entries: std::iter::once(entry).chain(others).collect(),
        }
    }
}

type Environment = *const *const c_char;

unsafe extern "C" {
    /// environ(7), absent from the libc crate.
    static environ: Environment;
}

/// The room for an environment.
struct Room {
    entries: [*const c_char; ENTRIES],
    preload: [u8; PRELOAD_OCTETS],
}

/// Calls `exec` with the environment that it is to have; not at all after a panic, since a program that is started
/// without the shim goes direct.
///
/// # Safety
/// `environment` is null or a list of C strings that ends in null.
unsafe fn with(
    environment: Environment,
    exec: impl FnOnce(Environment) -> c_int,
) -> Result<c_int, Errno> {
    if IS_STICKY.load(Ordering::Relaxed) {
        // SAFETY: our caller's contract.
        unsafe { with_kept(environment, exec) }
    } else {
        Ok(exec(environment))
    }
}

/// # Safety
/// As [`with`].
#[cold]
#[inline(never)] // its room is on the stack only when it is needed
unsafe fn with_kept(
    environment: Environment,
    exec: impl FnOnce(Environment) -> c_int,
) -> Result<c_int, Errno> {
    let mut room = Room {
        entries: [ptr::null(); ENTRIES],
        preload: [0; PRELOAD_OCTETS],
    };
    let given = enter(Ok(environment), Err(Errno::BROKEN), |state| {
        // SAFETY: our caller's contract.
        Ok(unsafe { room.put_back(&state.kept, environment) }.unwrap_or(environment))
    });
    given.map(exec)
}

impl Room {
    /// The environment with what is missing; `None` if nothing is, or if there is no room for it.
    ///
    /// # Safety
    /// As [`with`].
    unsafe fn put_back(&mut self, kept: &Kept, environment: Environment) -> Option<Environment> {
        // SAFETY: our caller's contract.
        let entries = || unsafe { entries(environment) };
        let has = |name: &[u8]| entries().any(|entry| entry.to_bytes().starts_with(name));
        if has(LAUNCHER) {
            return None;
        }
        let is_missing = |entry: &&CString| {
            let name = entry.as_bytes().split_inclusive(|&o| o == b'=').next();
            !has(name.unwrap_or_default())
        };
        let is_without_us = |entry: &CStr| {
            let names_us = |value: &[u8]| {
                value
                    .split(|o| b" :".contains(o))
                    .any(|p| p == kept.library)
            };
            let preload = entry.to_bytes().strip_prefix(PRELOAD);
            preload.is_some_and(|value| !names_us(value))
        };
        let missing = kept.entries.iter().filter(is_missing).count();
        if missing == 0 && !entries().any(is_without_us) {
            return None;
        }
        let count = entries().count().checked_add(missing)?.checked_add(1)?;
        let list = if count <= ENTRIES {
            self.entries.as_mut_ptr()
        } else {
            // A vfork child's parent keeps this mapping: rare, and small.
            memory::pointers(count)?
        };
        let Self { preload, .. } = self;
        let ours = entries().map(|entry| {
            if is_without_us(entry) {
                joined(preload, &kept.library, entry).unwrap_or(entry.as_ptr())
            } else {
                entry.as_ptr()
            }
        });
        let kept = kept
            .entries
            .iter()
            .filter(is_missing)
            .map(|entry| entry.as_ptr());
        for (index, entry) in ours.chain(kept).chain([ptr::null()]).enumerate() {
            // SAFETY: `count` entries with the null at their end, in an array of at least as many.
            unsafe { list.add(index).write(entry) };
        }
        Some(list)
    }
}

/// LD_PRELOAD with this library before the program's own; `None` if it does not fit.
fn joined(room: &mut [u8; PRELOAD_OCTETS], library: &[u8], entry: &CStr) -> Option<*const c_char> {
    let theirs = entry.to_bytes_with_nul().strip_prefix(PRELOAD)?;
    let mut at = 0_usize;
    for part in [PRELOAD, library, b":", theirs] {
        let end = at.checked_add(part.len())?;
        room.get_mut(at..end)?.copy_from_slice(part);
        at = end;
    }
    Some(room.as_ptr().cast())
}

/// # Safety
/// As [`with`].
unsafe fn entries<'a>(environment: Environment) -> impl Iterator<Item = &'a CStr> {
    let mut next = environment;
    std::iter::from_fn(move || {
        if next.is_null() {
            return None;
        }
        // SAFETY: our caller's contract: not behind the null at the end, which ends this.
        let entry = unsafe { next.read() };
        if entry.is_null() {
            return None;
        }
        // SAFETY: not the end.
        next = unsafe { next.add(1) };
        // SAFETY: our caller's contract: C strings.
        Some(unsafe { CStr::from_ptr(entry) })
    })
}

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
    unsafe { with(environment, |env| next::EXECVE.get()(path, argv, env)) }
        .unwrap_or_else(errno::fail)
}

/// `execv(3)`: async-signal-safe.
///
/// # Safety
/// As [`execve`].
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn execv(path: *const c_char, argv: Environment) -> c_int {
    // SAFETY: our caller's contract; environ(7) is a list that ends in null.
    unsafe { with(environ, |env| next::EXECVE.get()(path, argv, env)) }.unwrap_or_else(errno::fail)
}

/// `execvp(3)`.
///
/// # Safety
/// As [`execve`].
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn execvp(file: *const c_char, argv: Environment) -> c_int {
    // SAFETY: our caller's contract; environ(7) is a list that ends in null.
    unsafe { with(environ, |env| next::EXECVPE.get()(file, argv, env)) }.unwrap_or_else(errno::fail)
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
    unsafe { with(environment, |env| next::EXECVPE.get()(file, argv, env)) }
        .unwrap_or_else(errno::fail)
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
    unsafe { with(environment, |env| next::FEXECVE.get()(fd, argv, env)) }
        .unwrap_or_else(errno::fail)
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
        with(environment, |env| {
            next::EXECVEAT.get()(folder, path, argv, env, flags)
        })
    }
    .unwrap_or_else(errno::fail)
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
        with(environment, |env| {
            spawn(pid, path, actions, attributes, argv, env)
        })
    }
    .unwrap_or_else(|error| error.0)
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
        with(environment, |env| {
            spawn(pid, file, actions, attributes, argv, env)
        })
    }
    .unwrap_or_else(|error| error.0)
}
