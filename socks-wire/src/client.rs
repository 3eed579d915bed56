//! `ClientHandshake`: method → sub-negotiation → request → reply, one [`Step`] at a time.
//! It owns no socket, no clock and no buffer; sending, receiving and deadlines are its caller's.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::{
    Atyp, Cmd, Credentials, Destination, Greeting, HandshakeError, Method, Parsed, Rep, Request,
    Selection, Status, WireError, method::VER, write::Writer,
};

/// Room for the longest message that a client sends, and for as much of several as one segment carries.
pub const CLIENT_SCRATCH_OCTETS: usize = {
    let (credentials, request) = (Credentials::MOST_OCTETS, Request::MOST_OCTETS);
    if credentials > request {
        credentials
    } else {
        request
    }
};

/// What the handshake wants now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step<'s> {
    /// Send this, then call [`ClientHandshake::sent`] with how many octets went out.
    Send(&'s [u8]),
    /// Receive up to this many octets (never 0) and no more, since the next one belongs to the
    /// application; then call [`ClientHandshake::received`].
    Receive(usize),
    /// The request is granted, and what the connection carries from now on is the application's. This is
    /// BND.ADDR and BND.PORT.
    ///
    /// A BND.ADDR that is a name was read to its end but is not kept: the address is then 0.0.0.0,
    /// beside the true port.
    Done(SocketAddr),
}

/// How far a handshake has come, in four words: all that has to be kept between two steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    phase: Phase,
    /// Octets of the phase's message that are sent or received.
    at: u16,
    /// What was received of it, without the name of a reply that has one.
    head: [u8; HEAD_OCTETS],
    /// All that the client has to say is one message: that of `SendGreeting`.
    is_pipelined: bool,
}

/// The longest reply without a name: `VER REP RSV ATYP`, IPv6 address, port.
const HEAD_OCTETS: usize = 4 + 16 + 2;

/// The most that a client has to say: a greeting of one method, credentials, request.
const PIPELINED_OCTETS: usize = 3 + Credentials::MOST_OCTETS + Request::MOST_OCTETS;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
enum Phase {
    #[default]
    SendGreeting,
    ReceiveSelection,
    SendCredentials,
    ReceiveStatus,
    SendRequest,
    ReceiveReply,
    Done,
}

impl Progress {
    /// Whether the server has not said anything yet.
    #[must_use]
    pub const fn is_unanswered(&self) -> bool {
        match self.phase {
            Phase::SendGreeting => true,
            Phase::ReceiveSelection => self.at == 0,
            _ => false,
        }
    }
}

/// The client's side of a SOCKS5 handshake.
#[derive(Debug, Clone, Copy)]
pub struct ClientHandshake<'a> {
    cmd: Cmd,
    destination: &'a Destination,
    credentials: Option<Credentials<'a>>,
    hops: u8,
    progress: Progress,
}

impl<'a> ClientHandshake<'a> {
    /// A handshake of which nothing is sent yet. With credentials both methods are offered and the
    /// server chooses; without, only the one that needs none.
    #[must_use]
    pub fn new(
        cmd: Cmd,
        destination: &'a Destination,
        credentials: Option<Credentials<'a>>,
    ) -> Self {
        Self::resume(cmd, destination, credentials, Progress::beginning(false))
    }

    /// The same in one round trip: greeting, credentials and request are sent together. For a server
    /// that is known to take it; others may wait for ever for what they have thrown away. One method is
    /// offered, so that the server has no choice: with credentials the one that asks for them.
    #[must_use]
    pub fn pipelined(
        cmd: Cmd,
        destination: &'a Destination,
        credentials: Option<Credentials<'a>>,
    ) -> Self {
        Self::resume(cmd, destination, credentials, Progress::beginning(true))
    }

    /// Goes on where [`progress`](Self::progress) was taken, with the arguments given then.
    #[must_use]
    pub fn resume(
        cmd: Cmd,
        destination: &'a Destination,
        credentials: Option<Credentials<'a>>,
        progress: Progress,
    ) -> Self {
        let mut handshake = Self {
            cmd,
            destination,
            credentials,
            hops: 0,
            progress,
        };
        // With other arguments than those of then a message can be shorter than what was sent of it.
        handshake.sent(0);
        handshake
    }

    /// Tells the server, if it knows [`Method::hops`], that the request has come through so many gateways. To be called
    /// before anything is sent.
    #[must_use]
    pub fn with_hops(self, hops: u8) -> Self {
        Self { hops, ..self }
    }

    /// Whether all is said, and the server's reply to the request awaited or here.
    #[must_use]
    pub fn has_asked(&self) -> bool {
        matches!(self.progress.phase, Phase::ReceiveReply | Phase::Done)
    }

    /// To be kept, after each call of [`sent`](Self::sent) or [`received`](Self::received), by a
    /// caller that resumes.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.progress
    }

    /// What is wanted now. Changes nothing: asked twice, it says the same. What is not yet sent of a
    /// message is encoded anew in `scratch` each time, and given as far as there is room for it.
    #[must_use]
    pub fn step<'s>(&self, scratch: &'s mut [u8; CLIENT_SCRATCH_OCTETS]) -> Step<'s> {
        match self.progress.phase {
            Phase::SendGreeting | Phase::SendCredentials | Phase::SendRequest => {
                let at = usize::from(self.progress.at);
                let len = Writer::encode_rest(scratch, at, |writer| self.write(writer));
                Step::Send(scratch.get(..len).unwrap_or_default())
            }
            Phase::ReceiveSelection | Phase::ReceiveStatus | Phase::ReceiveReply => {
                Step::Receive(self.progress.missing())
            }
            Phase::Done => Step::Done(self.progress.bound()),
        }
    }

    /// After [`Step::Send`]: this many octets of it went out, from its beginning. Without meaning,
    /// and without effect, at another step.
    pub fn sent(&mut self, len_octets: usize) {
        let next = match self.progress.phase {
            Phase::SendGreeting => Phase::ReceiveSelection,
            Phase::SendCredentials => Phase::ReceiveStatus,
            Phase::SendRequest => Phase::ReceiveReply,
            Phase::ReceiveSelection | Phase::ReceiveStatus | Phase::ReceiveReply | Phase::Done => {
                return;
            }
        };
        let at = usize::from(self.progress.at).saturating_add(len_octets);
        match u16::try_from(at) {
            Ok(at_u16) if at < Writer::measure(|writer| self.write(writer)) => {
                self.progress.at = at_u16;
            }
            Ok(_) | Err(_) => self.progress = self.progress.begin(next),
        }
    }

    /// After [`Step::Receive`]: these octets came, at least one and never more than was asked for.
    ///
    /// # Errors
    /// The handshake has failed and the connection is of no further use; the progress stays where it
    /// was. A refusal is known by its REP and told at once, although its BND.ADDR is still to come:
    /// the server closes. [`WireError::Surplus`] is the caller's mistake.
    pub fn received(&mut self, octets: &[u8]) -> Result<(), HandshakeError> {
        let mut progress = self.progress;
        for &octet in octets {
            progress = self.after(progress, octet)?;
        }
        self.progress = progress;
        Ok(())
    }

    /// The message of the present phase; nothing in a phase that sends none.
    fn write(&self, writer: &mut Writer<'_>) {
        let is_pipelined = self.progress.is_pipelined;
        let says = |phase| {
            self.progress.phase == phase
                || (is_pipelined && self.progress.phase == Phase::SendGreeting)
        };
        if says(Phase::SendGreeting) {
            let methods = self.offer();
            match self.hops {
                0 => Greeting { methods }.write(writer),
                hops => write_counted(methods, hops, writer),
            }
        }
        if says(Phase::SendCredentials)
            && let Some(credentials) = &self.credentials
        {
            credentials.write(writer);
        }
        if says(Phase::SendRequest) {
            let request = Request {
                cmd: self.cmd,
                destination: *self.destination,
            };
            request.write(writer);
        }
    }

    fn offer(&self) -> &'static [u8] {
        const NONE: u8 = Method::NO_AUTHENTICATION_REQUIRED.0;
        const PASSWORD: u8 = Method::USERNAME_PASSWORD.0;
        match (&self.credentials, self.progress.is_pipelined) {
            (None, _) => &[NONE],
            (Some(_), false) => &[NONE, PASSWORD],
            // What is sent behind the greeting cannot be taken back.
            (Some(_), true) => &[PASSWORD],
        }
    }

    /// The progress after one more octet. Octet by octet it cannot matter how a reply is cut into
    /// segments, and nothing is judged before the octets that decide are here.
    fn after(&self, so_far: Progress, octet: u8) -> Result<Progress, HandshakeError> {
        let progress = so_far.with(octet);
        let octets = progress.octets();
        let next = match progress.phase {
            Phase::ReceiveSelection => match Selection::parse(octets)? {
                Parsed::More(_) => return Ok(progress),
                Parsed::Whole {
                    message: Selection { method },
                    ..
                } => self.chosen(method)?,
            },
            Phase::ReceiveStatus => match Status::parse(octets)? {
                Parsed::More(_) => return Ok(progress),
                Parsed::Whole {
                    message: Status::SUCCESS,
                    ..
                } => self.unless_sent(Phase::SendRequest),
                Parsed::Whole {
                    message: Status(status),
                    ..
                } => {
                    return Err(HandshakeError::WrongPassword(status));
                }
            },
            Phase::ReceiveReply => {
                let done = usize::from(progress.at) == reply_len(octets)?;
                let phase = if done {
                    Phase::Done
                } else {
                    Phase::ReceiveReply
                };
                return Ok(Progress { phase, ..progress });
            }
            Phase::SendGreeting | Phase::SendCredentials | Phase::SendRequest | Phase::Done => {
                return Err(WireError::Surplus.into());
            }
        };
        Ok(progress.begin(next))
    }

    fn chosen(&self, method: Method) -> Result<Phase, HandshakeError> {
        match method {
            Method::NO_ACCEPTABLE_METHODS => Err(HandshakeError::NoAcceptableMethod),
            Method(octet) if !self.offer().contains(&octet) => {
                Err(WireError::MethodNotOffered(method).into())
            }
            Method::USERNAME_PASSWORD => Ok(self.unless_sent(Phase::SendCredentials)),
            _ => Ok(self.unless_sent(Phase::SendRequest)),
        }
    }

    /// This phase, or, where its message has left with the greeting, the one that awaits the answer.
    fn unless_sent(&self, phase: Phase) -> Phase {
        match phase {
            Phase::SendCredentials if self.progress.is_pipelined => Phase::ReceiveStatus,
            Phase::SendRequest if self.progress.is_pipelined => Phase::ReceiveReply,
            _ => phase,
        }
    }
}

/// A greeting that offers [`Method::hops`] besides. A function of its own, so that whoever offers no such thing has no stack
/// taken for it: connect() may run in a signal handler.
#[cold]
#[inline(never)]
fn write_counted(offer: &[u8], hops: u8, writer: &mut Writer<'_>) {
    let mut methods = [0; 3];
    let all = offer.iter().copied().chain([Method::hops(hops).0]);
    let len = methods
        .iter_mut()
        .zip(all)
        .map(|(to, from)| *to = from)
        .count();
    let methods = methods.get(..len).unwrap_or_default();
    Greeting { methods }.write(writer);
}

/// Length of a reply of which the beginning is known: exact from the fifth octet on, and never too
/// long before that.
fn reply_len(octets: &[u8]) -> Result<usize, HandshakeError> {
    const SHORTEST: usize = 7; // a name of no octets, which some servers send
    match *octets {
        [found, ..] if found != VER => Err(WireError::Version {
            found,
            expected: VER,
        }
        .into()),
        [_, rep, ..] if Rep(rep) != Rep::SUCCEEDED => Err(HandshakeError::Reply(Rep(rep))),
        [_, _, _, atyp, ref address @ ..] => match Atyp(atyp) {
            Atyp::IP_V4 => Ok(4 + 4 + 2),
            Atyp::IP_V6 => Ok(4 + 16 + 2),
            Atyp::DOMAINNAME => {
                let name = address.first().map_or(0, |&len| usize::from(len));
                Ok(SHORTEST.saturating_add(name))
            }
            Atyp(unknown) => Err(WireError::Atyp(unknown).into()),
        },
        _ => Ok(SHORTEST),
    }
}

impl Progress {
    /// Of a handshake that has not begun; the argument tells [`ClientHandshake::pipelined`] from
    /// [`ClientHandshake::new`].
    #[must_use]
    pub fn beginning(is_pipelined: bool) -> Self {
        Self {
            is_pipelined,
            ..Self::default()
        }
    }

    /// Four plain words, for whoever keeps them in atomics. `Default` is four zeros.
    #[must_use]
    pub fn to_words(self) -> [u64; 4] {
        let [low, high] = self.at.to_le_bytes();
        let first = [self.phase as u8, low, high];
        let last = [self.is_pipelined.into()];
        let octets = first.into_iter().chain(self.head).chain(last);
        let mut words = [[0; 8]; 4];
        for (to, from) in words.as_flattened_mut().iter_mut().zip(octets) {
            *to = from;
        }
        words.map(u64::from_le_bytes)
    }

    /// The way back. `None` for words that [`to_words`](Self::to_words) never gives.
    #[must_use]
    pub fn from_words(words: [u64; 4]) -> Option<Self> {
        let words = words.map(u64::to_le_bytes);
        let (&[phase, low, high], rest) = words.as_flattened().split_first_chunk()?;
        let (&head, rest) = rest.split_first_chunk()?;
        let (&is_pipelined, spare) = rest.split_first()?;
        let &phase = Phase::ALL.get(usize::from(phase))?;
        let progress = Self {
            phase,
            at: u16::from_le_bytes([low, high]),
            head,
            is_pipelined: is_pipelined == 1,
        };
        let rest_is_zero = |octets: &[u8]| octets.iter().all(|&octet| octet == 0);
        let is_whole = is_pipelined <= 1 && rest_is_zero(progress.unused()) && rest_is_zero(spare);
        (is_whole && progress.is_reachable()).then_some(progress)
    }

    fn begin(self, phase: Phase) -> Self {
        Self {
            phase,
            ..Self::beginning(self.is_pipelined)
        }
    }

    fn with(mut self, octet: u8) -> Self {
        if let Some(kept) = self.place().and_then(|place| self.head.get_mut(place)) {
            *kept = octet;
        }
        self.at = self.at.saturating_add(1);
        self
    }

    /// Where in `head` the next octet goes, if it is not one of a name. The port behind a name goes
    /// to where the name would begin.
    fn place(&self) -> Option<usize> {
        const NAME_AT: usize = 5;
        let at = usize::from(self.at);
        match self.head {
            [_, _, _, atyp, name_len, ..] if Atyp(atyp) == Atyp::DOMAINNAME && at >= NAME_AT => at
                .checked_sub(usize::from(name_len))
                .filter(|&place| place >= NAME_AT),
            _ => Some(at),
        }
    }

    /// The octets received, without a name, and perhaps zeros for the rest of it.
    fn octets(&self) -> &[u8] {
        self.head.get(..usize::from(self.at)).unwrap_or(&self.head)
    }

    /// What of `head` is not yet written.
    fn unused(&self) -> &[u8] {
        match self.phase {
            Phase::SendGreeting | Phase::SendCredentials | Phase::SendRequest => &self.head,
            Phase::ReceiveSelection | Phase::ReceiveStatus | Phase::ReceiveReply | Phase::Done => {
                self.head
                    .get(self.place().unwrap_or(5)..)
                    .unwrap_or_default()
            }
        }
    }

    /// Octets of the message that are still to come.
    fn missing(&self) -> usize {
        let len = match self.phase {
            Phase::ReceiveReply => reply_len(self.octets()).unwrap_or_default(),
            _ => 2, // a selection or a status
        };
        len.saturating_sub(usize::from(self.at))
    }

    fn is_reachable(&self) -> bool {
        let at = usize::from(self.at);
        match self.phase {
            Phase::SendGreeting if self.is_pipelined => at < PIPELINED_OCTETS,
            Phase::SendGreeting => at < 4,
            Phase::SendCredentials | Phase::SendRequest if self.is_pipelined => false,
            Phase::ReceiveSelection => {
                matches!(Selection::parse(self.octets()), Ok(Parsed::More(_)))
            }
            Phase::SendCredentials => at < Credentials::MOST_OCTETS,
            Phase::ReceiveStatus => matches!(Status::parse(self.octets()), Ok(Parsed::More(_))),
            Phase::SendRequest => at < Request::MOST_OCTETS,
            Phase::ReceiveReply => reply_len(self.octets()).is_ok_and(|len| at < len),
            Phase::Done => reply_len(self.octets()).is_ok_and(|len| at == len),
        }
    }

    fn bound(&self) -> SocketAddr {
        let [_ver, _rep, _rsv, atyp, address @ ..] = self.head;
        let (ip, port): (IpAddr, _) = match Atyp(atyp) {
            Atyp::IP_V4 => {
                let [a, b, c, d, high, low, ..] = address;
                (Ipv4Addr::new(a, b, c, d).into(), [high, low])
            }
            Atyp::IP_V6 => {
                let [ip @ .., high, low] = address;
                (Ipv6Addr::from(ip).into(), [high, low])
            }
            _ => {
                let [_len, high, low, ..] = address;
                (Ipv4Addr::UNSPECIFIED.into(), [high, low])
            }
        };
        SocketAddr::new(ip, u16::from_be_bytes(port))
    }
}

impl Phase {
    const ALL: [Self; 7] = [
        Self::SendGreeting,
        Self::ReceiveSelection,
        Self::SendCredentials,
        Self::ReceiveStatus,
        Self::SendRequest,
        Self::ReceiveReply,
        Self::Done,
    ];
}

#[cfg(test)]
mod tests;
