//! Listening sockets that somebody else has bound: a service manager (sd_listen_fds(3)).

use std::env;
use std::net::SocketAddr;
use std::os::fd::{OwnedFd, RawFd};
use std::process;

use rustix::io::{FdFlags, fcntl_setfd};
use rustix::net::{SocketType, getsockname, sockopt};

use crate::sys::process::take;

/// sd_listen_fds(3): the first one.
const FIRST: RawFd = 3;

/// What this process was started with.
#[derive(Debug, Default)]
pub struct Inherited {
    /// Served in any case, and their queues outlive this process.
    pub(crate) given: Vec<Passed>,
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
        let number = |name| env::var(name).ok()?.parse::<u32>().ok();
        // Variables go from parent to child; descriptors are meant for one process.
        let is_ours = number("LISTEN_PID") == Some(process::id());
        let count = number("LISTEN_FDS").filter(|_| is_ours).unwrap_or(0);
        let numbers = (FIRST..).zip(0..count).map(|(number, _)| number);
        let given = numbers.map(|number| {
            let unfit = InheritedError(number, "LISTEN_FDS");
            let socket = take(number).ok_or_else(|| unfit.clone())?;
            let address = listening_at(&socket).ok_or(unfit)?;
            Ok(Passed { socket, address })
        });
        Ok(Self {
            given: given.collect::<Result<_, _>>()?,
        })
    }

    /// The socket for a listener of this address, and whether somebody else goes on listening there.
    pub(crate) fn take(&mut self, address: SocketAddr) -> Option<(Passed, bool)> {
        let at = self
            .given
            .iter()
            .position(|passed| passed.address == address)?;
        Some((self.given.swap_remove(at), true))
    }

    /// Where it is to listen whatever the configuration says.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.given.iter().map(|passed| passed.address).collect()
    }
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
