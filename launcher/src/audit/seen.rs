//! What a run did, put together from the shim's log and the kernel's view.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use socks_client::{Action, Config, GatewayHost, Place, Protocol, is_local};

use super::trace::{Named, named};

const DOMAIN_PORT: u16 = 53;

/// What became of something, in the order in which it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    Name,
    Relayed,
    Failed,
    Direct,
    Refused,
    Escaped,
}

const FATES: [(Fate, &str); 6] = [
    (Fate::Name, "name"),
    (Fate::Relayed, "relayed"),
    (Fate::Failed, "failed"),
    (Fate::Direct, "direct"),
    (Fate::Refused, "refused"),
    (Fate::Escaped, "ESCAPED"),
];

/// Each with how often it was.
#[derive(Debug, Default)]
pub(super) struct Seen {
    all: BTreeMap<(Fate, String), usize>,
    /// What libc gave for names that are ruled direct.
    direct_addresses: BTreeSet<IpAddr>,
    has_direct_name: bool,
}

impl Seen {
    pub(super) fn new(config: &Config, log: &str, trace: &str) -> Self {
        let mut seen = Self::default();
        for line in log.lines() {
            if let Some((_process, message)) = line.split_once("]: ") {
                seen.logged(message);
            }
        }
        for named in named(trace) {
            if let Some(fate) = seen.fate(config, &named) {
                let Named { is_connect, to, by } = named;
                let call = if is_connect { "connect" } else { "datagram" };
                seen.count(fate, format!("{call} {to} by {by}"));
            }
        }
        seen
    }

    /// A headline, and a line for each.
    pub(super) fn lines(&self) -> impl Iterator<Item = String> {
        let total = |fate| {
            let of_fate = self.all.iter().filter(move |((is, _), _)| *is == fate);
            of_fate.map(|(_, count)| count).sum::<usize>()
        };
        let totals = FATES.map(|(fate, word)| match fate {
            Fate::Name => format!("{} look-ups", total(fate)),
            _ => format!("{} {word}", total(fate)),
        });
        let lines = self.all.iter().map(|((fate, what), count)| {
            let word = FATES
                .iter()
                .find(|(is, _)| is == fate)
                .map_or("", |(_, word)| word);
            let times = if *count > 1 {
                format!(" ({count} times)")
            } else {
                String::new()
            };
            format!("{word:<8} {what}{times}")
        });
        std::iter::once(format!("audit: {}", totals.join(", "))).chain(lines)
    }

    fn count(&mut self, fate: Fate, what: String) {
        let count = self.all.entry((fate, what)).or_default();
        *count = count.saturating_add(1);
    }

    /// docs/configuration.md, "The log".
    fn logged(&mut self, message: &str) {
        // Each took its own time.
        let what = message
            .rsplit_once(" in ")
            .map_or(message, |(what, _ms)| what);
        if let Some(name) = message.strip_prefix("name ") {
            self.has_direct_name |= name.ends_with(": direct");
            let fate = if name.ends_with(": rejected") {
                Fate::Refused
            } else {
                Fate::Name
            };
            let what = if fate == Fate::Name { name } else { message };
            self.count(fate, what.to_owned());
        } else if let Some(address) = message.strip_prefix("address ") {
            let address = address
                .split(": ")
                .next()
                .and_then(|address| address.parse::<IpAddr>().ok());
            self.direct_addresses.extend(address);
        } else if !message.starts_with("connect ") && !message.starts_with("datagram ") {
            // What concerns no connection: a gateway that was passed over, a warning.
        } else if message.contains(": refused: ") {
            self.count(Fate::Refused, message.to_owned());
        } else if what.ends_with(": ok") {
            self.count(Fate::Relayed, what.to_owned());
        } else if !message.ends_with(": direct") {
            self.count(Fate::Failed, what.to_owned());
        }
    }

    /// `None`: the shim's own way to a gateway, which its log has told of.
    fn fate(&self, config: &Config, named: &Named) -> Option<Fate> {
        let (address, port) = (named.to.ip(), named.to.port());
        let is_gateway = config
            .gateways
            .iter()
            .any(|gateway| gateway.host == GatewayHost::Ip(address) && gateway.port == port);
        // What the shim makes of a socket whose handshake has failed: nobody listens on port 0.
        if is_gateway || (address.is_loopback() && port == 0) {
            return None;
        }
        let place = Place {
            name: None,
            address: Some(address),
            port,
            protocol: Some(if named.is_connect {
                Protocol::Tcp
            } else {
                Protocol::Udp
            }),
        };
        let is_direct = match config.rules.action(&place) {
            Some(action) => action == Action::Direct,
            None => is_local(address),
        };
        // libc asks the name server itself for a name that is ruled direct.
        let is_of_name = self.direct_addresses.contains(&address)
            || (port == DOMAIN_PORT && self.has_direct_name);
        Some(if is_direct || is_of_name {
            Fate::Direct
        } else {
            Fate::Escaped
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use socks_client::Variables;

    #[test]
    fn what_the_log_does_not_account_for_has_escaped() {
        let file = "gateway 192.0.2.1:1080\nrule direct .corp.example\nrule relay 127.0.0.9 tcp\n";
        let config = Config::build(Some(file), &Variables::default()).unwrap();
        let log = "\
socks6[7]: name www.example fake [Some(100::1), None]
socks6[7]: name intern.corp.example: direct
socks6[7]: address 10.0.0.5: of a name that is direct
socks6[7]: name x.ads.example: rejected
socks6[7]: connect www.example:80 fake 100::1 via 192.0.2.1:1080: ok in 12 ms
socks6[8]: connect www.example:80 fake 100::1 via 192.0.2.1:1080: ok in 14 ms
socks6[8]: connect www.example:81 fake 100::1 via 192.0.2.1:1080: ECONNREFUSED (refused) in 2 ms
socks6[8]: connect intern.corp.example:22 address 10.0.0.5: direct
socks6[8]: connect 192.0.2.7:25: refused: EACCES
socks6[8]: gateway 192.0.2.9:1080: ECONNREFUSED; trying 192.0.2.1:1080
";
        let trace: String = [
            ("connect", "192.0.2.1", 1080),
            ("connect", "127.0.0.1", 5432),
            ("connect", "127.0.0.1", 0),
            ("connect", "127.0.0.9", 80),
            ("connect", "10.0.0.5", 22),
            ("sendto", "192.0.2.53", 53),
            ("connect", "203.0.113.5", 443),
            ("sendto", "198.18.0.7", 9),
        ]
        .iter()
        .map(|(call, address, port)| {
            format!(
                "9<x> {call}(3, {{sa_family=AF_INET, sin_port=htons({port}), \
                 sin_addr=inet_addr(\"{address}\")}}, 16) = 0\n"
            )
        })
        .collect();
        let lines: Vec<_> = Seen::new(&config, log, &trace).lines().collect();
        assert_eq!(
            lines.join("\n"),
            "\
audit: 2 look-ups, 2 relayed, 1 failed, 3 direct, 2 refused, 3 ESCAPED
name     intern.corp.example: direct
name     www.example fake [Some(100::1), None]
relayed  connect www.example:80 fake 100::1 via 192.0.2.1:1080: ok (2 times)
failed   connect www.example:81 fake 100::1 via 192.0.2.1:1080: ECONNREFUSED (refused)
direct   connect 10.0.0.5:22 by 9<x>
direct   connect 127.0.0.1:5432 by 9<x>
direct   datagram 192.0.2.53:53 by 9<x>
refused  connect 192.0.2.7:25: refused: EACCES
refused  name x.ads.example: rejected
ESCAPED  connect 127.0.0.9:80 by 9<x>
ESCAPED  connect 203.0.113.5:443 by 9<x>
ESCAPED  datagram 198.18.0.7:9 by 9<x>"
        );
    }
}
