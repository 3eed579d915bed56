//! Which host strings are addresses and not names, as glibc's look-ups see it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A host string that is an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Literal {
    /// The address.
    pub address: IpAddr,
    /// Whether it is written as four decimal parts or as IPv6: the forms that every function of
    /// libc takes for an address. `127.1` and `0x7f.0.0.1` are addresses to `getaddrinfo` alone.
    pub is_plain: bool,
}

/// `text` as `getaddrinfo(3)` reads a numeric host: IPv4 in any notation of inet_aton(3), or IPv6
/// with an optional `%scope`; `None` if it is a name.
#[must_use]
pub fn literal(text: &[u8]) -> Option<Literal> {
    let text = str::from_utf8(text).ok()?;
    if let Some(address) = aton(text) {
        let is_plain = text.split('.').count() == 4 && text.parse::<Ipv4Addr>().is_ok();
        return Some(Literal {
            address: IpAddr::V4(address),
            is_plain,
        });
    }
    let (address, _scope) = text.split_once('%').unwrap_or((text, ""));
    let address = address.parse::<Ipv6Addr>().ok()?;
    Some(Literal {
        address: IpAddr::V6(address),
        is_plain: true,
    })
}

/// inet_aton(3): one to four parts, decimal, octal (`0…`) or hexadecimal (`0x…`), the last part
/// filling what is left.
fn aton(text: &str) -> Option<Ipv4Addr> {
    let parts: u32 = text
        .split('.')
        .count()
        .try_into()
        .ok()
        .filter(|n| (1..=4).contains(n))?;
    let mut address: u32 = 0;
    for (index, part) in (1..).zip(text.split('.')) {
        let value = aton_part(part)?;
        if index == parts {
            // The last part fills 32 bits less eight for each part before it.
            let room = u32::MAX.checked_shr(8u32.checked_mul(index.checked_sub(1)?)?)?;
            return (value <= room).then(|| Ipv4Addr::from(address | value));
        }
        let value = u32::from(u8::try_from(value).ok()?);
        address |= value.checked_shl(32u32.checked_sub(8u32.checked_mul(index)?)?)?;
    }
    None
}

fn aton_part(part: &str) -> Option<u32> {
    if part.starts_with(['+', '-']) {
        return None;
    }
    if let Some(hex) = part.strip_prefix("0x").or_else(|| part.strip_prefix("0X")) {
        return if hex.starts_with(['+', '-']) {
            None
        } else {
            u32::from_str_radix(hex, 16).ok()
        };
    }
    match part.strip_prefix('0') {
        Some("") => Some(0),
        Some(octal) if !octal.starts_with(['+', '-']) => u32::from_str_radix(octal, 8).ok(),
        Some(_) => None,
        None => part.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Option<String> {
        literal(text.as_bytes()).map(|l| l.address.to_string())
    }

    #[test]
    fn every_notation_of_inet_aton_is_an_address() {
        for (text, expected) in [
            ("192.0.2.1", "192.0.2.1"),
            ("127.1", "127.0.0.1"),
            ("127.0.1", "127.0.0.1"),
            ("0x7f.1", "127.0.0.1"),
            ("0177.0.0.1", "127.0.0.1"),
            ("2130706433", "127.0.0.1"),
            ("0", "0.0.0.0"),
            ("255.16777215", "255.255.255.255"),
            ("::1", "::1"),
            ("fe80::1%eth0", "fe80::1"),
            ("::ffff:192.0.2.1", "::ffff:192.0.2.1"),
        ] {
            assert_eq!(address(text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn names_are_not_addresses() {
        for text in [
            "",
            ".",
            "a",
            "example.org",
            "256.1.1.1",
            "1.2.3.4.5",
            "1.2.3.4.",
            "08",
            "0x",
            "1..2",
            "-1",
            "+1.2.3.4",
            "0x+1",
            "255.16777216",
            "4294967296",
            "fe80::1::2",
            "1.2.3.4 ",
        ] {
            assert_eq!(address(text), None, "{text}");
        }
    }

    #[test]
    fn only_the_plain_forms_are_addresses_to_every_function() {
        assert!(literal(b"192.0.2.1").unwrap().is_plain);
        assert!(literal(b"2001:db8::1").unwrap().is_plain);
        assert!(!literal(b"127.1").unwrap().is_plain);
        assert!(!literal(b"0177.0.0.1").unwrap().is_plain);
    }
}
