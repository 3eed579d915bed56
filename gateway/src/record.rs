//! One log line for each client: what it asked for, what it was told, what went over its relay.
//! Fields that a client did not get as far as are left out.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use socks_wire::{Address, Cmd, Destination, Rep, ServerRequest, Version};
use tracing::field;

use crate::error::ServeError;
use crate::figures::Figures;
use crate::policy::Denial;
use crate::serve::Served;
use crate::watched::{Octets, Watched};

/// What the line will say, filled in as it becomes known, and passed on to those who count and watch meanwhile.
#[derive(Debug)]
pub(crate) struct Record<'a> {
    figures: &'a Figures,
    watched: &'a Watched,
    pub(crate) client: SocketAddr,
    start: Instant,
    pub(crate) user: Option<String>,
    address: Option<SocketAddr>,
    pub(crate) rep: Option<Rep>,
    /// The rule that has allowed it, or not.
    pub(crate) rule: Option<String>,
    /// The upstream that has answered.
    pub(crate) via: Option<String>,
    request: Option<(Version, Cmd, Destination)>,
    handshake: Duration,
    dialled: Option<Duration>,
}

impl<'a> Record<'a> {
    pub(crate) fn new(client: SocketAddr, figures: &'a Figures, watched: &'a Watched) -> Self {
        Self {
            figures,
            watched,
            client,
            start: Instant::now(),
            user: None,
            address: None,
            rep: None,
            rule: None,
            via: None,
            request: None,
            handshake: Duration::ZERO,
            dialled: None,
        }
    }

    pub(crate) fn requested(&mut self, request: &ServerRequest) {
        self.request = Some((request.version, request.cmd, request.destination));
        self.handshake = self.start.elapsed();
        self.figures.handshake.observe(self.handshake);
        self.watched
            .requested(self.client, self.user.as_deref(), request.destination);
    }

    pub(crate) fn has_request(&self) -> bool {
        self.request.is_some()
    }

    /// The destination's connection stands.
    pub(crate) fn dialled(&mut self, peer: SocketAddr) {
        self.address = Some(peer);
        let dialled = self.start.elapsed();
        self.dialled = Some(dialled);
        self.figures
            .dial
            .observe(dialled.saturating_sub(self.handshake));
        self.watched.dialled(peer);
    }

    /// Where the relay counts.
    pub(crate) fn octets(&self) -> &'a Octets {
        &self.watched.octets
    }

    pub(crate) fn log(&self, outcome: &Result<Served, ServeError>) {
        let carried = match outcome {
            Ok(Served::Relayed(carried)) => Some(carried),
            Ok(Served::Answered) | Err(_) => None,
        };
        let error = outcome.as_ref().err();
        let address = self.address.or_else(|| error?.address());
        let socks = self.request.map(|(version, ..)| match version {
            Version::V4 => "4",
            Version::V4a => "4a",
            Version::V5 => "5",
        });
        let end = match outcome {
            Ok(Served::Relayed(carried)) => carried.end.to_string(),
            Ok(Served::Answered) => "answered".to_owned(),
            Err(error) => error.word().to_owned(),
        };
        macro_rules! line {
            ($level:expr, $message:literal) => {
                tracing::event!(
                    $level,
                    client = %self.client,
                    user = self.user.as_deref().map(field::display),
                    socks = socks.map(field::display),
                    cmd = self.request.map(|(_, cmd, _)| field::display(word(cmd))),
                    atyp = self.request.map(|(_, _, to)| field::display(atyp(&to.address))),
                    destination = self.request.as_ref().map(|(_, _, to)| field::display(to)),
                    address = address.map(field::display),
                    family = address.map(|it| field::display(family(it))),
                    rule = self.rule.as_deref().map(field::display),
                    via = self.via.as_deref().map(field::display),
                    rep = self.rep.map(|rep| field::display(format!("{:02x}", rep.0))),
                    to_destination = carried.map(|it| it.to_destination),
                    to_client = carried.map(|it| it.to_client),
                    dial_ms = self.dialled.map(millis),
                    ms = millis(self.start.elapsed()),
                    end = %end,
                    error = error.map(field::display),
                    $message
                )
            };
        }
        match error {
            Some(ServeError::Denied(Denial::Fake, _)) => line!(
                tracing::Level::WARN,
                "relay to a fake address: this client's Socks Lib is misconfigured"
            ),
            // A load balancer that looks whether we are alive does this all the time.
            Some(ServeError::ClientGone) if self.request.is_none() => {
                line!(tracing::Level::DEBUG, "no request");
            }
            _ => line!(tracing::Level::INFO, "relay"),
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn atyp(address: &Address) -> String {
    format!("{:02x}", address.atyp().0)
}

fn family(address: SocketAddr) -> &'static str {
    if address.ip().to_canonical().is_ipv4() {
        "v4"
    } else {
        "v6"
    }
}

/// As the RFC spells it, without a blank.
fn word(cmd: Cmd) -> String {
    match cmd {
        Cmd::CONNECT => "CONNECT".to_owned(),
        Cmd::BIND => "BIND".to_owned(),
        Cmd::UDP_ASSOCIATE => "UDP-ASSOCIATE".to_owned(),
        Cmd::RESOLVE => "RESOLVE".to_owned(),
        Cmd::RESOLVE_PTR => "RESOLVE-PTR".to_owned(),
        Cmd(other) => format!("{other:02x}"),
    }
}
