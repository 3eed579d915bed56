//! Questions that the program sends to name servers itself, answered from the table (DESIGN §2, "Port 53").

use std::ffi::c_int;
use std::net::{IpAddr, SocketAddr};

use fake_dns::dns::{self, Found, MAX_ANSWER, Names};
use fake_dns::{Family, Name};
use socks_client::{Eai, Errno, LogLevel, Prefix, Servers, plan_message};

use crate::looped::LOOPED;
use crate::state::{Answer, State, same_place};
use crate::sys::io::{self, Moved};
use crate::sys::loopback;

/// The name servers that this process has asked on sockets that are not connected.
pub(crate) static SERVERS: Servers = Servers::new();

impl State {
    /// Answers a datagram that the program sends to `server`: the answer is in the socket's queue when this returns. None
    /// is where the kernel would let none in: the socket is connected, and elsewhere.
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
        let delivered = if io::is_looped(fd) {
            let asked = row.name_server(facts.cookie);
            if !asked.is_some_and(|asked| same_place(asked, server)) {
                return Ok(());
            }
            match io::send(fd, answer) {
                Moved::Octets(_) => Ok(()),
                Moved::Failed(errno) => Err(errno),
                Moved::Later | Moved::End => Err(Errno::FAIL_CLOSED),
            }
        } else {
            let ports = SERVERS.ports(server).ok_or(Errno::NO_STATE)?;
            if !row.is_asking(facts.cookie) {
                row.asks(facts.cookie);
                self.tell_duplicates(fd, facts.cookie, &LOOPED);
            }
            loopback::deliver(fd, facts.family, ports, answer)
                .map_err(|error| Errno(error.raw_os_error()))
        };
        delivered.map_err(|errno| {
            let failed = format_args!("no answer can be given: {}", errno.name());
            self.log_route(LogLevel::Error, "question", server, failed);
            Errno::FAIL_CLOSED
        })
    }

    /// Answers the questions of a stream (RFC 1035 §4.2.2), and tells how many octets it has taken: what is cut off at
    /// the end comes again. The length may be sent before its question; a question that is sent in pieces has nowhere to
    /// be kept, and nobody is known to.
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
        if LOOPED.has(fd) && io::local(fd).is_some_and(|local| same_place(local, source)) {
            return self.sockets.row(fd)?.name_server(io::cookie(fd)?);
        }
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
