//! `ClientHandshake`: method → sub-negotiation → request → reply, one [`Step`] at a time.
//! It owns no socket, no clock and no buffer; sending, receiving and deadlines are its caller's.

use core::net::{IpAddr, Ipv4Addr};

use crate::{
    Address, Atyp, Bound, Cmd, Credentials, Destination, Greeting, HandshakeError, Method, Parsed,
    Rep, Reply, Request, Selection, Status, WireError, write::Writer,
};

/// Room for the longest message that a client sends.
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
    /// The request is granted, and what the connection carries from now on is the application's.
    ///
    /// A BND.ADDR that is a name was read to its end but is not kept: the address is then 0.0.0.0,
    /// beside the true port.
    Done(Bound),
}

/// How far a handshake has come, in four words: all that has to be kept between two steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    phase: Phase,
    /// Octets of the phase's message that are sent or received.
    at: u16,
    /// What was received of it, without the name of a reply that has one.
    head: [u8; HEAD_OCTETS],
}

/// The longest reply without a name: `VER REP RSV ATYP`, IPv6 address, port.
const HEAD_OCTETS: usize = 4 + 16 + 2;

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

/// The client's side of a SOCKS5 handshake.
#[derive(Debug, Clone, Copy)]
pub struct ClientHandshake<'a> {
    cmd: Cmd,
    destination: &'a Destination,
    credentials: Option<Credentials<'a>>,
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
        Self::resume(cmd, destination, credentials, Progress::default())
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
            progress,
        };
        // With other arguments than those of then a message can be shorter than what was sent of it.
        handshake.sent(0);
        handshake
    }

    /// To be kept, after each call of [`sent`](Self::sent) or [`received`](Self::received), by a
    /// caller that resumes.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.progress
    }

    /// What is wanted now. Changes nothing: asked twice, it says the same. A message is encoded anew
    /// in `scratch` each time, and the part of it that is not yet sent is given.
    #[must_use]
    pub fn step<'s>(&self, scratch: &'s mut [u8; CLIENT_SCRATCH_OCTETS]) -> Step<'s> {
        match self.progress.phase {
            Phase::SendGreeting | Phase::SendCredentials | Phase::SendRequest => {
                let len = Writer::encode(scratch, |writer| self.write(writer)).unwrap_or_default();
                Step::Send(
                    scratch
                        .get(usize::from(self.progress.at)..len)
                        .unwrap_or_default(),
                )
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
            Ok(_) | Err(_) => self.progress = Progress::begin(next),
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

    /// The message of the present phase, which is one of those that send.
    fn write(&self, writer: &mut Writer<'_>) {
        todo!()
    }

    fn after(&self, mut progress: Progress, octet: u8) -> Result<Progress, HandshakeError> {
        todo!()
    }
}

impl Progress {
    fn begin(phase: Phase) -> Self {
        Self {
            phase,
            ..Self::default()
        }
    }
    fn missing(&self) -> usize {
        todo!()
    }
    fn bound(&self) -> Bound {
        todo!()
    }

    /// Four plain words, for whoever keeps them in atomics.
    #[must_use]
    pub fn to_words(self) -> [u64; 4] {
        todo!()
    }

    /// The way back. `None` for words that [`to_words`](Self::to_words) never gives.
    #[must_use]
    pub fn from_words(words: [u64; 4]) -> Option<Self> {
        todo!()
    }
}
