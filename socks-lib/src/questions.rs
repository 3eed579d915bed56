//! Questions that the program sends to name servers itself, answered from the table (DESIGN §2, "Port 53").

use std::ffi::c_int;
use std::net::{IpAddr, SocketAddr};

use fake_dns::dns::{self, Found, MAX_ANSWER, Names};
use fake_dns::{Connection, Family, Name};
use socks_client::{ANSWERED, Eai, Errno, LogLevel, Prefix, Row, Servers, plan_message, reached};

use crate::dial::Start;
use crate::pending::PENDING;
use crate::state::{Answer, State};
use crate::sys::io::{self, Facts, Moved};
use crate::sys::loopback;

/// The name servers that this process has asked. One load of it is all that a program without a resolver of
/// its own pays for each datagram that it receives.
pub(crate) static SERVERS: Servers = Servers::new();

impl State {
    /// Answers a datagram that the program sends to `server`: the answer is in the socket's queue when this returns.
    pub(crate) fn answer_question(
        &self,
        fd: c_int,
        server: SocketAddr,
        query: &[u8],
    ) -> Result<(), Errno> {
        let facts = io::facts(fd).ok().flatten().ok_or(Errno::FAIL_CLOSED)?;
        let (Some(row), Some(_)) = (self.sockets.row(fd), self.process.own()) else {
            return Err(Errno::NO_STATE);
        };
        let mut room = [0; MAX_ANSWER];
        let Some(answer) = dns::answer(query, self, &mut room) else {
            return Ok(()); // as a name server that is sent what is no question
        };
        let ports = SERVERS.ports(server).ok_or(Errno::NO_STATE)?;
        row.asks(facts.cookie);
        loopback::deliver(fd, facts.family, ports, answer).map_err(|error| {
            self.log(
                LogLevel::Error,
                format_args!("question to {server}: no answer can be given: {error}"),
            );
            Errno::FAIL_CLOSED
        })
    }

    /// A stream to a name server: the socket is connected to itself (RFC 9293 §3.5, simultaneous open), so that an
    /// answer which the shim writes there is what the program reads, and nobody else has a hand in it.
    pub(crate) fn connect_to_itself(
        &self,
        fd: c_int,
        facts: Facts,
        family: Family,
        asked: SocketAddr,
    ) -> Start {
        let (Some(row), Some(_)) = (self.sockets.row(fd), self.process.own()) else {
            return Start::Fail(Errno::NO_STATE);
        };
        if let Err(errno) = loopback::connect_to_itself(fd, facts.family) {
            self.log(
                LogLevel::Error,
                format_args!(
                    "connect {asked}: no question can be answered: {}",
                    errno.name()
                ),
            );
            return Start::Fail(Errno::FAIL_CLOSED);
        }
        // As getpeername(2) gives it: without flow information, and a scope is link-local's.
        let asked = SocketAddr::new(reached(asked.ip()), asked.port());
        let is_swapped = row.is_swapped(facts.cookie);
        row.begin(
            facts.cookie,
            Connection { asked, family },
            ANSWERED,
            is_swapped,
        );
        PENDING.watch();
        if io::is_blocking(fd) {
            Start::Done
        } else {
            // A plain connect() that does not block never succeeds at once.
            Start::Fail(Errno::STILL_CONNECTING)
        }
    }

    /// Whether what is sent on `fd` is a stream of questions.
    pub(crate) fn is_stream_of_questions(&self, fd: c_int) -> bool {
        let row = self.sockets.row(fd);
        let is_answered = |row: &Row| row.name_server(io::cookie(fd)?);
        // A datagram socket is not connected, and what is sent after shutdown() is the kernel's to refuse.
        row.and_then(is_answered).is_some() && io::is_connected(fd)
    }

    /// Answers the questions of a stream (RFC 1035 §4.2.2), and tells how many octets it has taken. The length may be
    /// sent before its question; a question that is sent in pieces has nowhere to be kept, and nobody is known to.
    pub(crate) fn answer_stream(&self, fd: c_int, octets: &[u8]) -> Result<usize, Errno> {
        let row = self.sockets.row(fd).ok_or(Errno::NO_STATE)?;
        let (mut prefix, mut rest) = (row.prefix(), octets);
        let mut taken = 0;
        while let [first, behind @ ..] = rest {
            if prefix.len < prefix.octets.len() {
                prefix.push(*first);
                rest = behind;
                continue;
            }
            let len = usize::from(u16::from_be_bytes(prefix.octets));
            prefix = Prefix::default();
            let Some((query, behind)) = rest.split_at_checked(len) else {
                row.keep_prefix(prefix);
                // What was cut off at the end of a long row of questions is sent again.
                return if taken > 0 {
                    Ok(taken)
                } else {
                    Err(Errno::HUNG_UP)
                };
            };
            self.answer_in_stream(fd, query)?;
            rest = behind;
            taken = octets.len().saturating_sub(rest.len());
        }
        row.keep_prefix(prefix);
        Ok(octets.len())
    }

    fn answer_in_stream(&self, fd: c_int, query: &[u8]) -> Result<(), Errno> {
        let mut framed = [0; 2 + MAX_ANSWER];
        let (len, room) = framed.split_at_mut(2);
        let room = room.first_chunk_mut().ok_or(Errno::BROKEN)?;
        let answer = dns::answer(query, self, room).ok_or(Errno::HUNG_UP)?.len();
        len.copy_from_slice(&u16::try_from(answer).unwrap_or(0).to_be_bytes());
        let whole = framed.get(..answer.saturating_add(2)).unwrap_or_default();
        match io::send(fd, whole) {
            Moved::Octets(sent) if sent == whole.len() => Ok(()),
            // The program asks and asks, and reads no answer.
            _ => Err(Errno::HUNG_UP),
        }
    }

    /// The name server whose answer came from `source`.
    pub(crate) fn server_of(&self, fd: c_int, source: SocketAddr) -> Option<SocketAddr> {
        let server = SERVERS.told(source)?;
        let is_asking = self.sockets.row(fd)?.is_asking(io::cookie(fd)?);
        is_asking.then_some(server)
    }
}

impl Names for State {
    fn address(&self, name: &[u8], family: Family) -> Found {
        let plan = plan_message(name, family, Self::is_own_name(name), &self.config);
        match self.carry_out(plan, name) {
            Some(Answer::Addresses([v6, v4])) => v6.or(v4).map_or(Found::NoAddress, Found::Address),
            Some(Answer::Fail(Eai::NONAME)) => Found::NoName,
            _ => Found::Failed,
        }
    }

    fn name(&self, address: IpAddr) -> Option<Name> {
        self.table.lookup(address)
    }
}
