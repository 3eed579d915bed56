//! Addresses in turn → a connected socket, or the error that tells why not: Happy Eyeballs v2
//! (RFC 8305 §5) by non-blocking connects in the relay's own thread.
//! Which addresses may be dialled, and in which order, has been decided before.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};

use crate::nat64::Nat64;
use crate::outgoing::Outgoing;
use crate::stream::Stream;
use crate::tls::Session;
use crate::wait::poll_until;

/// RFC 8305 §5: the Connection Attempt Delay.
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// An address that may be dialled, and how.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target<'r> {
    pub(crate) address: SocketAddr,
    pub(crate) outgoing: Outgoing<'r>,
}

/// A connection to the destination. It lingers for zero seconds: it is reset unless an orderly end to it is found.
#[derive(Debug)]
pub(crate) struct Dialled {
    pub(crate) socket: OwnedFd,
    /// What is spoken there, by an upstream.
    pub(crate) tls: Option<Session>,
    /// The address that was asked for.
    pub(crate) target: SocketAddr,
    /// The address that was dialled: another one if a translator stands between.
    pub(crate) peer: SocketAddr,
    /// What the reply says as BND.ADDR and BND.PORT.
    pub(crate) local: SocketAddr,
}

impl Dialled {
    pub(crate) fn stream(&self) -> Stream<'_> {
        Stream::new(self.socket.as_fd(), self.tls.as_ref())
    }
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    /// Every attempt failed; this is how the one that came furthest did.
    #[error("{1}: {0}")]
    Failed(#[source] io::Error, SocketAddr),
    #[error("client has gone away")]
    ClientGone,
}

/// Connects to the first of `targets` that answers. `client` is watched meanwhile, since nobody
/// needs the connection of a client that is gone.
pub(crate) fn dial(
    targets: &[Target<'_>],
    nat64: &Nat64,
    client: BorrowedFd<'_>,
    deadline: Instant,
) -> Result<Dialled, DialError> {
    let mut untried = targets.iter();
    let mut attempts: Vec<Attempt> = Vec::new();
    let mut failure = Failure::default();
    let mut next_at = Some(Instant::now());
    loop {
        let now = Instant::now();
        if now >= deadline {
            for attempt in &attempts {
                failure.note(Errno::TIMEDOUT.into(), attempt.peer);
            }
            return Err(failure.into());
        }
        if next_at.is_some_and(|at| now >= at) {
            next_at = match untried.next() {
                Some(target) => match Attempt::start(target, nat64) {
                    Ok(attempt) => {
                        attempts.push(attempt);
                        now.checked_add(ATTEMPT_DELAY)
                    }
                    Err(error) => {
                        failure.note(error, target.address);
                        Some(now)
                    }
                },
                None => None,
            };
            if next_at == Some(now) {
                continue;
            }
        }
        if attempts.is_empty() {
            return Err(failure.into());
        }
        let wake_at = next_at.map_or(deadline, |at| at.min(deadline));
        for index in ready(&attempts, client, wake_at)?.into_iter().rev() {
            let attempt = attempts.swap_remove(index);
            match attempt.finish() {
                Ok(dialled) => return Ok(dialled),
                Err((error, address)) => {
                    failure.note(error, address);
                    // RFC 8305 §5: a failure starts the next attempt without further delay.
                    next_at = next_at.map(|_| now);
                }
            }
        }
    }
}

/// The attempts that have ended, in the order of their start.
fn ready(
    attempts: &[Attempt],
    client: BorrowedFd<'_>,
    wake_at: Instant,
) -> Result<Vec<usize>, DialError> {
    // A client may have shut down its sending side and wait for the answer; POLLHUP and POLLERR,
    // which need not be asked for, say that it is gone altogether.
    let mut fds = vec![PollFd::from_borrowed_fd(client, PollFlags::empty())];
    fds.extend(
        attempts
            .iter()
            .map(|it| PollFd::from_borrowed_fd(it.socket.as_fd(), PollFlags::OUT)),
    );
    // ENOMEM at worst: as if nothing had happened yet.
    let _ = poll_until(&mut fds, Some(wake_at));
    let mut revents = fds.iter().map(PollFd::revents);
    if revents.next().is_some_and(|client| !client.is_empty()) {
        return Err(DialError::ClientGone);
    }
    Ok(revents
        .enumerate()
        .filter(|(_, it)| !it.is_empty())
        .map(|(index, _)| index)
        .collect())
}

struct Attempt {
    socket: Socket,
    target: SocketAddr,
    peer: SocketAddr,
}

impl Attempt {
    fn start(target: &Target<'_>, nat64: &Nat64) -> io::Result<Self> {
        let Target { address, outgoing } = *target;
        let (socket, peer) = match connect(address, outgoing) {
            // This host has no IPv4, or no route for it: so the kernel says at once, and no packet has left.
            Err(error) if is_without_route(&error) => match nat64.translated(address) {
                Some(translated) => (connect(translated, outgoing)?, translated),
                None => return Err(error),
            },
            connected => (connected?, address),
        };
        Ok(Self {
            socket,
            target: address,
            peer,
        })
    }

    /// After poll has reported on it.
    fn finish(self) -> Result<Dialled, (io::Error, SocketAddr)> {
        let Self {
            socket,
            target,
            peer,
        } = self;
        let local = match socket.take_error() {
            Ok(None) => socket.local_addr(),
            Ok(Some(error)) | Err(error) => Err(error),
        };
        match local {
            Ok(local) => Ok(Dialled {
                socket: socket.into(),
                tls: None,
                target,
                peer,
                // Always there: the socket was made for an IP address.
                local: local.as_socket().unwrap_or(peer),
            }),
            Err(error) => Err((error, peer)),
        }
    }
}

/// A socket on its way to this address.
fn connect(address: SocketAddr, outgoing: Outgoing<'_>) -> io::Result<Socket> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    // A relay has no urgent mark to pass on: the octet under it is one of the stream's, or it would be lost.
    socket.set_out_of_band_inline(true)?;
    // As the client's: whatever becomes of this process, what it leaves behind is not the end of a stream, and be it of one
    // over which nothing has gone yet. The destination may know of the connection before we do.
    socket.set_linger(Some(Duration::ZERO))?;
    outgoing.apply(&socket, address)?;
    match socket.connect(&address.into()) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        Ok(()) | Err(_) => Ok(socket),
    }
}

fn is_without_route(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENETUNREACH | libc::EAFNOSUPPORT)
    )
}

/// The most telling of several failures: a host that refused was reached, so that what another
/// address met on the way there matters less. Among equals the first counts.
#[derive(Default)]
struct Failure(Option<(io::Error, SocketAddr)>);

impl Failure {
    fn note(&mut self, error: io::Error, address: SocketAddr) {
        let worse = self
            .0
            .as_ref()
            .is_some_and(|(known, _)| how_far(known) >= how_far(&error));
        if !worse {
            self.0 = Some((error, address));
        }
    }
}

impl From<Failure> for DialError {
    fn from(Failure(failure): Failure) -> Self {
        match failure {
            Some((error, address)) => Self::Failed(error, address),
            // No address at all: the resolver and the policy rule this out.
            None => Self::Failed(Errno::HOSTUNREACH.into(), SocketAddr::from(([0; 4], 0))),
        }
    }
}

/// How far a failed attempt got: to the host, near the host, out of our own host, or nowhere.
fn how_far(error: &io::Error) -> u8 {
    match error.raw_os_error() {
        Some(libc::ECONNREFUSED | libc::ECONNRESET) => 4,
        Some(libc::ETIMEDOUT) => 3,
        Some(libc::EHOSTUNREACH | libc::EHOSTDOWN) => 2,
        Some(libc::ENETUNREACH | libc::ENETDOWN | libc::EACCES | libc::EPERM) => 1,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::unix::net::UnixStream;

    use super::*;

    fn dial(
        addresses: &[SocketAddr],
        client: BorrowedFd<'_>,
        deadline: Instant,
    ) -> Result<Dialled, DialError> {
        let targets: Vec<_> = addresses.iter().map(|it| plain(*it)).collect();
        super::dial(&targets, &Nat64::default(), client, deadline)
    }

    fn plain(address: SocketAddr) -> Target<'static> {
        Target {
            address,
            outgoing: Outgoing::default(),
        }
    }

    fn within(limit: Duration) -> Instant {
        Instant::now().checked_add(limit).unwrap()
    }

    fn soon() -> Instant {
        within(Duration::from_secs(5))
    }

    fn errno_of(error: DialError) -> i32 {
        match error {
            DialError::Failed(error, _) => error.raw_os_error().unwrap(),
            DialError::ClientGone => panic!("the client was there"),
        }
    }

    fn refused() -> SocketAddr {
        TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
    }

    #[test]
    fn the_local_address_is_the_true_one() {
        let destination = TcpListener::bind("127.0.0.1:0").unwrap();
        let (_outside, client) = UnixStream::pair().unwrap();
        let address = destination.local_addr().unwrap();
        let dialled = dial(&[address], client.as_fd(), soon()).unwrap();
        assert_eq!(dialled.peer, address);
        assert_eq!(dialled.local, destination.accept().unwrap().1);
    }

    #[test]
    fn a_refused_address_gives_way_to_the_next_one_at_once() {
        let destination = TcpListener::bind("127.0.0.1:0").unwrap();
        let (_outside, client) = UnixStream::pair().unwrap();
        let address = destination.local_addr().unwrap();
        let start = Instant::now();
        let addresses = [refused(), refused(), refused(), refused(), address];
        let dialled = dial(&addresses, client.as_fd(), soon()).unwrap();
        assert_eq!(dialled.peer, address);
        assert!(start.elapsed() < ATTEMPT_DELAY.saturating_mul(4));
    }

    #[test]
    fn when_all_fail_the_one_that_came_furthest_is_told() {
        let (_outside, client) = UnixStream::pair().unwrap();
        // Multicast over TCP is ENETUNREACH before a packet leaves.
        let unreachable: SocketAddr = "224.0.0.1:9".parse().unwrap();
        for addresses in [[unreachable, refused()], [refused(), unreachable]] {
            let error = dial(&addresses, client.as_fd(), soon()).unwrap_err();
            assert_eq!(errno_of(error), libc::ECONNREFUSED);
        }
    }

    /// A listener whose queue is full leaves a SYN without an answer, as a blackholed address does.
    fn silent() -> (Socket, SocketAddr, Vec<Attempt>) {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener
            .bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into())
            .unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        let queue = (0..2)
            .map(|_| Attempt::start(&plain(address), &Nat64::default()).unwrap())
            .collect();
        std::thread::sleep(Duration::from_millis(20));
        (listener, address, queue)
    }

    #[test]
    fn a_silent_address_delays_the_next_one_by_the_attempt_delay() {
        let (_listener, silent, _queue) = silent();
        let destination = TcpListener::bind("127.0.0.1:0").unwrap();
        let (_outside, client) = UnixStream::pair().unwrap();
        let start = Instant::now();
        let address = destination.local_addr().unwrap();
        let dialled = dial(&[silent, address], client.as_fd(), soon()).unwrap();
        assert_eq!(dialled.peer, address);
        let elapsed = start.elapsed();
        assert!(
            elapsed >= ATTEMPT_DELAY && elapsed < ATTEMPT_DELAY.saturating_mul(4),
            "{elapsed:?}"
        );
    }

    #[test]
    fn a_silent_address_times_out_at_the_deadline() {
        let (_listener, silent, _queue) = silent();
        let (_outside, client) = UnixStream::pair().unwrap();
        let deadline = within(Duration::from_millis(100));
        let error = dial(&[silent], client.as_fd(), deadline).unwrap_err();
        assert_eq!(errno_of(error), libc::ETIMEDOUT);
    }

    #[test]
    fn a_client_that_goes_away_ends_the_dial() {
        let (_listener, silent, _queue) = silent();
        let (outside, client) = UnixStream::pair().unwrap();
        drop(outside);
        let start = Instant::now();
        let error = dial(&[silent], client.as_fd(), soon()).unwrap_err();
        assert!(matches!(error, DialError::ClientGone));
        assert!(start.elapsed() < Duration::from_secs(2));
    }
}
