//! How a connect() begins, or goes on with a handshake that was begun before.

use std::ffi::c_int;
use std::net::SocketAddr;

use fake_dns::{Connection, Family};
use socks_client::{
    ANSWERED, Clock, Errno, HELD, Handshake, Kind, LogLevel, Patience, Route, Row, SocketFacts,
    Stage, Standing, View, decide, is_local, reached, relay_to,
};

use crate::dial::{Call, Driven, Event, Locked, Start, Turn, mapped};
use crate::nested::note_spent;
use crate::pending::{Needs, PENDING};
use crate::state::State;
use crate::sys::{abi, io};

impl State {
    /// Decides where `asked` leads.
    #[inline(never)] // so that the turns, which need more stack, find this frame gone
    pub(crate) fn begin_connect(&self, fd: c_int, asked: SocketAddr) -> Start {
        let facts = match io::facts(fd) {
            Ok(Some(facts)) => facts,
            Ok(None) => return Start::Pass,
            // A sandbox does not let us ask: what leaves the host is refused.
            Err(_) if is_local(asked.ip()) => return Start::Pass,
            Err(_) => return Start::Fail(Errno::FAIL_CLOSED),
        };
        let row = self.sockets.row(fd);
        if let Some(row) = row
            && let Some(view) = row.view(facts.cookie)
            && let Some(start) = self.continue_connect(fd, facts.cookie, row, &view)
        {
            return start;
        }
        let is_swapped = row.is_some_and(|row| row.is_swapped(facts.cookie));
        let family = if is_swapped { Family::V4 } else { facts.family };
        let is_v6only = abi::is_mapped(asked) && io::is_v6only(fd);
        let route = decide(
            SocketFacts {
                family,
                kind: facts.kind,
                is_v6only,
            },
            asked,
            &self.config,
            &self.table,
            &self.direct_names,
        );
        // A connected or listening stream is the kernel's to refuse (EISCONN), whatever the address.
        let is_stream = facts.kind == Kind::Stream;
        let is_taken = || io::is_connected(fd) || io::is_listening(fd);
        if is_stream && route != Route::Direct && is_taken() {
            return Start::Pass;
        }
        let relay = match route {
            Route::Direct if is_swapped => {
                io::clear_v6only(fd);
                return Start::PassTo(mapped(asked));
            }
            Route::Direct => {
                let is_held = |row: &&Row| !is_stream && row.is_held(facts.cookie);
                if let Some(row) = row.filter(is_held) {
                    // Else the kernel would keep loopback's as its own address.
                    io::dissolve(fd);
                    row.clear();
                }
                self.log_route(LogLevel::Debug, "connect", asked, format_args!("direct"));
                return Start::Pass;
            }
            Route::Refuse(errno) => {
                let refused = format_args!("refused: {}", errno.name());
                self.log_route(LogLevel::Warn, "connect", asked, refused);
                return Start::Fail(errno);
            }
            Route::Hold => return self.loop_back(fd, facts, family, asked, HELD),
            Route::Answer => return self.loop_back(fd, facts, family, asked, ANSWERED),
            Route::Relay(relay) => relay,
        };
        // A vfork child has no memory of its own to keep a handshake in, and may not connect (vfork(2)).
        let (Some(row), Some(pid)) = (row, self.process.own()) else {
            self.log(
                LogLevel::Error,
                format_args!("connect {asked}: no room for descriptor {fd}"),
            );
            return Start::Fail(Errno::NO_STATE);
        };
        let now = io::now();
        let twin = relay
            .slot
            .and_then(|slot| self.twins.take(slot, asked.port(), family, now));
        if let Some(errno) = twin {
            let result = format_args!("{}, as its twin a moment ago", errno.name());
            self.log_route(LogLevel::Info, "connect", asked, result);
            return Start::Fail(errno);
        }
        // As getpeername(2) gives it: without flow information, and a scope is link-local's.
        let asked = SocketAddr::new(reached(asked.ip()), asked.port());
        let connection = Connection { asked, family };
        let begun = self.handshakes.begin(facts.cookie, now);
        let Some((index, handshake)) = begun.and_then(|i| Some((i, self.handshakes.get(i)?)))
        else {
            self.log(
                LogLevel::Error,
                format_args!("connect {asked}: too many at once"),
            );
            return Start::Fail(Errno::NO_STATE);
        };
        note_spent(fd, row);
        row.begin(facts.cookie, connection, index, is_swapped);
        row.begun_by(io::thread());
        let mut call = Call {
            fd,
            row,
            handshake,
            cookie: facts.cookie,
            connection,
            relay,
            patience: self.patience(fd, now, false),
            is_blocking: io::is_blocking(fd),
            candidate: 0,
            pid,
            is_pending: false,
            postponed: None,
        };
        if call.is_blocking || !PENDING.insert(fd) {
            return Start::Dial(call);
        }
        let driven = {
            let Some(_locked) = Locked::take(call.handshake, pid) else {
                return Start::Fail(Errno::ALREADY);
            };
            let driven = self.drive(&mut call, Event::Begin);
            if let Driven::Wants(events, _) = driven {
                self.mark(call.row, fd, events);
                self.pend_duplicates(fd, call.cookie);
            } else {
                PENDING.remove(fd);
            }
            call.handshake.unlock(pid, call.cookie);
            driven
        };
        match driven {
            // A plain connect() that does not block never succeeds at once.
            Driven::Wants(..) | Driven::Over(Ok(())) => Start::Fail(Errno::STILL_CONNECTING),
            Driven::Over(Err(errno)) => Start::Fail(errno),
        }
    }

    /// A further connect(): on a socket whose handshake is not over it goes on with that, whatever the
    /// address, as the kernel's does. `None` if there is nothing to go on with.
    fn continue_connect(
        &self,
        fd: c_int,
        cookie: u64,
        row: &'static Row,
        view: &View,
    ) -> Option<Start> {
        let handshake = self.handshakes.get(view.handshake)?;
        let standing = handshake.standing(cookie)?;
        // As connect(2) ends a failed connection: with the error if nobody has asked for it, else with
        // ECONNABORTED; then the socket may be used again.
        let over = match standing.stage {
            Stage::Failed(errno) => Some(errno),
            Stage::Told => Some(Errno::ABORTED),
            _ => None,
        };
        if let Some(errno) = over {
            io::dissolve(fd);
            self.forget_handshake(fd, row, handshake);
            return Some(Start::Fail(errno));
        }
        if !standing.stage.is_under_way() {
            return None;
        }
        let call = self.call(fd, cookie, row, view, handshake, &standing)?;
        if call.is_blocking {
            return Some(Start::Dial(call));
        }
        Some(match self.drive_pending(fd) {
            Needs::Wait(..) => Start::Fail(Errno::ALREADY),
            Needs::Nothing => match handshake.take_failure() {
                Some(errno) => {
                    io::dissolve(fd);
                    self.forget_handshake(fd, row, handshake);
                    Start::Fail(errno)
                }
                // The kernel's own socket says the rest: connected now, EISCONN the next time.
                None => Start::Pass,
            },
        })
    }

    /// The call that goes on with a handshake.
    pub(crate) fn call(
        &self,
        fd: c_int,
        cookie: u64,
        row: &'static Row,
        view: &View,
        handshake: &'static Handshake,
        standing: &Standing,
    ) -> Option<Call> {
        let connection = view.connection;
        // The rules have had their say when it began.
        let relay = relay_to(connection.asked, &self.table)?;
        let patience = Patience {
            began: standing.began,
            ..self.patience(fd, io::now(), true)
        };
        Some(Call {
            fd,
            row,
            handshake,
            cookie,
            connection,
            relay,
            patience,
            is_blocking: io::is_blocking(fd),
            candidate: standing.candidate,
            pid: self.process.own()?,
            is_pending: false,
            postponed: None,
        })
    }

    /// Takes a handshake on a socket that does not block as far as it goes without waiting; the caller
    /// holds its lock.
    pub(crate) fn drive(&self, call: &mut Call, mut event: Event) -> Driven {
        loop {
            match self.turned(call, event) {
                Turn::Done => return Driven::Over(Ok(())),
                Turn::Fail(errno) => return Driven::Over(Err(errno)),
                Turn::Wait(events, milliseconds) => return Driven::Wants(events, milliseconds),
                Turn::Connect(address) => event = Event::Connected(io::connect(call.fd, address)),
            }
        }
    }

    fn patience(&self, fd: c_int, now: Clock, is_further: bool) -> Patience {
        let send_timeout = if io::is_blocking(fd) {
            io::send_timeout(fd)
        } else {
            None
        };
        Patience {
            began: now,
            called: now,
            send_timeout,
            is_further,
        }
    }
}
