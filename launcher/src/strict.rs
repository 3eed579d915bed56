//! `--strict`: what the shim cannot guarantee is refused.

use std::env;

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};

use crate::error::LaunchError;
use crate::say::say;

/// Takes io_uring from this process and all that descend from it: what goes by its rings passes no
/// function of libc. Programs meet a kernel without it, ENOSYS, and go on with poll and epoll.
///
/// The kernel lets an ordinary user do this only with no_new_privs (prctl(2)): set-user-ID programs of the
/// run gain nothing by it, and so the loader does not take the shim from them.
///
/// # Errors
/// If the kernel has no seccomp filters, or this processor is not known here.
pub(crate) fn without_io_uring() -> Result<(), LaunchError> {
    let filter = filter().map_err(|error| LaunchError::Strict(error.to_string()))?;
    apply_filter(&filter).map_err(|error| LaunchError::Strict(error.to_string()))?;
    say("--strict: this run has no io_uring, and set-user-ID programs gain no rights in it");
    Ok(())
}

fn filter() -> Result<BpfProgram, seccompiler::BackendError> {
    let enosys = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
    let io_uring = [(libc::SYS_io_uring_setup, Vec::new())];
    SeccompFilter::new(
        io_uring.into(),
        SeccompAction::Allow,
        enosys,
        env::consts::ARCH.try_into()?,
    )?
    .try_into()
}
