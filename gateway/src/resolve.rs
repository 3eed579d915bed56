//! Real addresses of a name, and the order in which they are tried.
//! The resolver is libc's, so that /etc/hosts, nsswitch and the search list count as everywhere on
//! the gateway's host.
//!
//! RFC 8305 §3 would start with whichever of A and AAAA arrives first; getaddrinfo(3) asks for both
//! at once and gives both together, so that the resolution delay has no place here.

use std::ffi::CString;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use serde::{Deserialize, Serialize};
use socks_wire::Fqdn;

use crate::sys::{self, Eai};
use crate::zones::{Turn, Zones};

/// Attempts that one relay may start: a name with hundreds of addresses must not eat descriptors.
const MOST_ADDRESSES: usize = 16;

/// The family that a rule prefers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Family {
    V4,
    V6,
}

/// Why a name has no address, or an address no name.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ResolveError {
    #[error("no such name")]
    Unknown,
    #[error("name has no address")]
    NoAddress,
    #[error("the resolver does not answer")]
    Temporary,
    #[error("too many names like this one are being looked up")]
    Stalled,
    #[error("the resolver failed (EAI {0})")]
    Failed(i32),
    #[error("the resolver failed: {0}")]
    System(io::Error),
}

/// The address that a name's text is itself, if it is one: a client that always sends ATYP 03 then
/// fares as if it had sent an address, and no resolver is asked about it.
pub(crate) fn literal(name: &Fqdn) -> Option<IpAddr> {
    let text = std::str::from_utf8(name.as_bytes()).ok()?;
    match text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
    {
        Some(inner) => inner.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        None => text.parse().ok(),
    }
}

/// Asks the resolver, in its turn. Blocks for as long as resolv.conf allows.
pub(crate) fn resolve(
    zones: &Zones,
    name: &Fqdn,
    port: u16,
) -> Result<Vec<SocketAddr>, ResolveError> {
    let turn = zones.take_turn(name.as_bytes());
    // A name with NUL in it is no name; socks-wire lets none through.
    let name = CString::new(name.as_bytes()).map_err(|_nul| ResolveError::Unknown)?;
    let mut addresses = ask(turn, || sys::addresses_of(&name))?;
    for address in &mut addresses {
        address.set_port(port);
    }
    if addresses.is_empty() {
        Err(ResolveError::NoAddress)
    } else {
        Ok(addresses)
    }
}

/// Asks the resolver for the name of an address, and blocks as long.
pub(crate) fn name_of(zones: &Zones, ip: IpAddr) -> Result<Fqdn, ResolveError> {
    let name = ask(zones.take_reverse_turn(ip), || sys::name_of(ip))?;
    // What is longer than DNS carries is no name.
    Fqdn::new(name.as_bytes()).map_err(|_no_name| ResolveError::Unknown)
}

fn ask<T>(
    turn: Option<Turn<'_>>,
    question: impl FnOnce() -> Result<T, Eai>,
) -> Result<T, ResolveError> {
    let mut turn = turn.ok_or(ResolveError::Stalled)?;
    let answer = question().map_err(ResolveError::from);
    if matches!(
        answer,
        Ok(_) | Err(ResolveError::Unknown | ResolveError::NoAddress)
    ) {
        turn.answered();
    }
    answer
}

impl From<Eai> for ResolveError {
    fn from(eai: Eai) -> Self {
        match eai {
            Eai {
                system: Some(error),
                ..
            } => Self::System(error),
            Eai {
                code: libc::EAI_NONAME,
                ..
            } => Self::Unknown,
            Eai {
                code: libc::EAI_NODATA | EAI_ADDRFAMILY,
                ..
            } => Self::NoAddress,
            Eai {
                code: libc::EAI_AGAIN,
                ..
            } => Self::Temporary,
            Eai { code, .. } => Self::Failed(code),
        }
    }
}

/// netdb.h has it, the libc crate does not.
const EAI_ADDRFAMILY: libc::c_int = -9;

/// RFC 8305 §4: the resolver's order (RFC 6724) with the families taking turns, the first one
/// or the preferred one beginning, so that a family without a working path costs one attempt's delay and not all of them.
pub(crate) fn interleave<T: Copy>(
    items: &[T],
    prefer: Option<Family>,
    address_of: impl Fn(&T) -> SocketAddr,
) -> Vec<T> {
    let is_v6 = |item: &T| address_of(item).is_ipv6();
    let is_v6_first = match prefer {
        Some(family) => family == Family::V6,
        None => items.first().is_some_and(is_v6),
    };
    let of = |v6: bool| items.iter().copied().filter(move |item| is_v6(item) == v6);
    let (mut first, mut second) = (of(is_v6_first), of(!is_v6_first));
    let mut ordered: Vec<T> = Vec::with_capacity(items.len());
    loop {
        let turn = [first.next(), second.next()];
        if turn.iter().all(Option::is_none) {
            break;
        }
        for item in turn.into_iter().flatten() {
            let is_known = |known: &T| address_of(known) == address_of(&item);
            if !ordered.iter().any(is_known) {
                ordered.push(item);
            }
        }
    }
    ordered.truncate(MOST_ADDRESSES);
    ordered
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    /// RFC 8305 §4: "the client SHOULD interleave address families".
    #[test]
    fn families_take_turns_beginning_with_the_resolvers_first() {
        let cases: [(&[&str], &[&str]); 5] = [
            (&[], &[]),
            (&["192.0.2.1:80"], &["192.0.2.1:80"]),
            (
                &[
                    "[2001:db8::1]:80",
                    "[2001:db8::2]:80",
                    "192.0.2.1:80",
                    "192.0.2.2:80",
                ],
                &[
                    "[2001:db8::1]:80",
                    "192.0.2.1:80",
                    "[2001:db8::2]:80",
                    "192.0.2.2:80",
                ],
            ),
            (
                &[
                    "192.0.2.1:80",
                    "192.0.2.2:80",
                    "192.0.2.3:80",
                    "[2001:db8::1]:80",
                ],
                &[
                    "192.0.2.1:80",
                    "[2001:db8::1]:80",
                    "192.0.2.2:80",
                    "192.0.2.3:80",
                ],
            ),
            (&["192.0.2.1:80", "192.0.2.1:80"], &["192.0.2.1:80"]),
        ];
        for (resolved, tried) in cases {
            assert_eq!(
                interleave(&addresses(resolved), None, |it| *it),
                addresses(tried),
                "{resolved:?}"
            );
        }
    }

    #[test]
    fn the_preferred_family_begins_if_it_is_there() {
        let both = addresses(&["[2001:db8::1]:80", "[2001:db8::2]:80", "192.0.2.1:80"]);
        let preferring = |list: &[SocketAddr], family| interleave(list, Some(family), |it| *it);
        let v4_first = ["192.0.2.1:80", "[2001:db8::1]:80", "[2001:db8::2]:80"];
        assert_eq!(preferring(&both, Family::V4), addresses(&v4_first));
        assert_eq!(
            preferring(&both, Family::V6),
            interleave(&both, None, |it| *it)
        );
        assert_eq!(preferring(&both[..2], Family::V4), both[..2]);
    }

    #[test]
    fn a_name_with_hundreds_of_addresses_is_tried_at_some_of_them() {
        let many: Vec<SocketAddr> = (1..=255)
            .map(|n| SocketAddr::from(([192, 0, 2, n], 80)))
            .collect();
        assert_eq!(interleave(&many, None, |it| *it).len(), MOST_ADDRESSES);
    }

    #[test]
    fn the_text_of_an_address_is_that_address() {
        let cases: [(&str, Option<&str>); 7] = [
            ("192.0.2.1", Some("192.0.2.1")),
            ("2001:db8::1", Some("2001:db8::1")),
            ("[2001:db8::1]", Some("2001:db8::1")),
            ("::ffff:127.0.0.1", Some("::ffff:127.0.0.1")),
            ("[192.0.2.1]", None),
            ("192.0.2.1.example", None),
            ("127.1", None), // libc's resolver knows it; policy then sees what it gives
        ];
        for (text, expected) in cases {
            let expected = expected.map(|ip| ip.parse().unwrap());
            assert_eq!(
                literal(&Fqdn::new(text.as_bytes()).unwrap()),
                expected,
                "{text}"
            );
        }
    }
}
