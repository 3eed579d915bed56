//! Sockets that are connected to themselves: streams and datagram sockets where the program takes them for connected to
//! port 53, and datagram sockets where it takes them for connected to what no datagram reaches (DESIGN §2, "Port 53").
//!
//! Nothing leaves this host by one, whatever sends; the kernel takes nothing from anybody else for it, as for any connected
//! socket; and an answer that is written into one wakes whoever waits for it, in every kind of wait.

use std::ffi::c_int;
use std::net::SocketAddr;

use fake_dns::{Connection, Family};
use socks_client::{ANSWERED, Errno, HELD, Kind, LogLevel, Pending, reached};

use crate::dial::{Start, mapped};
use crate::pending::WATCHED;
use crate::state::State;
use crate::sys::io::{self, Facts};
use crate::sys::loopback;

/// The descriptors of these sockets; what [`State::sends`] says of one counts.
pub(crate) static LOOPED: Pending = Pending::counted_in(&WATCHED);

/// What becomes of what is sent on a descriptor.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Sends {
    /// It is no such socket.
    Kernels,
    /// It is refused: no datagram is relayed.
    Nowhere,
    /// It is a question to this name server.
    Question(SocketAddr),
    /// The same on a stream.
    Questions,
}

impl State {
    /// Connects an unconnected socket to itself in place of `asked`; `kind` is HELD or ANSWERED.
    pub(crate) fn loop_back(
        &self,
        fd: c_int,
        facts: Facts,
        family: Family,
        asked: SocketAddr,
        kind: u16,
    ) -> Start {
        let (Some(row), Some(_)) = (self.sockets.row(fd), self.process.own()) else {
            return Start::Fail(Errno::NO_STATE);
        };
        if let Err(errno) = loopback::connect_to_itself(fd, facts) {
            let failed = format_args!("not possible on this socket: {}", errno.name());
            self.log_route(LogLevel::Error, "connect", asked, failed);
            return Start::Fail(Errno::FAIL_CLOSED);
        }
        if kind == HELD {
            let held = format_args!("a datagram socket, and none is relayed");
            self.log_route(LogLevel::Warn, "connect", asked, held);
        }
        // As getpeername(2) gives it: without flow information, and a scope is link-local's; a v4 address on a v6 socket is a
        // v4-mapped one (ipv6(7)).
        let asked = SocketAddr::new(reached(asked.ip()), asked.port());
        let asked = match family {
            Family::V4 => asked,
            Family::V6 => mapped(asked),
        };
        let is_swapped = row.is_swapped(facts.cookie);
        row.begin(facts.cookie, Connection { asked, family }, kind, is_swapped);
        let _always_room = LOOPED.insert(fd);
        self.tell_duplicates(fd, facts.cookie, &LOOPED);
        if facts.kind != Kind::Stream || io::is_blocking(fd) {
            Start::Done
        } else {
            // A plain connect() that does not block never succeeds at once.
            Start::Fail(Errno::STILL_CONNECTING)
        }
    }

    /// Looks at one of [`LOOPED`]: the number may be another socket's by now, or the socket connected elsewhere, or shut.
    #[inline(never)] // so that the answer, which needs more stack, finds this frame gone
    pub(crate) fn sends(&self, fd: c_int) -> Sends {
        let view = io::cookie(fd).and_then(|cookie| self.sockets.row(fd)?.view(cookie));
        match view {
            Some(view) if matches!(view.handshake, HELD | ANSWERED) && io::is_looped(fd) => {
                if view.handshake == HELD {
                    Sends::Nowhere
                } else if io::is_stream(fd) {
                    Sends::Questions
                } else {
                    Sends::Question(view.connection.asked)
                }
            }
            _ => Sends::Kernels,
        }
    }
}
