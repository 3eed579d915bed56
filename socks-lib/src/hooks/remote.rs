//! rcmd(3), rexec(3), ruserok(3) and gethostid(3): libc looks names up inside these, past every hook. The
//! first three are the BSD r-commands, which need a port below 1024 of the client's own and cannot be
//! relayed: they fail closed. gethostid looks up the host's own name, unless a file has the answer.

use std::ffi::{c_char, c_int, c_long, c_void};
use std::path::Path;

use rustix::fs::OFlags;
use socks_client::Errno;

use crate::enter::enter;
use crate::next;
use crate::state::State;
use crate::sys::errno;
use crate::sys::file::File;

macro_rules! refuse {
    ($($(#[$doc:meta])* fn $name:ident($($type:ty),*);)*) => {
        $($(#[$doc])*
        ///
        /// # Safety
        /// Its arguments are not looked at.
        #[unsafe(no_mangle)]
        unsafe extern "C-unwind" fn $name($(_: $type),*) -> c_int {
            errno::fail(Errno::FAIL_CLOSED)
        })*
    };
}

refuse! {
    /// `rcmd(3)`
    fn rcmd(*mut *mut c_char, u16, *const c_char, *const c_char, *const c_char, *mut c_int);
    /// `rcmd_af(3)`
    fn rcmd_af(*mut *mut c_char, u16, *const c_char, *const c_char, *const c_char, *mut c_int, u16);
    /// `rexec(3)`
    fn rexec(*mut *mut c_char, c_int, *const c_char, *const c_char, *const c_char, *mut c_int);
    /// `rexec_af(3)`
    fn rexec_af(*mut *mut c_char, c_int, *const c_char, *const c_char, *const c_char, *mut c_int, u16);
    /// `ruserok(3)`
    fn ruserok(*const c_char, c_int, *const c_char, *const c_char);
    /// `ruserok_af(3)`
    fn ruserok_af(*const c_char, c_int, *const c_char, *const c_char, u16);
    /// `iruserok(3)`
    fn iruserok(u32, c_int, *const c_char, *const c_char);
    /// `iruserok_af(3)`
    fn iruserok_af(*const c_void, c_int, *const c_char, *const c_char, u16);
}

/// `gethostid(3)`: 0, as libc gives it where the host's own name has no address, unless libc can answer
/// without DNS.
///
/// # Safety
/// Takes nothing.
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn gethostid() -> c_long {
    if enter(true, false, State::has_host_id) {
        // SAFETY: takes nothing.
        return unsafe { next::GETHOSTID.get()() };
    }
    0
}

impl State {
    fn has_host_id(&self) -> bool {
        let in_hosts = self
            .hosts
            .read()
            .map(|hosts| hosts.families_of(rustix::system::uname().nodename().to_bytes()));
        in_hosts.is_some_and(|families| families.v4.is_some())
            || File::open(Path::new("/etc/hostid"), OFlags::RDONLY).is_ok()
    }
}
