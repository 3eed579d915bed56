//! A program under the shim, or the same program without it: what it said, how it ended, how long it took.

use std::ffi::{OsStr, OsString};
use std::fmt::{Display, Formatter, Result as FmtResult};
use std::fs::{self, File};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::artefacts::artefacts;
use crate::netns::Namespace;

/// The environment that puts a program under libsocks6.so.
#[derive(Debug, Clone)]
pub struct Shim {
    environment: Vec<(String, OsString)>,
    log: PathBuf,
}

impl Shim {
    pub(crate) fn new(dir: &Path, gateways: &str) -> Self {
        let log = dir.join("shim.log");
        let shim = Self {
            environment: Vec::new(),
            log: log.clone(),
        };
        shim.with("LD_PRELOAD", &artefacts().shim)
            .with("SOCKS6_GATEWAY", gateways)
            .with("SOCKS6_TABLE", dir.join("table"))
            .with("SOCKS6_LOG", format!("info,file:{}", log.display()))
    }

    /// Sets, or sets anew, a variable.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.environment.retain(|(known, _)| known != name);
        self.environment
            .push((name.to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Its variables as words for env(1), which has to stand between ip(8) and the program: in the environment of the whole
    /// command LD_PRELOAD would reach ip first.
    #[must_use]
    pub fn variables(&self) -> Vec<OsString> {
        self.environment.iter().map(assignment).collect()
    }

    /// What the shims of this topology have logged.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

fn assignment((name, value): &(String, OsString)) -> OsString {
    let mut word = OsString::from(format!("{name}="));
    word.push(value);
    word
}

/// A program about to run in a namespace.
#[derive(Debug)]
pub struct Victim<'t> {
    namespace: &'t Namespace,
    dir: &'t Path,
    argv: Vec<OsString>,
    environment: Vec<(String, OsString)>,
    limit: Duration,
}

/// A program that runs.
#[derive(Debug)]
pub struct RunningVictim {
    group: Option<Pid>,
    started: Instant,
    limit: Duration,
    /// Its end, from the thread that waits for it: whoever runs several finds out about each when it happens.
    end: Receiver<(ExitStatus, Instant)>,
    stdout: PathBuf,
    stderr: PathBuf,
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// With this exit code.
    Exit(i32),
    /// By this signal.
    Signal(i32),
    /// Not by itself: it was killed when its time was up.
    Hung,
}

impl Display for Ending {
    fn fmt(&self, f: &mut Formatter<'_>) -> FmtResult {
        match self {
            Self::Exit(code) => write!(f, "exit {code}"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
            Self::Hung => f.write_str("hung"),
        }
    }
}

/// What a program left behind.
#[derive(Debug)]
pub struct Outcome {
    /// How it ended.
    pub ending: Ending,
    /// Wall time from start to end.
    pub took: Duration,
    /// The file that holds its stdout.
    pub stdout_path: PathBuf,
    /// Its stderr.
    pub stderr: String,
}

impl<'t> Victim<'t> {
    pub(crate) fn new<I, S>(dir: &'t Path, namespace: &'t Namespace, argv: I) -> Self
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        let argv = argv
            .into_iter()
            .map(|word| word.as_ref().to_owned())
            .collect();
        let limit = Duration::from_secs(60);
        Self {
            namespace,
            dir,
            argv,
            environment: Vec::new(),
            limit,
        }
    }

    /// Puts it under the shim.
    #[must_use]
    pub fn shim(mut self, shim: &Shim) -> Self {
        self.environment.extend(shim.environment.iter().cloned());
        self
    }

    /// Sets a variable of its environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.environment
            .push((name.to_owned(), value.as_ref().to_owned()));
        self
    }

    /// How long it may run before it is killed and its end is [`Ending::Hung`]. One minute if nothing is said.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Starts it, in the topology's folder and with no more of the environment than was asked for.
    #[must_use]
    pub fn start(self) -> RunningVictim {
        static STARTED: AtomicUsize = AtomicUsize::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let stdout = self.dir.join(format!("victim-{number}.out"));
        let stderr = self.dir.join(format!("victim-{number}.err"));
        // By env(1), see [`Shim::variables`].
        let mut command = self.namespace.command("/usr/bin/env");
        command
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", self.dir);
        command
            .env("LC_ALL", "C.UTF-8")
            .env("GIT_TERMINAL_PROMPT", "0");
        let mut child = command
            .args(self.environment.iter().map(assignment))
            .args(&self.argv)
            .current_dir(self.dir)
            .stdout(File::create(&stdout).unwrap())
            .stderr(File::create(&stderr).unwrap())
            .process_group(0)
            .spawn()
            .unwrap();
        let (group, started) = (Pid::from_raw(child.id().cast_signed()), Instant::now());
        let (ended, end) = sync_channel(1);
        thread::spawn(move || ended.send((child.wait().unwrap(), Instant::now())));
        RunningVictim {
            group,
            started,
            limit: self.limit,
            end,
            stdout,
            stderr,
        }
    }

    /// Runs it to its end.
    #[must_use]
    pub fn run(self) -> Outcome {
        self.start().finish()
    }
}

impl RunningVictim {
    /// How much it has written to stdout so far.
    #[must_use]
    pub fn stdout_octets(&self) -> u64 {
        fs::metadata(&self.stdout).map_or(0, |file| file.len())
    }

    /// What it has written to stdout so far.
    #[must_use]
    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.stdout).unwrap()).into_owned()
    }

    /// Waits for its end, no longer than its limit.
    #[must_use]
    pub fn finish(self) -> Outcome {
        let left = self.limit.saturating_sub(self.started.elapsed());
        let (ending, took) = match self.end.recv_timeout(left) {
            Ok((status, at)) => (status.into(), at - self.started),
            Err(_) => (Ending::Hung, self.started.elapsed()),
        };
        let stderr = String::from_utf8_lossy(&fs::read(&self.stderr).unwrap()).into_owned();
        Outcome {
            ending,
            took,
            stdout_path: self.stdout.clone(),
            stderr,
        }
    }
}

impl Drop for RunningVictim {
    fn drop(&mut self) {
        // What it started and left running goes too.
        if let Some(group) = self.group {
            _ = kill_process_group(group, Signal::KILL);
        }
    }
}

impl From<ExitStatus> for Ending {
    fn from(status: ExitStatus) -> Self {
        status
            .code()
            .map_or_else(|| Self::Signal(status.signal().unwrap_or(0)), Self::Exit)
    }
}

impl Outcome {
    /// Its stdout as text.
    #[must_use]
    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.stdout_path).unwrap()).into_owned()
    }

    /// Whether it ended with exit code 0.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.ending == Ending::Exit(0)
    }

    /// Panics with all there is to know unless it ended with exit code 0.
    pub fn expect_ok(&self) -> &Self {
        assert!(self.is_ok(), "{self}");
        self
    }
}

impl Display for Outcome {
    fn fmt(&self, f: &mut Formatter<'_>) -> FmtResult {
        let stdout: String = self.stdout().chars().take(2000).collect();
        write!(
            f,
            "{} in {:?}\nstdout: {stdout}\nstderr: {}",
            self.ending, self.took, self.stderr
        )
    }
}
