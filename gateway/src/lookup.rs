//! Destination → the real addresses that the policy allows; and RESOLVE and RESOLVE_PTR, Tor's extensions of SOCKS5,
//! which tell a client what a CONNECT would find out.

use std::net::{IpAddr, SocketAddr};

use socks_wire::{Address, Destination, Fqdn};

use crate::Shared;
use crate::error::ServeError;
use crate::policy::Policy;
use crate::resolve::{ResolveError, literal, name_of, resolve};

/// What may be dialled, in the resolver's order: at least one address. A name that has an allowed address is
/// connected to it, and never to the others.
pub(crate) fn allowed_addresses(
    shared: &Shared,
    policy: &Policy,
    destination: &Destination,
) -> Result<Vec<SocketAddr>, ServeError> {
    let mut addresses = real_addresses(policy, destination)?;
    let own = shared.own.addresses();
    let mut denied = None;
    addresses.retain(|address| match policy.judge_address(address.ip(), &own) {
        Ok(()) => true,
        Err(denial) => {
            denied.get_or_insert(ServeError::Denied(denial, Some(*address)));
            false
        }
    });
    match denied {
        Some(denied) if addresses.is_empty() => Err(denied),
        _ => Ok(addresses),
    }
}

/// RESOLVE: one address of a name, the first that a CONNECT would try.
pub(crate) fn address_of(
    shared: &Shared,
    policy: &Policy,
    destination: &Destination,
) -> Result<IpAddr, ServeError> {
    let addresses = match allowed_addresses(shared, policy, destination) {
        Err(ServeError::Resolve(ResolveError::NoAddress)) => return Err(ServeError::NoAddress),
        other => other?,
    };
    let first = addresses.first().ok_or(ServeError::NoAddress)?;
    Ok(first.ip())
}

/// RESOLVE_PTR: the name of an address that a CONNECT could reach.
pub(crate) fn name_at(
    shared: &Shared,
    policy: &Policy,
    destination: &Destination,
) -> Result<Fqdn, ServeError> {
    let ip = match &destination.address {
        Address::Ip(ip) => *ip,
        Address::Fqdn(name) => literal(name).ok_or(ServeError::NotAnAddress)?,
    };
    let ip = ip.to_canonical();
    policy
        .judge_address(ip, &shared.own.addresses())
        .map_err(|denial| ServeError::Denied(denial, Some(SocketAddr::new(ip, 0))))?;
    name_of(ip).map_err(ServeError::Resolve)
}

fn real_addresses(
    policy: &Policy,
    destination: &Destination,
) -> Result<Vec<SocketAddr>, ServeError> {
    let name = match &destination.address {
        Address::Ip(ip) => return Ok(vec![to(*ip, destination.port)]),
        Address::Fqdn(name) => name,
    };
    if let Some(ip) = literal(name) {
        return Ok(vec![to(ip, destination.port)]);
    }
    policy
        .judge_name(name)
        .map_err(|denial| ServeError::Denied(denial, None))?;
    resolve(name, destination.port).map_err(ServeError::Resolve)
}

/// A v4-mapped address is a v4 one.
fn to(ip: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(ip.to_canonical(), port)
}
