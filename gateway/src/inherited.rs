//! Listening sockets that somebody else has bound: a service manager (sd_listen_fds(3)), or a predecessor.

use std::env;
use std::net::SocketAddr;
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::process::parent_id;
use std::process;

use rustix::io::{FdFlags, fcntl_setfd};
use rustix::net::{SocketType, getsockname, sockopt};

use crate::sys::process::take;
use crate::upgrade::{Handover, Kind, Report, VARIABLE};

/// sd_listen_fds(3): the first one.
const FIRST: RawFd = 3;

/// What this process was started with.
#[derive(Debug, Default)]
pub struct Inherited {
    /// Served in any case, and their queues outlive this process.
    pub(crate) given: Vec<Passed>,
    /// A predecessor's own: served if they are still configured.
    bound: Vec<Passed>,
    /// A predecessor's listener for those who watch it.
    status: Option<Passed>,
    report: Report,
    is_in_sandbox: bool,
}

/// A socket that listens already.
#[derive(Debug)]
pub(crate) struct Passed {
    pub(crate) socket: OwnedFd,
    /// That it was asked for by; with a port 0 where the kernel has chosen.
    pub(crate) address: SocketAddr,
}

/// Something was passed that cannot be served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("descriptor {0} was passed by {1} and is not a listening TCP socket")]
pub struct InheritedError(RawFd, &'static str);

impl Inherited {
    /// To be called once, before this process opens anything.
    ///
    /// # Errors
    /// If what was passed is of no use here.
    pub fn from_environment() -> Result<Self, InheritedError> {
        let handover = env::var(VARIABLE).ok();
        let handover = handover.and_then(|text| Handover::parse(&text, parent_id()));
        if let Some(handover) = handover {
            return Self::from_predecessor(handover);
        }
        let number = |name| env::var(name).ok()?.parse::<u32>().ok();
        // Variables go from parent to child; descriptors are meant for one process.
        let is_ours = number("LISTEN_PID") == Some(process::id());
        let count = number("LISTEN_FDS").filter(|_| is_ours).unwrap_or(0);
        let numbers = (FIRST..).zip(0..count).map(|(number, _)| number);
        let given = numbers.map(|number| listener(number, "LISTEN_FDS"));
        Ok(Self {
            given: given.collect::<Result<_, _>>()?,
            ..Self::default()
        })
    }

    fn from_predecessor(handover: Handover) -> Result<Self, InheritedError> {
        let mut inherited = Self {
            is_in_sandbox: handover.is_in_sandbox,
            ..Self::default()
        };
        if let Some(pipe) = take(handover.report) {
            fcntl_setfd(&pipe, FdFlags::CLOEXEC).ok();
            inherited.report = Report::to(pipe);
        }
        for (kind, number, address) in handover.listeners {
            let passed = Passed {
                address,
                ..listener(number, VARIABLE)?
            };
            match kind {
                Kind::Given => inherited.given.push(passed),
                Kind::Bound => inherited.bound.push(passed),
                Kind::Status => inherited.status = Some(passed),
            }
        }
        Ok(inherited)
    }

    /// Who wants to hear whether this process gets as far as serving.
    #[must_use]
    pub fn report(&self) -> Report {
        self.report.clone()
    }

    /// The socket for a listener of this address, and whether somebody else goes on listening there.
    pub(crate) fn take(&mut self, address: SocketAddr) -> Option<(Passed, bool)> {
        let at = |list: &[Passed]| list.iter().position(|passed| passed.address == address);
        if let Some(at) = at(&self.given) {
            return Some((self.given.remove(at), true));
        }
        let at = at(&self.bound)?;
        Some((self.bound.remove(at), false))
    }

    pub(crate) fn take_status(&mut self) -> Option<Passed> {
        self.status.take()
    }

    /// Whether a predecessor has confined this process to the files that it needs.
    #[must_use]
    pub fn is_in_sandbox(&self) -> bool {
        self.is_in_sandbox
    }

    /// Where it is to listen whatever the configuration says.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.given.iter().map(|passed| passed.address).collect()
    }
}

fn listener(number: RawFd, by: &'static str) -> Result<Passed, InheritedError> {
    let unfit = InheritedError(number, by);
    let socket = take(number).ok_or_else(|| unfit.clone())?;
    let address = listening_at(&socket).ok_or(unfit)?;
    Ok(Passed { socket, address })
}

/// The address of a listening TCP socket; `None` if it is something else.
fn listening_at(socket: &OwnedFd) -> Option<SocketAddr> {
    // It came without the flag, and is not for any child of ours.
    fcntl_setfd(socket, FdFlags::CLOEXEC).ok()?;
    let is_stream = sockopt::socket_type(socket).ok()? == SocketType::STREAM;
    let is_listening = sockopt::socket_acceptconn(socket).ok()?;
    let address = SocketAddr::try_from(getsockname(socket).ok()?).ok()?;
    (is_stream && is_listening).then_some(address)
}
