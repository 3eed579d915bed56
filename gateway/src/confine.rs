//! What this process gives up once its listeners stand: its user, new privileges, core dumps, all files but those
//! that it needs again, to reload, to resolve names and to make way for a successor, and `calls` that it never makes.
//!
//! None of it can be had back, by a successor neither: that one finds most of it done.

mod calls;

use std::ffi::CString;
use std::io;
use std::os::unix::fs::lchown;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, BitFlags, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError,
    RulesetStatus, path_beneath_rules,
};
use rustix::fs::access;
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit,
};
use rustix::thread::set_no_new_privs;

use crate::error::StartError;
use crate::sys::process::{Account, account, become_account};

/// `[process]`
#[derive(Debug, Clone)]
pub struct Process {
    /// Who it is once its listeners are bound; `None` for whoever has started it.
    pub user: Option<String>,
    /// Whether files and system calls that are not needed are out of reach.
    pub sandbox: bool,
    /// Whether a crash may write what is in memory to a file, passwords and all, and a debugger of the same user read it.
    pub core_dumps: bool,
    /// What is read again on a reload.
    pub files: Vec<PathBuf>,
}

impl Default for Process {
    fn default() -> Self {
        Self {
            user: None,
            sandbox: true,
            core_dumps: false,
            files: Vec::new(),
        }
    }
}

/// Where this process writes, and what its successor is. Like `files` each stands for its folder, since most programs that
/// change a file put another one in its place.
#[derive(Debug, Clone, Default)]
pub struct Needs {
    /// To be written, and made anew after somebody has moved it away.
    pub log: Option<PathBuf>,
    /// The successor's binary.
    pub binary: PathBuf,
}

/// Gives up what is not needed. To be called before any other thread is there. Says whether it is in a sandbox.
///
/// # Errors
/// If what was asked for cannot be had. A kernel without Landlock or seccomp is no error.
pub fn confine(process: &Process, needs: &Needs, is_in_sandbox: bool) -> Result<bool, StartError> {
    if let Some(user) = &process.user {
        change_user(user, needs).map_err(|error| StartError::User(user.clone(), error))?;
    }
    // After the change of user, which makes a process one that cannot be dumped.
    if process.core_dumps {
        let _ = set_dumpable_behavior(DumpableBehavior::Dumpable);
    } else {
        dump_no_core();
    }
    // A kernel that cannot is older than Linux 3.5.
    let _ = set_no_new_privs(true);
    // The layers of one sandbox in another are limited in number, and successors have successors.
    let mut is_in_sandbox = is_in_sandbox;
    if process.sandbox && !is_in_sandbox {
        let has_files = restrict(process, needs).map_err(StartError::Sandbox)?;
        // Last, so that all of the above may be among them.
        let has_calls = calls::refuse().map_err(StartError::Calls)?;
        if !has_calls {
            tracing::debug!("this kernel has no seccomp filters for this processor");
        }
        is_in_sandbox = has_files || has_calls;
    }
    for file in &process.files {
        // Not by opening it, which may wait if it is a pipe.
        if let Err(error) = access(file, rustix::fs::Access::READ_OK) {
            tracing::warn!(file = %file.display(), %error, "cannot be read again on a reload");
        }
    }
    Ok(is_in_sandbox)
}

fn dump_no_core() {
    let limit = getrlimit(Resource::Core);
    let none = Rlimit {
        current: Some(0),
        ..limit
    };
    // Neither fails for lowering what is ours. The second is for what reads core dumps from a pipe, which the limit is
    // nothing to, and for debuggers of the same user.
    let _ = setrlimit(Resource::Core, none);
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}

fn change_user(name: &str, needs: &Needs) -> io::Result<()> {
    let c_name = CString::new(name)?;
    let account = account(&c_name)?.ok_or_else(|| io::Error::other("no such user"))?;
    if account.is_current() {
        return Ok(());
    }
    if let Some(log) = &needs.log {
        // It was opened by whoever has started this process, and will be opened again by this user. If the user has put a
        // link in its place, what it leads to stays whose it is.
        let Account { uid, gid } = account;
        lchown(log, Some(uid), Some(gid))?;
    }
    become_account(&c_name, account)
}

/// For names, services and time zones, and for the modules that libc loads when it looks one of them up. The successor's
/// libraries are here too. Some of these may not exist.
const SYSTEM: [&str; 8] = [
    "/etc",
    "/run/resolvconf",
    "/run/NetworkManager",
    "/run/systemd/resolve",
    "/var/lib/misc",
    "/var/lib/sss",
    "/usr/share/zoneinfo",
    "/proc",
];
const LIBRARIES: [&str; 8] = [
    "/lib",
    "/lib32",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/lib",
    "/nix/store",
    "/gnu/store",
];

/// Links that lead out of /etc on some systems.
const LINKS: [&str; 3] = ["/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf"];

/// Whether the kernel can.
fn restrict(process: &Process, needs: &Needs) -> Result<bool, RulesetError> {
    // The rights that Linux 6.10 knows. Older kernels take what they know.
    let all = AccessFs::from_all(ABI::V5);
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let execute = read | AccessFs::Execute;
    let append = read | AccessFs::WriteFile | AccessFs::MakeReg;
    let links = LINKS.map(PathBuf::from);
    let read_folders = process
        .files
        .iter()
        .chain(&links)
        .flat_map(|file| folders_of(file));
    let rules = |paths: Vec<PathBuf>, access: BitFlags<AccessFs>| path_beneath_rules(paths, access);
    let status = Ruleset::default()
        .handle_access(all)?
        .create()?
        .add_rules(rules(SYSTEM.map(PathBuf::from).to_vec(), read))?
        .add_rules(rules(LIBRARIES.map(PathBuf::from).to_vec(), execute))?
        .add_rules(rules(read_folders.collect(), read))?
        .add_rules(rules(folders_of(&needs.binary), execute))?
        .add_rules(rules(
            needs.log.iter().flat_map(|file| folders_of(file)).collect(),
            append,
        ))?
        .add_rules(rules(vec!["/dev/null".into()], read | AccessFs::WriteFile))?
        .restrict_self()?;
    match status.ruleset {
        RulesetStatus::NotEnforced => tracing::debug!("this kernel has no Landlock: no sandbox"),
        RulesetStatus::PartiallyEnforced => tracing::debug!("in a sandbox of an older kernel's"),
        RulesetStatus::FullyEnforced => tracing::debug!("in a sandbox"),
    }
    Ok(status.ruleset != RulesetStatus::NotEnforced)
}

/// Where a file is, and where it is really.
fn folders_of(file: &Path) -> Vec<PathBuf> {
    let real = file.canonicalize().ok();
    let files = [Some(file.to_owned()), real].into_iter().flatten();
    let folders = files.filter_map(|file| {
        let folder = file.parent()?;
        let is_here = folder.as_os_str().is_empty();
        Some(if is_here {
            PathBuf::from(".")
        } else {
            folder.to_owned()
        })
    });
    folders.collect()
}
