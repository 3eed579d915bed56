//! One client's story: handshake → policy → name → dial → reply → relay, and its line in the log.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::net::sockopt;
use socks_wire::{Address, Bound, Destination, Rep};

use crate::Shared;
use crate::dial::{Dialled, dial};
use crate::error::ServeError;
use crate::handshake::{hang_up, negotiate, reply};
use crate::policy::Policy;
use crate::record::Record;
use crate::relay::{Carried, End, relay};
use crate::resolve::{interleave, literal, resolve};

/// Serves a client to its end. Its socket is O_NONBLOCK and lingers for zero seconds, so that it is
/// reset whatever becomes of this process, unless this function finds an orderly end to it.
pub(crate) fn serve(shared: &Shared, client: BorrowedFd<'_>, peer: SocketAddr) {
    let mut record = Record::new(peer);
    let outcome = if shared.config.policy.allows_client(peer.ip()) {
        story(shared, client, &mut record)
    } else {
        // Without a word: a stranger could otherwise hold a thread for the handshake's time.
        Err(ServeError::Client)
    };
    record.log(&outcome);
    if outcome.is_err_and(|error| error.is_told()) {
        hang_up(client);
    }
}

fn story(
    shared: &Shared,
    client: BorrowedFd<'_>,
    record: &mut Record,
) -> Result<Carried, ServeError> {
    let config = &shared.config;
    let deadline = within(config.handshake_timeout);
    let negotiated = negotiate(client, &config.users, deadline, &mut record.user)?;
    let request = negotiated.request;
    record.requested(&request);

    let connected = if Policy::allows_command(request.cmd) {
        connect(shared, client, &request.destination, record)
    } else {
        Err(ServeError::Command(request.cmd))
    };
    let dialled = connected.inspect_err(|error| {
        record.rep = error.rep();
        if let Some(rep) = error.rep() {
            // A client that does not take its reply is gone, which is no news here.
            let soon = within(Duration::from_secs(1));
            reply(client, request.version, rep, &Bound::UNSPECIFIED, soon).ok();
        }
    })?;

    record.rep = Some(Rep::SUCCEEDED);
    // From the reply on, a gateway that is killed must not look like the end of a stream.
    let _ = sockopt::set_socket_linger(&dialled.socket, Some(Duration::ZERO));
    let local = dialled.local;
    let bound = Bound {
        address: Address::Ip(local.ip().to_canonical()),
        port: local.port(),
    };
    reply(
        client,
        request.version,
        Rep::SUCCEEDED,
        &bound,
        within(config.handshake_timeout),
    )?;

    let destination = dialled.socket.as_fd();
    let carried = relay(
        client,
        destination,
        &negotiated.early,
        &shared.pools,
        config.idle_timeout,
    );
    if carried.end == End::Orderly {
        // What is still on its way is the kernel's business now.
        let _ = sockopt::set_socket_linger(client, None);
        let _ = sockopt::set_socket_linger(destination, None);
    }
    Ok(carried)
}

/// A connection to what the client asked for, if the policy has nothing against it.
fn connect(
    shared: &Shared,
    client: BorrowedFd<'_>,
    destination: &Destination,
    record: &mut Record,
) -> Result<Dialled, ServeError> {
    let config = &shared.config;
    let mut addresses = real_addresses(&config.policy, destination)?;
    let own = shared.own.addresses();
    let mut denied = None;
    addresses.retain(
        |address| match config.policy.judge_address(address.ip(), &own) {
            Ok(()) => true,
            Err(denial) => {
                denied.get_or_insert(ServeError::Denied(denial, Some(*address)));
                false
            }
        },
    );
    // A name that has an allowed address is connected to it, and never to the others.
    if let Some(denied) = denied.filter(|_| addresses.is_empty()) {
        return Err(denied);
    }
    let dialled = dial(&interleave(&addresses), client, within(config.dial_timeout))?;
    record.dialled(dialled.peer);
    // Whatever the interfaces say, an address that answers from itself is this host.
    match config
        .policy
        .judge_address(dialled.peer.ip(), &[dialled.local.ip()])
    {
        Ok(()) => Ok(dialled),
        Err(denial) => Err(ServeError::Denied(denial, Some(dialled.peer))),
    }
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

/// A limit so far off that the clock cannot say it is as good as none: a day.
fn within(limit: Duration) -> Instant {
    let now = Instant::now();
    let day = Duration::from_secs(24 * 60 * 60);
    now.checked_add(limit.min(day)).unwrap_or(now)
}
