//! `[nat64]`: on a host without a route for IPv4, a v4 address is dialled as the v6 address by which a translator knows it
//! (RFC 6052). The prefix is configured, or the resolver's DNS64 tells it (RFC 7050).

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnet::Ipv6Net;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::sys;
use crate::text::as_text;

/// RFC 6052 §2.1.
const WELL_KNOWN: Ipv6Addr = Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0);

/// RFC 7050 §2.2: the addresses of ipv4only.arpa.
const IPV4ONLY_1: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 170);
const IPV4ONLY_2: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 171);

/// RFC 7050 §3 goes by the record's TTL, which getaddrinfo(3) does not tell: a prefix changes when a network does.
const KNOWN_FOR: Duration = Duration::from_secs(600);

/// Until a resolver that knew of no prefix is asked again.
const UNKNOWN_FOR: Duration = Duration::from_secs(30);

/// `[nat64]`
#[derive(Debug, Clone, Copy, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Nat64Table {
    pub(crate) prefix: Source,
}

/// Where the prefix comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) enum Source {
    Discover,
    Fixed(Prefix),
}

/// A prefix of one of the lengths that RFC 6052 §2.2 knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Prefix(Ipv6Net);

/// The octets in which the v4 address stands; octet 8 is left out by all.
type Place = [usize; 4];

/// RFC 6052 §2.2, figure 1.
const PLACES: [(u8, Place); 6] = [
    (32, [4, 5, 6, 7]),
    (40, [5, 6, 7, 9]),
    (48, [6, 7, 9, 10]),
    (56, [7, 9, 10, 11]),
    (64, [9, 10, 11, 12]),
    (96, [12, 13, 14, 15]),
];

/// The translator of this gateway's network, if there is one.
#[derive(Debug, Clone, Default)]
pub struct Nat64 {
    source: Option<Source>,
    discovered: Arc<Mutex<Option<Discovered>>>,
}

#[derive(Debug, Clone, Copy)]
struct Discovered {
    at: Instant,
    prefix: Option<Prefix>,
}

impl Nat64 {
    pub(crate) fn new(source: Option<Source>) -> Self {
        Self {
            source,
            discovered: Arc::default(),
        }
    }

    /// Blocks for as long as the resolver does, if it has to be asked.
    pub(crate) fn prefix(&self) -> Option<Prefix> {
        match self.source? {
            Source::Fixed(prefix) => Some(prefix),
            Source::Discover => self.discover(),
        }
    }

    /// The v6 address that stands for a v4 one; `None` if no translator does.
    pub(crate) fn translated(&self, address: SocketAddr) -> Option<SocketAddr> {
        let SocketAddr::V4(v4) = address else {
            return None;
        };
        let ip = self.prefix()?.embed(*v4.ip())?;
        Some(SocketAddr::new(ip.into(), v4.port()))
    }

    fn discover(&self) -> Option<Prefix> {
        if let Some(Discovered { at, prefix }) = *self.discovered.lock() {
            let fresh = if prefix.is_some() {
                KNOWN_FOR
            } else {
                UNKNOWN_FOR
            };
            if at.elapsed() < fresh {
                return prefix;
            }
        }
        // Not under the lock: several may ask at a time, and nobody waits for another one's resolver.
        let addresses = sys::addresses_of(c"ipv4only.arpa").unwrap_or_default();
        let prefix = addresses.iter().find_map(|address| match address {
            SocketAddr::V6(v6) => Prefix::of_ipv4only(*v6.ip()),
            SocketAddr::V4(_) => None,
        });
        let at = Instant::now();
        *self.discovered.lock() = Some(Discovered { at, prefix });
        prefix
    }
}

impl Prefix {
    fn new(net: Ipv6Net) -> Option<Self> {
        let prefix = Self(net.trunc());
        // RFC 6052 §2.2: bits 64 to 71 are zero.
        let [_, _, _, _, _, _, _, _, reserved, ..] = prefix.0.addr().octets();
        (prefix.place().is_some() && reserved == 0).then_some(prefix)
    }

    /// RFC 7050 §3: the name has two addresses of its own, and where one of them stands in a v6 address, the prefix ends.
    fn of_ipv4only(address: Ipv6Addr) -> Option<Self> {
        let is_its_own = |v4| [IPV4ONLY_1, IPV4ONLY_2].contains(&v4);
        PLACES.iter().find_map(|(bits, _)| {
            let prefix = Self::new(Ipv6Net::new(address, *bits).ok()?)?;
            prefix
                .extract(address)
                .is_some_and(is_its_own)
                .then_some(prefix)
        })
    }

    fn embed(self, v4: Ipv4Addr) -> Option<Ipv6Addr> {
        // RFC 6052 §3.1: the well-known prefix is not for addresses that are private, and a translator drops them.
        if self.0.addr() == WELL_KNOWN && v4.is_private() {
            return None;
        }
        let mut octets = self.0.addr().octets();
        for (place, octet) in self.place()?.into_iter().zip(v4.octets()) {
            *octets.get_mut(place)? = octet;
        }
        Some(octets.into())
    }

    /// The v4 address for which a v6 one stands, if it is of this prefix.
    pub(crate) fn extract(self, v6: Ipv6Addr) -> Option<Ipv4Addr> {
        let mut v4 = [0; 4];
        for (octet, place) in v4.iter_mut().zip(self.place()?) {
            *octet = *v6.octets().get(place)?;
        }
        self.0.contains(&v6).then(|| v4.into())
    }

    fn place(self) -> Option<Place> {
        let known = PLACES.iter().find(|(bits, _)| *bits == self.0.prefix_len());
        known.map(|(_, place)| *place)
    }
}

impl FromStr for Source {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "discover" {
            return Ok(Self::Discover);
        }
        let prefix = text.parse().ok().and_then(Prefix::new);
        prefix.map(Self::Fixed).ok_or_else(|| {
            format!(
                "\"{text}\" is not \"discover\" or an IPv6 prefix of 32, 40, 48, 56, 64 or 96 bits, such as 64:ff9b::/96"
            )
        })
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Discover => f.write_str("discover"),
            Self::Fixed(prefix) => prefix.0.fmt(f),
        }
    }
}

as_text!(Source);

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> Prefix {
        match text.parse().unwrap() {
            Source::Fixed(prefix) => prefix,
            Source::Discover => panic!("a prefix"),
        }
    }

    /// RFC 6052 §2.4, both tables.
    #[test]
    fn the_rfcs_own_examples() {
        for (text, v4, v6) in [
            ("2001:db8::/32", "192.0.2.33", "2001:db8:c000:221::"),
            ("2001:db8:100::/40", "192.0.2.33", "2001:db8:1c0:2:21::"),
            (
                "2001:db8:122::/48",
                "192.0.2.33",
                "2001:db8:122:c000:2:2100::",
            ),
            (
                "2001:db8:122:300::/56",
                "192.0.2.33",
                "2001:db8:122:3c0:0:221::",
            ),
            (
                "2001:db8:122:344::/64",
                "192.0.2.33",
                "2001:db8:122:344:c0:2:2100::",
            ),
            (
                "2001:db8:122:344::/96",
                "192.0.2.33",
                "2001:db8:122:344::192.0.2.33",
            ),
            ("64:ff9b::/96", "192.0.2.33", "64:ff9b::192.0.2.33"),
        ] {
            let (prefix, v4, v6) = (prefix(text), v4.parse().unwrap(), v6.parse().unwrap());
            assert_eq!(prefix.embed(v4), Some(v6), "{text}");
            assert_eq!(prefix.extract(v6), Some(v4), "{text}");
            assert_eq!(prefix.extract("2001:db9::1".parse().unwrap()), None);
            assert_eq!(Source::Fixed(prefix).to_string(), text);
        }
        assert_eq!(
            prefix("64:ff9b::/96").embed(Ipv4Addr::new(10, 0, 0, 1)),
            None
        );
        assert!(
            prefix("2001:db8::/96")
                .embed(Ipv4Addr::new(10, 0, 0, 1))
                .is_some()
        );
    }

    /// RFC 7050 §3.
    #[test]
    fn the_prefix_is_where_the_names_own_addresses_are() {
        for (text, last) in [
            ("2001:db8::/32", 170),
            ("2001:db8:100::/40", 171),
            ("2001:db8:122::/48", 170),
            ("2001:db8:122:300::/56", 171),
            ("2001:db8:122:344::/64", 170),
            ("2001:db8:122:344::/96", 171),
            ("64:ff9b::/96", 170),
        ] {
            let address = prefix(text).embed(Ipv4Addr::new(192, 0, 0, last)).unwrap();
            assert_eq!(Prefix::of_ipv4only(address), Some(prefix(text)), "{text}");
        }
        for other in ["2001:db8::1", "64:ff9b::192.0.0.172", "::1"] {
            assert_eq!(Prefix::of_ipv4only(other.parse().unwrap()), None, "{other}");
        }
    }

    #[test]
    fn what_is_no_prefix_is_refused() {
        for text in [
            "",
            "64:ff9b::",
            "64:ff9b::/95",
            "10.0.0.0/8",
            "2001:db8:0:0:ff00::/96",
            "find",
        ] {
            assert!(text.parse::<Source>().is_err(), "{text}");
        }
        assert_eq!("discover".parse(), Ok(Source::Discover));
    }
}
