//! One network namespace: made by `ip netns`, with its own resolv.conf, hosts and nsswitch.conf, gone when dropped.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Once;
use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

pub(crate) const IP: &str = "/usr/sbin/ip";
const MADE: &str = "/run/netns";
const ETC: &str = "/etc/netns";

/// A network namespace of ours, named `s6-PID-N-ROLE` after the process that made it, so that what a killed process left
/// behind is known by its dead pid.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes an empty namespace. Its resolver asks nobody until [`Namespace::etc`] says whom.
    pub(crate) fn new(instance: usize, role: &str) -> Self {
        static STALE: Once = Once::new();
        STALE.call_once(remove_stale);
        let name = format!("s6-{}-{instance}-{role}", std::process::id());
        ip(&["netns", "add", &name]).unwrap();
        let namespace = Self { name };
        fs::create_dir_all(namespace.etc_dir()).unwrap();
        namespace.etc(
            "nsswitch.conf",
            "passwd: files\nhosts: files dns\nservices: files\n",
        );
        namespace.etc("resolv.conf", "");
        namespace.etc("hosts", "127.0.0.1 localhost\n::1 localhost\n");
        // A login by key is refused for a locked account, and root's often is: sshd sees this one instead.
        namespace.etc("shadow", "root:*:19000:0:99999:7:::\nsshd:!:19000::::::\n");
        namespace
    }

    /// Its name, as `ip netns` knows it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Writes a file that programs of this namespace see as `/etc/FILE`.
    pub fn etc(&self, file: &str, text: &str) {
        fs::write(self.etc_dir().join(file), text).unwrap();
    }

    fn etc_dir(&self) -> PathBuf {
        Path::new(ETC).join(&self.name)
    }

    /// A command that will run in this namespace, by `ip netns exec`: the child's pid is the program's own.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(IP);
        command
            .args(["netns", "exec", &self.name, program])
            .stdin(Stdio::null());
        command
    }

    /// Runs `work` on a thread inside this namespace. A socket made there stays in the namespace wherever it is used.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let namespace = File::open(Path::new(MADE).join(&self.name)).unwrap();
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                    .expect("setns");
                work()
            });
            inside
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Sets a value under /proc/sys/net, by its path there; one that this kernel has not is no matter.
    pub fn sysctl(&self, settings: &[(&str, &str)]) {
        self.inside(|| {
            for (path, value) in settings {
                drop(fs::write(Path::new("/proc/sys/net").join(path), value));
            }
        });
    }

    /// Feeds lines to `ip -batch` in this namespace.
    pub(crate) fn ip(&self, lines: &str) {
        ip_batch(&["-n", &self.name], lines);
    }

    /// The processes that run in it.
    #[must_use]
    pub fn pids(&self) -> Vec<String> {
        pids(&self.name)
    }

    /// Asks the kernel for a route to an address, by `ip route get`.
    ///
    /// # Errors
    /// What the kernel says where it has none.
    pub fn route_to(&self, address: std::net::IpAddr) -> Result<String, String> {
        let asked = Command::new(IP)
            .args(["-n", &self.name, "route", "get", &address.to_string()])
            .output()
            .unwrap();
        let text = |octets: &[u8]| String::from_utf8_lossy(octets).trim().to_owned();
        if asked.status.success() {
            Ok(text(&asked.stdout))
        } else {
            Err(text(&asked.stderr))
        }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        remove(&self.name);
    }
}

fn ip(arguments: &[&str]) -> Result<(), String> {
    let done = Command::new(IP).args(arguments).output().unwrap();
    if done.status.success() {
        return Ok(());
    }
    let why = String::from_utf8_lossy(&done.stderr);
    Err(format!("ip {}: {}", arguments.join(" "), why.trim()))
}

/// Whether namespaces can be made here, by making one and entering it.
pub(crate) fn attempt() -> Result<(), String> {
    let name = format!("s6-{}-attempt", std::process::id());
    let made = ip(&["netns", "add", &name]).and_then(|()| ip(&["netns", "exec", &name, "true"]));
    remove(&name);
    made
}

pub(crate) fn ip_batch(options: &[&str], lines: &str) {
    let mut ip = Command::new(IP)
        .args(options)
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    ip.stdin
        .take()
        .unwrap()
        .write_all(lines.as_bytes())
        .unwrap();
    let done = ip.wait_with_output().unwrap();
    assert!(
        done.status.success(),
        "ip -batch: {}, given:\n{lines}",
        String::from_utf8_lossy(&done.stderr)
    );
}

fn pids(namespace: &str) -> Vec<String> {
    let done = Command::new(IP)
        .args(["netns", "pids", namespace])
        .output()
        .unwrap();
    String::from_utf8_lossy(&done.stdout)
        .split_whitespace()
        .map(str::to_owned)
        .collect()
}

/// Kills whatever still runs in a namespace and takes the namespace away. Errors are no matter: two may be at it.
fn remove(name: &str) {
    for pid in pids(name)
        .iter()
        .flat_map(|pid| pid.parse())
        .filter_map(Pid::from_raw)
    {
        _ = kill_process(pid, Signal::KILL);
    }
    drop(Command::new(IP).args(["netns", "del", name]).output());
    drop(fs::remove_dir_all(Path::new(ETC).join(name)));
    drop(fs::remove_dir(ETC)); // goes only if nobody else has a folder there
}

/// Removes what processes that no longer live have left: namespaces, and their folders of files.
fn remove_stale() {
    for list in [Path::new(MADE), Path::new(ETC), &std::env::temp_dir()] {
        for entry in fs::read_dir(list).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let maker = name
                .strip_prefix("s6-")
                .and_then(|rest| rest.split('-').next());
            if maker.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
                remove(&name);
                drop(fs::remove_dir_all(entry.path()));
            }
        }
    }
}
