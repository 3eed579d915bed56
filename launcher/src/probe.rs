//! What a gateway answers: whether it is there, takes our login, and what it replies to a request.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use socks_client::Login;
use socks_wire::{
    CLIENT_SCRATCH_OCTETS, ClientHandshake, Cmd, Credentials, Destination, Greeting,
    HandshakeError, Method, Parsed, Progress, Rep, Selection, Status, Step, WireError,
};

use crate::error::words;

/// For the gateway to take a connection, and for each of its answers.
const LIMIT: Duration = Duration::from_secs(10);
/// More than any message that a client sends (RFC 1929 has the longest).
const MESSAGE_OCTETS: usize = 515;

#[derive(Debug, thiserror::Error)]
pub(crate) enum ProbeError {
    #[error("{}", words(.0))]
    Connection(#[from] io::Error),
    #[error("not a SOCKS5 server: {0}")]
    Protocol(#[from] WireError),
    #[error(transparent)]
    Refusal(#[from] HandshakeError),
}

impl ProbeError {
    /// Whether the gateway has closed the connection in place of an answer.
    pub(crate) fn is_end(&self) -> bool {
        matches!(self, Self::Connection(error) if error.kind() == io::ErrorKind::UnexpectedEof)
    }
}

/// A gateway that takes requests.
#[derive(Debug)]
pub(crate) struct Probe {
    stream: TcpStream,
    /// How it let us in.
    pub(crate) method: Method,
}

impl Probe {
    /// Connects and authenticates, and asks for nothing.
    ///
    /// # Errors
    /// Whatever the gateway has against it.
    pub(crate) fn open(
        address: IpAddr,
        port: u16,
        login: Option<&Login>,
    ) -> Result<Self, ProbeError> {
        let stream = TcpStream::connect_timeout(&SocketAddr::new(address, port), LIMIT)?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.set_write_timeout(Some(LIMIT))?;
        let mut probe = Self {
            stream,
            method: Method::NO_AUTHENTICATION_REQUIRED,
        };

        let methods = [
            Method::NO_AUTHENTICATION_REQUIRED.0,
            Method::USERNAME_PASSWORD.0,
        ];
        let offered = if login.is_some() {
            methods.as_slice()
        } else {
            &methods[..1]
        };
        probe.send(|buf| Greeting::new(offered)?.encode(buf))?;
        probe.method = probe.receive(Selection::parse)?.method;
        match (probe.method, login) {
            (Method::NO_AUTHENTICATION_REQUIRED, _) => {}
            (Method::USERNAME_PASSWORD, Some(Login { user, password })) => {
                probe.send(|buf| Credentials::new(user, &password.0)?.encode(buf))?;
                match probe.receive(Status::parse)? {
                    Status::SUCCESS => {}
                    Status(refusal) => Err(HandshakeError::WrongPassword(refusal))?,
                }
            }
            (Method::NO_ACCEPTABLE_METHODS, _) => Err(HandshakeError::NoAcceptableMethod)?,
            (other, _) => Err(WireError::MethodNotOffered(other))?,
        }
        Ok(probe)
    }

    fn send(
        &mut self,
        encode: impl FnOnce(&mut [u8]) -> Result<usize, WireError>,
    ) -> Result<(), ProbeError> {
        let mut buf = [0; MESSAGE_OCTETS];
        let len = encode(&mut buf)?;
        Ok(self.stream.write_all(buf.get(..len).unwrap_or_default())?)
    }

    fn receive<T>(
        &mut self,
        parse: impl Fn(&[u8]) -> Result<Parsed<T>, WireError>,
    ) -> Result<T, ProbeError> {
        let mut octets = Vec::new();
        loop {
            match parse(&octets)? {
                Parsed::Whole { message, .. } => return Ok(message),
                Parsed::More(missing) => {
                    let start = octets.len();
                    octets.resize(start.saturating_add(missing), 0);
                    let room = octets.get_mut(start..).unwrap_or_default();
                    self.stream.read_exact(room).map_err(in_words)?;
                }
            }
        }
    }
}

/// Has the gateway carry out a command, and closes the connection: what it replied.
///
/// # Errors
/// If no whole reply comes within `limit`.
pub(crate) fn ask(
    gateway: SocketAddr,
    login: Option<&Login>,
    beginning: Progress,
    (cmd, destination): (Cmd, Destination),
    limit: Duration,
) -> Result<Rep, ProbeError> {
    let mut stream = TcpStream::connect_timeout(&gateway, LIMIT)?;
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(limit))?;
    let credentials = login.map(|Login { user, password }| Credentials::new(user, &password.0));
    let mut handshake =
        ClientHandshake::resume(cmd, &destination, credentials.transpose()?, beginning);
    let mut scratch = [0; CLIENT_SCRATCH_OCTETS];
    loop {
        let received = match handshake.step(&mut scratch) {
            Step::Done(_) => return Ok(Rep::SUCCEEDED),
            Step::Send(octets) => {
                stream.write_all(octets)?;
                let sent = octets.len();
                handshake.sent(sent);
                continue;
            }
            Step::Receive(asked) => {
                let room = scratch.get_mut(..asked).unwrap_or_default();
                stream.read_exact(room).map_err(in_words)?;
                handshake.received(room)
            }
        };
        match received {
            Err(HandshakeError::Reply(rep)) => return Ok(rep),
            other => other?,
        }
    }
}

/// What read(2) gives here is not what a user would call it.
fn in_words(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::WouldBlock => io::Error::new(io::ErrorKind::TimedOut, "no answer in time"),
        io::ErrorKind::UnexpectedEof => {
            io::Error::new(error.kind(), "the connection was closed in mid-handshake")
        }
        _ => error,
    }
}

#[cfg(test)]
mod tests;
