//! One connect() through the gateway: TCP connect, handshake, and what the application is told.
//!
//! A [`Call`] is driven by its shell in turns. Each turn runs inside the gate and waits for nothing;
//! what waits, libc's own connect and poll, the shell calls between two turns, outside the gate, since
//! both are cancellation points. How far the socket has come is kept in its row, so that a further
//! connect(), by whichever thread or forked child, goes on where this one stopped.

use std::ffi::{c_int, c_short};
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use fake_dns::{Connection, Family, Table};
use socks_client::{
    Candidate, Clock, Errno, Gateway, Handshake, LogLevel, Patience, Relay, Row, SILENCE_LIMIT,
    Stage,
};
use socks_wire::{ClientHandshake, Cmd, Destination, HandshakeError, Progress};

use crate::handshake::{Ended, advance, credentials};
use crate::state::State;
use crate::sys::io;
use crate::sys::signals::{self, Blocked};
use crate::sys::swap;

/// How a connect() begins.
#[derive(Debug)]
pub(crate) enum Start {
    /// libc's own connect is called with the application's arguments.
    Pass,
    /// libc's own connect is called with this address: the kernel's socket is AF_INET6 where the
    /// application's is AF_INET.
    PassTo(SocketAddr),
    /// The call ends with 0.
    Done,
    /// The call ends with this errno.
    Fail(Errno),
    /// Turns follow.
    Dial(Call),
}

/// What the shell does next.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Turn {
    /// Returns 0.
    Done,
    /// Returns -1 with this errno.
    Fail(Errno),
    /// Calls libc's connect with this address.
    Connect(SocketAddr),
    /// Calls libc's poll for this, for at most so many milliseconds.
    Wait(c_short, c_int),
}

/// What came of it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Event {
    /// Nothing yet: the first turn.
    Begin,
    /// libc's connect returned 0, or this errno.
    Connected(Result<(), Errno>),
    /// libc's poll returned something to do, or its time is over.
    Woken,
    /// libc's poll was interrupted by a signal.
    Interrupted,
}

/// One call of connect() on one socket.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) fd: c_int,
    pub(crate) row: &'static Row,
    pub(crate) handshake: &'static Handshake,
    pub(crate) cookie: u64,
    pub(crate) connection: Connection,
    pub(crate) relay: Relay,
    pub(crate) patience: Patience,
    pub(crate) is_blocking: bool,
    /// The gateway's address that it is at.
    pub(crate) candidate: u8,
    /// This process, as claims know it.
    pub(crate) pid: u32,
    /// Whether connect() has returned EINPROGRESS: a failure is then seen in the socket, as that of a
    /// plain one is.
    pub(crate) is_pending: bool,
    /// What happened while another thread had the lock.
    pub(crate) postponed: Option<Event>,
}

/// Where the handshake of a socket that does not block stands, when nothing more can be done now.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Driven {
    /// It needs this of poll, for at most so many milliseconds.
    Wants(c_short, c_int),
    /// It is over.
    Over(Result<(), Errno>),
}

impl State {
    /// The next thing to do for `call`, after `event`. One thread at a time does it.
    #[inline(never)]
    pub(crate) fn turn(&self, call: &mut Call, event: Event) -> Turn {
        let event = call.postponed.take().unwrap_or(event);
        // Closed by another thread, and perhaps somebody else's socket by now: hands off.
        if io::cookie(call.fd) != Some(call.cookie) {
            return Turn::Fail(Errno::CLOSED);
        }
        let Some(locked) = Locked::take(call.handshake, call.pid) else {
            // Another thread is in the middle of a turn, which takes microseconds.
            call.postponed = Some(event);
            return self.wait(call, 0);
        };
        let turn = match self.turned(call, event) {
            Turn::Fail(errno) if call.stage().is_some_and(Stage::is_under_way) => {
                // SO_SNDTIMEO or a signal: it goes on, driven by whatever the program waits with.
                self.pend(call);
                Turn::Fail(errno)
            }
            turn => turn,
        };
        call.handshake.unlock(call.pid, call.cookie);
        drop(locked);
        turn
    }

    /// As [`State::turn`], by whoever holds the lock.
    pub(crate) fn turned(&self, call: &mut Call, event: Event) -> Turn {
        match event {
            Event::Begin => match call.stage() {
                Some(Stage::Negotiating) => self.step(call),
                Some(Stage::Socksified) => Turn::Done,
                // It goes on with the TCP connect that is under way.
                _ if call.patience.is_further => self.connect_to_candidate(call),
                _ => self.connect_to_next(call, None),
            },
            Event::Connected(Ok(())) => self.tcp_is_up(call),
            Event::Connected(Err(errno)) => self.tcp_failed(call, errno),
            Event::Woken => self.woken(call),
            // A plain connect() that does not block is never interrupted; one with SO_SNDTIMEO always
            // is (signal(7)); else SA_RESTART decides.
            Event::Interrupted if !call.is_blocking => self.woken(call),
            Event::Interrupted
                if call.patience.send_timeout.is_none() && signals::every_handler_restarts() =>
            {
                self.woken(call)
            }
            Event::Interrupted => Turn::Fail(Errno::INTERRUPTED),
        }
    }

    /// Starts the TCP connect to the next of the gateways' addresses.
    fn connect_to_next(&self, call: &mut Call, last: Option<Errno>) -> Turn {
        let Some(index) = self.next(call, None) else {
            let errno = last.map_or(Errno::GATEWAY, Errno::of_gateway_connect);
            return self.give_up(call, errno, format_args!("the gateway cannot be reached"));
        };
        call.candidate = index;
        self.connect_to_candidate(call)
    }

    fn next(&self, call: &Call, except: Option<u8>) -> Option<u8> {
        let family = call.connection.family;
        self.candidates
            .next(family, call.patience.began, io::now(), except)
    }

    fn connect_to_candidate(&self, call: &mut Call) -> Turn {
        let Some(Candidate { address, .. }) = self.candidates.get(call.candidate) else {
            return self.give_up(call, Errno::GATEWAY, format_args!("there is no gateway"));
        };
        let is_swapped = call.row.is_swapped(call.cookie);
        let address = match (address, call.connection.family) {
            (SocketAddr::V6(_), Family::V4) if !is_swapped => match self.swap(call) {
                Ok(()) => address,
                Err(errno) => return self.no_socket(call, errno),
            },
            // A bound v6 socket speaks no v4-mapped addresses.
            (SocketAddr::V4(_), Family::V6) if io::is_bound_to_v6(call.fd) => {
                match self.swap(call) {
                    Ok(()) => mapped(address),
                    Err(errno) => return self.no_socket(call, errno),
                }
            }
            // One bound to a v4-mapped address speaks v4 alone.
            (SocketAddr::V6(_), Family::V6) if io::is_bound_to_v4(call.fd) => {
                match self.swap(call) {
                    Ok(()) => address,
                    Err(errno) => return self.no_socket(call, errno),
                }
            }
            (SocketAddr::V4(_), family) if is_swapped || family == Family::V6 => {
                io::clear_v6only(call.fd);
                mapped(address)
            }
            _ => address,
        };
        if self.next(call, Some(call.candidate)).is_some() {
            io::hurry(call.fd);
        } else {
            self.stop_hurrying(call.fd);
        }
        call.handshake.turn_to(call.candidate, io::now());
        Turn::Connect(address)
    }

    /// The socket has no time limit but the program's own.
    fn stop_hurrying(&self, fd: c_int) {
        if self.candidates.is_choice() {
            io::stop_hurrying(fd);
        }
    }

    /// A handshake ends without a connection, and leaves nothing in its socket.
    pub(crate) fn end(&self, fd: c_int, handshake: &Handshake) {
        self.stop_hurrying(fd);
        handshake.end();
    }

    /// The gateway that `call` is at, for its credentials and for the log.
    fn gateway_of(&self, call: &Call) -> Option<&Gateway> {
        let candidate = self.candidates.get(call.candidate)?;
        self.config.gateways.get(candidate.gateway)
    }

    /// Another socket under the same number; what it could not take over is logged.
    fn swap(&self, call: &mut Call) -> Result<(), Errno> {
        let is_v4s = call.connection.family == Family::V4;
        // Other processes may have the old one.
        self.stop_hurrying(call.fd);
        let swapped = swap::to_v6(call.fd, self.sockets)?;
        if let Some(lost) = swapped.lost_address {
            let fd = call.fd;
            self.log(
                LogLevel::Warn,
                format_args!("descriptor {fd}: bound to {lost}, only its port is kept"),
            );
        }
        // The handshake goes over to the new socket.
        let index = self.handshakes.begin(swapped.cookie, call.patience.began);
        let next = index.and_then(|index| Some((index, self.handshakes.get(index)?)));
        call.handshake.end();
        let (index, handshake) = next.ok_or(Errno::NO_STATE)?;
        (call.cookie, call.handshake) = (swapped.cookie, handshake);
        let _locked = handshake.try_lock(call.pid, is_alive);
        call.row
            .begin(swapped.cookie, call.connection, index, is_v4s);
        swap::for_each_duplicate(swapped.cookie, |fd| {
            if fd != call.fd {
                self.sockets.duplicated(call.fd, fd);
            }
        });
        Ok(())
    }

    /// There is no socket to reach this gateway with: out of descriptors, say, which is the program's to
    /// know, or a host without IPv6, where the next gateway is worth a try.
    fn no_socket(&self, call: &mut Call, errno: Errno) -> Turn {
        if errno.is_of_gateway() {
            return self.next_candidate(call, errno);
        }
        self.forget_handshake(call.fd, call.row, call.handshake);
        Turn::Fail(errno)
    }

    fn tcp_failed(&self, call: &mut Call, errno: Errno) -> Turn {
        match errno.0 {
            libc::EINPROGRESS if !call.is_blocking => self.wait(call, libc::POLLOUT),
            // A further connect() of a socket that does not block asks whether it is done yet.
            libc::EALREADY if !call.is_blocking => Turn::Fail(Errno::ALREADY),
            // SO_SNDTIMEO, or a signal: the kernel goes on connecting, and a further connect() waits.
            libc::EINPROGRESS | libc::EALREADY | libc::EINTR => Turn::Fail(errno),
            libc::EISCONN if call.patience.is_further => self.tcp_is_up(call),
            _ if errno.is_of_gateway() => self.next_candidate(call, errno),
            _ => {
                self.forget_handshake(call.fd, call.row, call.handshake);
                Turn::Fail(errno)
            }
        }
    }

    /// This gateway is dead for a while.
    fn next_candidate(&self, call: &mut Call, errno: Errno) -> Turn {
        self.buried(call, format_args!("{}", errno.name()));
        // The kernel would say ECONNABORTED once to the next connect().
        io::dissolve(call.fd);
        self.connect_to_next(call, Some(errno))
    }

    /// The handshake has failed by the gateway's own fault: another one may do better.
    fn next_or_give_up(&self, call: &mut Call, errno: Errno, why: fmt::Arguments<'_>) -> Turn {
        self.buried(call, why);
        if self.next(call, None).is_none() {
            return self.give_up(call, errno, why);
        }
        io::dissolve(call.fd);
        self.connect_to_next(call, None)
    }

    fn buried(&self, call: &Call, why: fmt::Arguments<'_>) {
        let now = io::now();
        self.candidates
            .failed(call.candidate, call.patience.began, now);
        let next = self
            .next(call, None)
            .and_then(|next| self.candidates.get(next));
        if let (Some(dead), Some(next)) = (self.candidates.get(call.candidate), next) {
            let (dead, next) = (dead.address, next.address);
            self.log(
                LogLevel::Warn,
                format_args!("gateway {dead}: {why}; trying {next}"),
            );
        }
    }

    fn tcp_is_up(&self, call: &mut Call) -> Turn {
        self.begin_negotiating(call);
        self.woken(call)
    }

    fn begin_negotiating(&self, call: &Call) {
        self.stop_hurrying(call.fd);
        // Another thread may have seen it before this one.
        if call.stage() == Some(Stage::Connecting) {
            let gateway = self.gateway_of(call);
            let is_pipelined = gateway.is_some_and(|gateway| gateway.is_pipelined);
            let progress = Progress::beginning(is_pipelined);
            call.handshake
                .save(Stage::Negotiating, call.candidate, progress);
        }
    }

    fn woken(&self, call: &mut Call) -> Turn {
        // Only a socket that does not block is waited for here while it connects.
        if call.stage() == Some(Stage::Connecting) {
            match io::take_error(call.fd) {
                Err(errno) => return self.next_candidate(call, errno),
                Ok(()) if !io::is_connected(call.fd) => return self.wait(call, libc::POLLOUT),
                Ok(()) => self.begin_negotiating(call),
            }
        }
        match call.stage() {
            Some(Stage::Negotiating) => self.step(call),
            Some(Stage::Socksified) => Turn::Done,
            // Another thread has ended this handshake.
            Some(Stage::Failed(errno)) => Turn::Fail(errno),
            Some(Stage::Connecting | Stage::Told) | None => Turn::Fail(Errno::ABORTED),
        }
    }

    /// Steps the handshake as far as it goes without waiting.
    fn step(&self, call: &mut Call) -> Turn {
        let standing = call.handshake.standing(call.cookie);
        let progress = standing.map_or_else(Progress::default, |standing| standing.progress);
        let Some(ended) = self.advance(call, progress) else {
            return self.give_up(call, Errno::NO_ROW, format_args!("the name is lost"));
        };
        match ended {
            Ended::Stands(progress) => {
                call.handshake
                    .save(Stage::Socksified, call.candidate, progress);
                self.stands(call)
            }
            Ended::Wants(events, progress) => {
                call.handshake
                    .save(Stage::Negotiating, call.candidate, progress);
                self.wait(call, events)
            }
            // The gateway's word on the destination.
            Ended::Refused(error @ HandshakeError::Reply(_)) => {
                self.candidates.works(call.candidate);
                self.give_up(call, Errno::of_handshake(error), format_args!("{error}"))
            }
            Ended::Refused(error) => {
                self.next_or_give_up(call, Errno::of_handshake(error), format_args!("{error}"))
            }
            Ended::Lost(Some(errno)) => self.next_or_give_up(
                call,
                Errno::GATEWAY,
                format_args!("the gateway broke off: {}", errno.name()),
            ),
            Ended::Lost(None) => self.next_or_give_up(
                call,
                Errno::GATEWAY,
                format_args!("the gateway hung up in the handshake"),
            ),
        }
    }

    /// `None` if the table has lost the name, which only somebody who wrote into its file can have done.
    #[inline(never)] // its messages are on the stack only while they are written and read
    fn advance(&self, call: &Call, progress: Progress) -> Option<Ended> {
        let credentials = credentials(self.gateway_of(call));
        let mut destination = call.connection.asked.into();
        if !call.relay.read_destination(&self.table, &mut destination) {
            return None;
        }
        let mut handshake =
            ClientHandshake::resume(Cmd::CONNECT, &destination, credentials, progress);
        Some(advance(call.fd, &mut handshake, |_| ()))
    }

    fn wait(&self, call: &mut Call, events: c_short) -> Turn {
        let now = io::now();
        match call.patience.left(now) {
            // A glance, while another thread is in the middle of a step.
            Ok(_) if events == 0 => Turn::Wait(events, 1),
            Ok(left) => match self.silence_left(call, now) {
                Some(0) => self.next_or_give_up(
                    call,
                    Errno::GATEWAY,
                    format_args!("the gateway is silent"),
                ),
                silence => {
                    let left = left.min(silence.unwrap_or(left));
                    Turn::Wait(events, c_int::try_from(left).unwrap_or(c_int::MAX))
                }
            },
            Err(Errno::GATEWAY) => {
                self.give_up(call, Errno::GATEWAY, format_args!("the gateway is silent"))
            }
            Err(errno) => Turn::Fail(errno),
        }
    }

    /// How long the gateway may still say nothing, if there is another one to be tried.
    fn silence_left(&self, call: &Call, now: Clock) -> Option<u64> {
        let standing = call.handshake.standing(call.cookie)?;
        let is_silent = standing.stage == Stage::Negotiating && standing.progress.is_unanswered();
        if !is_silent {
            return None;
        }
        self.next(call, Some(call.candidate))?;
        let end = standing.turned.0.saturating_add(SILENCE_LIMIT);
        Some(end.saturating_sub(now.0))
    }

    fn stands(&self, call: &Call) -> Turn {
        // A full table costs the answer of getpeername after exec, not the connection.
        let _kept = self.table.remember(call.cookie, call.connection);
        self.candidates.works(call.candidate);
        self.log_end(call, LogLevel::Info, format_args!("ok"));
        Turn::Done
    }

    /// The handshake has failed. In connect() the socket is as it was before, and may be used again;
    /// after EINPROGRESS it stands as a refused one does.
    fn give_up(&self, call: &Call, errno: Errno, why: fmt::Arguments<'_>) -> Turn {
        io::dissolve(call.fd);
        if call.is_pending {
            self.stop_hurrying(call.fd);
            let gateway = self.candidates.get(call.candidate);
            io::refuse(
                call.fd,
                gateway.map_or(call.connection.asked, |g| g.address),
            );
            call.handshake
                .save(Stage::Failed(errno), call.candidate, Progress::default());
        } else {
            self.forget_handshake(call.fd, call.row, call.handshake);
        }
        let Connection { asked, family } = call.connection;
        if let Some(slot) = call.relay.slot {
            self.twins
                .failed(slot, asked.port(), family, errno, io::now());
        }
        // What concerns the gateway is a warning; a destination that refuses is everyday life.
        let level = if errno == Errno::GATEWAY {
            LogLevel::Warn
        } else {
            LogLevel::Info
        };
        self.log_end(call, level, format_args!("{} ({why})", errno.name()));
        Turn::Fail(errno)
    }

    fn log_end(&self, call: &Call, level: LogLevel, result: fmt::Arguments<'_>) {
        let sink = self.sink.as_ref().filter(|sink| sink.takes(level));
        let gateway = self
            .gateway_of(call)
            .or_else(|| self.config.gateways.first());
        let (Some(sink), Some(gateway)) = (sink, gateway) else {
            return;
        };
        let asked = call.connection.asked;
        let destination = Shown(&call.relay, &self.table);
        let fake = if call.relay.slot.is_some() {
            " fake "
        } else {
            " address "
        };
        let took = io::now().0.saturating_sub(call.patience.began.0);
        sink.write_line(format_args!(
            "connect {destination}{fake}{} via {gateway}: {result} in {took} ms",
            asked.ip()
        ));
    }
}

/// A destination in the log: its name is on the stack only while it is written.
struct Shown<'a>(&'a Relay, &'a Table);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(relay, table) = self;
        let mut destination: Destination = SocketAddr::from(([0; 4], 0)).into();
        if relay.read_destination(table, &mut destination) {
            destination.fmt(f)
        } else {
            f.write_str("(a lost name)")
        }
    }
}

/// A handshake's lock, with the signals of this thread blocked. Without a destructor for the lock: the
/// call may have gone over to another handshake meanwhile.
pub(crate) struct Locked {
    _blocked: Blocked,
}

impl Locked {
    /// `None` if another thread holds on to it for longer than a turn takes.
    pub(crate) fn take(handshake: &Handshake, pid: u32) -> Option<Self> {
        let blocked = Blocked::all();
        for _ in 0..LOCK_TRIES {
            if handshake.try_lock(pid, is_alive) {
                return Some(Self { _blocked: blocked });
            }
            rustix::thread::sched_yield();
        }
        None
    }
}

/// How often a lock is tried, the processor given away each time: its holder waits for nothing, but may have
/// been preempted.
const LOCK_TRIES: usize = 20_000;

/// Whether there is such a process; one that we may not ask is there.
fn is_alive(pid: u32) -> bool {
    let pid = i32::try_from(pid)
        .ok()
        .and_then(rustix::process::Pid::from_raw);
    pid.is_some_and(|pid| rustix::process::test_kill_process(pid) != Err(rustix::io::Errno::SRCH))
}

/// An IPv4 address as an AF_INET6 socket has it.
pub(crate) fn mapped(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(v4) => SocketAddr::new(v4.to_ipv6_mapped().into(), address.port()),
        IpAddr::V6(_) => address,
    }
}

impl Call {
    pub(crate) fn stage(&self) -> Option<Stage> {
        self.handshake
            .standing(self.cookie)
            .map(|standing| standing.stage)
    }

    /// From now on a failure is seen in the socket.
    pub(crate) fn pend(&mut self) {
        (self.is_pending, self.is_blocking) = (true, false);
    }
}
