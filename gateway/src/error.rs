//! What can go wrong, split by who is at fault, and what the client is told about it.
//! [`ServeError::rep`] and [`rep_of`] are the one table from errors to REP; socks-client's errno.rs
//! is the same table read the other way.

use std::io;
use std::net::SocketAddr;

use socks_wire::{Cmd, HandshakeError, Rep};

use crate::dial::DialError;
use crate::log::LogError;
use crate::logins::Unjudged;
use crate::policy::Denial;
use crate::proxy::ProxyError;
use crate::resolve::ResolveError;
use crate::rules::DeniedBy;
use crate::tls::Broken;

/// Why the gateway does not start, or stops.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A listener cannot be had.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// As it was configured.
        address: SocketAddr,
        /// What the kernel said.
        error: io::Error,
    },
    /// The log file cannot be opened.
    #[error(transparent)]
    Log(#[from] LogError),
    /// Not even the first thread of a listener can be started.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
    /// The process cannot become this user's.
    #[error("cannot become user {0}: {1}")]
    User(String, io::Error),
    /// The kernel has Landlock, and refuses.
    #[error("no sandbox, which sandbox = false under [process] does without: {0}")]
    Sandbox(landlock::RulesetError),
    /// The kernel has seccomp, and refuses.
    #[error("no sandbox, which sandbox = false under [process] does without: {0}")]
    Calls(seccompiler::Error),
    /// The handlers of SIGTERM and SIGINT cannot be installed.
    #[error("cannot handle signals: {0}")]
    Signals(io::Error),
}

/// Why a client got no relay.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServeError {
    // The client's doing.
    #[error("{0}")]
    Handshake(HandshakeError),
    #[error("{0}")]
    Login(#[source] Unjudged),
    #[error("no complete request in time")]
    HandshakeDeadline,
    #[error("client has gone away")]
    ClientGone,
    /// Neither told nor served, while others came.
    #[error("no complete request, and others have come")]
    GaveWay,
    #[error("{0}")]
    Proxy(ProxyError),
    #[error("{0}")]
    Tls(Broken),
    #[error("{0} is not supported")]
    Command(Cmd),
    #[error("RESOLVE_PTR of what is no address")]
    NotAnAddress,
    // The operator's rules.
    #[error("client is not allowed")]
    Client,
    #[error("client has as many relays as it may have")]
    ClientRelays,
    #[error("user has as many relays as it may have")]
    UserRelays,
    #[error("rule {0} has as many relays as it may have")]
    RuleRelays(String),
    #[error("destination is not allowed: {0}")]
    Denied(Denial, Option<SocketAddr>),
    #[error("{}", match &.0.0 {
        Some(rule) => format!("denied by rule {rule}"),
        None => "no rule allows it".to_owned(),
    })]
    Rule(DeniedBy, Option<SocketAddr>),
    /// RFC 3089 §4: "the loop of relaying" that a chain of gateways can become.
    #[error("it has come through {0} gateways, which is a loop")]
    Loop(u8),
    // The next gateway's.
    #[error("upstream {0}: {1}")]
    Upstream(String, String),
    #[error("upstream {0}: {1}")]
    Refused(String, Rep),
    // The destination's, or the network's on the way there.
    #[error("{0}")]
    Resolve(#[source] ResolveError),
    /// Of RESOLVE alone, which has a REP to tell it from a name that does not exist.
    #[error("name has no address")]
    NoAddress,
    #[error("{0}")]
    Dial(#[source] io::Error, SocketAddr),
}

impl ServeError {
    /// What the client is told; `None` if it is not listening, or has been told by the handshake.
    pub(crate) fn rep(&self) -> Option<Rep> {
        match self {
            Self::Handshake(_)
            | Self::Login(_)
            | Self::HandshakeDeadline
            | Self::ClientGone
            | Self::GaveWay
            | Self::Proxy(_)
            | Self::Tls(_)
            | Self::Client
            | Self::ClientRelays => None,
            Self::Command(_) => Some(Rep::COMMAND_NOT_SUPPORTED),
            // To RESOLVE: there is no address of a type that could be told.
            Self::NotAnAddress | Self::NoAddress => Some(Rep::ADDRESS_TYPE_NOT_SUPPORTED),
            Self::Denied(..) | Self::Rule(..) => Some(Rep::CONNECTION_NOT_ALLOWED_BY_RULESET),
            // A shim makes EHOSTUNREACH of 04 and ECONNABORTED of 01. A name that does not exist
            // will not exist in a second either; a name server that does not answer is this
            // server's own trouble, which says nothing about the host and may pass.
            Self::Resolve(ResolveError::Unknown | ResolveError::NoAddress) => {
                Some(Rep::HOST_UNREACHABLE)
            }
            // 02 would be for ever; one relay less, and this one can be had.
            Self::UserRelays | Self::RuleRelays(_) => Some(Rep::GENERAL_SOCKS_SERVER_FAILURE),
            Self::Resolve(_) => Some(Rep::GENERAL_SOCKS_SERVER_FAILURE),
            Self::Dial(error, _) => Some(rep_of(error)),
            // By its name, though most servers say it of silence.
            Self::Loop(_) => Some(Rep::TTL_EXPIRED),
            Self::Upstream(..) => Some(Rep::GENERAL_SOCKS_SERVER_FAILURE),
            Self::Refused(_, rep) => Some(*rep),
        }
    }

    /// Whether a reply of ours is on its way to the client, and must not be lost to a reset.
    pub(crate) fn is_told(&self) -> bool {
        matches!(self, Self::Handshake(_) | Self::Login(_) | Self::Tls(_)) || self.rep().is_some()
    }

    /// The destination's address that the error is about, if one is.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Denied(_, address) | Self::Rule(_, address) => *address,
            Self::Dial(_, address) => Some(*address),
            _ => None,
        }
    }

    /// One word for the log.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::Handshake(HandshakeError::WrongPassword(_)) => "wrong-password",
            Self::Handshake(HandshakeError::NoAcceptableMethod) => "no-acceptable-method",
            Self::Handshake(_) => "handshake-failed",
            Self::Login(Unjudged::TooManyFailures) => "too-many-wrong-passwords",
            Self::Login(_) => "password-not-checked",
            Self::HandshakeDeadline => "handshake-deadline",
            Self::ClientGone => "client-gone",
            Self::GaveWay => "gave-way",
            Self::Proxy(_) => "bad-proxy-header",
            Self::Tls(_) => "tls-failed",
            Self::Command(_) => "command-not-supported",
            Self::Client => "client-not-allowed",
            Self::ClientRelays => "too-many-relays-of-client",
            Self::UserRelays => "too-many-relays-of-user",
            Self::RuleRelays(_) => "too-many-relays-of-rule",
            Self::Denied(..) => "destination-not-allowed",
            Self::Rule(..) => "denied-by-rule",
            Self::NotAnAddress => "not-an-address",
            Self::Resolve(ResolveError::Unknown) => "unknown-name",
            Self::Resolve(ResolveError::NoAddress) | Self::NoAddress => "no-address",
            Self::Resolve(ResolveError::Stalled) => "too-many-look-ups",
            Self::Resolve(_) => "resolver-failed",
            Self::Dial(..) => "dial-failed",
            Self::Loop(_) => "loop",
            Self::Upstream(..) => "upstream-failed",
            Self::Refused(..) => "refused-by-upstream",
        }
    }
}

impl From<DialError> for ServeError {
    fn from(error: DialError) -> Self {
        match error {
            DialError::ClientGone => Self::ClientGone,
            DialError::Failed(error, address) => Self::Dial(error, address),
        }
    }
}

/// REP for the error of a connect(2).
pub(crate) fn rep_of(error: &io::Error) -> Rep {
    match error.raw_os_error() {
        // A reset that has come before we know of the connection: it died in the listener's queue, and the listener with it.
        Some(libc::ECONNREFUSED | libc::ECONNRESET) => Rep::CONNECTION_REFUSED,
        // 06 is TTL EXPIRED by its name; it is what servers say of a destination that is silent.
        Some(libc::ETIMEDOUT) => Rep::TTL_EXPIRED,
        Some(libc::EHOSTUNREACH | libc::EHOSTDOWN) => Rep::HOST_UNREACHABLE,
        // A family that the host does not have is a network that it cannot reach.
        Some(libc::ENETUNREACH | libc::ENETDOWN | libc::EAFNOSUPPORT) => Rep::NETWORK_UNREACHABLE,
        // A packet filter on the gateway: a ruleset too.
        Some(libc::EACCES | libc::EPERM) => Rep::CONNECTION_NOT_ALLOWED_BY_RULESET,
        // Our own trouble: out of descriptors, memory, or local ports (EADDRNOTAVAIL).
        _ => Rep::GENERAL_SOCKS_SERVER_FAILURE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_errno_of_connect_has_its_rep() {
        let rows = [
            (libc::EACCES, 0x02),
            (libc::EPERM, 0x02),
            (libc::ENETUNREACH, 0x03),
            (libc::ENETDOWN, 0x03),
            (libc::EAFNOSUPPORT, 0x03),
            (libc::EADDRNOTAVAIL, 0x01),
            (libc::EHOSTUNREACH, 0x04),
            (libc::EHOSTDOWN, 0x04),
            (libc::ECONNREFUSED, 0x05),
            (libc::ECONNRESET, 0x05),
            (libc::ETIMEDOUT, 0x06),
            (libc::EMFILE, 0x01),
            (libc::ENOMEM, 0x01),
        ];
        for (errno, rep) in rows {
            assert_eq!(
                rep_of(&io::Error::from_raw_os_error(errno)),
                Rep(rep),
                "errno {errno}"
            );
        }
    }

    #[test]
    fn each_failure_tells_the_client_what_it_can_use() {
        let refused = || io::Error::from_raw_os_error(libc::ECONNREFUSED);
        let address = SocketAddr::from(([192, 0, 2, 1], 80));
        let rows = [
            (ServeError::Command(Cmd::BIND), Some(0x07)),
            (ServeError::Denied(Denial::Loopback, None), Some(0x02)),
            (ServeError::Resolve(ResolveError::Unknown), Some(0x04)),
            (ServeError::Resolve(ResolveError::NoAddress), Some(0x04)),
            (ServeError::NoAddress, Some(0x08)),
            (ServeError::Resolve(ResolveError::Temporary), Some(0x01)),
            (
                ServeError::Resolve(ResolveError::System(refused())),
                Some(0x01),
            ),
            (ServeError::Dial(refused(), address), Some(0x05)),
            (ServeError::Rule(DeniedBy(None), None), Some(0x02)),
            (ServeError::Loop(8), Some(0x06)),
            (
                ServeError::Upstream(String::new(), String::new()),
                Some(0x01),
            ),
            (ServeError::Refused(String::new(), Rep(0x5e)), Some(0x5e)),
            (ServeError::ClientGone, None),
            (
                ServeError::Handshake(HandshakeError::WrongPassword(1)),
                None,
            ),
        ];
        for (error, rep) in rows {
            assert_eq!(error.rep(), rep.map(Rep), "{error}");
        }
    }
}
