//! A server process of a test: started, waited for, its log read, ended with the test.

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};

use crate::wait::until;

/// How long a server may take to be there; plenty, as the machine may be busy with other tests.
const START: Duration = Duration::from_secs(20);

/// A server process. Dropped, it is killed with its process group.
#[derive(Debug)]
pub struct Service {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Service {
    /// Starts a server whose stdout and stderr go to one log file in `dir`.
    #[must_use]
    pub fn start(name: &str, command: &mut Command, dir: &Path) -> Self {
        static STARTED: AtomicUsize = AtomicUsize::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let log = dir.join(format!("{name}-{number}.log"));
        let out = File::create(&log).unwrap();
        let err = out.try_clone().unwrap();
        let child = command
            .stdout(out)
            .stderr(err)
            .process_group(0)
            .spawn()
            .expect(name);
        Self {
            name: name.to_owned(),
            child,
            log,
        }
    }

    /// Waits until the log says `text`; panics with the log if the server ends before or says nothing of the kind.
    pub fn wait_for_log(&mut self, text: &str) {
        self.wait_until(&format!("{text:?} in the log"), |log| {
            log.contains(text).then_some(())
        });
    }

    /// Waits until `ready` gives a value for what the log says so far.
    pub fn wait_until<T>(&mut self, what: &str, mut ready: impl FnMut(&str) -> Option<T>) -> T {
        let Self { name, child, log } = self;
        until(START, &format!("{name}: {what}"), || {
            let said = read(log);
            let value = ready(&said);
            if value.is_none() {
                let ended = child.try_wait().unwrap();
                assert!(
                    ended.is_none(),
                    "{name} ended at once, {}:\n{said}",
                    ended.unwrap()
                );
            }
            value
        })
    }

    /// All that it wrote so far.
    #[must_use]
    pub fn log(&self) -> String {
        read(&self.log)
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal to it and to what it started.
    pub fn signal(&self, signal: Signal) {
        if let Some(group) = Pid::from_raw(self.child.id().cast_signed()) {
            _ = kill_process_group(group, signal); // it may be gone
        }
    }

    /// Kills it without a warning.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.wait();
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        let Self { name, child, .. } = self;
        until(START, &format!("the end of {name}"), || {
            child.try_wait().unwrap()
        })
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
        drop(self.child.wait());
    }
}

fn read(log: &Path) -> String {
    String::from_utf8_lossy(&fs::read(log).unwrap_or_default()).into_owned()
}
