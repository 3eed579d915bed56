//! What a single client or user may take of the gateway. A client is an address; of IPv6, where a host has more of them
//! than anybody can count, a network.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use crate::logins::Patience;

/// Of each client and each user; `None` is no limit.
#[derive(Debug, Clone)]
pub struct Quotas {
    /// So many leading bits of an IPv6 address are one client.
    pub client_prefix_v6: u8,
    /// Relays of a client at a time; one more is reset.
    pub relays_per_client: Option<usize>,
    /// Relays of a user at a time; one more is told REP 01.
    pub relays_per_user: Option<usize>,
    /// From a relay's first octet to its last, however busy it is; it ends by a reset.
    pub total: Option<Duration>,
    /// Octets a second for all relays of a client, both directions taken together.
    pub bandwidth_per_client: Option<u64>,
    /// The same of a user.
    pub bandwidth_per_user: Option<u64>,
    /// After so many wrong passwords a client is refused, whatever it says, 0 for never, ...
    pub failed_logins: u32,
    /// ... until so long after the first of them.
    pub failed_logins_within: Duration,
}

impl Default for Quotas {
    fn default() -> Self {
        Self {
            client_prefix_v6: 64,
            relays_per_client: None,
            relays_per_user: None,
            total: None,
            bandwidth_per_client: None,
            bandwidth_per_user: None,
            failed_logins: 10,
            failed_logins_within: Duration::from_secs(60),
        }
    }
}

impl Quotas {
    /// Which client an address belongs to.
    pub(crate) fn client(&self, ip: IpAddr) -> IpNet {
        let prefix = if ip.is_ipv4() {
            32
        } else {
            self.client_prefix_v6
        };
        IpNet::new(ip, prefix).map_or_else(|_too_long| ip.into(), |net| net.trunc())
    }

    pub(crate) fn patience(&self) -> Patience {
        Patience {
            failures: self.failed_logins,
            within: self.failed_logins_within,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_of_v6_is_one_client() {
        let quotas = Quotas::default();
        let client = |ip: &str| quotas.client(ip.parse().unwrap()).to_string();
        assert_eq!(client("192.0.2.7"), "192.0.2.7/32");
        assert_eq!(client("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::/64");
        assert_eq!(client("2001:db8:1:2::1"), client("2001:db8:1:2:ffff::"));
    }
}
