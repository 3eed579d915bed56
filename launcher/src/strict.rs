//! `--strict`: what the shim cannot guarantee is refused.

use std::env;

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};

use crate::error::LaunchError;
use crate::say::say;

/// The same calls in the x32 mode of x86-64, which a filter sees as the same processor.
const X32: libc::c_long = 0x4000_0000;

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
    // A ring may also be inherited, or come by a socket.
    let calls = [
        libc::SYS_io_uring_setup,
        libc::SYS_io_uring_enter,
        libc::SYS_io_uring_register,
    ];
    let numbers = calls.into_iter().flat_map(|call| [call, call | X32]);
    SeccompFilter::new(
        numbers.map(|number| (number, Vec::new())).collect(),
        SeccompAction::Allow,
        enosys,
        env::consts::ARCH.try_into()?,
    )?
    .try_into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Few kernels have x32 to try it on.
    #[test]
    fn the_filter_knows_the_calls_in_both_modes() {
        let filter = filter().unwrap();
        for call in 425..=427 {
            for number in [call, call | 0x4000_0000] {
                assert!(filter.iter().any(|line| line.k == number), "{number:#x}");
            }
        }
    }
}
