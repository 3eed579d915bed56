//! `ServerHandshake`: the client's mirror image, for SOCKS5, 4 and 4a, told apart by the first octet.
//! Who may do what is not decided here: the machine asks, at `Authenticate` and at `Request`.

use core::{
    fmt,
    net::{IpAddr, Ipv4Addr},
};

use crate::{
    Address, Bound, Cmd, Credentials, Destination, Greeting, HandshakeError, Method, Parsed, Rep,
    Reply, Request, Selection, Status, WireError, method,
    v4::{self, UserId},
    write::Writer,
};

/// The version of the protocol that a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Version {
    /// SOCKS4: IPv4 addresses only.
    V4,
    /// SOCKS4a: the same with names.
    V4a,
    /// SOCKS5.
    V5,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "SOCKS4",
            Self::V4a => "SOCKS4a",
            Self::V5 => "SOCKS5",
        })
    }
}

/// Which authentication method a server takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerMethods {
    /// NO AUTHENTICATION REQUIRED.
    NoAuthentication,
    /// USERNAME/PASSWORD, and nothing else: SOCKS4, which knows no password, is refused.
    UsernamePassword,
}

/// What the handshake wants now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "there is no heap to put the request in"
)]
pub enum ServerStep<'a> {
    /// Send this, then call [`ServerHandshake::sent`] with how many octets went out.
    Send(&'a [u8]),
    /// Call [`ServerHandshake::received`]: first with octets that it left over earlier, if any, else
    /// with newly received ones.
    Receive,
    /// Judge these and call [`ServerHandshake::authenticated`].
    Authenticate(Credentials<'a>),
    /// The handshake's last step. What is left over, and whatever the client sends from now on,
    /// belongs to the destination; the answer is made by [`encode_reply`].
    Request(ServerRequest),
    /// The handshake's last step. The client has been told where the RFC has a word for it; close.
    Fail(HandshakeError),
}

/// What a client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerRequest {
    /// The version in which the client speaks and is to be answered.
    pub version: Version,
    /// CMD: one that the protocol knows; whether the server does it is the server's to say.
    pub cmd: Cmd,
    /// DST.ADDR and DST.PORT.
    pub destination: Destination,
    /// USERID of SOCKS4, which proves nothing; empty in SOCKS5.
    pub user_id: UserId,
}

/// The server's side of a handshake.
#[derive(Clone)]
pub struct ServerHandshake {
    methods: ServerMethods,
}

impl ServerHandshake {
    /// A handshake of which nothing is received yet.
    #[must_use]
    pub fn new(methods: ServerMethods) -> Self {
        Self { methods }
    }

    /// What is wanted now. Changes nothing: asked twice, it says the same.
    #[must_use]
    pub fn step(&self) -> ServerStep<'_> {
        todo!()
    }

    /// After [`ServerStep::Send`]: this many octets of it went out, from its beginning. Without
    /// effect at another step.
    pub fn sent(&mut self, len_octets: usize) {
        todo!()
    }

    /// After [`ServerStep::Receive`]: takes octets of the message that is due and gives how many it
    /// took. It never takes one beyond that message, so what the client sent at once behind it is
    /// left over: to be handed in again at the next `Receive`, or early data for the destination if
    /// [`ServerStep::Request`] comes first. Takes nothing at another step.
    pub fn received(&mut self, octets: &[u8]) -> usize {
        todo!()
    }

    /// After [`ServerStep::Authenticate`]: whether the credentials are right. Without effect at
    /// another step.
    pub fn authenticated(&mut self, ok: bool) {
        todo!()
    }
}

impl fmt::Debug for ServerHandshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerHandshake").finish_non_exhaustive()
    }
}

/// The reply to a request, in the client's own version, and its length.
///
/// SOCKS4 knows two results, 5A for [`Rep::SUCCEEDED`] and 5B for all others, and four octets of
/// address: 0.0.0.0 stands for a `bound` that is not IPv4.
///
/// # Errors
/// [`WireError::NoRoom`].
pub fn encode_reply(
    version: Version,
    rep: Rep,
    bound: &Bound,
    buf: &mut [u8],
) -> Result<usize, WireError> {
    match version {
        Version::V5 => Reply { rep, bound: *bound }.encode(buf),
        Version::V4 | Version::V4a => {
            let cd = if rep == Rep::SUCCEEDED {
                v4::Cd::GRANTED
            } else {
                v4::Cd::REJECTED_OR_FAILED
            };
            let ip = match bound.address {
                Address::Ip(ip) => match ip.to_canonical() {
                    IpAddr::V4(ip) => ip,
                    IpAddr::V6(_) => Ipv4Addr::UNSPECIFIED,
                },
                Address::Fqdn(_) => Ipv4Addr::UNSPECIFIED,
            };
            v4::Reply {
                cd,
                port: bound.port,
                ip,
            }
            .encode(buf)
        }
    }
}
