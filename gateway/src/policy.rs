//! (client, destination) → allowed, or why not. Pure: no socket, no resolver, no clock.
//!
//! It is asked about the name first and then about every address that the name resolves to, so that
//! no name leads to a forbidden address. `--allow-destination` lifts the default denials; it is no
//! list of the only destinations.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use socks_wire::Fqdn;

use crate::nat64::Prefix;

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
    pub(crate) proxy_protocol_from: Vec<IpNet>,
    pub(crate) allow_destinations: Vec<IpNet>,
}

impl Policy {
    /// Whether a client may speak to the gateway at all. Authentication, where it is configured,
    /// comes on top.
    pub(crate) fn allows_client(&self, client: IpAddr) -> bool {
        self.allow_clients.is_empty() || covers(&self.allow_clients, client)
    }

    /// Whether this peer is a load balancer that says by a PROXY header whom it speaks for.
    pub(crate) fn is_balancer(&self, peer: IpAddr) -> bool {
        covers(&self.proxy_protocol_from, peer)
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
    pub(crate) fn judge_address(&self, forms: Forms, own: &[IpAddr]) -> Result<(), Denial> {
        // An allowed v4 range does not cover the forms in which a v6 address can carry it: whoever
        // means those too says so.
        if covers(&self.allow_destinations, forms.address) {
            return Ok(());
        }
        for form in forms.all() {
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

/// An address, and the v4 one at which a packet for it may end up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Forms {
    /// A v4-mapped address is a v4 one.
    pub(crate) address: IpAddr,
    embedded: Option<IpAddr>,
}

impl Forms {
    /// `nat64` is asked about a v6 address alone.
    pub(crate) fn of(address: IpAddr, nat64: impl FnOnce() -> Option<Prefix>) -> Self {
        let address = address.to_canonical();
        let embedded = match address {
            IpAddr::V4(_) => None,
            IpAddr::V6(v6) => nat64()
                .and_then(|prefix| prefix.extract(v6))
                .or_else(|| embedded_v4(v6)),
        };
        Self {
            address,
            embedded: embedded.map(IpAddr::V4),
        }
    }

    pub(crate) fn all(self) -> impl Iterator<Item = IpAddr> {
        [Some(self.address), self.embedded].into_iter().flatten()
    }
}

pub(crate) fn covers(nets: &[IpNet], address: IpAddr) -> bool {
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

/// The v4 address to which a packet for this v6 address may end up going, whatever the network.
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
        // Teredo (RFC 4380 §4): the client's own address, inverted
        [0x2001, 0, _, _, _, _, high, low] => (!high, !low),
        // ISATAP (RFC 5214 §6.1), under any prefix
        [_, _, _, _, 0 | 0x200, 0x5efe, high, low] => (high, low),
        _ => return None,
    };
    let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
    Some(Ipv4Addr::new(a, b, c, d))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nat64::Source;

    fn policy(allow_clients: &[&str], allow_destinations: &[&str]) -> Policy {
        let nets = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        Policy {
            allow_clients: nets(allow_clients),
            allow_destinations: nets(allow_destinations),
            ..Policy::default()
        }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn forms_of(text: &str) -> Forms {
        Forms::of(ip(text), || None)
    }

    #[test]
    fn clients_are_those_of_the_list_or_all() {
        assert!(policy(&[], &[]).allows_client(ip("192.0.2.1")));
        let listed = policy(&["192.0.2.0/24", "2001:db8::/32"], &[]);
        for (client, is_allowed) in [
            ("192.0.2.255", true),
            ("192.0.3.1", false),
            ("2001:db8:ffff::1", true),
            ("2001:db9::1", false),
        ] {
            assert_eq!(listed.allows_client(ip(client)), is_allowed, "{client}");
        }
    }

    #[test]
    fn each_default_denial_has_its_edges() {
        let denied = [
            (Denial::Loopback, "127.0.0.0", "127.255.255.255"),
            (Denial::Unspecified, "0.0.0.0", "0.255.255.255"),
            (Denial::LinkLocal, "169.254.0.0", "169.254.255.255"),
            (Denial::Multicast, "224.0.0.0", "239.255.255.255"),
            (Denial::Broadcast, "255.255.255.255", "255.255.255.255"),
            (Denial::Metadata, "169.254.169.254", "169.254.169.254"),
            (Denial::Fake, "198.18.0.0", "198.19.255.255"),
            (Denial::Loopback, "::1", "::1"),
            (Denial::Unspecified, "::", "::"),
            (
                Denial::LinkLocal,
                "fe80::",
                "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            ),
            (
                Denial::Multicast,
                "ff00::",
                "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            ),
            (Denial::Metadata, "fd00:ec2::254", "fd00:ec2::23"),
            (Denial::Fake, "100::", "100::ffff:ffff:ffff:ffff"),
        ];
        for (denial, first, last) in denied {
            for address in [first, last] {
                let verdict = policy(&[], &[]).judge_address(forms_of(address), &[]);
                assert_eq!(verdict, Err(denial), "{address}");
            }
        }
        for address in [
            "1.0.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "10.0.0.1",
            "192.168.0.1",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "fd00::1",
            "fec0::1",
            "100:0:0:1::",
            "2001:db8::1",
        ] {
            assert_eq!(
                policy(&[], &[]).judge_address(forms_of(address), &[]),
                Ok(()),
                "{address}"
            );
        }
    }

    /// Every v6 address in which `v4` can hide.
    fn forms(v4: &str) -> [String; 10] {
        let [a, b, c, d] = v4.parse::<Ipv4Addr>().unwrap().octets();
        let groups = format!("{a:02x}{b:02x}:{c:02x}{d:02x}");
        let inverted = format!("{:02x}{:02x}:{:02x}{:02x}", !a, !b, !c, !d);
        [
            format!("::ffff:{v4}"),
            format!("::{v4}"),
            format!("::ffff:0:{v4}"),
            format!("64:ff9b::{v4}"),
            format!("64:ff9b:1::{v4}"),
            format!("2002:{groups}::"),
            format!("2002:{groups}::1"),
            format!("2001:0:4136:e378:8000:63bf:{inverted}"),
            format!("2001:db8::5efe:{groups}"),
            format!("2001:db8::200:5efe:{groups}"),
        ]
    }

    #[test]
    fn no_form_of_an_address_is_a_way_round_its_denial() {
        let own = [ip("192.0.2.9")];
        for (v4, denial) in [
            ("127.0.0.1", Denial::Loopback),
            ("169.254.169.254", Denial::Metadata),
            ("169.254.1.1", Denial::LinkLocal),
            ("224.0.0.1", Denial::Multicast),
            ("198.18.0.1", Denial::Fake),
            ("192.0.2.9", Denial::Own),
        ] {
            for form in forms(v4) {
                let verdict = policy(&[], &[]).judge_address(forms_of(&form), &own);
                assert_eq!(verdict, Err(denial), "{form}");
            }
        }
        for form in forms("192.0.2.1") {
            assert_eq!(
                policy(&[], &[]).judge_address(forms_of(&form), &own),
                Ok(()),
                "{form}"
            );
        }
    }

    /// A translator of the gateway's own network is a way too.
    #[test]
    fn the_configured_prefix_carries_v4_addresses() {
        let Ok(Source::Fixed(prefix)) = "2001:db8:122::/48".parse() else {
            panic!("a prefix");
        };
        let judge = |text: &str| {
            let forms = Forms::of(ip(text), || Some(prefix));
            policy(&[], &[]).judge_address(forms, &[])
        };
        // 169.254.169.254 (RFC 6052 §2.2)
        assert_eq!(judge("2001:db8:122:a9fe:a9:fe00::"), Err(Denial::Metadata));
        assert_eq!(judge("2001:db8:122:c000:2:2100::"), Ok(()));
        assert_eq!(judge("64:ff9b::7f00:1"), Err(Denial::Loopback));
    }

    #[test]
    fn the_gateways_own_addresses_are_denied_unless_allowed() {
        let own = [ip("192.0.2.9"), ip("2001:db8::9")];
        for address in ["192.0.2.9", "2001:db8::9"] {
            let verdict = policy(&[], &[]).judge_address(forms_of(address), &own);
            assert_eq!(verdict, Err(Denial::Own));
            let allowed = policy(&[], &["192.0.2.9/32", "2001:db8::/32"]);
            assert_eq!(allowed.judge_address(forms_of(address), &own), Ok(()));
        }
    }

    #[test]
    fn what_is_allowed_is_allowed_as_it_is_written_and_no_further() {
        let policy = policy(&[], &["127.0.0.0/8"]);
        let judge = |address: &str| policy.judge_address(forms_of(address), &[]);
        assert_eq!(judge("127.0.0.1"), Ok(()));
        assert_eq!(judge("::ffff:127.0.0.1"), Ok(()), "v4-mapped is v4");
        assert_eq!(judge("64:ff9b::127.0.0.1"), Err(Denial::Loopback));
        assert_eq!(judge("::1"), Err(Denial::Loopback));
        assert_eq!(judge("169.254.0.1"), Err(Denial::LinkLocal));
    }

    #[test]
    fn localhost_is_loopback_by_whatever_spelling() {
        let judge =
            |policy: &Policy, name: &str| policy.judge_name(&Fqdn::new(name.as_bytes()).unwrap());
        for name in [
            "localhost",
            "LOCALHOST",
            "localhost.",
            "www.localhost",
            "a.b.LocalHost.",
        ] {
            assert_eq!(
                judge(&policy(&[], &[]), name),
                Err(Denial::Loopback),
                "{name}"
            );
            assert_eq!(
                judge(&policy(&[], &["127.0.0.0/8"]), name),
                Ok(()),
                "{name}"
            );
            assert_eq!(judge(&policy(&[], &["::1/128"]), name), Ok(()), "{name}");
        }
        for name in [
            "localhost.example",
            "mylocalhost",
            "example.com",
            ".",
            "169.254.169.254",
        ] {
            assert_eq!(judge(&policy(&[], &[]), name), Ok(()), "{name}");
        }
    }
}
