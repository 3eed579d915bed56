//! `ServerHandshake`: the client's mirror image, for SOCKS5, 4 and 4a, told apart by the first octet.
//! Who may do what is not decided here: the machine asks, at `Authenticate` and at `Request`.

use core::{
    fmt,
    net::{IpAddr, Ipv4Addr},
};

use crate::{
    Address, Bound, Cmd, Credentials, Destination, Greeting, HandshakeError, Method, Parsed, Rep,
    Reply, Request, Selection, Status, WireError,
    v4::{self, UserId},
    write::{Writer, copy},
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

/// The server's side of a handshake. It takes about half a KiB, most of it a buffer for the message
/// that is being received.
#[derive(Clone)]
pub struct ServerHandshake {
    methods: ServerMethods,
    state: State,
    /// The client's message, or our answer to it.
    buf: [u8; BUF_OCTETS],
    /// What the greeting said of the gateways before us.
    hops: u8,
    /// Octets of `buf` in use; of a client's message, perhaps with some of what followed it.
    len: usize,
}

/// The longest message that a client can send.
const BUF_OCTETS: usize = v4::Request::MOST_OCTETS;
const _: () = assert!(
    BUF_OCTETS >= Greeting::MOST_OCTETS
        && BUF_OCTETS >= Credentials::MOST_OCTETS
        && BUF_OCTETS >= Request::MOST_OCTETS
);

#[derive(Debug, Clone, Copy)]
enum State {
    Receive(Due),
    /// `buf` begins with the credentials, whole.
    Authenticate,
    /// `buf` holds the answer, of which `at` octets are sent.
    Send {
        at: usize,
        then: Then,
    },
    /// `buf` begins with the request, whole.
    Request,
    Fail(HandshakeError),
}

/// The message that is to come next.
#[derive(Debug, Clone, Copy)]
enum Due {
    /// The greeting of SOCKS5, or the request of SOCKS4.
    First,
    Credentials,
    Request,
}

#[derive(Debug, Clone, Copy)]
enum Then {
    Receive(Due),
    Fail(HandshakeError),
}

/// What follows from a message.
enum Verdict {
    Go(State),
    Say(Answer, Then),
}

enum Answer {
    Selection(Method),
    Status(Status),
    Refusal(Version, Rep),
}

impl ServerHandshake {
    /// A handshake of which nothing is received yet.
    #[must_use]
    pub fn new(methods: ServerMethods) -> Self {
        Self {
            methods,
            state: State::Receive(Due::First),
            buf: [0; BUF_OCTETS],
            hops: 0,
            len: 0,
        }
    }

    /// Through how many gateways the client's request has come, as far as they say so: [`Method::hops`].
    #[must_use]
    pub fn hops(&self) -> u8 {
        self.hops
    }

    /// What is wanted now. Changes nothing: asked twice, it says the same.
    #[must_use]
    pub fn step(&self) -> ServerStep<'_> {
        let whole = match self.state {
            State::Receive(_) => return ServerStep::Receive,
            State::Send { at, .. } => {
                return ServerStep::Send(self.octets().get(at..).unwrap_or_default());
            }
            State::Fail(error) => return ServerStep::Fail(error),
            State::Authenticate => {
                Credentials::parse(self.octets()).map(|it| it.map(ServerStep::Authenticate))
            }
            State::Request if self.speaks_v4() => {
                request_v4(self.octets()).map(|it| it.map(ServerStep::Request))
            }
            State::Request => request_v5(self.octets()).map(|it| it.map(ServerStep::Request)),
        };
        match whole {
            Ok(Parsed::Whole { message, .. }) => message,
            // Not reached: it was parsed before the state said that it is whole.
            Ok(Parsed::More(_)) => ServerStep::Receive,
            Err(error) => ServerStep::Fail(error.into()),
        }
    }

    /// After [`ServerStep::Send`]: this many octets of it went out, from its beginning. Without
    /// effect at another step.
    pub fn sent(&mut self, len_octets: usize) {
        let State::Send { at, then } = self.state else {
            return;
        };
        let at = at.saturating_add(len_octets);
        self.state = match then {
            _ if at < self.len => State::Send { at, then },
            Then::Receive(due) => {
                self.len = 0;
                State::Receive(due)
            }
            Then::Fail(error) => State::Fail(error),
        };
    }

    /// After [`ServerStep::Receive`]: takes octets of the message that is due and gives how many it
    /// took, at least one of those given. It never takes one beyond that message, so what the client
    /// sent at once behind it is left over: to be handed in again at the next `Receive`, or early
    /// data for the destination if [`ServerStep::Request`] comes first. Takes nothing at another
    /// step.
    pub fn received(&mut self, octets: &[u8]) -> usize {
        let State::Receive(due) = self.state else {
            return 0;
        };
        let had = self.len;
        let taken = self.fill(octets);
        if let Due::First = due {
            self.hops = hops_in(self.octets());
        }
        match self.judge(due) {
            Ok(Parsed::More(_)) => taken,
            Ok(Parsed::Whole {
                message,
                len_octets,
            }) => {
                self.follow(message);
                len_octets.saturating_sub(had)
            }
            Err(error) => {
                self.follow(self.refusal(due, error));
                taken
            }
        }
    }

    /// After [`ServerStep::Authenticate`]: whether the credentials are right. Without effect at
    /// another step.
    pub fn authenticated(&mut self, ok: bool) {
        if let State::Authenticate = self.state {
            let (status, then) = if ok {
                (Status::SUCCESS, Then::Receive(Due::Request))
            } else {
                let error = HandshakeError::WrongPassword(Status::FAILURE.0);
                (Status::FAILURE, Then::Fail(error))
            };
            // No password stays behind in memory.
            self.buf = core::hint::black_box([0; BUF_OCTETS]);
            self.follow(Verdict::Say(Answer::Status(status), then));
        }
    }

    fn octets(&self) -> &[u8] {
        self.buf.get(..self.len).unwrap_or_default()
    }

    fn speaks_v4(&self) -> bool {
        self.octets().first() == Some(&v4::VN)
    }

    /// Adds to `buf` what there is room for. It may go beyond the message: no parser looks there, and
    /// `received` counts only the message.
    fn fill(&mut self, octets: &[u8]) -> usize {
        let room = self.buf.get_mut(self.len..).unwrap_or_default();
        let taken = octets.len().min(room.len());
        copy(room, octets);
        self.len = self.len.saturating_add(taken);
        taken
    }

    fn judge(&self, due: Due) -> Result<Parsed<Verdict>, WireError> {
        match (due, self.octets().first()) {
            (Due::First, Some(&v4::VN)) => Ok(request_v4(self.octets())?.map(|request| match self
                .methods
            {
                ServerMethods::NoAuthentication => asked(&request),
                ServerMethods::UsernamePassword => refused(
                    request.version,
                    Rep::CONNECTION_NOT_ALLOWED_BY_RULESET,
                    HandshakeError::NoAcceptableMethod,
                ),
            })),
            (Due::First, _) => Ok(Greeting::parse(self.octets())?.map(|it| self.greeted(it))),
            (Due::Credentials, _) => {
                let whole = Credentials::parse(self.octets())?;
                Ok(whole.map(|_| Verdict::Go(State::Authenticate)))
            }
            (Due::Request, _) => Ok(request_v5(self.octets())?.map(|request| asked(&request))),
        }
    }

    fn greeted(&self, greeting: Greeting<'_>) -> Verdict {
        let (method, due) = match self.methods {
            ServerMethods::NoAuthentication => (Method::NO_AUTHENTICATION_REQUIRED, Due::Request),
            ServerMethods::UsernamePassword => (Method::USERNAME_PASSWORD, Due::Credentials),
        };
        if greeting.methods().any(|offered| offered == method) {
            Verdict::Say(Answer::Selection(method), Then::Receive(due))
        } else {
            let then = Then::Fail(HandshakeError::NoAcceptableMethod);
            Verdict::Say(Answer::Selection(Method::NO_ACCEPTABLE_METHODS), then)
        }
    }

    /// The word that the RFC has for octets that are not the message that is due.
    fn refusal(&self, due: Due, error: WireError) -> Verdict {
        match due {
            Due::First if self.speaks_v4() => {
                refused(Version::V4, Rep::GENERAL_SOCKS_SERVER_FAILURE, error.into())
            }
            // Whatever it speaks, it is not SOCKS, and our answer would be noise to it.
            Due::First => Verdict::Go(State::Fail(error.into())),
            Due::Credentials => {
                Verdict::Say(Answer::Status(Status::FAILURE), Then::Fail(error.into()))
            }
            Due::Request => {
                let rep = match error {
                    WireError::Atyp(_) => Rep::ADDRESS_TYPE_NOT_SUPPORTED,
                    _ => Rep::GENERAL_SOCKS_SERVER_FAILURE,
                };
                refused(Version::V5, rep, error.into())
            }
        }
    }

    fn follow(&mut self, verdict: Verdict) {
        self.state = match verdict {
            Verdict::Go(state) => state,
            Verdict::Say(answer, then) => {
                self.buf = [0; BUF_OCTETS]; // no password stays behind
                let len = Writer::encode(&mut self.buf, |writer| answer.write(writer));
                self.len = len.unwrap_or_default();
                State::Send { at: 0, then }
            }
        };
    }
}

fn hops_in(greeting: &[u8]) -> u8 {
    match Greeting::parse(greeting) {
        Ok(Parsed::Whole { message, .. }) => message.methods().find_map(Method::as_hops),
        Ok(Parsed::More(_)) | Err(_) => None,
    }
    .unwrap_or(0)
}

fn request_v5(octets: &[u8]) -> Result<Parsed<ServerRequest>, WireError> {
    Ok(
        Request::parse(octets)?.map(|Request { cmd, destination }| ServerRequest {
            version: Version::V5,
            cmd,
            destination,
            user_id: UserId::EMPTY,
        }),
    )
}

fn request_v4(octets: &[u8]) -> Result<Parsed<ServerRequest>, WireError> {
    Ok(v4::Request::parse(octets)?.map(|request| ServerRequest {
        version: request.version(),
        cmd: request.cmd,
        destination: request.destination,
        user_id: request.user_id,
    }))
}

/// A whole request is passed on if the protocol knows its command.
fn asked(request: &ServerRequest) -> Verdict {
    match (request.cmd, request.version) {
        (Cmd::CONNECT | Cmd::BIND | Cmd::RESOLVE | Cmd::RESOLVE_PTR, _)
        | (Cmd::UDP_ASSOCIATE, Version::V5) => Verdict::Go(State::Request),
        (cmd, version) => refused(
            version,
            Rep::COMMAND_NOT_SUPPORTED,
            WireError::Cmd(cmd).into(),
        ),
    }
}

fn refused(version: Version, rep: Rep, error: HandshakeError) -> Verdict {
    Verdict::Say(Answer::Refusal(version, rep), Then::Fail(error))
}

impl Answer {
    fn write(&self, writer: &mut Writer<'_>) {
        match *self {
            Self::Selection(method) => Selection { method }.write(writer),
            Self::Status(status) => status.write(writer),
            Self::Refusal(version, rep) => write_reply(version, rep, &Bound::UNSPECIFIED, writer),
        }
    }
}

/// Without `buf`, which may hold a password.
impl fmt::Debug for ServerHandshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerHandshake")
            .field("methods", &self.methods)
            .field("state", &self.state)
            .field("len", &self.len)
            .finish_non_exhaustive()
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
    Writer::encode(buf, |writer| write_reply(version, rep, bound, writer))
}

fn write_reply(version: Version, rep: Rep, bound: &Bound, writer: &mut Writer<'_>) {
    match version {
        Version::V5 => Reply { rep, bound: *bound }.write(writer),
        Version::V4 | Version::V4a => {
            let cd = match rep {
                Rep::SUCCEEDED => v4::Cd::GRANTED,
                _ => v4::Cd::REJECTED_OR_FAILED,
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
            .write(writer);
        }
    }
}

#[cfg(test)]
mod tests;
