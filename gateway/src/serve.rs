//! One client's story: handshake → policy → name → dial → reply → relay, and its line in the log.

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::net::sockopt;
use socks_wire::{Address, Bound, Cmd, Credentials, Destination, Rep, ServerRequest, Version};

use crate::Shared;
use crate::config::Config;
use crate::dial::{Dialled, dial};
use crate::error::ServeError;
use crate::handshake::{Check, hang_up, negotiate, reply};
use crate::lookup::{address_of, allowed_addresses, name_at};
use crate::pace::{Bucket, Meter};
use crate::record::Record;
use crate::relay::{Carried, End, Terms, relay};
use crate::resolve::interleave;
use crate::shares::{Holder, Seat};

/// How a client was served.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Served {
    /// By a relay, which is over.
    Relayed(Carried),
    /// By the reply itself.
    Answered,
}

/// Serves a client to its end. Its socket is O_NONBLOCK and lingers for zero seconds, so that it is
/// reset whatever becomes of this process, unless this function finds an orderly end to it.
pub(crate) fn serve(shared: &Shared, client: BorrowedFd<'_>, peer: SocketAddr, seat: &Seat) {
    let mut record = Record::new(peer);
    let config = shared.config.get();
    let outcome = if config.policy.allows_client(peer.ip()) {
        story(shared, &config, client, seat, &mut record)
    } else {
        // Without a word: a stranger could otherwise hold a thread for the handshake's time.
        Err(ServeError::Client)
    };
    record.log(&outcome);
    let is_told = match outcome {
        Ok(Served::Relayed(_)) => false,
        Ok(Served::Answered) => true,
        Err(error) => error.is_told(),
    };
    if is_told {
        hang_up(client);
    }
}

/// A client that has too many relays already is not served, and its line in the log says why.
pub(crate) fn refuse(peer: SocketAddr) {
    Record::new(peer).log(&Err(ServeError::ClientRelays));
}

fn story(
    shared: &Shared,
    config: &Config,
    client: BorrowedFd<'_>,
    seat: &Seat,
    record: &mut Record,
) -> Result<Served, ServeError> {
    let deadline = within(config.handshake_timeout);
    let from = config.quotas.client(record.client.ip());
    let check = |credentials: &Credentials<'_>| {
        let patience = config.quotas.patience();
        let users = &config.users;
        shared
            .logins
            .check(users, credentials, from, patience, deadline)
    };
    let check: Option<&Check<'_>> = (!config.users.is_empty()).then_some(&check);
    let negotiated = negotiate(client, check, deadline, &mut record.user)?;
    let request = negotiated.request;
    record.requested(&request);

    let quotas = &config.quotas;
    let user = record.user.clone().map(Holder::User);
    let user = user.map(|user| {
        shared
            .shares
            .take(user, quotas.relays_per_user)
            .ok_or(ServeError::UserRelays)
    });
    let found = user
        .transpose()
        .and_then(|seat| Ok((seat, find(shared, config, client, &request, record)?)));
    let (user, found) = found.inspect_err(|error| {
        record.rep = error.rep();
        if let Some(rep) = error.rep() {
            // A client that does not take its reply is gone, which is no news here.
            let soon = within(Duration::from_secs(1));
            reply(client, request.version, rep, &Bound::UNSPECIFIED, soon).ok();
        }
    })?;

    record.rep = Some(Rep::SUCCEEDED);
    let bound = match &found {
        Found::Connection(dialled) => {
            // From the reply on, a gateway that is killed must not look like the end of a stream.
            let _ = sockopt::set_socket_linger(&dialled.socket, Some(Duration::ZERO));
            Bound {
                address: Address::Ip(dialled.local.ip().to_canonical()),
                port: dialled.local.port(),
            }
        }
        Found::Answer(address) => Bound {
            address: *address,
            port: 0,
        },
    };
    reply(
        client,
        request.version,
        Rep::SUCCEEDED,
        &bound,
        within(config.handshake_timeout),
    )?;
    let Found::Connection(dialled) = found else {
        return Ok(Served::Answered);
    };

    let destination = dialled.socket.as_fd();
    let carried = relay(
        client,
        destination,
        &negotiated.early,
        &shared.pools,
        Terms {
            idle: config.idle_timeout,
            total: quotas.total,
            meter: Meter::new([
                metered(Some(seat), quotas.bandwidth_per_client),
                metered(user.as_ref(), quotas.bandwidth_per_user),
            ]),
        },
    );
    if carried.end == End::Orderly {
        // What is still on its way is the kernel's business now.
        let _ = sockopt::set_socket_linger(client, None);
        let _ = sockopt::set_socket_linger(destination, None);
    }
    Ok(Served::Relayed(carried))
}

fn metered(seat: Option<&Seat>, rate: Option<u64>) -> Option<(&Bucket, u64)> {
    Some((seat?.bucket(), rate?))
}

/// What a request leads to.
enum Found {
    /// CONNECT's.
    Connection(Dialled),
    /// The BND.ADDR of RESOLVE and RESOLVE_PTR: all that there is to it.
    Answer(Address),
}

fn find(
    shared: &Shared,
    config: &Config,
    client: BorrowedFd<'_>,
    request: &ServerRequest,
    record: &mut Record,
) -> Result<Found, ServeError> {
    let destination = &request.destination;
    match (request.cmd, request.version) {
        (Cmd::CONNECT, _) => {
            connect(shared, config, client, destination, record).map(Found::Connection)
        }
        // A reply of SOCKS4 has no room for a v6 address, or a name.
        (Cmd::RESOLVE, Version::V5) => {
            let ip = address_of(shared, &config.policy, destination)?;
            Ok(Found::Answer(Address::Ip(ip)))
        }
        (Cmd::RESOLVE_PTR, Version::V5) => {
            let name = name_at(shared, &config.policy, destination)?;
            Ok(Found::Answer(Address::Fqdn(name)))
        }
        (cmd, _) => Err(ServeError::Command(cmd)),
    }
}

/// A connection to what the client asked for, if the policy has nothing against it.
fn connect(
    shared: &Shared,
    config: &Config,
    client: BorrowedFd<'_>,
    destination: &Destination,
    record: &mut Record,
) -> Result<Dialled, ServeError> {
    let addresses = allowed_addresses(shared, &config.policy, destination)?;
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

/// A limit so far off that the clock cannot say it is as good as none: a day.
fn within(limit: Duration) -> Instant {
    let now = Instant::now();
    let day = Duration::from_secs(24 * 60 * 60);
    now.checked_add(limit.min(day)).unwrap_or(now)
}
