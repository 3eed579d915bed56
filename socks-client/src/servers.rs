//! Which name servers this process has asked, so that an answer can be told to come from the one that was.
//!
//! The answer comes to the program's socket by loopback, from a port whose low bits are the number of the server's row
//! here. Rows are only ever added, and without a lock.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};

use crate::connect::DOMAIN_PORT;

/// Where answers come from by IPv4: an address of the loopback network that nobody else is likely to use. IPv6 has only
/// one.
const SOURCE_V4: Ipv4Addr = Ipv4Addr::new(127, 53, 53, 53);

/// As many as the low bits of a port can tell apart; programs ask two or three.
const ROWS: usize = 256;
/// Answers come from the upper half of the ports: a row has 128 of them, one of which is free.
const FIRST_PORT: u16 = 0x8000;

/// The name servers. Zeroed memory is none.
#[derive(Debug)]
pub struct Servers {
    is_any: AtomicBool,
    rows: [Row; ROWS],
}

#[derive(Debug)]
struct Row {
    state: AtomicU32,
    scope: AtomicU32,
    /// The address, v4 as v4-mapped.
    address: [AtomicU64; 2],
}

const FREE: u32 = 0;
/// Somebody is writing it. If a signal handler or the end of a thread keeps him from it, it stays so.
const TAKEN: u32 = 1;
const WHOLE: u32 = 2;

impl Servers {
    /// None has been asked.
    #[must_use]
    #[expect(
        clippy::new_without_default,
        reason = "a static's initial value, which `Default` cannot be"
    )]
    pub const fn new() -> Self {
        Self {
            is_any: AtomicBool::new(false),
            rows: [const {
                Row {
                    state: AtomicU32::new(FREE),
                    scope: AtomicU32::new(0),
                    address: [const { AtomicU64::new(0) }; 2],
                }
            }; ROWS],
        }
    }

    /// Whether one has been asked: one load.
    #[must_use]
    pub fn is_any(&self) -> bool {
        self.is_any.load(Relaxed)
    }

    /// The ports that the answer of `server` may come from; `None` if too many have been asked.
    #[must_use]
    pub fn ports(&self, server: SocketAddr) -> Option<impl Iterator<Item = u16> + use<>> {
        let (bits, scope) = key(server);
        let row = self.rows.iter().position(|row| match row.read() {
            Some(known) => known == (bits, scope),
            None => row.write(bits, scope),
        })?;
        self.is_any.store(true, Relaxed);
        let row = u16::try_from(row).ok()?;
        Some(
            (FIRST_PORT..=u16::MAX)
                .step_by(ROWS)
                .map(move |port| port | row),
        )
    }

    /// Where an answer for a socket that is bound to `to` comes from.
    #[must_use]
    pub fn source(to: IpAddr) -> IpAddr {
        match to {
            IpAddr::V4(_) => SOURCE_V4.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        }
    }

    /// The server whose answer came from `source`, as that socket's family has it.
    #[must_use]
    pub fn told(&self, source: SocketAddr) -> Option<SocketAddr> {
        let is_ours = [SOURCE_V4.into(), IpAddr::from(Ipv6Addr::LOCALHOST)];
        if source.port() < FIRST_PORT || !is_ours.contains(&source.ip().to_canonical()) {
            return None;
        }
        let [_, row] = source.port().to_be_bytes();
        let (bits, scope) = self.rows.get(usize::from(row))?.read()?;
        let address = Ipv6Addr::from_bits(bits);
        Some(match (source, address.to_ipv4_mapped()) {
            (SocketAddr::V4(_), Some(v4)) => SocketAddr::new(v4.into(), DOMAIN_PORT),
            _ => SocketAddrV6::new(address, DOMAIN_PORT, 0, scope).into(),
        })
    }
}

impl Row {
    fn read(&self) -> Option<(u128, u32)> {
        if self.state.load(Acquire) != WHOLE {
            return None;
        }
        let [high, low] = self.address.each_ref().map(|half| half.load(Relaxed));
        Some((
            (u128::from(high) << 64) | u128::from(low),
            self.scope.load(Relaxed),
        ))
    }

    /// False if it is another's.
    fn write(&self, bits: u128, scope: u32) -> bool {
        if self
            .state
            .compare_exchange(FREE, TAKEN, AcqRel, Relaxed)
            .is_err()
        {
            return false;
        }
        let [high, low] = &self.address;
        high.store(u64::try_from(bits >> 64).unwrap_or(0), Relaxed);
        low.store(
            u64::try_from(bits & u128::from(u64::MAX)).unwrap_or(0),
            Relaxed,
        );
        self.scope.store(scope, Relaxed);
        self.state.store(WHOLE, Release);
        true
    }
}

fn key(server: SocketAddr) -> (u128, u32) {
    match server {
        SocketAddr::V4(v4) => (v4.ip().to_ipv6_mapped().to_bits(), 0),
        SocketAddr::V6(v6) => (v6.ip().to_bits(), v6.scope_id()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_answer_is_told_to_come_from_the_server_that_was_asked() {
        static SERVERS: Servers = Servers::new();
        assert!(!SERVERS.is_any());
        let asked = [
            "192.0.2.53:53",
            "[2001:db8::53]:53",
            "[fe80::1%3]:53",
            "[fe80::1%4]:53",
            "127.0.0.53:53",
        ];
        for _twice in 0..2 {
            for server in asked.map(socket) {
                for port in SERVERS.ports(server).unwrap() {
                    let at = |ip: &str| SERVERS.told(SocketAddr::new(ip.parse().unwrap(), port));
                    if server.is_ipv4() {
                        assert_eq!(at("127.53.53.53"), Some(server));
                    } else {
                        assert_eq!(at("::1"), Some(server));
                    }
                    // An AF_INET6 socket has v4 addresses v4-mapped.
                    let mapped = at("::ffff:127.53.53.53").unwrap();
                    assert!(mapped.is_ipv6());
                    assert_eq!(mapped.ip().to_canonical(), server.ip());
                    assert_eq!(at("127.0.0.1"), None);
                    assert_eq!(at("2001:db8::1"), None);
                }
            }
        }
        assert!(SERVERS.is_any());
        assert_eq!(
            SERVERS.told(socket("127.53.53.53:32999")),
            None,
            "nobody's row"
        );
        assert_eq!(SERVERS.told(socket("127.53.53.53:53")), None);
    }

    #[test]
    fn no_more_servers_than_a_port_can_tell_apart() {
        static SERVERS: Servers = Servers::new();
        for n in 0..=255 {
            let mut ports = SERVERS
                .ports(SocketAddr::new([192, 0, 2, n].into(), 53))
                .unwrap();
            assert_eq!(ports.next(), Some(FIRST_PORT | u16::from(n)));
            assert_eq!(ports.count(), 127);
        }
        assert!(SERVERS.ports(socket("198.51.100.1:53")).is_none());
        assert!(SERVERS.ports(socket("192.0.2.255:53")).is_some());
    }
}
