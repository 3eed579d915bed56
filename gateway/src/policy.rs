//! (client, command, destination) → allowed, or why not. Pure: no socket, no resolver, no clock.
//!
//! It is asked about the name first and then about every address that the name resolves to, so that
//! no name leads to a forbidden address. `--allow-destination` lifts the default denials; it is no
//! list of the only destinations.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use socks_wire::{Cmd, Fqdn};

/// Why something is not allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Denial {
    #[error("loopback")]
    Loopback,
    #[error("unspecified address")]
    Unspecified,
    #[error("link-local")]
    LinkLocal,
    #[error("multicast")]
    Multicast,
    #[error("broadcast")]
    Broadcast,
    #[error("cloud metadata")]
    Metadata,
    #[error("own address of the gateway")]
    Own,
    /// The client connected to a fake address as if it were a real one: its Socks Lib has no row for
    /// it, or is not in place.
    #[error("fake address")]
    Fake,
}

/// The operator's rules.
#[derive(Debug, Clone, Default)]
pub(crate) struct Policy {
    pub(crate) allow_clients: Vec<IpNet>,
    pub(crate) allow_destinations: Vec<IpNet>,
}

impl Policy {
    /// Whether a client may speak to the gateway at all. Authentication, where it is configured,
    /// comes on top.
    pub(crate) fn allows_client(&self, client: IpAddr) -> bool {
        self.allow_clients.is_empty() || covers(&self.allow_clients, client)
    }

    /// Whether the gateway does this at all.
    pub(crate) fn allows_command(cmd: Cmd) -> bool {
        cmd == Cmd::CONNECT
    }

    /// RFC 6761 §6.3: `localhost` and the names below it are the loopback addresses, and no resolver
    /// is asked about them in order to find that out.
    pub(crate) fn judge_name(&self, name: &Fqdn) -> Result<(), Denial> {
        let is_loopback_allowed = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]
            .into_iter()
            .any(|ip| covers(&self.allow_destinations, ip));
        if is_localhost(name) && !is_loopback_allowed {
            Err(Denial::Loopback)
        } else {
            Ok(())
        }
    }

    /// Whether this address may be connected to. `own` are the addresses of the gateway's host.
    pub(crate) fn judge_address(&self, address: IpAddr, own: &[IpAddr]) -> Result<(), Denial> {
        let address = address.to_canonical();
        if covers(&self.allow_destinations, address) {
            return Ok(());
        }
        // An allowed v4 range does not cover the forms in which a v6 address can carry it: whoever
        // means those too says so.
        let embedded = match address {
            IpAddr::V4(_) => None,
            IpAddr::V6(v6) => embedded_v4(v6).map(IpAddr::V4),
        };
        for form in [Some(address), embedded].into_iter().flatten() {
            if let Some((_, denial)) = DENIED.iter().find(|(net, _)| net.contains(&form)) {
                return Err(*denial);
            }
            if own.iter().any(|own| own.to_canonical() == form) {
                return Err(Denial::Own);
            }
        }
        Ok(())
    }
}

fn covers(nets: &[IpNet], address: IpAddr) -> bool {
    nets.iter().any(|net| net.contains(&address))
}

fn is_localhost(name: &Fqdn) -> bool {
    let name = name.as_bytes();
    let name = name.strip_suffix(b".").unwrap_or(name);
    let last_label = name.rsplit(|octet| *octet == b'.').next();
    last_label.is_some_and(|label| label.eq_ignore_ascii_case(b"localhost"))
}

/// The first row that contains an address gives the reason.
const DENIED: [(IpNet, Denial); 18] = [
    (v4([127, 0, 0, 0], 8), Denial::Loopback),
    (v6([0, 0, 0, 0, 0, 0, 0, 1], 128), Denial::Loopback),
    (v4([0, 0, 0, 0], 8), Denial::Unspecified), // RFC 1122 §3.2.1.3: "this host on this network"
    (v6([0; 8], 128), Denial::Unspecified),
    (v4([169, 254, 169, 254], 32), Denial::Metadata), // AWS, Azure, Google, Oracle and others
    (v4([169, 254, 170, 2], 32), Denial::Metadata),   // AWS: credentials of a container
    (v4([100, 100, 100, 200], 32), Denial::Metadata), // Alibaba
    (v4([168, 63, 129, 16], 32), Denial::Metadata),   // Azure: the host's own channel
    (v6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0], 64), Denial::Metadata), // AWS: …::254, ::23
    (
        v6([0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254], 128),
        Denial::Metadata,
    ), // Google
    (
        v6([0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42], 128),
        Denial::Metadata,
    ), // Scaleway
    (v4([169, 254, 0, 0], 16), Denial::LinkLocal),
    (v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10), Denial::LinkLocal),
    (v4([224, 0, 0, 0], 4), Denial::Multicast),
    (v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8), Denial::Multicast),
    (v4([255, 255, 255, 255], 32), Denial::Broadcast),
    (v4([198, 18, 0, 0], 15), Denial::Fake),
    (v6([0x100, 0, 0, 0, 0, 0, 0, 0], 64), Denial::Fake),
];

const fn v4(octets: [u8; 4], prefix_bits: u8) -> IpNet {
    let [a, b, c, d] = octets;
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix_bits))
}

const fn v6(groups: [u16; 8], prefix_bits: u8) -> IpNet {
    let [a, b, c, d, e, f, g, h] = groups;
    IpNet::V6(Ipv6Net::new_assert(
        Ipv6Addr::new(a, b, c, d, e, f, g, h),
        prefix_bits,
    ))
}

/// The v4 address to which a packet for this v6 address may end up going.
fn embedded_v4(v6: Ipv6Addr) -> Option<Ipv4Addr> {
    let groups = v6.segments();
    let (high, low) = match groups {
        // v4-compatible (RFC 4291 §2.5.5.1), save for :: and ::1, which are themselves
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => return None,
        [0, 0, 0, 0, 0, 0, high, low] => (high, low),
        // v4-mapped (RFC 4291 §2.5.5.2) and v4-translated (RFC 2765 §2.1)
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0, 0, 0, 0, 0xffff, 0, high, low] => (high, low),
        // NAT64: the well-known prefix (RFC 6052 §2.1) and the one for local use (RFC 8215), the
        // latter in its /96 form
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x64, 0xff9b, 1, _, _, _, high, low] => {
            (high, low)
        }
        // 6to4 (RFC 3056 §2)
        [0x2002, high, low, ..] => (high, low),
        _ => return None,
    };
    let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
    Some(Ipv4Addr::new(a, b, c, d))
}
