//! What `/etc/hosts` says, hosts(5): which names and addresses libc can answer without asking DNS.
//!
//! Read here and not by libc, because asking libc whether a name is in the file would send a name
//! that is not to DNS.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// The names and addresses of one reading of the file.
#[derive(Debug, Default)]
pub struct Hosts {
    names: BTreeMap<Vec<u8>, (bool, bool)>,
    addresses: BTreeSet<IpAddr>,
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
                let (v4, v6) = hosts.names.entry(name.to_ascii_lowercase()).or_default();
                match address {
                    IpAddr::V4(_) => *v4 = true,
                    // libc gives 127.0.0.1 for it where AF_INET is asked for.
                    IpAddr::V6(v6_address) => (*v4, *v6) = (*v4 || v6_address.is_loopback(), true),
                }
            }
        }
        hosts
    }

    /// Whether the file has a v4 and a v6 address for `name`, in any case of letters.
    #[must_use]
    pub fn families_of(&self, name: &[u8]) -> (bool, bool) {
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
        assert_eq!(hosts.families_of(b"localhost"), (true, true));
        assert_eq!(hosts.families_of(b"ip6-localhost"), (true, true));
        assert_eq!(hosts.families_of(b"PRINTER"), (true, false));
        assert_eq!(hosts.families_of(b"printer.EXAMPLE"), (true, false));
        for absent in [
            &b"ll"[..],
            b"gone",
            b"loopback",
            b"here",
            b"nonsense",
            b"#",
            b"",
        ] {
            assert_eq!(hosts.families_of(absent), (false, false));
        }
        assert!(hosts.has_address("192.0.2.7".parse().unwrap()));
        for absent in ["192.0.2.9", "::ffff:192.0.2.7", "fe80::1"] {
            assert!(!hosts.has_address(absent.parse().unwrap()), "{absent}");
        }
    }
}
