//! What a gateway answers: whether it is there, takes our login, and reaches an address.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use socks_client::Login;
use socks_wire::{
    Cmd, Credentials, Destination, Greeting, HandshakeError, Method, Parsed, Rep, Reply, Request,
    Selection, Status, WireError,
};

use crate::error::words;

/// For the gateway to take a connection, and for each of its answers.
const LIMIT: Duration = Duration::from_secs(10);
/// For its answer to a request, since it may have to wait for somebody itself.
const DIAL_LIMIT: Duration = Duration::from_secs(30);
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

    /// Has the gateway connect to an address, and closes the connection.
    ///
    /// # Errors
    /// If no whole reply comes.
    pub(crate) fn reach(mut self, target: SocketAddr) -> Result<Rep, ProbeError> {
        let request = Request {
            cmd: Cmd::CONNECT,
            destination: Destination::from(target),
        };
        self.send(|buf| request.encode(buf))?;
        self.stream.set_read_timeout(Some(DIAL_LIMIT))?;
        Ok(self.receive(Reply::parse)?.rep)
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
