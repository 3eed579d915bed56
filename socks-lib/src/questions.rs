//! Questions that the program sends to name servers itself, answered from the table (DESIGN §2, "Port 53").

use std::ffi::c_int;
use std::net::{IpAddr, SocketAddr};

use fake_dns::dns::{self, Found, MAX_ANSWER, Names};
use fake_dns::{Family, Name};
use socks_client::{Eai, Errno, LogLevel, Servers, plan_message};

use crate::state::{Answer, State};
use crate::sys::{io, loopback};

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
            Answer::Addresses([v6, v4]) => v6.or(v4).map_or(Found::NoAddress, Found::Address),
            Answer::Fail(Eai::NONAME) => Found::NoName,
            Answer::Fail(_) | Answer::Pass | Answer::PassAs(_) | Answer::Direct(_) => Found::Failed,
        }
    }

    fn name(&self, address: IpAddr) -> Option<Name> {
        self.table.lookup(address)
    }
}
