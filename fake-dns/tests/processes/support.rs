//! What the tests need of the system: folders, other processes, and being someone who may mount.
#![expect(unsafe_code, reason = "fork, wait and kill have no safe form")]

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::{env, fs, panic, process};

use fake_dns::{Ranges, Table, TableError};

/// A folder for one test, removed when it ends.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = env::temp_dir().join(format!("fake-dns-test-{}-{count}", process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn table(&self) -> PathBuf {
        self.0.join("table")
    }

    /// Nothing but the table: no temporary file was left behind.
    pub(crate) fn assert_tidy(&self) {
        let names: Vec<_> = fs::read_dir(&self.0)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert!(names == ["table"] || names.is_empty(), "{names:?}");
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _left_behind = fs::remove_dir_all(&self.0);
    }
}

/// 255 names.
pub(crate) fn small() -> Ranges {
    Ranges {
        v4: "198.18.0.0/24".parse().unwrap(),
        ..Ranges::default()
    }
}

pub(crate) fn open(path: &Path, ranges: &Ranges) -> Table {
    Table::open(path, ranges).unwrap()
}

pub(crate) fn open_error(path: &Path, ranges: &Ranges) -> TableError {
    Table::open(path, ranges).unwrap_err()
}

pub(crate) fn numbered(i: u32) -> String {
    format!("host-{i}.example")
}

const ROLE: &str = "FAKE_DNS_TEST_ROLE";

/// The role of this process, if it is a helper.
pub(crate) fn role() -> Option<String> {
    let role = env::var(ROLE).ok()?;
    end_by_itself();
    Some(role)
}

/// So that the one who waits for this process does not wait for ever.
fn end_by_itself() {
    // SAFETY: no preconditions; SIGALRM ends the process.
    unsafe { libc::alarm(60) };
}

/// What `FAKE_DNS_TEST_<name>` says.
pub(crate) fn told(name: &str) -> String {
    env::var(format!("FAKE_DNS_TEST_{name}")).unwrap()
}

/// This binary in a role; what it is told goes by its environment.
pub(crate) fn helper(role: &str, told: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command
        .args(["--exact", "helper", "--nocapture", "--test-threads=1"])
        .env(ROLE, role);
    for (name, value) in told {
        command.env(format!("FAKE_DNS_TEST_{name}"), value);
    }
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// The helper by way of a shell, for what a shell sets up best: mounts, limits, the umask.
pub(crate) fn helper_after(script: &str, role: &str, told: &[(&str, &str)]) -> Command {
    let helper = helper(role, told);
    let mut shell = Command::new("sh");
    shell.args(["-ec", &format!("{script}\nexec \"$@\""), "sh"]);
    shell.arg(helper.get_program()).args(helper.get_args());
    shell.envs(
        helper
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    shell.stdout(Stdio::piped()).stderr(Stdio::piped());
    shell
}

/// In a mount namespace of its own, in which a test may mount.
pub(crate) fn with_mounts(command: &Command) -> Command {
    let mut unshared = Command::new("unshare");
    // Without root, a user namespace makes us root of our own mounts.
    let flags: &[&str] = if is_root() {
        &["-m"]
    } else {
        &["-U", "-r", "-m"]
    };
    unshared
        .args(flags)
        .arg(command.get_program())
        .args(command.get_args());
    unshared.envs(
        command
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    unshared.stdout(Stdio::piped()).stderr(Stdio::piped());
    unshared
}

pub(crate) fn is_root() -> bool {
    // SAFETY: no preconditions.
    unsafe { libc::geteuid() == 0 }
}

/// Whether a test can have what it needs.
pub(crate) fn can(need: &str, possible: bool) -> bool {
    if !possible {
        testkit::skipped(&format!("{need} is not possible here"));
    }
    possible
}

pub(crate) fn can_mount() -> bool {
    let probe = with_mounts(&Command::new("true")).status();
    can(
        "a mount namespace",
        probe.is_ok_and(|status| status.success()),
    )
}

/// What the helper printed after its mark; a helper that failed or was killed fails the test.
pub(crate) fn lines(output: &Output) -> Vec<String> {
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{}\n{stdout}\n{stderr}",
        output.status
    );
    // The harness's own text may precede ours on a line.
    stdout
        .lines()
        .filter_map(|line| Some(line.split_once(MARK)?.1.to_owned()))
        .collect()
}

pub(crate) fn tell(line: &str) {
    println!("{MARK}{line}");
}

/// Tells our lines from the test harness's own.
const MARK: &str = "\x1e";

/// A forked copy of this process.
pub(crate) struct Child(pub(crate) libc::pid_t);

/// Runs `work` in a copy of this process; the copy's exit status says whether it came to its end without a panic.
///
/// The copy of a process with threads may only do what a signal handler may, give or take malloc, which glibc repairs:
/// just what the table promises.
pub(crate) fn fork(work: impl FnOnce()) -> Child {
    // SAFETY: the child calls `work`, of which see above, and ends without running anything of the parent's.
    match unsafe { libc::fork() } {
        -1 => panic!("fork: {}", io::Error::last_os_error()),
        0 => {
            end_by_itself();
            let result = panic::catch_unwind(panic::AssertUnwindSafe(work));
            // SAFETY: no preconditions.
            unsafe { libc::_exit(i32::from(result.is_err())) }
        }
        pid => Child(pid),
    }
}

impl Child {
    /// The status as waitpid gives it: 0 if all went well.
    pub(crate) fn wait(self) -> i32 {
        let mut status = 0;
        // SAFETY: writes one int. The child is ours and nobody else waits for it.
        let pid = unsafe { libc::waitpid(self.0, &raw mut status, 0) };
        assert_eq!(pid, self.0);
        status
    }

    pub(crate) fn kill(&self) {
        // SAFETY: no preconditions; the child has not been waited for, so the number is still its own.
        unsafe { libc::kill(self.0, libc::SIGKILL) };
    }
}

/// Numbers by chance that are the same in each run (xorshift64).
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.max(1))
    }

    /// Never 0.
    pub(crate) fn word(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        (self.word() >> 16) % bound
    }
}
