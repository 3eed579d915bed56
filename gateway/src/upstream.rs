//! RFC 3089 §4: a destination that is reached by another gateway, with its name unresolved. `[[upstream]]` says which
//! gateways there are, a rule's `via` which of them may be asked, and the octets are asked for in `ask`.

mod ask;

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use socks_wire::{ClientHandshake, Cmd, Credentials, Destination, Fqdn, WireError};

use crate::Shared;
use crate::config::Config;
use crate::dial::{DialError, Dialled, Target, dial};
use crate::error::ServeError;
use crate::outgoing::Outgoing;
use crate::resolve::{Family, interleave, resolve};
use crate::text::as_text;
use crate::tls::{self, ClientTable, ReadSecret, TlsError, Towards};
use crate::upstream::ask::{AskError, ask, secure};

/// An upstream that has failed is tried after all others for so long.
const DEAD_TIME: Duration = Duration::from_secs(30);

/// A request that has come through so many gateways goes in circles.
pub(crate) const MOST_HOPS: u8 = 8;

/// One `[[upstream]]`, as it is written.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct UpstreamTable {
    pub(crate) name: String,
    address: HostPort,
    user: Option<String>,
    pub(crate) password_file: Option<PathBuf>,
    #[serde(default, deserialize_with = "tls::true_or_table")]
    pub(crate) tls: Option<ClientTable>,
    weight: Option<u16>,
}

/// `gw.example:1080`, `192.0.2.1:1080`, `[2001:db8::1]:1080`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct HostPort {
    host: Fqdn,
    port: u16,
}

/// A gateway that can be asked.
pub(crate) struct Upstream {
    pub(crate) name: String,
    address: HostPort,
    /// User and password, of lengths that RFC 1929 has room for.
    login: Option<(Vec<u8>, Vec<u8>)>,
    tls: Option<Towards>,
    weight: Option<u16>,
    dead_until: Mutex<Option<Instant>>,
}

/// Why an `[[upstream]]` is of no use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UpstreamError {
    /// Its password file cannot be read.
    #[error("cannot read {0}: {1}")]
    PasswordFile(PathBuf, io::Error),
    /// The user or the first line of the password file has no octet, or more than 255.
    #[error("{0}")]
    Login(WireError),
    /// What TLS needs is of no use.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// What is to be asked of an upstream, and how it is to be reached.
pub(crate) struct Errand<'a> {
    pub(crate) cmd: Cmd,
    pub(crate) destination: &'a Destination,
    /// How many gateways it has come through, this one not counted.
    pub(crate) hops: u8,
    pub(crate) outgoing: Outgoing<'a>,
    pub(crate) prefer: Option<Family>,
    pub(crate) client: BorrowedFd<'a>,
    pub(crate) deadline: Instant,
}

impl UpstreamTable {
    /// What is wrong with it by itself.
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        if self.name.is_empty() || !self.name.bytes().all(|octet| octet.is_ascii_graphic()) {
            return Err("name: one word of ASCII, for the log");
        }
        if self.weight == Some(0) {
            return Err("weight must be at least 1");
        }
        if self.user.is_some() != self.password_file.is_some() {
            return Err("user and password-file go together");
        }
        self.tls.as_ref().map_or(Ok(()), ClientTable::check)
    }

    /// With its password and its key, which `read` gets.
    pub(crate) fn ready(&self, read: ReadSecret) -> Result<Upstream, UpstreamError> {
        let login = match (&self.user, &self.password_file) {
            (Some(user), Some(path)) => {
                let octets =
                    read(path).map_err(|error| UpstreamError::PasswordFile(path.clone(), error))?;
                let line = octets.split(|it| *it == b'\n').next().unwrap_or_default();
                let password = line.strip_suffix(b"\r").unwrap_or(line);
                Credentials::new(user.as_bytes(), password).map_err(UpstreamError::Login)?;
                Some((user.as_bytes().to_vec(), password.to_vec()))
            }
            _ => None,
        };
        let host = self.address.host.as_bytes().escape_ascii().to_string();
        let tls = self.tls.as_ref().map(|tls| tls.ready(&host, read));
        Ok(Upstream {
            name: self.name.clone(),
            address: self.address.clone(),
            login,
            tls: tls.transpose()?,
            weight: self.weight,
            dead_until: Mutex::new(None),
        })
    }
}

/// The connection through the first of these upstreams that answers; BND is what that one has told. A refusal is an answer:
/// nobody else is asked then.
pub(crate) fn go_via<'u>(
    shared: &Shared,
    config: &Config,
    upstreams: &[&'u Upstream],
    errand: &Errand<'_>,
) -> Result<(Dialled, &'u Upstream), ServeError> {
    if errand.hops >= MOST_HOPS {
        return Err(ServeError::Loop(errand.hops));
    }
    let now = Instant::now();
    let states: Vec<_> = upstreams
        .iter()
        .map(|it| (it.weight, it.is_dead(now)))
        .collect();
    let mut last = ServeError::Upstream(String::new(), "there is none".to_owned());
    for upstream in order(&states, RandomState::new().hash_one(0))
        .into_iter()
        .filter_map(|index| upstreams.get(index))
    {
        if Instant::now() >= errand.deadline {
            break; // the others have had no time in which to fail
        }
        match upstream.go(shared, config, errand) {
            Ok(dialled) => {
                *upstream.dead_until.lock() = None;
                return Ok((dialled, upstream));
            }
            Err(AskError::Failed(why)) => {
                *upstream.dead_until.lock() = Instant::now().checked_add(DEAD_TIME);
                tracing::warn!(upstream = upstream.name, "upstream failed: {why}");
                last = ServeError::Upstream(upstream.name.clone(), why);
            }
            Err(AskError::Dropped(why)) => {
                return Err(ServeError::Upstream(upstream.name.clone(), why));
            }
            Err(AskError::Refused(rep)) => {
                return Err(ServeError::Refused(upstream.name.clone(), rep));
            }
            Err(AskError::Silent(peer)) => {
                return Err(ServeError::Dial(
                    io::Error::from_raw_os_error(libc::ETIMEDOUT),
                    peer,
                ));
            }
            Err(AskError::ClientGone) => return Err(ServeError::ClientGone),
        }
    }
    Err(last)
}

impl Upstream {
    fn is_dead(&self, now: Instant) -> bool {
        self.dead_until.lock().is_some_and(|until| now < until)
    }

    fn go(
        &self,
        shared: &Shared,
        config: &Config,
        errand: &Errand<'_>,
    ) -> Result<Dialled, AskError> {
        // It has this long for what is its own; its way to the destination may take the rest.
        let soon = Instant::now().checked_add(config.handshake_timeout);
        let soon = soon.map_or(errand.deadline, |at| at.min(errand.deadline));
        let HostPort { host, port } = &self.address;
        let mut addresses = resolve(&shared.zones, host, *port)
            .map_err(|error| AskError::Failed(error.to_string()))?;
        for address in &mut addresses {
            address.set_ip(address.ip().to_canonical());
        }
        let own = shared.own.addresses();
        addresses.retain(|address| !is_ourselves(*address, config, &own));
        if addresses.is_empty() {
            return Err(AskError::Failed("it is this gateway itself".to_owned()));
        }
        let targets: Vec<_> = interleave(&addresses, errand.prefer, |it| *it)
            .into_iter()
            .map(|address| Target {
                address,
                outgoing: errand.outgoing,
            })
            .collect();
        let dialled = dial(&targets, &config.nat64, errand.client, soon);
        let mut dialled = dialled.map_err(|error| match error {
            DialError::ClientGone => AskError::ClientGone,
            failed @ DialError::Failed(..) => AskError::Failed(failed.to_string()),
        })?;
        if let Some(tls) = &self.tls {
            dialled.tls = Some(secure(tls, dialled.socket.as_fd(), errand, soon)?);
        }
        let login = self.login.as_ref();
        let credentials = login.and_then(|(user, word)| Credentials::new(user, word).ok());
        let mut handshake = ClientHandshake::new(errand.cmd, errand.destination, credentials)
            .with_hops(errand.hops.saturating_add(1));
        match ask(&mut handshake, dialled.stream(), dialled.peer, errand, soon) {
            Ok(local) => Ok(Dialled { local, ..dialled }),
            Err(AskError::Failed(why)) if handshake.has_asked() => Err(AskError::Dropped(why)),
            Err(error) => Err(error),
        }
    }
}

/// Without the password.
impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream")
            .field("name", &self.name)
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// Whether one of our own listeners is there: a request sent to it would only come back.
fn is_ourselves(address: SocketAddr, config: &Config, own: &[IpAddr]) -> bool {
    let is_here = address.ip().is_loopback() || own.contains(&address.ip());
    is_here
        && config.listen.iter().any(|listen| {
            let at = listen.address.ip().to_canonical();
            listen.address.port() == address.port()
                && (at == address.ip()
                    || at.is_unspecified() && (listen.is_dual || at.is_ipv4() == address.is_ipv4()))
        })
}

/// In which order upstreams of this weight, dead or not, are tried. The first one is drawn by weight among those that are
/// alive and have one; the others follow as they stand, and the dead ones, for want of a better, come last.
fn order(states: &[(Option<u16>, bool)], chance: u64) -> Vec<usize> {
    let alive = || (0..).zip(states).filter(|(_, (_, is_dead))| !is_dead);
    let weights =
        || alive().filter_map(|(index, (weight, _))| Some((index, u64::from((*weight)?))));
    let all: u64 = weights().map(|(_, weight)| weight).sum();
    let mut drawn = chance.checked_rem(all).unwrap_or(0);
    let first = weights().find(|(_, weight)| match drawn.checked_sub(*weight) {
        Some(rest) => {
            drawn = rest;
            false
        }
        None => true,
    });
    let first = first.map(|(index, _)| index);
    let others = alive()
        .map(|(index, _)| index)
        .filter(|index| Some(*index) != first);
    let dead = (0..).zip(states).filter(|(_, (_, is_dead))| *is_dead);
    first
        .into_iter()
        .chain(others)
        .chain(dead.map(|(index, _)| index))
        .collect()
}

impl FromStr for HostPort {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.rsplit_once(':').and_then(|(host, port)| {
            let is_name = |text: &str| {
                let is_plain = |octet: u8| octet.is_ascii_alphanumeric() || b"-_.".contains(&octet);
                !text.is_empty() && text.bytes().all(is_plain)
            };
            let is_v6 = |text: &str| {
                let (address, scope) = text.split_once('%').unwrap_or((text, "0"));
                address.parse::<Ipv6Addr>().is_ok() && is_name(scope)
            };
            let bare = match host.strip_prefix('[') {
                Some(rest) => rest.strip_suffix(']').filter(|it| is_v6(it))?,
                None => Some(host).filter(|it| is_name(it))?,
            };
            let host = Fqdn::new(bare.as_bytes()).ok()?;
            let port = port.parse().ok().filter(|port| *port != 0)?;
            Some(Self { host, port })
        });
        parsed.ok_or_else(|| {
            format!(
                "\"{text}\" is not a host and a port, such as gw.example:1080 or [2001:db8::1]:1080"
            )
        })
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.host.as_bytes().escape_ascii();
        if self.host.as_bytes().contains(&b':') {
            write!(f, "[{host}]:{}", self.port)
        } else {
            write!(f, "{host}:{}", self.port)
        }
    }
}

as_text!(HostPort);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_weights_they_are_tried_in_order_and_the_dead_ones_last() {
        let (alive, dead) = ((None, false), (None, true));
        for (states, expected) in [
            (vec![alive, alive, alive], vec![0, 1, 2]),
            (vec![dead, alive, dead, alive], vec![1, 3, 0, 2]),
            (vec![dead, dead], vec![0, 1]),
            (vec![], vec![]),
        ] {
            for chance in 0..4 {
                assert_eq!(order(&states, chance), expected, "{states:?}");
            }
        }
    }

    #[test]
    fn weights_say_how_often_one_is_the_first() {
        let states = [
            (Some(3), false),
            (None, false),
            (Some(1), false),
            (Some(9), true),
        ];
        let firsts = (0..400).map(|chance| order(&states, chance));
        let mut count = [0; 4];
        for order in firsts {
            assert_eq!(order.len(), 4);
            assert_eq!(order[3], 3, "the dead one");
            count[order[0]] += 1;
        }
        assert_eq!(count, [300, 0, 100, 0]);
        assert_eq!(order(&states, 3), [2, 0, 1, 3]);
    }

    #[test]
    fn addresses_are_written_as_they_are_read() {
        for text in [
            "gw.example:1080",
            "192.0.2.1:1",
            "[2001:db8::1]:65535",
            "[fe80::1%eth0]:1",
        ] {
            assert_eq!(text.parse::<HostPort>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "gw",
            ":1080",
            "gw:",
            "gw:0",
            "2001:db8::1:1080",
            "[gw]:1",
            "a b:1",
            "it's:1",
            "[cafe:it's]:1",
            "[fe80::1%]:1",
            "[::1]1",
        ] {
            assert!(text.parse::<HostPort>().is_err(), "{text}");
        }
    }

    #[test]
    fn passwords_are_the_first_line_and_are_not_shown() {
        let table: UpstreamTable = toml::from_str(
            "name = \"a\"\naddress = \"gw.example:1080\"\nuser = \"alice\"\npassword-file = \"p\"",
        )
        .unwrap();
        let upstream = table
            .ready(|_| Ok(b"s3cret\r\nmore".to_vec().into()))
            .unwrap();
        assert_eq!(
            upstream.login,
            Some((b"alice".to_vec(), b"s3cret".to_vec()))
        );
        assert!(!format!("{upstream:?}").contains("s3cret"));
        assert!(table.ready(|_| Ok(Vec::new().into())).is_err());
    }
}
