//! The PROXY protocol, versions 1 and 2 (haproxy.org/download/2.6/doc/proxy-protocol.txt): what a load balancer says
//! of the client that it speaks for, before the client's own first octet. Octets in, source address out; whom it is
//! believed from is [`Policy`]'s to say.
//!
//! [`Policy`]: crate::policy::Policy

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::BorrowedFd;
use std::time::Instant;

use rustix::event::PollFlags;
use rustix::net::{RecvFlags, recv};

use crate::error::ServeError;
use crate::handshake::wait;

/// §2.1: a line of version 1 is at most 107 octets with its CRLF.
const MOST_V1: usize = 107;

/// Version 2 could say 64 KiB. Addresses and the TLVs that balancers send fit in here many times.
const MOST_V2: usize = 4096;

const V1: &[u8] = b"PROXY ";
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Version, command, family and length, behind the signature.
const V2_HEAD: usize = V2.len() + 4;

/// A whole header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) len_octets: usize,
    /// `None` if the balancer speaks for itself (its health check), or does not know for whom.
    pub(crate) source: Option<SocketAddr>,
}

/// What a trusted balancer must not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ProxyError {
    #[error("no PROXY header where one is due")]
    Missing,
    #[error("PROXY header is too long")]
    TooLong,
    #[error("PROXY header of version 1 is malformed")]
    Line,
    #[error("PROXY header's version and command are {0:#04x}, expected 0x20 or 0x21")]
    Command(u8),
    #[error("PROXY header's family and protocol are {0:#04x}, expected 0x00, 0x11 or 0x21")]
    Family(u8),
    #[error("PROXY header is too short for its addresses")]
    Short,
}

/// Reads a header and not an octet more: the next one belongs to the handshake.
pub(crate) fn read_source(
    client: BorrowedFd<'_>,
    deadline: Instant,
) -> Result<Option<SocketAddr>, ServeError> {
    let mut octets = [0; MOST_V2];
    let mut have = 0;
    loop {
        let (_, room) = octets.split_at_mut(have);
        let seen = match recv(client, room, RecvFlags::PEEK) {
            Ok((0, _)) => return Err(ServeError::ClientGone),
            Ok((seen, _)) => have.saturating_add(seen),
            Err(errno) => {
                wait(client, PollFlags::IN, errno, deadline)?;
                continue;
            }
        };
        let header = parse(octets.get(..seen).unwrap_or_default()).map_err(ServeError::Proxy)?;
        // As long as it is not whole, all that has come belongs to it.
        let end = header.map_or(seen, |header| header.len_octets);
        while have < end {
            let part = octets.get_mut(have..end).unwrap_or_default();
            match recv(client, part, RecvFlags::empty()) {
                Ok((0, _)) => return Err(ServeError::ClientGone),
                Ok((taken, _)) => have = have.saturating_add(taken),
                Err(errno) => wait(client, PollFlags::IN, errno, deadline)?,
            }
        }
        if let Some(header) = header {
            return Ok(header.source);
        }
    }
}

/// The header that `octets` begin with; `None` if more of them are needed.
pub(crate) fn parse(octets: &[u8]) -> Result<Option<Header>, ProxyError> {
    let begins = |with: &[u8]| octets.iter().zip(with).all(|(octet, due)| octet == due);
    if begins(V1) {
        parse_v1(octets)
    } else if begins(V2) {
        parse_v2(octets)
    } else {
        Err(ProxyError::Missing)
    }
}

fn parse_v1(octets: &[u8]) -> Result<Option<Header>, ProxyError> {
    let window = octets.get(..MOST_V1).unwrap_or(octets);
    let Some(line) = window.split_inclusive(|octet| *octet == b'\n').next() else {
        return Ok(None);
    };
    if !line.ends_with(b"\n") {
        let is_full = line.len() == MOST_V1;
        return if is_full {
            Err(ProxyError::TooLong)
        } else {
            Ok(None)
        };
    }
    let text = line
        .strip_suffix(b"\r\n")
        .and_then(|line| line.strip_prefix(V1));
    let source = text.and_then(source_v1).ok_or(ProxyError::Line)?;
    let len_octets = line.len();
    Ok(Some(Header { len_octets, source }))
}

/// `TCP4 SOURCE DESTINATION SOURCE-PORT DESTINATION-PORT`, or `UNKNOWN` and whatever follows.
#[expect(
    clippy::option_option,
    reason = "outside: whether it is well formed; inside: whether it says a source"
)]
fn source_v1(text: &[u8]) -> Option<Option<SocketAddr>> {
    let text = str::from_utf8(text).ok()?;
    let mut words = text.split(' ');
    let family = words.next()?;
    if family == "UNKNOWN" {
        return Some(None);
    }
    let address = |word: &str| -> Option<IpAddr> {
        match family {
            "TCP4" => word.parse::<Ipv4Addr>().ok().map(IpAddr::from),
            "TCP6" => word.parse::<Ipv6Addr>().ok().map(IpAddr::from),
            _ => None,
        }
    };
    let source = address(words.next()?)?;
    address(words.next()?)?;
    let source_port = port(words.next()?)?;
    port(words.next()?)?;
    let is_all = words.next().is_none();
    is_all.then(|| Some(SocketAddr::new(source, source_port)))
}

/// Digits alone, and no zero before them (§2.1); the parser of numbers would take a plus sign.
fn port(word: &str) -> Option<u16> {
    let port = word.parse().ok()?;
    (word == u16::to_string(&port)).then_some(port)
}

fn parse_v2(octets: &[u8]) -> Result<Option<Header>, ProxyError> {
    let Some([command, family, high, low]) = octets
        .get(V2.len()..V2_HEAD)
        .and_then(|head| head.first_chunk())
    else {
        return Ok(None);
    };
    let len_octets = V2_HEAD.saturating_add(u16::from_be_bytes([*high, *low]).into());
    if len_octets > MOST_V2 {
        return Err(ProxyError::TooLong);
    }
    let Some(body) = octets.get(V2_HEAD..len_octets) else {
        return Ok(None);
    };
    let source = match (command, family) {
        // LOCAL, and whatever it says of addresses is to be passed over; then AF_UNSPEC.
        (0x20, _) | (0x21, 0x00) => None,
        (0x21, 0x11) => Some(source_v2::<4, 12>(body)?), // TCP over IPv4
        (0x21, 0x21) => Some(source_v2::<16, 36>(body)?), // TCP over IPv6
        (0x21, family) => return Err(ProxyError::Family(*family)),
        (command, _) => return Err(ProxyError::Command(*command)),
    };
    Ok(Some(Header { len_octets, source }))
}

/// Source, destination, source port, destination port; TLVs may follow.
fn source_v2<const ADDRESS: usize, const ALL: usize>(body: &[u8]) -> Result<SocketAddr, ProxyError>
where
    IpAddr: From<[u8; ADDRESS]>,
{
    let addresses = body.first_chunk::<ALL>().ok_or(ProxyError::Short)?;
    let ip = addresses
        .first_chunk::<ADDRESS>()
        .ok_or(ProxyError::Short)?;
    let [.., high, low, _, _] = addresses.as_slice() else {
        return Err(ProxyError::Short);
    };
    Ok(SocketAddr::new(
        IpAddr::from(*ip),
        u16::from_be_bytes([*high, *low]),
    ))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Version, command, family and what follows, with its true length.
    fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        [V2, &[command, family], &length, body].concat()
    }

    const BODY_V4: [u8; 12] = [192, 0, 2, 7, 198, 51, 100, 1, 0x30, 0x39, 0x04, 0x38];

    fn body_v6() -> Vec<u8> {
        let ip = "2001:db8::7".parse::<Ipv6Addr>().unwrap().octets();
        [&ip[..], &ip, &[0x30, 0x39], &[0x04, 0x38]].concat()
    }

    #[test]
    fn each_form_says_its_source() {
        let tlv = [&BODY_V4[..], &[0x04, 0x00, 0x03, 1, 2, 3]].concat(); // PP2_TYPE_NOOP
        let rows = [
            (
                b"PROXY TCP4 192.0.2.7 198.51.100.1 12345 1080\r\n".to_vec(),
                Some("192.0.2.7:12345"),
            ),
            (
                b"PROXY TCP6 2001:db8::7 2001:db8::1 12345 1080\r\n".to_vec(),
                Some("[2001:db8::7]:12345"),
            ),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n".to_vec(), None),
            (v2(0x21, 0x11, &BODY_V4), Some("192.0.2.7:12345")),
            (v2(0x21, 0x11, &tlv), Some("192.0.2.7:12345")),
            (v2(0x21, 0x21, &body_v6()), Some("[2001:db8::7]:12345")),
            (v2(0x21, 0x00, &[]), None),
            (v2(0x20, 0x00, &[]), None),
            (v2(0x20, 0x11, &BODY_V4), None), // LOCAL: not its address
        ];
        for (octets, source) in rows {
            let source = source.map(|text| text.parse().unwrap());
            let expected = Header {
                len_octets: octets.len(),
                source,
            };
            // Whatever follows is not its business, and a part of it is not enough.
            let with_more = [&octets[..], b"\x05\x01\x00\n"].concat();
            assert_eq!(parse(&with_more), Ok(Some(expected)), "{octets:?}");
            for end in 0..octets.len() {
                assert_eq!(parse(&octets[..end]), Ok(None), "{:?}", &octets[..end]);
            }
        }
    }

    #[test]
    fn what_is_wrong_is_refused_as_soon_as_it_shows() {
        let long = [b"PROXY UNKNOWN ".as_slice(), &[b'x'; 107]].concat();
        let rows: [(&[u8], ProxyError); 16] = [
            (b"\x05", ProxyError::Missing),
            (b"PROXI", ProxyError::Missing),
            (b"\r\n\r\n\r", ProxyError::Missing),
            (&long[..107], ProxyError::TooLong),
            (b"PROXY \r\n", ProxyError::Line),
            (b"PROXY UNKNOWN\n", ProxyError::Line),
            (
                b"PROXY TCP4 192.0.2.7 198.51.100.1 12345\r\n",
                ProxyError::Line,
            ),
            (
                b"PROXY TCP4 192.0.2.7 198.51.100.1 1 2 3\r\n",
                ProxyError::Line,
            ),
            (
                b"PROXY TCP4 192.0.2.7  198.51.100.1 1 2\r\n",
                ProxyError::Line,
            ),
            (
                b"PROXY TCP4 192.0.2.7 198.51.100.1 +1 2\r\n",
                ProxyError::Line,
            ),
            (
                b"PROXY TCP4 192.0.2.7 198.51.100.1 01 2\r\n",
                ProxyError::Line,
            ),
            (b"PROXY TCP4 ::1 ::1 1 2\r\n", ProxyError::Line),
            (
                b"PROXY UDP4 192.0.2.7 198.51.100.1 1 2\r\n",
                ProxyError::Line,
            ),
            (&v2(0x11, 0x11, &BODY_V4), ProxyError::Command(0x11)),
            (&v2(0x21, 0x12, &BODY_V4), ProxyError::Family(0x12)),
            (&v2(0x21, 0x11, &BODY_V4[..11]), ProxyError::Short),
        ];
        for (octets, error) in rows {
            assert_eq!(parse(octets), Err(error), "{octets:?}");
        }
        assert!(parse(&long[..106]).is_ok());
        let endless = [V2, &[0x21, 0x11, 0xff, 0xff]].concat();
        assert_eq!(parse(&endless), Err(ProxyError::TooLong));
    }

    proptest! {
        #[test]
        fn whatever_comes_is_judged_within_bounds(
            begin in prop::sample::select(vec![&b""[..], V1, b"PROXY TCP4 192.0.2.7 ", V2]),
            rest in prop::collection::vec(any::<u8>(), 0..5000),
        ) {
            let octets = [begin, &rest].concat();
            match parse(&octets) {
                Ok(Some(header)) => {
                    prop_assert!(header.len_octets <= octets.len().min(MOST_V2));
                    prop_assert_eq!(parse(&octets[..header.len_octets]), Ok(Some(header)));
                }
                // It asks for more only as long as there is room for it.
                Ok(None) => prop_assert!(octets.len() < MOST_V2),
                Err(_) => {}
            }
        }
    }
}
