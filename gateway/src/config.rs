//! What a gateway runs on. [`Settings`] is what an operator can say, [`Config`] what has been found
//! to make sense and to be safe; there is no other way to a gateway than through [`Config::new`].

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;

use crate::confine::Process;
use crate::log::LogSettings;
use crate::metrics::MetricsSettings;
use crate::nat64::Nat64;
use crate::policy::Policy;
use crate::quotas::Quotas;
use crate::rules::Rules;
use crate::tls::TlsListeners;
use crate::users::Users;

/// The port that IANA has given to SOCKS.
pub(crate) const PORT: u16 = 1080;

/// What an operator can say; the default is a gateway for the programs of this host.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where to listen; empty stands for port 1080 of both loopback addresses. `[::]` takes both
    /// families, every other address its own. Port 0 lets the kernel choose.
    pub listen: Vec<SocketAddr>,
    /// Where to listen besides, for clients that speak TLS. With these `listen` may be empty.
    pub tls: Option<TlsListeners>,
    /// The clients that are served; empty stands for all that can connect.
    pub allow_clients: Vec<IpNet>,
    /// Destinations allowed although they are denied by default, such as loopback.
    pub allow_destinations: Vec<IpNet>,
    /// Load balancers: what they connect begins with a PROXY header, whose source is then the client.
    pub proxy_protocol_from: Vec<IpNet>,
    /// Who may reach what, and how.
    pub rules: Rules,
    /// How IPv4 is reached where there is none.
    pub nat64: Nat64,
    /// Who may authenticate; with nobody in it, nobody has to. If there are `allow_clients` too, a
    /// client has to satisfy both.
    pub users: Users,
    /// Serves the whole world, without a password.
    pub open_relay_for_anyone: bool,
    /// Clients served at a time; others wait. `None` derives it from the limit on descriptors.
    pub max_relays: Option<usize>,
    /// From accept to the request's last octet.
    pub handshake_timeout: Duration,
    /// From the first attempt to a connection, over all addresses of a name.
    pub dial_timeout: Duration,
    /// A relay without an octet in either direction for so long ends by a reset; `None` for never.
    pub idle_timeout: Option<Duration>,
    /// How long running relays may go on after the gateway was told to stop.
    pub drain_timeout: Duration,
    /// How long running relays may go on after a successor has taken over; `None` for as long as they like.
    pub upgrade_timeout: Option<Duration>,
    /// What the process is to give up; of concern to [`confine`](crate::confine()) alone.
    pub process: Process,
    /// For a process that logs with [`Log`](crate::Log).
    pub log: LogSettings,
    /// Where the gateway can be watched.
    pub metrics: MetricsSettings,
    /// What a single client or user may take.
    pub quotas: Quotas,
}

impl Settings {
    /// Of all listeners, whatever they speak.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        let tls = self.tls.iter().flat_map(|tls| &tls.listen);
        self.listen.iter().chain(tls).copied().collect()
    }

    /// Of those by which nobody has to show a certificate.
    fn for_anybody(&self) -> Vec<SocketAddr> {
        let known = self.tls.as_ref().filter(|tls| tls.knows_its_clients);
        let mut addresses = self.addresses();
        addresses.retain(|it| !known.is_some_and(|tls| tls.listen.contains(it)));
        addresses
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            tls: None,
            allow_clients: Vec::new(),
            allow_destinations: Vec::new(),
            proxy_protocol_from: Vec::new(),
            rules: Rules::default(),
            nat64: Nat64::default(),
            users: Users::default(),
            open_relay_for_anyone: false,
            max_relays: None,
            handshake_timeout: Duration::from_secs(10),
            // What a Linux kernel with its default of six retries takes to give up on a SYN.
            dial_timeout: Duration::from_secs(127),
            idle_timeout: None,
            drain_timeout: Duration::from_secs(30),
            upgrade_timeout: None,
            process: Process::default(),
            log: LogSettings::default(),
            metrics: MetricsSettings::default(),
            quotas: Quotas::default(),
        }
    }
}

/// Validated and immutable.
#[derive(Debug, Clone)]
pub struct Config {
    pub(crate) listen: Vec<Listen>,
    tls: Option<TlsListeners>,
    pub(crate) policy: Policy,
    pub(crate) rules: Rules,
    pub(crate) nat64: Nat64,
    pub(crate) users: Users,
    pub(crate) max_relays: Option<usize>,
    pub(crate) handshake_timeout: Duration,
    pub(crate) dial_timeout: Duration,
    pub(crate) idle_timeout: Option<Duration>,
    pub(crate) drain_timeout: Duration,
    pub(crate) upgrade_timeout: Option<Duration>,
    process: Process,
    pub(crate) log: LogSettings,
    pub(crate) metrics: MetricsSettings,
    pub(crate) quotas: Quotas,
}

/// One listener to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Listen {
    pub(crate) address: SocketAddr,
    /// Takes IPv4 clients as well.
    pub(crate) is_dual: bool,
    /// A host without this family does without this listener.
    pub(crate) is_optional: bool,
}

/// Settings that make no sense, or are not safe.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A listener that anybody can reach.
    #[error(
        "{0} is not a loopback address, and anybody who reaches it could use this gateway: name the \
         clients with --allow-client, or ask for a password with --password-file, or say \
         --open-relay-for-anyone"
    )]
    OpenRelay(SocketAddr),
    /// Balancers on which nobody has set bounds.
    #[error(
        "whoever connects through the balancers of proxy-protocol-from could use this gateway: name the clients with \
         --allow-client, or ask for a password with --password-file, or say --open-relay-for-anyone"
    )]
    OpenBalancer,
    /// A range of balancers that is the whole world: anybody could say to be any client.
    #[error(
        "proxy-protocol-from {0} is the whole world, and would believe anybody to be any client: name the balancers, or \
         ask for a password with --password-file, or say --open-relay-for-anyone"
    )]
    BelievesEverybody(IpNet),
    /// A range of clients that is the whole world.
    #[error(
        "--allow-client {0} is the whole world: ask for a password with --password-file, or say \
         --open-relay-for-anyone"
    )]
    Everybody(IpNet),
    /// A listener for metrics that anybody can reach.
    #[error(
        "[metrics] listen {0} is not a loopback address, and anybody who reaches it could see who connects where: name \
         those who may with allow-clients in [metrics]"
    )]
    OpenMetrics(SocketAddr),
    /// A range of those who may watch that is the whole world.
    #[error("[metrics] allow-clients {0} is the whole world")]
    MetricsForEverybody(IpNet),
    /// The same address twice.
    #[error("--listen {0} is given twice")]
    ListenTwice(SocketAddr),
    /// A listener of which nobody could say what it speaks.
    #[error("{0} is listed under listen and under [tls] listen")]
    PlainAndTls(SocketAddr),
    /// No relay at all.
    #[error("--max-relays must be at least 1")]
    NoRelays,
    /// A limit that nobody can meet.
    #[error("{0} must be longer than 0")]
    NoTime(&'static str),
    /// A rule that would never match.
    #[error("{0}")]
    Rule(String),
}

impl Config {
    /// # Errors
    /// If the settings make no sense or would serve anybody without saying so.
    pub fn new(settings: Settings) -> Result<Self, ConfigError> {
        check_listeners(&settings)?;
        settings.metrics.check()?;
        for (name, limit) in [
            ("--handshake-timeout", Some(settings.handshake_timeout)),
            ("--dial-timeout", Some(settings.dial_timeout)),
            ("--idle-timeout", settings.idle_timeout),
        ] {
            if limit == Some(Duration::ZERO) {
                return Err(ConfigError::NoTime(name));
            }
        }
        if settings.max_relays == Some(0) {
            return Err(ConfigError::NoRelays);
        }
        let listen = listeners(&settings.addresses());
        let policy = Policy {
            allow_clients: settings.allow_clients,
            allow_destinations: settings.allow_destinations,
            proxy_protocol_from: settings.proxy_protocol_from,
        };
        let is_listener = |it| listen.iter().any(|listen| listen.address == it);
        settings
            .rules
            .check_against(is_listener, !settings.users.is_empty())
            .map_err(ConfigError::Rule)?;
        Ok(Self {
            listen,
            tls: settings.tls,
            policy,
            rules: settings.rules,
            nat64: settings.nat64,
            users: settings.users,
            max_relays: settings.max_relays,
            handshake_timeout: settings.handshake_timeout,
            dial_timeout: settings.dial_timeout,
            idle_timeout: settings.idle_timeout,
            drain_timeout: settings.drain_timeout,
            upgrade_timeout: settings.upgrade_timeout,
            process: settings.process,
            log: settings.log,
            metrics: settings.metrics,
            quotas: settings.quotas,
        })
    }
}

impl Config {
    /// What the process is to give up.
    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// How TLS is spoken by the listener that was configured so, if it is.
    pub(crate) fn tls_at(&self, listener: SocketAddr) -> Option<&TlsListeners> {
        let tls = self.tls.as_ref();
        tls.filter(|tls| tls.listen.contains(&listener))
    }
}

pub(crate) fn is_everybody(net: &&IpNet) -> bool {
    net.prefix_len() == 0
}

/// Whether others than this host's own programs could connect.
pub(crate) fn is_open(address: &&SocketAddr) -> bool {
    !address.ip().to_canonical().is_loopback()
}

fn check_listeners(settings: &Settings) -> Result<(), ConfigError> {
    let is_both = |it: &&SocketAddr| settings.listen.contains(it);
    if let Some(both) = settings
        .tls
        .iter()
        .flat_map(|tls| &tls.listen)
        .find(is_both)
    {
        return Err(ConfigError::PlainAndTls(*both));
    }
    let addresses = settings.addresses();
    let mut rest = addresses.as_slice();
    while let Some((address, others)) = rest.split_first() {
        if address.port() != 0 && others.contains(address) {
            return Err(ConfigError::ListenTwice(*address));
        }
        rest = others;
    }
    let for_anybody = settings.for_anybody();
    if for_anybody.is_empty() && !addresses.is_empty() {
        return Ok(());
    }
    if settings.open_relay_for_anyone || !settings.users.is_empty() {
        return Ok(());
    }
    if let Some(net) = settings.proxy_protocol_from.iter().find(is_everybody) {
        return Err(ConfigError::BelievesEverybody(*net));
    }
    // A balancer on this host brings clients of the whole world to a listener on loopback.
    let open = match for_anybody.iter().find(is_open) {
        Some(open) => ConfigError::OpenRelay(*open),
        None if settings.proxy_protocol_from.is_empty() => return Ok(()),
        None => ConfigError::OpenBalancer,
    };
    if settings.allow_clients.is_empty() {
        return Err(open);
    }
    match settings.allow_clients.iter().find(is_everybody) {
        Some(everybody) => Err(ConfigError::Everybody(*everybody)),
        None => Ok(()),
    }
}

fn listeners(addresses: &[SocketAddr]) -> Vec<Listen> {
    if addresses.is_empty() {
        let loopback: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        return loopback
            .map(|ip| Listen {
                address: SocketAddr::new(ip, PORT),
                is_dual: false,
                is_optional: ip.is_ipv6(),
            })
            .to_vec();
    }
    let any_v4 = |port| SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port);
    addresses
        .iter()
        .map(|&address| {
            let is_any_v6 = address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED);
            // Whoever lists both wildcards means one socket for each.
            let is_dual = is_any_v6 && !addresses.contains(&any_v4(address.port()));
            Listen {
                address,
                is_dual,
                is_optional: false,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listening(addresses: &[&str]) -> Settings {
        let listen = addresses.iter().map(|text| text.parse().unwrap()).collect();
        Settings {
            listen,
            ..Settings::default()
        }
    }

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn without_a_word_it_listens_on_loopback_alone() {
        let listen = Config::new(Settings::default()).unwrap().listen;
        let addresses: Vec<_> = listen
            .iter()
            .map(|listen| listen.address.to_string())
            .collect();
        assert_eq!(addresses, ["127.0.0.1:1080", "[::1]:1080"]);
        assert_eq!(
            listen.iter().map(|it| it.is_optional).collect::<Vec<_>>(),
            [false, true]
        );
    }

    #[test]
    fn a_listener_that_anybody_can_reach_needs_a_reason() {
        for address in [
            "192.0.2.1:1080",
            "[::]:1080",
            "0.0.0.0:0",
            "[::ffff:192.0.2.1]:1080",
        ] {
            let open = listening(&["127.0.0.1:1080", address]);
            let error = Config::new(open.clone()).unwrap_err();
            assert!(
                matches!(error, ConfigError::OpenRelay(_)),
                "{address}: {error}"
            );

            let users = Users::from_lines(b"alice:x").unwrap();
            assert!(
                Config::new(Settings {
                    users,
                    ..open.clone()
                })
                .is_ok()
            );
            let allow_clients = nets(&["192.0.2.0/24"]);
            assert!(
                Config::new(Settings {
                    allow_clients,
                    ..open.clone()
                })
                .is_ok()
            );
            assert!(
                Config::new(Settings {
                    open_relay_for_anyone: true,
                    ..open
                })
                .is_ok()
            );
        }
    }

    #[test]
    fn a_loopback_listener_needs_none() {
        for address in [
            "127.0.0.1:1080",
            "127.8.8.8:1",
            "[::1]:1080",
            "[::ffff:127.0.0.1]:1080",
        ] {
            assert!(Config::new(listening(&[address])).is_ok(), "{address}");
        }
    }

    #[test]
    fn the_whole_world_is_no_list_of_clients() {
        for net in ["0.0.0.0/0", "::/0"] {
            let allow_clients = nets(&["192.0.2.0/24", net]);
            let settings = Settings {
                allow_clients,
                ..listening(&["[::]:1080"])
            };
            let error = Config::new(settings.clone()).unwrap_err();
            assert_eq!(error, ConfigError::Everybody(net.parse().unwrap()));
            assert!(
                Config::new(Settings {
                    open_relay_for_anyone: true,
                    ..settings
                })
                .is_ok()
            );
        }
    }

    /// Neither the loopback listener nor the range of clients says who comes through a balancer.
    #[test]
    fn a_balancer_opens_nothing_by_accident() {
        let behind = |from: &str, clients: &[&str], open| {
            Config::new(Settings {
                proxy_protocol_from: nets(&[from]),
                allow_clients: nets(clients),
                open_relay_for_anyone: open,
                ..listening(&["127.0.0.1:1080"])
            })
        };
        let error = behind("127.0.0.1/32", &[], false).unwrap_err();
        assert_eq!(error, ConfigError::OpenBalancer);
        let error = behind("::/0", &["192.0.2.0/24"], false).unwrap_err();
        assert_eq!(
            error,
            ConfigError::BelievesEverybody("::/0".parse().unwrap())
        );
        assert!(behind("127.0.0.1/32", &["0.0.0.0/0"], false).is_err());
        assert!(behind("127.0.0.1/32", &["192.0.2.0/24"], false).is_ok());
        assert!(behind("::/0", &[], true).is_ok());
    }

    #[test]
    fn the_v6_wildcard_takes_both_families_unless_v4_has_its_own() {
        let dual = |addresses: &[&str]| {
            let settings = Settings {
                open_relay_for_anyone: true,
                ..listening(addresses)
            };
            let listen = Config::new(settings).unwrap().listen;
            listen
                .iter()
                .map(|listen| listen.is_dual)
                .collect::<Vec<_>>()
        };
        assert_eq!(dual(&["[::]:1080"]), [true]);
        assert_eq!(dual(&["[::]:1080", "0.0.0.0:1081"]), [true, false]);
        assert_eq!(dual(&["[::]:1080", "0.0.0.0:1080"]), [false, false]);
        assert_eq!(dual(&["[2001:db8::1]:1080"]), [false]);
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        let twice = Config::new(listening(&["127.0.0.1:1", "127.0.0.1:1"])).unwrap_err();
        assert_eq!(twice.to_string(), "--listen 127.0.0.1:1 is given twice");
        assert!(Config::new(listening(&["127.0.0.1:0", "127.0.0.1:0"])).is_ok());

        let settings = Settings {
            max_relays: Some(0),
            ..Settings::default()
        };
        assert_eq!(Config::new(settings).unwrap_err(), ConfigError::NoRelays);
        let settings = Settings {
            dial_timeout: Duration::ZERO,
            ..Settings::default()
        };
        assert_eq!(
            Config::new(settings).unwrap_err(),
            ConfigError::NoTime("--dial-timeout")
        );
    }
}
