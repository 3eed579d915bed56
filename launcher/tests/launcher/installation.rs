//! A folder with the launcher and what it expects beside itself.

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// For what happens at once if it happens at all.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

pub(crate) struct Installation {
    pub(crate) root: PathBuf,
}

impl Installation {
    /// Launcher and shim, no gateway.
    pub(crate) fn new(name: &str) -> Self {
        let name = format!("socks6-{}-{name}", std::process::id());
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        for folder in ["bin", "home", "run"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        fs::set_permissions(root.join("run"), fs::Permissions::from_mode(0o700)).unwrap();
        let installation = Self { root };
        // A symbolic link would not do: the launcher looks for the others where it is itself.
        fs::hard_link(env!("CARGO_BIN_EXE_socks6"), installation.program()).unwrap();
        fs::copy(some_library(), installation.library()).unwrap();
        installation
    }

    /// With a gateway that listens nowhere, and leaves traces: `arguments`, `preload`, `pids` and
    /// `ended`.
    pub(crate) fn with_gateway(name: &str) -> Self {
        let installation = Self::new(name);
        let root = installation.root.display().to_string();
        installation.gateway(&format!(
            "trap 'echo > {root}/ended; exit 0' TERM\n\
             echo \"$*\" > {root}/arguments\n\
             echo $LD_PRELOAD > {root}/preload\n\
             echo $$ $PPID > {root}/pids\n\
             echo listening on 127.0.0.1:9\n\
             while :; do sleep 0.02; done\n"
        ));
        installation
    }

    pub(crate) fn gateway(&self, script: &str) {
        self.script("bin/socks6-gateway", &format!("#!/bin/sh\n{script}"));
    }

    /// Written by a process of its own: what this one has open for writing, a process that another
    /// test starts at that moment has open too, and the kernel executes no such file.
    pub(crate) fn script(&self, name: &str, text: &str) -> PathBuf {
        let path = self.root.join(name);
        let mut sh = Command::new("sh");
        let writer = sh.args(["-c", "printf %s \"$1\" > \"$0\" && chmod 755 \"$0\""]);
        assert!(writer.arg(&path).arg(text).status().unwrap().success());
        path
    }

    pub(crate) fn c_program(&self, name: &str, source: &str, options: &[&str]) -> PathBuf {
        let path = self.root.join(name);
        fs::write(path.with_extension("c"), source).unwrap();
        let mut cc = Command::new("cc");
        cc.args(options)
            .arg("-o")
            .arg(&path)
            .arg(path.with_extension("c"));
        assert!(
            cc.status().unwrap().success(),
            "gcc and libc6-dev are needed"
        );
        path
    }

    pub(crate) fn program(&self) -> PathBuf {
        self.root.join("bin/socks6")
    }

    pub(crate) fn library(&self) -> PathBuf {
        self.root.join("bin/libsocks6.so")
    }

    /// `socks6 WORDS`, to be followed by more arguments.
    pub(crate) fn socks6(&self, words: &str) -> Command {
        let mut command = Command::new(self.program());
        self.prepare(&mut command);
        command.args(words.split_whitespace());
        command
    }

    /// Nothing of the user's own surroundings.
    pub(crate) fn prepare(&self, command: &mut Command) {
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy().to_uppercase();
            if text.starts_with("SOCKS") || text.ends_with("_PROXY") {
                command.env_remove(name);
            }
        }
        command
            .stdin(Stdio::null())
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", self.root.join("home"))
            .env("XDG_RUNTIME_DIR", self.root.join("run"))
            .env_remove("XDG_CONFIG_HOME")
            .env_remove("LD_PRELOAD");
    }

    /// `socks6 WORDS sh -c SCRIPT`.
    pub(crate) fn sh(&self, words: &str, script: &str) -> Command {
        let mut command = self.socks6(words);
        command.args(["sh", "-c", script]);
        command
    }

    pub(crate) fn read(&self, file: &str) -> String {
        fs::read_to_string(self.root.join(file)).unwrap_or_default()
    }

    pub(crate) fn has(&self, file: &str) -> bool {
        self.root.join(file).exists()
    }

    /// Number n of the gateway's pids: its own, its parent's.
    pub(crate) fn pid(&self, n: usize) -> i32 {
        self.read("pids")
            .split_whitespace()
            .nth(n)
            .unwrap()
            .parse()
            .unwrap()
    }

    /// The folders of runs with a private gateway.
    pub(crate) fn run_folders(&self) -> usize {
        let Ok(entries) = fs::read_dir(self.root.join("run/socks6")) else {
            return 0;
        };
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with("run-")).count()
    }
}

impl Drop for Installation {
    fn drop(&mut self) {
        // The keeper of a run tidies up behind its command's back.
        let start = Instant::now();
        while !thread::panicking() && self.run_folders() > 0 && start.elapsed() < LIMIT {
            thread::sleep(Duration::from_millis(10));
        }
        drop(fs::remove_dir_all(&self.root));
    }
}

/// What std has without a bound.
pub(crate) trait Bounded {
    /// Runs to its end, and until nobody holds stdout and stderr any more.
    fn bounded(&mut self) -> Output;
}

impl Bounded for Command {
    fn bounded(&mut self) -> Output {
        let child = self
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let pid = child.id();
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || sender.send(child.wait_with_output()));
        let Ok(output) = receiver.recv_timeout(LIMIT) else {
            panic!("{self:?} (pid {pid}) or a child of it does not end");
        };
        output.unwrap()
    }
}

/// All that comes before the end.
pub(crate) fn read_all(mut from: impl Read + Send + 'static) -> String {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut text = String::new();
        sender.send(from.read_to_string(&mut text).map(|_| text))
    });
    receiver
        .recv_timeout(LIMIT)
        .expect("an end in time")
        .unwrap()
}

/// A process that ends with the test, however that ends.
pub(crate) struct Running(pub(crate) Child);

impl Running {
    pub(crate) fn pid(&self) -> i32 {
        self.0.id().try_into().unwrap()
    }

    pub(crate) fn end(mut self) -> ExitStatus {
        let mut status = None;
        await_that("the process's end", || {
            status = self.0.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

pub(crate) fn await_that(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < LIMIT, "not in time: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// The state letter of proc(5); none once the process is gone and reaped.
pub(crate) fn state(pid: i32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

pub(crate) fn is_running(pid: i32) -> bool {
    state(pid).is_some_and(|state| state != 'Z')
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// One that this very process has loaded, other than libc.
fn some_library() -> PathBuf {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let mut paths = maps
        .lines()
        .filter_map(|line| line.split_whitespace().last());
    let path = paths
        .find(|path| path.contains("libgcc_s.so"))
        .expect("Rust links libgcc_s");
    Path::new(path).to_owned()
}
