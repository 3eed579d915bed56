//! The address of a connect() → which Destination, or none of our business (RFC 3089 §3, steps 4–5).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use fake_dns::{Family, Name, Table};
use socks_wire::{Address, Destination};

use crate::{Action, Config, DirectNames, Errno, Place, Protocol, literal};

/// The port of DNS (RFC 1035 §4.2). What goes there is a name on its way out.
pub(crate) const DOMAIN_PORT: u16 = 53;

/// `SO_TYPE` and `SO_PROTOCOL`, as far as they matter here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// TCP, or MPTCP.
    Stream,
    /// Datagrams, connected or not.
    Datagram,
    /// Raw sockets and what else speaks IP.
    Other,
}

/// What is known of the application's socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketFacts {
    /// The family that the application gave to socket(2).
    pub family: Family,
    /// Its kind.
    pub kind: Kind,
    /// `IPV6_V6ONLY`, which makes v4-mapped addresses unreachable.
    pub is_v6only: bool,
}

/// A destination to be reached through the gateway. Its name stays in the mapping table, whose rows never
/// change, until the request is written: a connect() may run on the small stack of a signal handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Relay {
    address: IpAddr,
    port: u16,
    /// The row of the mapping table, if the address is a fake one.
    pub slot: Option<u32>,
}

impl Relay {
    /// Makes `destination` what the request carries: the name behind a fake address, never the fake address itself,
    /// which means nothing elsewhere; or a literal. False if the table has no such row.
    #[must_use]
    pub fn read_destination(&self, table: &Table, destination: &mut Destination) -> bool {
        *destination = SocketAddr::new(self.address, self.port).into();
        self.slot
            .is_none_or(|slot| name_of(table, slot, &mut destination.address))
    }
}

/// Makes `address` the name in this slot; false if there is none.
#[inline(never)] // the name is on the stack once more while it is read, and no longer
fn name_of(table: &Table, slot: u32, address: &mut Address) -> bool {
    let mut name = Name::EMPTY;
    if !table.read_name(slot, &mut name) {
        return false;
    }
    match literal(name.as_bytes()) {
        // A literal of the other family was looked up (resolve.rs): it travels as what it is.
        Some(literal) => *address = literal.address.to_canonical().into(),
        None => return address.set_fqdn(name.as_bytes()).is_ok(),
    }
    true
}

/// Where a connection goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// To libc and the kernel.
    Direct,
    /// Through the gateway.
    Relay(Relay),
    /// To port 53: whatever is sent there is a question, and is answered from the table.
    Answer,
    /// Nowhere yet: a datagram socket is as if connected, and what it sends is refused. Programs connect one
    /// to see whether there is a way, and sort addresses by it.
    Hold,
    /// Nowhere.
    Refuse(Errno),
}

/// Decides where `asked` leads from a socket with these facts.
#[must_use]
pub fn decide(
    facts: SocketFacts,
    asked: SocketAddr,
    config: &Config,
    table: &Table,
    direct_names: &DirectNames,
) -> Route {
    let address = asked.ip().to_canonical();
    let asked_family = if asked.is_ipv4() {
        Family::V4
    } else {
        Family::V6
    };
    // The kernel says EAFNOSUPPORT or EINVAL to an address of the other family, ENETUNREACH to a
    // v4-mapped one on a V6ONLY socket.
    let is_mapped = asked.is_ipv6() && address.is_ipv4();
    let is_stream = facts.kind == Kind::Stream;
    // Datagrams go out on a v6 socket to v4 addresses too.
    let is_other = asked_family != facts.family && (is_stream || asked.is_ipv6());
    if is_other || (is_mapped && facts.is_v6only) {
        return Route::Direct;
    }
    let Some(relay) = relay_to(asked, table) else {
        return Route::Refuse(Errno::NO_ROW);
    };
    let is_fake = relay.slot.is_some();
    // A resolver would carry names out, one on loopback too (DESIGN §2, "Port 53").
    let is_domain = asked.port() == DOMAIN_PORT;
    let action = match ruled(facts.kind, &relay, config, table, direct_names) {
        Ok(action) => action,
        Err(errno) => return Route::Refuse(errno),
    };
    match action {
        // Its real address was never looked up, in this process at least.
        Some(Action::Direct) if is_fake => return Route::Refuse(Errno::NO_ADDRESS),
        Some(Action::Direct) => return Route::Direct,
        Some(Action::Reject) => return Route::Refuse(Errno::REJECTED),
        Some(Action::Relay) => {}
        None if !is_fake && is_local(address) && !is_domain => return Route::Direct,
        None => {}
    }
    if facts.kind == Kind::Other || address.is_multicast() || is_broadcast(address) {
        return Route::Refuse(Errno::FAIL_CLOSED);
    }
    if is_domain {
        return Route::Answer;
    }
    if config.is_broken || config.gateways.is_empty() {
        return Route::Refuse(Errno::NO_GATEWAY);
    }
    if !is_stream {
        return Route::Hold;
    }
    Route::Relay(relay)
}

/// What a relay of `asked` asks the gateway for, whatever the rules; `None` for an address of the fake range
/// that stands for no slot.
#[must_use]
pub fn relay_to(asked: SocketAddr, table: &Table) -> Option<Relay> {
    let address = asked.ip().to_canonical();
    // Fakes before local addresses: the range may be 0.0.0.0/8, as in the RFC.
    let is_fake = table.pool().contains(address) && !address.is_unspecified();
    let slot = if is_fake {
        Some(table.pool().slot_of(address)?)
    } else {
        None
    };
    Some(Relay {
        address: reached(address),
        port: asked.port(),
        slot,
    })
}

/// What the rules say of a destination.
///
/// # Errors
/// It is a fake address without a name.
#[inline(never)] // as name_of
fn ruled(
    kind: Kind,
    relay: &Relay,
    config: &Config,
    table: &Table,
    direct_names: &DirectNames,
) -> Result<Option<Action>, Errno> {
    let mut destination = SocketAddr::new(relay.address, relay.port).into();
    if !relay.read_destination(table, &mut destination) {
        return Err(Errno::NO_ROW);
    }
    let looked_up;
    let (name, address) = match &destination.address {
        Address::Fqdn(name) => (Some(name.as_bytes()), None),
        Address::Ip(address) => {
            // That a direct name has this address lets no question out to a name server there, and changes nothing for
            // this host's own.
            let is_noted = relay.port != DOMAIN_PORT && !is_local(*address);
            looked_up = direct_names
                .slot_of(*address)
                .filter(|_| is_noted)
                .and_then(|slot| table.lookup(table.pool().address(slot, Family::V4)));
            (looked_up.as_ref().map(Name::as_bytes), Some(*address))
        }
    };
    Ok(config.rules.action(&Place {
        name,
        address,
        port: relay.port,
        protocol: match kind {
            Kind::Stream => Some(Protocol::Tcp),
            Kind::Datagram => Some(Protocol::Udp),
            Kind::Other => None,
        },
    }))
}

/// connect(2) to INADDR_ANY or in6addr_any reaches loopback.
#[must_use]
pub fn reached(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(v4) if v4.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(v6) if v6.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        address => address,
    }
}

/// Loopback, link-local and unspecified addresses, which never leave the host or the link.
#[must_use]
pub fn is_local(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_link_local() || v4.is_unspecified(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unicast_link_local() || v6.is_unspecified(),
    }
}

fn is_broadcast(address: IpAddr) -> bool {
    matches!(address, IpAddr::V4(v4) if v4.is_broadcast())
}

#[cfg(test)]
mod tests;
