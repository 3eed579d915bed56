//! What `/etc/hosts` says, hosts(5): which names and addresses libc can answer without asking DNS.
//!
//! Read here and not by libc, because asking libc whether a name is in the file would send a name
//! that is not to DNS.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

/// The names and addresses of one reading of the file.
#[derive(Debug, Default)]
pub struct Hosts {
    names: BTreeMap<Vec<u8>, HostFamilies>,
    addresses: BTreeSet<IpAddr>,
}

/// What the file has for a name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HostFamilies {
    /// Its first v4 address.
    pub v4: Option<Ipv4Addr>,
    /// Whether it has a v6 address.
    pub has_v6: bool,
}

impl Hosts {
    /// The file's text: lines of `ADDRESS NAME…`, `#` begins a comment; what is not so is passed over,
    /// as libc does.
    #[must_use]
    pub fn parse(text: &[u8]) -> Self {
        let mut hosts = Self::default();
        for line in text.split(|&octet| octet == b'\n') {
            let line = line
                .split(|&octet| octet == b'#')
                .next()
                .unwrap_or_default();
            let mut words = line
                .split(u8::is_ascii_whitespace)
                .filter(|word| !word.is_empty());
            let Some(address) = words.next().and_then(|word| str::from_utf8(word).ok()) else {
                continue;
            };
            // With a %scope too: libc passes such a line over.
            let Ok(address) = address.parse::<IpAddr>() else {
                continue;
            };
            hosts.addresses.insert(address);
            for name in words {
                let families = hosts.names.entry(name.to_ascii_lowercase()).or_default();
                let as_v4 = match address {
                    IpAddr::V4(v4) => Some(v4),
                    // libc gives 127.0.0.1 for it where AF_INET is asked for.
                    IpAddr::V6(v6) => v6.is_loopback().then_some(Ipv4Addr::LOCALHOST),
                };
                families.v4 = families.v4.or(as_v4);
                families.has_v6 |= address.is_ipv6();
            }
        }
        hosts
    }

    /// What the file has for `name`, in any case of letters.
    #[must_use]
    pub fn families_of(&self, name: &[u8]) -> HostFamilies {
        self.names
            .get(&name.to_ascii_lowercase())
            .copied()
            .unwrap_or_default()
    }

    /// Whether the file has a name for `address`.
    #[must_use]
    pub fn has_address(&self, address: IpAddr) -> bool {
        self.addresses.contains(&address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_aliases_and_comments_are_read_as_libc_reads_them() {
        let hosts = Hosts::parse(
            b"127.0.0.1\tlocalhost\n::1 localhost ip6-localhost # loopback\n\
              #192.0.2.9 gone\n192.0.2.7  Printer.example printer\r\nnonsense here\n fe80::1%eth0 ll\n",
        );
        let families = |v4, has_v6| HostFamilies { v4, has_v6 };
        let loopback = families(Some(Ipv4Addr::LOCALHOST), true);
        assert_eq!(hosts.families_of(b"localhost"), loopback);
        assert_eq!(hosts.families_of(b"ip6-localhost"), loopback);
        let printer = families(Some(Ipv4Addr::new(192, 0, 2, 7)), false);
        assert_eq!(hosts.families_of(b"PRINTER"), printer);
        assert_eq!(hosts.families_of(b"printer.EXAMPLE"), printer);
        for absent in [
            &b"ll"[..],
            b"gone",
            b"loopback",
            b"here",
            b"nonsense",
            b"#",
            b"",
        ] {
            assert_eq!(hosts.families_of(absent), HostFamilies::default());
        }
        assert!(hosts.has_address("192.0.2.7".parse().unwrap()));
        for absent in ["192.0.2.9", "::ffff:192.0.2.7", "fe80::1"] {
            assert!(!hosts.has_address(absent.parse().unwrap()), "{absent}");
        }
    }
}
