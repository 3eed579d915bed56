//! SIGUSR2: a successor takes over the listeners while clients come and go.
//!
//! The binary is started again with the same arguments and the listening sockets themselves, and says on a pipe that it
//! serves, or why it cannot. Until it does, nothing changes here; then this process leaves the listeners to it, whose
//! queues both share, and ends with its last relay.
//!
//! One variable tells the successor all of it. The descriptors keep their numbers: LISTEN_FDS would want them at 3 and
//! following, where the child's end of std's own pipe may be.

use std::env;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags};
use rustix::pipe::{PipeFlags, pipe_with};

use crate::Gateway;
use crate::shutdown::{Event, Events};
use crate::sys;
use crate::wait::poll_until;

/// Words: the predecessor's process id, the descriptor to report to, whether it has a sandbox, and for each listener its [`Kind`].
pub(crate) const VARIABLE: &str = "SOCKS6_GATEWAY_HANDOVER";

/// What a successor reports if all is well.
const SERVING: &str = "serving\n";

/// How long a successor may take to serve. It has only to read its configuration.
const PATIENCE: Duration = Duration::from_secs(30);

/// The command line of this process, to be run again.
#[derive(Debug, Clone)]
pub struct Again {
    binary: PathBuf,
    arguments: Vec<OsString>,
    is_in_sandbox: bool,
}

impl Again {
    /// What this process was started by: the path as it was typed, which may be a link that will lead elsewhere.
    #[must_use]
    pub fn from_environment() -> Self {
        let mut arguments = env::args_os();
        let typed = arguments.next().map(PathBuf::from);
        let typed = typed.filter(|path| path.components().count() > 1);
        let typed = typed.and_then(|path| std::path::absolute(path).ok());
        Self {
            binary: typed
                .or_else(|| env::current_exe().ok())
                .unwrap_or_default(),
            arguments: arguments.collect(),
            is_in_sandbox: false,
        }
    }

    /// A successor will find itself in the sandbox of this process.
    pub fn is_in_sandbox(&mut self, is_in_sandbox: bool) {
        self.is_in_sandbox = is_in_sandbox;
    }

    /// Where a successor's binary is expected.
    #[must_use]
    pub fn binary(&self) -> &Path {
        &self.binary
    }
}

/// The end of the pipe at which a predecessor listens, if there is one. It is told one thing, once.
#[derive(Debug, Clone, Default)]
pub struct Report(Arc<Mutex<Option<File>>>);

impl Report {
    pub(crate) fn to(pipe: OwnedFd) -> Self {
        Self(Arc::new(Mutex::new(Some(pipe.into()))))
    }

    /// Clients are served.
    pub(crate) fn serving(&self) {
        self.tell(SERVING);
    }

    /// This process will not serve.
    pub fn failed(&self, why: &str) {
        self.tell(why);
    }

    fn tell(&self, text: &str) {
        if let Some(mut pipe) = self.0.lock().take() {
            // A predecessor that is gone has nothing left to hand over.
            pipe.write_all(text.as_bytes()).ok();
        }
    }
}

impl Gateway {
    /// Starts a successor; [`Event::Replaced`] or [`Event::NotReplaced`] says what became of it.
    pub(crate) fn upgrade(&self) {
        let Some(again) = self.again.clone() else {
            return;
        };
        let listeners = self.listeners.iter().filter_map(|(listen, listener)| {
            let (socket, is_shared) = listener.to_hand_over()?;
            let kind = if is_shared { Kind::Given } else { Kind::Bound };
            Some((kind, listen.address, socket as Socket))
        });
        let status = self.status.iter().map(|status| {
            let (address, socket) = status.to_hand_over();
            (Kind::Status, address, socket as Socket)
        });
        let sockets = listeners.chain(status).collect();
        let events = self.shared.events.clone();
        // Not by this thread: whoever watches over the service wants to hear from it meanwhile.
        let started = thread::Builder::new()
            .name("upgrade".to_owned())
            .spawn(move || tell(&events, succeed(&again, sockets)));
        if let Err(error) = started {
            tell(&self.shared.events, Err(format!("no thread: {error}")));
        }
    }
}

/// Whatever it is a socket of.
type Socket = Arc<dyn AsRawFd + Send + Sync>;

fn tell(events: &Events, outcome: Result<u32, String>) {
    match outcome {
        Ok(pid) => events.tell(Event::Replaced(pid)),
        Err(why) => {
            tracing::error!("not upgraded, and nothing has changed: {why}");
            events.tell(Event::NotReplaced);
        }
    }
}

/// The process id of a successor that serves.
fn succeed(again: &Again, sockets: Vec<(Kind, SocketAddr, Socket)>) -> Result<u32, String> {
    let (ours, theirs) =
        pipe_with(PipeFlags::CLOEXEC).map_err(|error| format!("no pipe: {error}"))?;
    let (parent, report_to) = (process::id(), theirs.as_raw_fd());
    let mut words = format!("{parent} {report_to} {}", again.is_in_sandbox);
    let mut passed = vec![theirs.as_raw_fd()];
    for (kind, address, socket) in &sockets {
        let number = socket.as_raw_fd();
        // Into a String: cannot fail.
        write!(words, " {}={number}@{address}", kind.word()).ok();
        passed.push(number);
    }
    let mut command = Command::new(&again.binary);
    command.args(&again.arguments).env(VARIABLE, words);
    // These were meant for this process alone.
    for name in ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "WATCHDOG_PID"] {
        command.env_remove(name);
    }
    sys::process::keep_open(&mut command, passed);
    let mut child = command
        .spawn()
        .map_err(|error| format!("cannot start {}: {error}", again.binary.display()))?;
    drop(theirs);
    drop(sockets);
    let said = report(&mut File::from(ours));
    match said.as_deref() {
        Some(SERVING) => Ok(child.id()),
        Some(why) => Err(format!(
            "the successor: {}{}",
            why.trim_end(),
            end_of(&mut child)
        )),
        None => {
            child.kill().ok();
            end_of(&mut child);
            Err(format!("the successor does not serve after {PATIENCE:?}"))
        }
    }
}

/// All that a successor says until it closes the pipe; `None` if it does not in time.
fn report(pipe: &mut File) -> Option<String> {
    let end = Instant::now().checked_add(PATIENCE);
    let mut said = Vec::new();
    let mut octets = [0; 1024];
    loop {
        let mut fds = [PollFd::from_borrowed_fd(pipe.as_fd(), PollFlags::IN)];
        if poll_until(&mut fds, end).unwrap_or(0) == 0 {
            return None;
        }
        match pipe.read(&mut octets).ok()? {
            0 => return Some(String::from_utf8_lossy(&said).into_owned()),
            received => said.extend(octets.get(..received)?),
        }
    }
}

fn end_of(child: &mut Child) -> String {
    match child.wait() {
        Ok(status) => format!(" ({status})"),
        Err(error) => format!(" ({error})"),
    }
}

/// What a listener is to the successor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Given to the service.
    Given,
    /// This process's own.
    Bound,
    /// For those who watch it.
    Status,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Given, Self::Bound, Self::Status];

    fn word(self) -> &'static str {
        match self {
            Self::Given => "given",
            Self::Bound => "bound",
            Self::Status => "status",
        }
    }

    fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.word() == word)
    }
}

/// What a predecessor has put into [`VARIABLE`], for the child that it was meant for.
pub(crate) struct Handover {
    pub(crate) report: RawFd,
    pub(crate) is_in_sandbox: bool,
    /// What it is, its number, and the address that it was asked for by.
    pub(crate) listeners: Vec<(Kind, RawFd, SocketAddr)>,
}

impl Handover {
    /// `None` if it is malformed or a grandparent's.
    pub(crate) fn parse(text: &str, parent: u32) -> Option<Self> {
        let mut words = text.split(' ');
        (words.next()?.parse() == Ok(parent)).then_some(())?;
        let report = words.next()?.parse().ok()?;
        let is_in_sandbox = words.next()?.parse().ok()?;
        let listeners = words.map(|word| {
            let (kind, rest) = word.split_once('=')?;
            let (number, address) = rest.split_once('@')?;
            Some((
                Kind::parse(kind)?,
                number.parse().ok()?,
                address.parse().ok()?,
            ))
        });
        Some(Self {
            report,
            is_in_sandbox,
            listeners: listeners.collect::<Option<_>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handover_is_for_one_child() {
        let text = "7 4 true bound=5@[::1]:0 given=6@192.0.2.1:1080 status=7@127.0.0.1:9180";
        let handover = Handover::parse(text, 7).unwrap();
        assert_eq!((handover.report, handover.is_in_sandbox), (4, true));
        let listeners = [
            (Kind::Bound, 5, "[::1]:0".parse().unwrap()),
            (Kind::Given, 6, "192.0.2.1:1080".parse().unwrap()),
            (Kind::Status, 7, "127.0.0.1:9180".parse().unwrap()),
        ];
        assert_eq!(handover.listeners, listeners);
        assert!(Handover::parse(text, 8).is_none());
        assert!(Handover::parse("7 4 false", 7).is_some());
        for broken in [
            "",
            "7",
            "7 x",
            "7 4 true bound=5",
            "7 4 true bound=x@[::1]:0",
            "7 4 true found=5@[::1]:0",
            "7 4",
        ] {
            assert!(Handover::parse(broken, 7).is_none(), "{broken}");
        }
    }
}
