//! What `sticky` puts back where a program has cleaned the environment of the next one: LD_PRELOAD, and
//! all that the shim was told.
//!
//! exec may be called in a handler, and in a vfork child, which shares its parent's memory: the new
//! environment is on the stack, and points to strings that are there for good.

use std::ffi::{CStr, CString, c_char, c_int};
use std::ptr;
use std::slice;
use std::sync::atomic::{AtomicBool, Ordering};

use socks_client::Errno;

use crate::enter::enter;
use crate::wait::Borrowed;

/// Entries of an environment that there is room for on the stack: one that was cleaned is short.
const ENTRIES: usize = 200;
/// Room on the stack for an LD_PRELOAD of ours and of the program's own.
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

pub(crate) type Environment = *const *const c_char;

unsafe extern "C" {
    /// environ(7), absent from the libc crate.
    static environ: Environment;
}

/// The program's own.
pub(crate) fn own_environment() -> Environment {
    // SAFETY: a word that libc keeps, and that whoever changes the environment does not change meanwhile
    // (environ(7), as for getenv(3)).
    unsafe { environ }
}

/// Calls `exec` with the environment that it is to have.
///
/// # Errors
/// No memory for it. The program is not executed without us.
///
/// # Safety
/// `environment` is null or a list of C strings that ends in null.
pub(crate) unsafe fn with(
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
        more: None,
    };
    let given = enter(Ok(environment), Err(Errno::BROKEN), |state| {
        // SAFETY: our caller's contract.
        let given = unsafe { room.put_back(&state.kept, environment) };
        given.ok_or(Errno(libc::ENOMEM))
    })?;
    let result = exec(given);
    if let Some(more) = room.more {
        // SAFETY: exec has failed, or the spawned child has a copy.
        unsafe { more.give_back() };
    }
    Ok(result)
}

/// Puts what is missing into environ(7) itself, for what libc starts from inside.
///
/// libc's own functions do it, as the program might: they have the lock, and keep the program's list.
///
/// # Errors
/// After a panic: nothing is to be started that might be without us.
pub(crate) fn mend_own_environment() -> Result<(), Errno> {
    if !IS_STICKY.load(Ordering::Relaxed) {
        return Ok(());
    }
    enter(Ok(()), Err(Errno::BROKEN), |state| {
        state.kept.mend_own_environment();
        Ok(())
    })
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

    /// Those that an environment has not.
    ///
    /// # Safety
    /// As [`with`].
    unsafe fn missing(&self, environment: Environment) -> impl Iterator<Item = &CStr> {
        let is_missing = move |entry: &&CString| {
            let name = entry.as_bytes().split_inclusive(|&o| o == b'=').next();
            // SAFETY: our caller's contract.
            !unsafe { has(environment, name.unwrap_or_default()) }
        };
        self.entries
            .iter()
            .filter(is_missing)
            .map(CString::as_c_str)
    }

    /// The value of an LD_PRELOAD that does not name this library.
    fn without_us<'a>(&self, entry: &'a CStr) -> Option<&'a [u8]> {
        let names_us = |value: &&[u8]| {
            let mut paths = value.split(|o| b" :".contains(o));
            paths.any(|path| path == self.library)
        };
        let preload = entry.to_bytes().strip_prefix(PRELOAD);
        preload.filter(|value| !names_us(value))
    }

    fn mend_own_environment(&self) {
        let environment = own_environment();
        // SAFETY: environ(7) is null or a list that ends in null.
        if unsafe { has(environment, LAUNCHER) } {
            return;
        }
        // Found before anything changes: each change may free the list.
        // SAFETY: as above.
        let missing: Vec<_> = unsafe { self.missing(environment) }.collect();
        // SAFETY: as above.
        let theirs = unsafe { entries(environment) }.find_map(|entry| self.without_us(entry));
        let joined = theirs.map(|theirs| CString::new([&self.library, &b":"[..], theirs].concat()));
        if let Some(Ok(value)) = joined {
            // SAFETY: C strings, which setenv(3) copies.
            unsafe { libc::setenv(c"LD_PRELOAD".as_ptr(), value.as_ptr(), 1) };
        }
        for entry in missing {
            // SAFETY: an entry that is there for good, and that nobody writes to.
            unsafe { libc::putenv(entry.as_ptr().cast_mut()) };
        }
    }
}

/// The room for an environment: on the stack, or more than that.
struct Room {
    entries: [*const c_char; ENTRIES],
    preload: [u8; PRELOAD_OCTETS],
    more: Option<Borrowed>,
}

impl Room {
    /// The environment with what is missing, which may be nothing; `None` if there is no room for it.
    ///
    /// # Safety
    /// As [`with`].
    unsafe fn put_back(&mut self, kept: &Kept, environment: Environment) -> Option<Environment> {
        // SAFETY: our caller's contract.
        let entries = || unsafe { entries(environment) };
        // SAFETY: our caller's contract.
        let missing = || unsafe { kept.missing(environment) };
        // SAFETY: our caller's contract.
        let is_launchers = unsafe { has(environment, LAUNCHER) };
        let without_us = entries().filter_map(|entry| kept.without_us(entry));
        let longest = without_us.map(<[u8]>::len).max();
        if is_launchers || (longest.is_none() && missing().next().is_none()) {
            return Some(environment);
        }
        let count = entries().chain(missing()).count().checked_add(1)?;
        let octets = longest.map_or(Some(0), |theirs| joined_octets(&kept.library, theirs))?;
        let (list, preload) = self.places(count, octets)?;
        let mut places = list.iter_mut();
        for entry in entries() {
            let entry = match kept.without_us(entry) {
                Some(theirs) => joined(preload, &kept.library, theirs)?,
                None => entry.as_ptr(),
            };
            *places.next()? = entry;
        }
        for entry in missing() {
            *places.next()? = entry.as_ptr();
        }
        *places.next()? = ptr::null();
        Some(list.as_ptr())
    }

    /// Room for so many entries, and for so long an LD_PRELOAD.
    fn places(&mut self, count: usize, octets: usize) -> Option<(&mut [*const c_char], &mut [u8])> {
        if count <= ENTRIES && octets <= PRELOAD_OCTETS {
            return Some((&mut self.entries, &mut self.preload));
        }
        // A vfork child that succeeds leaves this mapping to its parent: rare, and small.
        let list_octets = count.checked_mul(size_of::<*const c_char>())?;
        let more = Borrowed::take(list_octets.checked_add(octets)?)?;
        self.more = Some(more);
        // SAFETY: zeroed memory of so many octets, page-aligned, that nobody else has.
        let list = unsafe { slice::from_raw_parts_mut(more.start.cast(), count) };
        // SAFETY: the rest of it.
        let preload = unsafe { slice::from_raw_parts_mut(more.start.add(list_octets), octets) };
        Some((list, preload))
    }
}

fn joined_octets(library: &[u8], theirs: usize) -> Option<usize> {
    let ends = PRELOAD.len().checked_add(b":\0".len())?;
    ends.checked_add(library.len())?.checked_add(theirs)
}

/// LD_PRELOAD with this library before the program's own; `None` if it does not fit.
fn joined(room: &mut [u8], library: &[u8], theirs: &[u8]) -> Option<*const c_char> {
    let mut at = 0_usize;
    for part in [PRELOAD, library, b":", theirs, b"\0"] {
        let end = at.checked_add(part.len())?;
        room.get_mut(at..end)?.copy_from_slice(part);
        at = end;
    }
    Some(room.as_ptr().cast())
}

/// # Safety
/// As [`with`].
unsafe fn has(environment: Environment, name: &[u8]) -> bool {
    // SAFETY: our caller's contract.
    unsafe { entries(environment) }.any(|entry| entry.to_bytes().starts_with(name))
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
