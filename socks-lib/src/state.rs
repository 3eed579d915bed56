//! What every hook stands on: built once, never locked, never changed but through atomics.

use std::ffi::c_int;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use fake_dns::{Connection, Family, Name, Table};
use socks_client::{
    Candidate, Candidates, Config, DirectNames, Eai, Facts, Handshakes, LogLevel, Plan, Question,
    Reverse, Sockets, Twins, plan, plan_reverse,
};

use crate::ask::Mute;
use crate::hosts_file::HostsFile;
use crate::kept::Kept;
use crate::log::Sink;
use crate::sys::memory::Process;
use crate::sys::{addrinfo, io};

/// Everything that the shim knows.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) config: Config,
    pub(crate) direct_names: DirectNames,
    pub(crate) sink: Option<Sink>,
    pub(crate) candidates: Candidates,
    pub(crate) mute: Mute,
    pub(crate) table: Table,
    pub(crate) sockets: Sockets,
    pub(crate) handshakes: Handshakes,
    pub(crate) twins: Twins,
    pub(crate) hosts: HostsFile,
    pub(crate) process: Process,
    pub(crate) kept: Kept,
}

/// How a look-up by name ends, with the addresses that it gives.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Answer {
    /// libc's.
    Pass,
    /// libc's, whose addresses are to be noted under this row of the mapping table.
    Direct(u32),
    /// libc's, asked for this family alone.
    PassAs(Family),
    /// These addresses, v6 first.
    Addresses([Option<IpAddr>; 2]),
    /// This error.
    Fail(Eai),
}

/// How a look-up by address ends.
#[derive(Debug, Clone, Copy)]
#[expect(
    clippy::large_enum_variant,
    reason = "no heap: the name travels by value"
)]
pub(crate) enum NameOf {
    /// libc's answer.
    Pass,
    /// This name.
    Name(Name),
    /// There is none.
    Unknown,
    /// This error.
    Fail(Eai),
}

impl State {
    pub(crate) fn log(&self, level: LogLevel, message: fmt::Arguments<'_>) {
        if let Some(sink) = &self.sink {
            sink.log(level, message);
        }
    }

    /// Answers a look-up by name (RFC 3089 §3, steps 1 and 2); `None` if the gateway is to be asked first.
    pub(crate) fn answer(&self, question: &Question<'_>) -> Option<Answer> {
        let name = question.name.strip_suffix(b".").unwrap_or(question.name);
        // With its dot a name is in no hosts file, and libc would go on to DNS.
        let in_hosts = self
            .hosts
            .read()
            .map(|hosts| hosts.families_of(question.name));
        let facts = Facts {
            in_hosts: in_hosts.unwrap_or_default(),
            is_own_name: Self::is_own_name(name),
        };
        let plan = plan(question, &facts, &self.config, addrinfo::own_families);
        self.carry_out(plan, question.name)
    }

    /// `None` if the gateway is to be asked first.
    pub(crate) fn carry_out(&self, plan: Plan, name: &[u8]) -> Option<Answer> {
        Some(match plan {
            Plan::Verify => return None,
            Plan::Pass => Answer::Pass,
            Plan::Direct { is_by_name } => self.direct(name, is_by_name),
            Plan::PassAs(family) => Answer::PassAs(family),
            Plan::Fail(eai) => Answer::Fail(eai),
            Plan::Reject => {
                let name = name.escape_ascii();
                self.log(LogLevel::Warn, format_args!("name {name}: rejected"));
                Answer::Fail(Eai::NONAME)
            }
            Plan::Mapped(v4) => Answer::Addresses([Some(v4.to_ipv6_mapped().into()), None]),
            Plan::Loopback { v6, v4 } => Answer::Addresses([
                v6.then_some(IpAddr::V6(std::net::Ipv6Addr::LOCALHOST)),
                v4.then_some(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST)),
            ]),
            Plan::Fake {
                v6: false,
                v4: false,
            } => Answer::Addresses([None, None]),
            Plan::Fake { v6, v4 } => self.fake(name, v6, v4),
        })
    }

    pub(crate) fn is_own_name(name: &[u8]) -> bool {
        rustix::system::uname()
            .nodename()
            .to_bytes()
            .eq_ignore_ascii_case(name)
    }

    /// The name is kept for the rules at connect().
    fn direct(&self, name: &[u8], is_by_name: bool) -> Answer {
        self.log(
            LogLevel::Debug,
            format_args!("name {}: direct", name.escape_ascii()),
        );
        let slot = is_by_name.then(|| self.table.register(name));
        // Without a row its addresses go by the rules for addresses.
        slot.and_then(Result::ok)
            .map_or(Answer::Pass, Answer::Direct)
    }

    /// Logs what becomes of a connect(), or of a datagram, that is not relayed.
    #[cold]
    #[inline(never)] // the name is on the stack only when it is needed
    pub(crate) fn log_route(
        &self,
        level: LogLevel,
        what: &str,
        asked: SocketAddr,
        result: fmt::Arguments<'_>,
    ) {
        if self.sink.is_none() {
            return;
        }
        let (address, port) = (asked.ip(), asked.port());
        let is_fake = self.table.pool().contains(address);
        let slot = self.direct_names.slot_of(address);
        let of_slot = || Some(self.table.pool().address(slot?, Family::V4));
        let named = if is_fake { Some(address) } else { of_slot() };
        let kind = if is_fake { "fake" } else { "address" };
        match named.and_then(|address| self.table.lookup(address)) {
            Some(name) => self.log(
                level,
                format_args!("{what} {name}:{port} {kind} {address}: {result}"),
            ),
            None => self.log(level, format_args!("{what} {asked}: {result}")),
        }
    }

    /// An address that libc has given for the name of `slot`, which is ruled direct.
    pub(crate) fn note_direct(&self, address: IpAddr, slot: u32) {
        self.log(
            LogLevel::Debug,
            format_args!("address {address}: of a name that is direct"),
        );
        if !self.direct_names.note(address, slot) {
            self.log(
                LogLevel::Error,
                format_args!("address {address}: too many of names ruled direct"),
            );
        }
    }

    fn fake(&self, name: &[u8], v6: bool, v4: bool) -> Answer {
        match self.table.register(name) {
            Ok(slot) => {
                let address = |family| self.table.pool().address(slot, family);
                let addresses = [
                    v6.then(|| address(Family::V6)),
                    v4.then(|| address(Family::V4)),
                ];
                self.log(
                    LogLevel::Debug,
                    format_args!("name {} fake {addresses:?}", name.escape_ascii()),
                );
                Answer::Addresses(addresses)
            }
            Err(error) => {
                let (used, capacity) = (self.table.len(), self.table.capacity());
                self.log(
                    LogLevel::Error,
                    format_args!(
                        "name {}: {error} ({used} of {capacity} used)",
                        name.escape_ascii()
                    ),
                );
                Answer::Fail(Eai::of_table(&error))
            }
        }
    }

    /// Answers a look-up by address; `None` if the gateway is to be asked.
    pub(crate) fn name_of(&self, address: IpAddr) -> Option<NameOf> {
        let is_in_hosts = self
            .hosts
            .read()
            .is_some_and(|hosts| hosts.has_address(address));
        let is_fake = self.table.pool().contains(address);
        Some(
            match plan_reverse(address, is_fake, is_in_hosts, &self.config) {
                Reverse::Verify => return None,
                Reverse::Pass => NameOf::Pass,
                Reverse::Table => self
                    .table
                    .lookup(address)
                    .map_or(NameOf::Unknown, NameOf::Name),
                Reverse::Unknown => NameOf::Unknown,
            },
        )
    }

    /// What is known of the application's socket: by its descriptor, or, if it was inherited over exec
    /// or came over SCM_RIGHTS, by its cookie in the table.
    pub(crate) fn socket(&self, fd: c_int) -> Option<Known> {
        let cookie = io::cookie(fd)?;
        if let Some(view) = self.sockets.row(fd).and_then(|row| row.view(cookie)) {
            let handshake = self.handshakes.get(view.handshake);
            let standing = handshake.and_then(|handshake| handshake.standing(cookie));
            let is_connected = !standing.is_some_and(|standing| standing.stage.is_under_way());
            return Some(Known {
                connection: view.connection,
                is_connected,
            });
        }
        // Cookies are counted from the machine's start, and a table in /tmp may be older: a row
        // counts only if the socket's peer is a gateway.
        let peer = io::peer(fd)?;
        let is_gateways = |c: Candidate| same_place(c.address, peer);
        if !self.candidates.iter().any(is_gateways) {
            return None;
        }
        let connection = self.table.recall(cookie)?;
        Some(Known {
            connection,
            is_connected: true,
        })
    }
}

/// What is known of a socket that the application connected.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known {
    pub(crate) connection: Connection,
    /// Whether the handshake is over.
    pub(crate) is_connected: bool,
}

pub(crate) fn same_place(one: SocketAddr, other: SocketAddr) -> bool {
    one.port() == other.port() && one.ip().to_canonical() == other.ip().to_canonical()
}
