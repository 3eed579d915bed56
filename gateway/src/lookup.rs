//! Destination → the real addresses that the policy and the rules allow; and RESOLVE and RESOLVE_PTR, Tor's extensions of
//! SOCKS5, which tell a client what a CONNECT would find out.

use std::net::{IpAddr, SocketAddr};

use socks_wire::{Address, Destination, Fqdn};

use crate::Shared;
use crate::config::Config;
use crate::error::ServeError;
use crate::resolve::{ResolveError, interleave, literal, name_of, resolve};
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

/// What may be dialled, in the order in which it is to be tried: at least one address. A name that has an allowed address
/// is connected to it, and never to the others.
pub(crate) fn candidates<'r>(
    shared: &Shared,
    config: &'r Config,
    asked: &Asked<'_>,
    destination: &Destination,
) -> Result<Vec<Candidate<'r>>, ServeError> {
    let mut candidates = Vec::new();
    let mut denied = None;
    for address in real_addresses(config, asked, destination)? {
        match judge(shared, config, asked, address) {
            Ok(rule) => candidates.push(Candidate { address, rule }),
            Err(error) => {
                denied.get_or_insert(error);
            }
        }
    }
    match denied {
        Some(denied) if candidates.is_empty() => Err(denied),
        _ => Ok(interleave(&candidates, |it| it.address)),
    }
}

/// RESOLVE: one address of a name, the first that a CONNECT would try.
pub(crate) fn address_of<'r>(
    shared: &Shared,
    config: &'r Config,
    asked: &Asked<'_>,
    destination: &Destination,
) -> Result<Candidate<'r>, ServeError> {
    let candidates = match candidates(shared, config, asked, destination) {
        Err(ServeError::Resolve(ResolveError::NoAddress)) => return Err(ServeError::NoAddress),
        other => other?,
    };
    candidates.first().copied().ok_or(ServeError::NoAddress)
}

/// RESOLVE_PTR: the name of an address that a CONNECT could reach.
pub(crate) fn name_at(
    shared: &Shared,
    config: &Config,
    asked: &Asked<'_>,
    destination: &Destination,
) -> Result<Fqdn, ServeError> {
    let ip = address_in(destination).ok_or(ServeError::NotAnAddress)?;
    judge(shared, config, asked, SocketAddr::new(ip, 0))?;
    name_of(ip).map_err(ServeError::Resolve)
}

/// What the policy denies no rule allows.
fn judge<'r>(
    shared: &Shared,
    config: &'r Config,
    asked: &Asked<'_>,
    address: SocketAddr,
) -> Result<Option<&'r Rule>, ServeError> {
    config
        .policy
        .judge_address(address.ip(), &shared.own.addresses())
        .map_err(|denial| ServeError::Denied(denial, Some(address)))?;
    config
        .rules
        .judge_address(asked, address.ip())
        .map_err(|by| ServeError::Rule(by, Some(address)))
}

fn real_addresses(
    config: &Config,
    asked: &Asked<'_>,
    destination: &Destination,
) -> Result<Vec<SocketAddr>, ServeError> {
    let name = match (address_in(destination), &destination.address) {
        (Some(ip), _) | (None, &Address::Ip(ip)) => {
            return Ok(vec![SocketAddr::new(ip, destination.port)]);
        }
        (None, Address::Fqdn(name)) => name,
    };
    config
        .policy
        .judge_name(name)
        .map_err(|denial| ServeError::Denied(denial, None))?;
    config
        .rules
        .judge_name(asked)
        .map_err(|by| ServeError::Rule(by, None))?;
    let mut addresses = resolve(name, destination.port).map_err(ServeError::Resolve)?;
    for address in &mut addresses {
        address.set_ip(address.ip().to_canonical());
    }
    Ok(addresses)
}
