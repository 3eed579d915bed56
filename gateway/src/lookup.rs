//! Destination → the real addresses that the policy and the rules allow; and RESOLVE and RESOLVE_PTR, Tor's extensions of
//! SOCKS5, which tell a client what a CONNECT would find out.

use std::net::{IpAddr, SocketAddr};

use socks_wire::{Address, Destination, Fqdn};

use crate::Shared;
use crate::config::Config;
use crate::error::ServeError;
use crate::policy::Forms;
use crate::resolve::{interleave, literal, name_of, resolve};
use crate::rules::{Asked, Rule};

/// An address that may be dialled, and the rule that says so, if there are rules.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Candidate<'r> {
    pub(crate) address: SocketAddr,
    pub(crate) rule: Option<&'r Rule>,
}

/// The address that a client has sent, or the text of one.
pub(crate) fn address_in(destination: &Destination) -> Option<IpAddr> {
    let ip = match &destination.address {
        Address::Ip(ip) => Some(*ip),
        Address::Fqdn(name) => literal(name),
    };
    // A v4-mapped address is a v4 one.
    ip.map(|ip| ip.to_canonical())
}

/// The name that a client has sent, if it is not the text of an address.
pub(crate) fn name_in(destination: &Destination) -> Option<&Fqdn> {
    match &destination.address {
        Address::Fqdn(name) if literal(name).is_none() => Some(name),
        _ => None,
    }
}

/// How a destination is reached.
#[derive(Debug)]
pub(crate) enum Route<'r> {
    /// By ourselves: what may be dialled, in the order in which it is to be tried; at least one address. A name that has an
    /// allowed address is connected to it, and never to the others.
    Direct(Vec<Candidate<'r>>),
    /// By an upstream of this rule, which is sent this address or, without one, what the client has sent.
    Via(&'r Rule, Option<SocketAddr>),
}

/// The rule for the first address that is allowed says whether an upstream is asked.
pub(crate) fn route<'r>(
    shared: &Shared,
    config: &'r Config,
    asked: &Asked<'_>,
    destination: &Destination,
) -> Result<Route<'r>, ServeError> {
    let addresses = match judge_name(config, asked, destination)? {
        Some(rule) if !asked.name.is_some_and(is_number) => return Ok(Route::Via(rule, None)),
        _ => real_addresses(shared, destination)?,
    };
    let mut candidates = Vec::new();
    let mut denied = None;
    for address in addresses {
        match judge(shared, config, asked, address) {
            Ok(rule) => candidates.push(Candidate { address, rule }),
            Err(error) => {
                denied.get_or_insert(error);
            }
        }
    }
    if let (Some(denied), true) = (denied, candidates.is_empty()) {
        return Err(denied);
    }
    let is_via = |it: &Candidate<'_>| it.rule.is_some_and(Rule::has_upstreams);
    match candidates.first() {
        Some(&Candidate {
            rule: Some(rule),
            address,
        }) if rule.has_upstreams() => {
            let judged = (!rule.sends_on_what_was_sent()).then_some(address);
            Ok(Route::Via(rule, judged))
        }
        _ => {
            let prefer = candidates.first().and_then(|it| it.rule?.prefer());
            candidates.retain(|it| !is_via(it));
            Ok(Route::Direct(interleave(&candidates, prefer, |it| {
                it.address
            })))
        }
    }
}

/// inet_aton(3) has addresses such as 127.1 and 0x7f000001, and no name ends in a number: what some resolver may take for an
/// address is judged as one, and does not go on as a name.
fn is_number(name: &Fqdn) -> bool {
    let name = name.as_bytes();
    let name = name.strip_suffix(b".").unwrap_or(name);
    let last = name.rsplit(|octet| *octet == b'.').next();
    last.is_some_and(|label| match label {
        [b'0', b'x' | b'X', hex @ ..] => hex.iter().all(u8::is_ascii_hexdigit),
        decimal => decimal.iter().all(u8::is_ascii_digit),
    })
}

/// RESOLVE_PTR: the name of an address that a CONNECT could reach.
pub(crate) fn name_at(
    shared: &Shared,
    config: &Config,
    asked: &Asked<'_>,
    destination: &Destination,
) -> Result<Fqdn, ServeError> {
    let ip = address_in(destination).ok_or(ServeError::NotAnAddress)?;
    let rule = judge(shared, config, asked, SocketAddr::new(ip, 0))?;
    if rule.is_some_and(Rule::has_upstreams) {
        // What our own resolver calls it says nothing of the host that the upstream would reach.
        return Err(ServeError::Command(asked.cmd));
    }
    name_of(&shared.zones, ip).map_err(ServeError::Resolve)
}

/// What the policy denies no rule allows.
fn judge<'r>(
    shared: &Shared,
    config: &'r Config,
    asked: &Asked<'_>,
    address: SocketAddr,
) -> Result<Option<&'r Rule>, ServeError> {
    let forms = Forms::of(address.ip(), || config.nat64.prefix());
    config
        .policy
        .judge_address(forms, &shared.own.addresses())
        .map_err(|denial| ServeError::Denied(denial, Some(address)))?;
    config
        .rules
        .judge_address(asked, forms)
        .map_err(|by| ServeError::Rule(by, Some(address)))
}

/// A name before it is resolved: the rule that sends it on as it is, if one does. Nothing is said of an address here.
fn judge_name<'r>(
    config: &'r Config,
    asked: &Asked<'_>,
    destination: &Destination,
) -> Result<Option<&'r Rule>, ServeError> {
    let Some(name) = name_in(destination) else {
        return Ok(None);
    };
    config
        .policy
        .judge_name(name)
        .map_err(|denial| ServeError::Denied(denial, None))?;
    config
        .rules
        .judge_name(asked)
        .map_err(|by| ServeError::Rule(by, None))
}

fn real_addresses(
    shared: &Shared,
    destination: &Destination,
) -> Result<Vec<SocketAddr>, ServeError> {
    let port = destination.port;
    let Some(name) = name_in(destination) else {
        let ip = address_in(destination);
        return Ok(ip.map(|ip| SocketAddr::new(ip, port)).into_iter().collect());
    };
    let mut addresses = resolve(&shared.zones, name, port).map_err(ServeError::Resolve)?;
    for address in &mut addresses {
        address.set_ip(address.ip().to_canonical());
    }
    Ok(addresses)
}
