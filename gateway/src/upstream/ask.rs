//! `ClientHandshake` over a stream, while the client is watched: nobody needs the connection of a client that is gone.

use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use socks_wire::{CLIENT_SCRATCH_OCTETS, ClientHandshake, HandshakeError, Rep, Step};

use crate::stream::Stream;
use crate::tls::{Broken, Session, Towards};
use crate::upstream::Errand;
use crate::wait::poll_until;

/// Why an upstream has not given a connection.
pub(super) enum AskError {
    /// It cannot be reached, does not speak the protocol, or does not let us in: another one may.
    Failed(String),
    /// It has let us in, and the connection is gone over the request: that may be the request's doing.
    Dropped(String),
    /// It has done what it could and says so.
    Refused(Rep),
    /// It lets us in, and then says nothing of the destination until the time is over.
    Silent(SocketAddr),
    ClientGone,
}

/// The longest message of a server in pieces that are never more than asked for: a reply without its name.
const RECEIVE_OCTETS: usize = 7 + 255;

/// TLS, before anything is asked. An upstream that is not who it should be has failed.
pub(super) fn secure(
    tls: &Towards,
    upstream: BorrowedFd<'_>,
    errand: &Errand<'_>,
    soon: Instant,
) -> Result<Session, AskError> {
    let failed_so = |broken: Broken| AskError::Failed(broken.to_string());
    let session = tls.session().map_err(failed_so)?;
    while let Some(flags) = session.shake_hands(upstream).map_err(failed_so)? {
        if !wait(upstream, flags, errand, soon)? {
            return Err(failed("it does not answer"));
        }
    }
    Ok(session)
}

/// Gives BND. What comes behind the reply is left in the stream: it is the destination's.
pub(super) fn ask(
    handshake: &mut ClientHandshake<'_>,
    upstream: Stream<'_>,
    peer: SocketAddr,
    errand: &Errand<'_>,
    soon: Instant,
) -> Result<SocketAddr, AskError> {
    let mut scratch = [0; CLIENT_SCRATCH_OCTETS];
    let mut octets = [0; RECEIVE_OCTETS];
    loop {
        let (done, flags) = match handshake.step(&mut scratch) {
            Step::Done(bound) => return Ok(bound),
            Step::Send(message) => {
                let sent = upstream.send(message);
                (sent.map(|sent| handshake.sent(sent)), PollFlags::OUT)
            }
            Step::Receive(most) => {
                let room = octets
                    .get_mut(..most.min(RECEIVE_OCTETS))
                    .unwrap_or_default();
                let took = match upstream.recv(room) {
                    Ok(0) => return Err(failed("it has closed the connection")),
                    Ok(len) => {
                        let octets = room.get(..len).unwrap_or_default();
                        handshake.received(octets).map_err(refused)?;
                        Ok(())
                    }
                    Err(errno) => Err(errno),
                };
                (took, PollFlags::IN)
            }
        };
        match done {
            Ok(()) | Err(Errno::INTR) => {}
            Err(Errno::AGAIN) if handshake.has_asked() => {
                if !wait(upstream.socket(), flags, errand, errand.deadline)? {
                    return Err(AskError::Silent(peer));
                }
            }
            Err(Errno::AGAIN) => {
                if !wait(upstream.socket(), flags, errand, soon)? {
                    return Err(failed("it does not answer"));
                }
            }
            Err(errno) => return Err(AskError::Failed(upstream.why(errno))),
        }
    }
}

/// Whether there is something to do before the deadline.
fn wait(
    upstream: BorrowedFd<'_>,
    flags: PollFlags,
    errand: &Errand<'_>,
    deadline: Instant,
) -> Result<bool, AskError> {
    let mut fds = [
        PollFd::from_borrowed_fd(upstream, flags),
        // Only that it is gone altogether, as in dial.rs.
        PollFd::from_borrowed_fd(errand.client, PollFlags::empty()),
    ];
    match poll_until(&mut fds, Some(deadline)) {
        Ok(0) => Ok(false),
        Ok(_) if !fds[1].revents().is_empty() => Err(AskError::ClientGone),
        // ENOMEM at worst: as if something had happened, which the next call finds out.
        Ok(_) | Err(_) => Ok(true),
    }
}

fn failed(why: &str) -> AskError {
    AskError::Failed(why.to_owned())
}

fn refused(error: HandshakeError) -> AskError {
    match error {
        HandshakeError::Reply(rep) => AskError::Refused(rep),
        other => AskError::Failed(other.to_string()),
    }
}
