//! System calls that a gateway has no business with, and through which most ways out of a process lead: they fail as in a
//! kernel that does not have them (seccomp(2)). What is denied is named, and not what is allowed: libc's next version may
//! well take another way to the same end, and execve(2) has to stay for the successor's sake.

use std::collections::BTreeMap;
use std::env;
use std::io;

use libc::c_long;
use seccompiler::{
    BackendError, BpfProgram, Error, SeccompAction, SeccompCmpArgLen, SeccompCmpOp,
    SeccompCondition, SeccompFilter, SeccompRule, TargetArch, apply_filter,
};

/// ENOSYS. For clone3 libc then takes clone, whose flags a filter can see.
const UNKNOWN: [c_long; 44] = [
    // Other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    // Namespaces and mounts.
    libc::SYS_clone3,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    // Files by another way than their path, which is what Landlock looks at.
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    libc::SYS_fanotify_init,
    // Code in the kernel, and much of the kernel's code.
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    // The machine.
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_sethostname,
];

/// What a process of its own namespaces would be made with.
const NAMESPACES: [i32; 7] = [
    libc::CLONE_NEWNS,
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
];

/// Clients, destinations and upstreams; service managers and name services; and the kernel's word on addresses.
const FAMILIES: [i32; 4] = [
    libc::AF_INET,
    libc::AF_INET6,
    libc::AF_UNIX,
    libc::AF_NETLINK,
];

/// The same calls in the x32 mode of x86-64, which a filter sees as the same processor.
const X32: c_long = 0x4000_0000;

/// Takes them from this thread and all that it starts, in this process and in others. Asks for no_new_privs.
///
/// False where the kernel has no filters, or none for this processor.
pub(super) fn refuse() -> Result<bool, Error> {
    let Ok(arch) = TargetArch::try_from(env::consts::ARCH) else {
        return Ok(false);
    };
    for filter in [unknown(arch)?, denied(arch)?] {
        match apply_filter(&filter) {
            // Built without it.
            Err(Error::Prctl(error) | Error::Seccomp(error)) if is_missing(&error) => {
                return Ok(false);
            }
            applied => applied?,
        }
    }
    Ok(true)
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EINVAL))
}

fn unknown(arch: TargetArch) -> Result<BpfProgram, BackendError> {
    let rules = UNKNOWN.iter().map(|call| (*call, Vec::new()));
    filter(rules, libc::ENOSYS, arch)
}

/// EPERM for what is allowed otherwise.
fn denied(arch: TargetArch) -> Result<BpfProgram, BackendError> {
    let first = |how, value: i32| {
        let value = u64::from(value.unsigned_abs());
        SeccompCondition::new(0, SeccompCmpArgLen::Dword, how, value)
    };
    let flag = |flag: &i32| {
        let mask = u64::from(flag.unsigned_abs());
        SeccompRule::new(vec![first(SeccompCmpOp::MaskedEq(mask), *flag)?])
    };
    let clone = NAMESPACES.iter().map(flag).collect::<Result<_, _>>()?;
    let others = FAMILIES
        .iter()
        .map(|family| first(SeccompCmpOp::Ne, *family));
    let socket = vec![SeccompRule::new(others.collect::<Result<_, _>>()?)?];
    let rules = [(libc::SYS_clone, clone), (libc::SYS_socket, socket)];
    filter(rules, libc::EPERM, arch)
}

fn filter(
    rules: impl IntoIterator<Item = (c_long, Vec<SeccompRule>)>,
    errno: i32,
    arch: TargetArch,
) -> Result<BpfProgram, BackendError> {
    let mut calls = BTreeMap::new();
    for (call, conditions) in rules {
        calls.insert(call | X32, conditions.clone());
        calls.insert(call, conditions);
    }
    let refuse = SeccompAction::Errno(errno.unsigned_abs());
    SeccompFilter::new(calls, SeccompAction::Allow, refuse, arch)?.try_into()
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::process::Command;
    use std::thread;

    use rustix::io::Errno;
    use rustix::net::{AddressFamily, SocketType, socket};
    use rustix::thread::{move_into_link_name_space, set_no_new_privs};

    use super::*;

    /// A filter is for the thread that asks for it and what that starts.
    #[test]
    fn what_is_named_fails_and_what_a_gateway_does_goes_on() {
        let confined = thread::spawn(|| {
            set_no_new_privs(true).unwrap();
            assert!(refuse().unwrap());

            let own = File::open("/proc/self/ns/net").unwrap();
            let moved = move_into_link_name_space(std::os::fd::AsFd::as_fd(&own), None);
            assert_eq!(moved, Err(Errno::NOSYS));
            // AF_KEY is PF_KEY's, AF_ALG anybody's: neither is a gateway's.
            for family in [libc::AF_ALG, libc::AF_KEY, libc::AF_PACKET] {
                let family = AddressFamily::from_raw(family.try_into().unwrap());
                let made = socket(family, SocketType::RAW, None).err();
                assert_eq!(made, Some(Errno::PERM), "{family:?}");
            }
            let kinds = [
                (AddressFamily::INET, SocketType::STREAM),
                (AddressFamily::INET6, SocketType::STREAM),
                (AddressFamily::UNIX, SocketType::STREAM),
                (AddressFamily::NETLINK, SocketType::RAW),
            ];
            for (family, kind) in kinds {
                let made = socket(family, kind, None).err();
                assert!(!matches!(made, Some(Errno::PERM)), "{family:?}: {made:?}");
            }
            assert_eq!(thread::spawn(|| 7).join().unwrap(), 7);
            // A successor, and what it could not do either.
            assert!(Command::new("true").status().unwrap().success());
            let unshared = Command::new("unshare").args(["--user", "true"]).output();
            let said = String::from_utf8(unshared.unwrap().stderr).unwrap();
            assert!(said.contains("Function not implemented"), "{said}");
        });
        confined.join().unwrap();
        assert!(socket(AddressFamily::UNIX, SocketType::STREAM, None).is_ok());
    }

    /// Few kernels have x32 to try it on.
    #[test]
    fn the_filters_know_their_calls_in_both_modes() {
        for filter in [unknown(TargetArch::x86_64), denied(TargetArch::x86_64)] {
            let filter = filter.unwrap();
            let has = |number: c_long| {
                let number = u32::try_from(number).unwrap();
                filter.iter().any(|line| line.k == number)
            };
            let known: Vec<_> = UNKNOWN
                .into_iter()
                .chain([libc::SYS_clone, libc::SYS_socket])
                .filter(|call| has(*call))
                .collect();
            assert!(!known.is_empty());
            assert!(known.iter().all(|call| has(*call | X32)), "{known:?}");
        }
    }
}
