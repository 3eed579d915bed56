//! `ServerHandshake` over a socket, under one total deadline.
//! What the request asks for is not judged here, save for the password.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::sockopt;
use socks_wire::{
    Bound, Credentials, Rep, ServerHandshake, ServerMethods, ServerRequest, ServerStep, Version,
    encode_reply,
};
use zeroize::Zeroizing;

use crate::error::ServeError;
use crate::logins::Unjudged;
use crate::rules::logged;
use crate::stream::Stream;
use crate::tls::{Broken, Session, TlsListeners};
use crate::wait::poll_until;

/// What is read at a time. No message of the handshake is longer than 513 octets.
const READ_OCTETS: usize = 1024;

/// RFC 1928 §6: closed within 10 seconds of the failure; a client that has got its reply needs none.
const HANG_UP: Duration = Duration::from_secs(5);

/// What a client that is being hung up on may go on sending without being reset.
const HANG_UP_OCTETS: usize = 1 << 20;

/// What came of a handshake.
#[derive(Debug)]
pub(crate) struct Negotiated {
    pub(crate) request: ServerRequest,
    /// Octets behind the request: they belong to the destination.
    pub(crate) early: Vec<u8>,
    /// Through how many gateways it has come, as far as they say so.
    pub(crate) hops: u8,
}

/// Whether a password is right.
pub(crate) type Check<'a> = dyn Fn(&Credentials<'_>) -> Result<bool, Unjudged> + 'a;

/// Brings a client to its request. `user` is told as soon as there is one, right password or wrong, which `check` judges;
/// without it nobody has to authenticate.
///
/// A client that fails has been told so where the RFC has a word for it, and is to be hung up on.
pub(crate) fn negotiate(
    client: Stream<'_>,
    check: Option<&Check<'_>>,
    deadline: Instant,
    user: &mut Option<String>,
) -> Result<Negotiated, ServeError> {
    let mut handshake = ServerHandshake::new(if check.is_none() {
        ServerMethods::NoAuthentication
    } else {
        ServerMethods::UsernamePassword
    });
    let mut unjudged = None;
    // There may be a password in it.
    let mut octets = Zeroizing::new([0; READ_OCTETS]);
    let mut unread: &[u8] = &[];
    loop {
        match handshake.step() {
            ServerStep::Send(message) => {
                let sent = send_some(client, message, deadline)?;
                handshake.sent(sent);
            }
            ServerStep::Receive => {
                if unread.is_empty() {
                    let received = receive_some(client, &mut *octets, deadline)?;
                    unread = octets.get(..received).unwrap_or_default();
                }
                let taken = handshake.received(unread);
                unread = unread.get(taken..).unwrap_or_default();
            }
            ServerStep::Authenticate(credentials) => {
                *user = Some(logged(credentials.user()));
                let judged = check.map_or(Ok(false), |check| check(&credentials));
                unjudged = judged.err();
                handshake.authenticated(judged == Ok(true));
            }
            ServerStep::Request(request) => {
                return Ok(Negotiated {
                    request,
                    early: unread.to_vec(),
                    hops: handshake.hops(),
                });
            }
            ServerStep::Fail(error) => {
                return Err(unjudged.map_or(ServeError::Handshake(error), ServeError::Login));
            }
        }
    }
}

/// Answers a request in the client's own version.
pub(crate) fn reply(
    client: Stream<'_>,
    version: Version,
    rep: Rep,
    bound: &Bound,
    deadline: Instant,
) -> Result<(), ServeError> {
    let mut message = [0; 7 + 255]; // with the longest name
    let octets = encode_reply(version, rep, bound, &mut message).unwrap_or(0);
    let mut unsent = message.get(..octets).unwrap_or_default();
    while !unsent.is_empty() {
        let sent = send_some(client, unsent, deadline)?;
        unsent = unsent.get(sent..).unwrap_or_default();
    }
    Ok(())
}

/// Closes after a failure reply so that the reply arrives: close(2) with octets of the client unread
/// is a reset, and a reset makes the client's kernel forget what it has not handed out yet.
pub(crate) fn hang_up(client: Stream<'_>) {
    let deadline = Instant::now()
        .checked_add(HANG_UP)
        .unwrap_or_else(Instant::now);
    // A client that is gone already has nothing to lose.
    let _ = sockopt::set_socket_linger(client.socket(), None);
    while client.shut() == Err(Errno::AGAIN)
        && wait(client.socket(), PollFlags::OUT, Errno::AGAIN, deadline).is_ok()
    {}
    // Nobody asks what they are.
    let client = Stream::plain(client.socket());
    let mut octets = [0; READ_OCTETS];
    let mut received = 0_usize;
    while received < HANG_UP_OCTETS {
        match receive_some(client, &mut octets, deadline) {
            Ok(some) => received = received.saturating_add(some),
            Err(_) => break,
        }
    }
}

/// TLS, before anything else is said. A client that fails has been told why, and is to be hung up on.
pub(crate) fn secure(
    tls: &TlsListeners,
    client: BorrowedFd<'_>,
    deadline: Instant,
) -> Result<Session, ServeError> {
    let session = tls.session().map_err(ServeError::Tls)?;
    loop {
        match session.shake_hands(client) {
            Ok(None) => return Ok(session),
            Ok(Some(flags)) => wait(client, flags, Errno::AGAIN, deadline)?,
            Err(broken @ Broken::Tls(_)) => return Err(ServeError::Tls(broken)),
            Err(Broken::Socket(_) | Broken::CutOff) => return Err(ServeError::ClientGone),
        }
    }
}

/// At least one octet; the end of the stream is an error.
fn receive_some(
    client: Stream<'_>,
    octets: &mut [u8],
    deadline: Instant,
) -> Result<usize, ServeError> {
    loop {
        match client.recv(octets) {
            Ok(0) => return Err(ServeError::ClientGone),
            Ok(received) => return Ok(received),
            Err(errno) => wait(client.socket(), PollFlags::IN, errno, deadline)?,
        }
    }
}

/// At least one octet.
fn send_some(client: Stream<'_>, message: &[u8], deadline: Instant) -> Result<usize, ServeError> {
    loop {
        match client.send(message) {
            Ok(sent) => return Ok(sent),
            Err(errno) => wait(client.socket(), PollFlags::OUT, errno, deadline)?,
        }
    }
}

/// After `errno`: waits if that helps.
pub(crate) fn wait(
    client: BorrowedFd<'_>,
    flags: PollFlags,
    errno: Errno,
    deadline: Instant,
) -> Result<(), ServeError> {
    match errno {
        Errno::INTR => Ok(()),
        Errno::AGAIN => match poll_until(
            &mut [PollFd::from_borrowed_fd(client, flags)],
            Some(deadline),
        ) {
            Ok(0) => Err(ServeError::HandshakeDeadline),
            Ok(_) => Ok(()),
            Err(_) => Err(ServeError::ClientGone),
        },
        _ => Err(ServeError::ClientGone),
    }
}
