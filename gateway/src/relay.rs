//! Both directions of one relay, carried by one thread until both have ended.
//!
//! Small messages go by recv and send. A direction that has filled two buffers is bulk and moves by
//! splice(2) through a pipe from then on. 200 ms without traffic give buffer and pipe back, so that
//! an idle relay holds two descriptors and nothing else.
//!
//! The end of one stream is passed on by shutdown(2) and the other direction goes on: half-close is
//! kept both ways. A stream that broke is never passed on as an end: [`End::Broken`] tells the
//! caller to leave SO_LINGER at zero, so that close(2) sends a reset.
//!
//! Both sockets must be O_NONBLOCK: SPLICE_F_NONBLOCK covers the pipe alone, and a splice that waits
//! in one direction stops the other one, for ever if each waits for the other's reader.

use std::fmt;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::sockopt;

use crate::direction::{Broke, Direction};
use crate::pace::Meter;
use crate::pipes::Pools;
use crate::stream::Stream;
use crate::sys;
use crate::wait::poll_until;
use crate::watched::{Moved, Octets};

/// After this long without an octet a direction's buffer or pipe goes back.
const QUIET: Duration = Duration::from_millis(200);

/// How long what a broken stream had delivered may take to leave for the other side.
const FLUSH: Duration = Duration::from_secs(5);

/// Keep-alive of a relay that has gone quiet: a peer that vanished, or whose process is gone (its
/// kernel then answers the probe with a reset), does not hold a half-closed relay for ever.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(120);

/// One of the two streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Destination,
}

impl Side {
    fn other(self) -> Self {
        match self {
            Self::Client => Self::Destination,
            Self::Destination => Self::Client,
        }
    }
}

/// Why a relay ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Both streams ended and everything was passed on.
    Orderly,
    /// The stream on this side broke first.
    Broken(Side, Errno),
    /// No octet either way for the idle limit.
    Idle,
    /// It has lasted as long as one may.
    Total,
}

impl End {
    /// One word for the log.
    pub(crate) fn word(self) -> &'static str {
        const RESET: [Errno; 2] = [Errno::CONNRESET, Errno::PIPE];
        match self {
            Self::Orderly => "orderly",
            Self::Idle => "idle-limit",
            Self::Total => "total-limit",
            Self::Broken(Side::Client, errno) if RESET.contains(&errno) => "client-reset",
            Self::Broken(Side::Client, Errno::TIMEDOUT) => "client-timed-out",
            Self::Broken(Side::Client, Errno::PROTO) => "client-tls-broken",
            Self::Broken(Side::Client, _) => "client-errno",
            Self::Broken(Side::Destination, errno) if RESET.contains(&errno) => "destination-reset",
            Self::Broken(Side::Destination, Errno::TIMEDOUT) => "destination-timed-out",
            Self::Broken(Side::Destination, Errno::PROTO) => "destination-tls-broken",
            Self::Broken(Side::Destination, _) => "destination-errno",
        }
    }
}

/// The word, with the number of an errno that has no word.
impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())?;
        match self {
            Self::Broken(_, errno) if self.word().ends_with("errno") => {
                write!(f, "-{}", errno.raw_os_error())
            }
            _ => Ok(()),
        }
    }
}

/// What a relay carried, and how it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Carried {
    pub(crate) to_destination: u64,
    pub(crate) to_client: u64,
    pub(crate) end: End,
}

/// What ends a relay before its streams do, and what slows it down.
#[derive(Default)]
pub(crate) struct Terms<'a> {
    pub(crate) idle: Option<Duration>,
    pub(crate) total: Option<Duration>,
    pub(crate) meter: Meter<'a>,
}

/// Relays until both directions have ended. `early` came from the client behind its request; it is
/// never more than a buffer holds, since the handshake reads less than that at a time.
pub(crate) fn relay(
    client: Stream<'_>,
    destination: Stream<'_>,
    early: &[u8],
    pools: &Pools,
    terms: Terms<'_>,
    octets: &Octets,
) -> Carried {
    let now = Instant::now();
    let mut relay = Relay {
        to_destination: Direction::new(client, destination, pools, now),
        to_client: Direction::new(destination, client, pools, now),
        meter: terms.meter,
        octets,
        broken: None,
        is_kept_alive: false,
    };
    if !early.is_empty() {
        relay.to_destination.preload(early);
        relay.pump(Side::Client, now);
    }
    let total_at = terms.total.and_then(|limit| now.checked_add(limit));
    let end = relay.run(terms.idle, total_at);
    Carried {
        to_destination: relay.to_destination.octets(),
        to_client: relay.to_client.octets(),
        end,
    }
}

struct Relay<'a> {
    to_destination: Direction<'a>,
    to_client: Direction<'a>,
    meter: Meter<'a>,
    octets: &'a Octets,
    /// The first break, and the moment at which whatever is still to be flushed is given up.
    broken: Option<(Side, Errno, Instant)>,
    is_kept_alive: bool,
}

impl<'a> Relay<'a> {
    fn run(&mut self, idle_limit: Option<Duration>, total_at: Option<Instant>) -> End {
        while !(self.to_destination.is_over() && self.to_client.is_over()) {
            let now = Instant::now();
            if let Some((side, errno, flushed_by)) = self.broken
                && now >= flushed_by
            {
                return End::Broken(side, errno);
            }
            let last = self.to_destination.last().max(self.to_client.last());
            if total_at.is_some_and(|at| now >= at) {
                return End::Total;
            }
            let ready_at = self.meter.ready_at();
            let idle_since = ready_at.map_or(last, |at| at.max(last));
            let idle_at = idle_limit.and_then(|limit| idle_since.checked_add(limit));
            if idle_at.is_some_and(|at| now >= at) {
                return End::Idle;
            }
            if total_at.is_some_and(|at| now >= at) {
                return End::Total;
            }
            self.to_destination.release_if_quiet(now, QUIET);
            self.to_client.release_if_quiet(now, QUIET);
            let mut quiet_at = last.checked_add(QUIET);
            if quiet_at.is_some_and(|at| now >= at) {
                quiet_at = None;
                self.keep_alive();
            }
            let flushed_by = self.broken.map(|(_, _, at)| at);
            let ready_at = ready_at.filter(|at| now < *at);
            self.to_destination.pause(ready_at.is_some());
            self.to_client.pause(ready_at.is_some());
            let wake_at = [idle_at, total_at, quiet_at, flushed_by, ready_at];
            self.turn(wake_at.into_iter().flatten().min());
        }
        match self.broken {
            None => End::Orderly,
            Some((side, errno, flushed_by)) => {
                settle(self.socket(side.other()), flushed_by);
                End::Broken(side, errno)
            }
        }
    }

    /// Waits for something to do and does it.
    fn turn(&mut self, wake_at: Option<Instant>) {
        // What TLS has taken from a socket is nothing that poll would report.
        let ahead = [Side::Client, Side::Destination].map(|side| {
            let from = self.directions(side).0;
            let is_ahead = from.reads() == PollFlags::IN && from.from().is_ahead();
            if is_ahead {
                PollFlags::IN
            } else {
                PollFlags::empty()
            }
        });
        let is_ahead = ahead.contains(&PollFlags::IN);
        let wake_at = if is_ahead {
            Some(Instant::now())
        } else {
            wake_at
        };
        let mut fds = [Side::Client, Side::Destination].map(|side| {
            let (from, to) = self.directions(side);
            PollFd::from_borrowed_fd(self.socket(side), from.reads() | to.writes())
        });
        // A socket of which nothing is wanted any more may report POLLHUP for ever.
        let polled = match [Side::Client, Side::Destination].map(|side| {
            let (from, to) = self.directions(side);
            !from.reads().is_empty() || !to.is_over()
        }) {
            [true, true] => poll_until(&mut fds, wake_at),
            [true, false] => poll_until(&mut fds[..1], wake_at),
            [_, true] => poll_until(&mut fds[1..], wake_at),
            [false, false] => return,
        };
        if polled.is_err() {
            return; // ENOMEM at worst: tried again in the next turn
        }
        let now = Instant::now();
        let [client, destination] = [fds[0].revents() | ahead[0], fds[1].revents() | ahead[1]];
        if self.to_destination.is_due(client, destination) {
            self.pump(Side::Client, now);
        }
        if self.to_client.is_due(destination, client) {
            self.pump(Side::Destination, now);
        }
        self.note_reset(Side::Client, client, now);
        self.note_reset(Side::Destination, destination, now);
    }

    /// Moves what `from` has sent.
    fn pump(&mut self, from: Side, now: Instant) {
        let direction = match from {
            Side::Client => &mut self.to_destination,
            Side::Destination => &mut self.to_client,
        };
        let before = direction.octets();
        let pumped = direction.pump(now, self.meter.turn_octets());
        let moved = direction.octets().saturating_sub(before);
        self.meter.charge(moved, now);
        self.octets.set(Moved {
            to_destination: self.to_destination.octets(),
            to_client: self.to_client.octets(),
        });
        match pumped {
            Ok(()) => {}
            Err(Broke::Source(errno)) => self.break_off(from, errno, now),
            Err(Broke::Sink(errno)) => self.break_off(from.other(), errno, now),
        }
    }

    /// A stream can break while nothing is read from it or written to it.
    fn note_reset(&mut self, side: Side, flags: PollFlags, now: Instant) {
        let (from, to) = self.directions(side);
        let is_seen_by_read = !from.reads().is_empty();
        if flags.intersects(PollFlags::ERR | PollFlags::HUP) && !to.is_over() && !is_seen_by_read {
            let errno = match sockopt::socket_error(self.socket(side)) {
                Ok(Err(errno)) | Err(errno) => errno,
                Ok(Ok(())) => Errno::CONNRESET, // a send has taken the error with it
            };
            self.break_off(side, errno, now);
        }
    }

    /// `side` is dead: nothing can be delivered to it any more. What it sent before is still read
    /// and delivered, as it would be on a direct connection, but an end is no longer an orderly one.
    fn break_off(&mut self, side: Side, errno: Errno, now: Instant) {
        let flushed_by = now.checked_add(FLUSH).unwrap_or(now);
        self.broken.get_or_insert((side, errno, flushed_by));
        let (from, to) = match side {
            Side::Client => (&mut self.to_destination, &mut self.to_client),
            Side::Destination => (&mut self.to_client, &mut self.to_destination),
        };
        to.abandon();
        from.source_is_broken();
    }

    /// The direction out of a side, and the one towards it.
    fn directions(&self, side: Side) -> (&Direction<'a>, &Direction<'a>) {
        match side {
            Side::Client => (&self.to_destination, &self.to_client),
            Side::Destination => (&self.to_client, &self.to_destination),
        }
    }

    fn socket(&self, side: Side) -> BorrowedFd<'a> {
        self.directions(side).0.from().socket()
    }

    /// Once, when a relay first goes quiet: a short one never pays for these system calls.
    fn keep_alive(&mut self) {
        if std::mem::replace(&mut self.is_kept_alive, true) {
            return;
        }
        for side in [Side::Client, Side::Destination] {
            let socket = self.socket(side);
            // Without it a relay lives, if perhaps too long: no reason to end this one.
            let _ = sockopt::set_socket_keepalive(socket, true);
            let _ = sockopt::set_tcp_keepidle(socket, KEEPALIVE_IDLE);
        }
    }
}

/// Waits until the kernel has sent what we gave it: close(2) with SO_LINGER at zero throws away the
/// rest, which a direct peer would have received before the reset.
fn settle(socket: BorrowedFd<'_>, deadline: Instant) {
    let mut pause = Duration::from_millis(1);
    while sys::unsent(socket).is_ok_and(|octets| octets > 0) && Instant::now() < deadline {
        std::thread::sleep(pause);
        pause = pause.saturating_mul(2).min(Duration::from_millis(50));
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;
    use std::sync::Arc;
    use std::thread;

    use super::*;

    /// The outside end of a connection, and the end that is the relay's.
    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let outside = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        outside
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        let inside = listener.accept().unwrap().0;
        inside.set_nonblocking(true).unwrap();
        (outside, inside)
    }

    #[test]
    fn bulk_goes_through_a_pipe_and_a_quiet_relay_holds_neither_pipe_nor_buffer() {
        let pools = Arc::new(Pools::default());
        let (mut client, client_inside) = pair();
        let (mut destination, destination_inside) = pair();
        let relaying = thread::spawn({
            let pools = Arc::clone(&pools);
            move || {
                let (client, destination) = (client_inside.as_fd(), destination_inside.as_fd());
                relay(
                    Stream::plain(client),
                    Stream::plain(destination),
                    b"early",
                    &pools,
                    Terms::default(),
                    &Octets::default(),
                )
            }
        });
        let mut early = [0; 5];
        destination.read_exact(&mut early).unwrap();
        assert_eq!(&early, b"early");

        let bulk = vec![7; 8 << 20];
        let sending = thread::spawn({
            let (mut client, bulk) = (client.try_clone().unwrap(), bulk.clone());
            move || client.write_all(&bulk).unwrap()
        });
        let mut received = vec![0; bulk.len()];
        destination.read_exact(&mut received).unwrap();
        assert!(received == bulk);
        sending.join().unwrap();
        thread::sleep(QUIET.saturating_mul(2));
        assert_eq!(
            pools.spare(),
            (1, 1),
            "buffers and pipes that have gone back"
        );

        destination.write_all(b"back").unwrap();
        client.read_exact(&mut early[..4]).unwrap();
        drop((client, destination));
        let to_destination = 5 + (8 << 20);
        let carried = Carried {
            to_destination,
            to_client: 4,
            end: End::Orderly,
        };
        assert_eq!(relaying.join().unwrap(), carried);
    }

    #[test]
    fn ends_are_words_for_the_log() {
        for (end, text) in [
            (End::Orderly, "orderly"),
            (End::Idle, "idle-limit"),
            (End::Total, "total-limit"),
            (End::Broken(Side::Client, Errno::CONNRESET), "client-reset"),
            (
                End::Broken(Side::Destination, Errno::PIPE),
                "destination-reset",
            ),
            (
                End::Broken(Side::Destination, Errno::TIMEDOUT),
                "destination-timed-out",
            ),
            (
                End::Broken(Side::Client, Errno::HOSTUNREACH),
                "client-errno-113",
            ),
        ] {
            assert_eq!(end.to_string(), text);
        }
    }
}
