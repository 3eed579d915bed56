//! One client's story: handshake → policy → name → dial → reply → relay, and its line in the log.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::net::sockopt;
use socks_wire::{Address, Bound, Cmd, Credentials, Destination, Rep, ServerRequest, Version};

use crate::Shared;
use crate::config::Config;
use crate::dial::{Dialled, Target, dial};
use crate::error::ServeError;
use crate::handshake::{Check, Negotiated, hang_up, negotiate, reply, secure};
use crate::lookup::{Candidate, Route, name_at, name_in, route};
use crate::pace::{Bucket, Meter};
use crate::policy::Forms;
use crate::proxy::read_source;
use crate::record::Record;
use crate::relay::{Carried, End, Terms, relay};
use crate::relays::Admitted;
use crate::resolve::ResolveError;
use crate::rules::{Asked, Rule};
use crate::shares::{Holder, Seat};
use crate::stream::Stream;
use crate::upstream::{Errand, go_via};
use crate::watched::Watched;

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
///
/// `seat` is the peer's, if one could be taken before.
pub(crate) fn serve(
    shared: &Shared,
    client: &Admitted,
    peer: SocketAddr,
    seat: Option<Seat>,
    listener: SocketAddr,
) {
    let mut record = Record::new(peer, &shared.figures, client.watched());
    let config = shared.config.get();
    let deadline = within(config.handshake_timeout);
    let socket = client.as_fd();
    let mut tls = None;
    let outcome = source(&config, socket, peer, deadline).and_then(|source| {
        record.client = source;
        if !config.policy.allows_client(source.ip()) {
            // Without a word: a stranger could otherwise hold a thread for the handshake's time.
            return Err(ServeError::Client);
        }
        let seat = match seat.filter(|_| source == peer) {
            Some(seat) => seat,
            None => seat_of(shared, &config, source.ip())?,
        };
        if let Some(listeners) = config.tls_at(listener) {
            tls = Some(secure(listeners, socket, deadline)?);
        }
        let stream = Stream::new(socket, tls.as_ref());
        let negotiated = greet(shared, &config, stream, deadline, &mut record)?;
        if !client.served() {
            return Err(ServeError::GaveWay);
        }
        story(
            shared,
            &config,
            stream,
            listener,
            &negotiated,
            &seat,
            &mut record,
        )
    });
    let outcome = outcome.map_err(|error| match error {
        // Its thread has found a dead socket.
        _ if !record.has_request() && client.has_given_way() => ServeError::GaveWay,
        error => error,
    });
    shared.figures.note(&outcome);
    record.log(&outcome);
    let is_told = match outcome {
        Ok(Served::Relayed(_)) => false,
        Ok(Served::Answered) => true,
        Err(error) => error.is_told(),
    };
    if is_told {
        client.told();
        hang_up(Stream::new(socket, tls.as_ref()));
    }
}

/// A client's place among its own relays, before a thread stays with it for as long as it likes. `None` for a balancer, which
/// speaks for somebody who is not known yet.
pub(crate) fn seat(shared: &Shared, peer: SocketAddr) -> Result<Option<Seat>, ServeError> {
    let config = shared.config.get();
    if config.policy.is_balancer(peer.ip()) {
        return Ok(None);
    }
    seat_of(shared, &config, peer.ip()).map(Some)
}

fn seat_of(shared: &Shared, config: &Config, client: IpAddr) -> Result<Seat, ServeError> {
    let quotas = &config.quotas;
    let holder = Holder::Client(quotas.client(client));
    let seat = shared.shares.take(holder, quotas.relays_per_client);
    seat.ok_or(ServeError::ClientRelays)
}

/// A client that is reset without being served has its line in the log and its place in the figures as well.
pub(crate) fn refuse(shared: &Shared, peer: SocketAddr, error: ServeError) {
    shared.relays.turn_away();
    let watched = Watched::new(peer);
    let outcome = Err(error);
    shared.figures.note(&outcome);
    Record::new(peer, &shared.figures, &watched).log(&outcome);
}

/// Whose connection it is: the peer's, or that of the client for which a load balancer speaks.
fn source(
    config: &Config,
    client: BorrowedFd<'_>,
    peer: SocketAddr,
    deadline: Instant,
) -> Result<SocketAddr, ServeError> {
    if !config.policy.is_balancer(peer.ip()) {
        return Ok(peer);
    }
    let source = read_source(client, deadline)?.unwrap_or(peer);
    Ok(SocketAddr::new(source.ip().to_canonical(), source.port()))
}

/// The handshake up to the request, with the password if there is to be one.
fn greet(
    shared: &Shared,
    config: &Config,
    client: Stream<'_>,
    deadline: Instant,
    record: &mut Record<'_>,
) -> Result<Negotiated, ServeError> {
    let from = config.quotas.client(record.client.ip());
    let check = |credentials: &Credentials<'_>| {
        let (users, patience) = (&config.users, config.quotas.patience());
        shared
            .logins
            .check(users, credentials, from, patience, deadline)
    };
    let check: Option<&Check<'_>> = (!config.users.is_empty()).then_some(&check);
    negotiate(client, check, deadline, &mut record.user)
}

fn story(
    shared: &Shared,
    config: &Config,
    client: Stream<'_>,
    listener: SocketAddr,
    negotiated: &Negotiated,
    seat: &Seat,
    record: &mut Record<'_>,
) -> Result<Served, ServeError> {
    let quotas = &config.quotas;
    let request = &negotiated.request;
    record.requested(request);

    let user = record.user.clone();
    let destination = &request.destination;
    let asked = Asked {
        client: record.client.ip(),
        listener,
        user: user.as_deref(),
        cmd: request.cmd,
        name: name_in(destination),
        port: destination.port,
        hops: negotiated.hops,
    };
    let user_seat = user.clone().map(|user| {
        shared
            .shares
            .take(Holder::User(user), quotas.relays_per_user)
            .ok_or(ServeError::UserRelays)
    });
    let found = user_seat.transpose().and_then(|user_seat| {
        let found = find(shared, config, client.socket(), &asked, request, record)?;
        Ok((user_seat, found))
    });
    let (user_seat, found) = found.inspect_err(|error| {
        record.rep = error.rep();
        match error {
            ServeError::Rule(by, _) => record.rule.clone_from(&by.0),
            ServeError::RuleRelays(by) => record.rule = Some(by.clone()),
            _ => {}
        }
        if let Some(rep) = error.rep() {
            // A client that does not take its reply is gone, which is no news here.
            let soon = within(Duration::from_secs(1));
            reply(client, request.version, rep, &Bound::UNSPECIFIED, soon).ok();
        }
    })?;

    record.rep = Some(Rep::SUCCEEDED);
    let bound = match &found {
        Found::Connection(dialled, ..) => Bound {
            address: Address::Ip(dialled.local.ip().to_canonical()),
            port: dialled.local.port(),
        },
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
    let Found::Connection(dialled, rule, rule_seat) = found else {
        return Ok(Served::Answered);
    };

    let carried = relay(
        client,
        dialled.stream(),
        &negotiated.early,
        &shared.pools,
        Terms {
            idle: config.idle_timeout,
            total: [rule.and_then(Rule::total), quotas.total]
                .into_iter()
                .flatten()
                .min(),
            meter: Meter::new([
                metered(Some(seat), quotas.bandwidth_per_client),
                metered(user_seat.as_ref(), quotas.bandwidth_per_user),
                metered(rule_seat.as_ref(), rule.and_then(Rule::bandwidth)),
            ]),
        },
        record.octets(),
    );
    if carried.end == End::Orderly {
        // What is still on its way is the kernel's business now.
        let _ = sockopt::set_socket_linger(client.socket(), None);
        let _ = sockopt::set_socket_linger(&dialled.socket, None);
    }
    Ok(Served::Relayed(carried))
}

fn metered(seat: Option<&Seat>, rate: Option<u64>) -> Option<(&Bucket, u64)> {
    Some((seat?.bucket(), rate?))
}

/// What a request leads to.
enum Found<'r> {
    /// CONNECT's, by this rule, with its place among the rule's other relays if they are counted.
    Connection(Dialled, Option<&'r Rule>, Option<Seat>),
    /// The BND.ADDR of RESOLVE and RESOLVE_PTR: all that there is to it.
    Answer(Address),
}

fn find<'r>(
    shared: &Shared,
    config: &'r Config,
    client: BorrowedFd<'_>,
    asked: &Asked<'_>,
    request: &ServerRequest,
    record: &mut Record<'_>,
) -> Result<Found<'r>, ServeError> {
    let destination = &request.destination;
    let cmd = match (request.cmd, request.version) {
        (Cmd::RESOLVE_PTR, Version::V5) => {
            let name = name_at(shared, config, asked, destination)?;
            return Ok(Found::Answer(Address::Fqdn(name)));
        }
        // A reply of SOCKS4 has no room for a v6 address, or a name.
        (cmd @ Cmd::CONNECT, _) | (cmd @ Cmd::RESOLVE, Version::V5) => cmd,
        (cmd, _) => return Err(ServeError::Command(cmd)),
    };
    let (dialled, rule, seat) = match route(shared, config, asked, destination) {
        Err(ServeError::Resolve(ResolveError::NoAddress)) if cmd == Cmd::RESOLVE => {
            return Err(ServeError::NoAddress);
        }
        Err(error) => return Err(error),
        Ok(Route::Via(rule, judged)) => {
            let destination = judged.map_or(*destination, Destination::from);
            record.rule = Some(rule.label());
            // A look-up is no relay.
            let seat = if cmd == Cmd::CONNECT {
                seat_of_rule(shared, rule)?
            } else {
                None
            };
            let errand = Errand {
                cmd,
                destination: &destination,
                hops: asked.hops,
                outgoing: rule.outgoing(),
                prefer: rule.prefer(),
                client,
                deadline: within(config.dial_timeout),
            };
            let (dialled, upstream) =
                go_via(shared, config, &config.rules.upstreams(rule), &errand)?;
            record.via = Some(upstream.name.clone());
            (dialled, Some(rule), seat)
        }
        Ok(Route::Direct(candidates)) if cmd == Cmd::RESOLVE => {
            // What a CONNECT would try first.
            let first = candidates.first().ok_or(ServeError::NoAddress)?;
            record.rule = first.rule.map(Rule::label);
            return Ok(Found::Answer(Address::Ip(first.address.ip())));
        }
        Ok(Route::Direct(candidates)) => connect(shared, config, client, candidates, record)?,
    };
    if cmd == Cmd::RESOLVE {
        return Ok(Found::Answer(Address::Ip(dialled.local.ip())));
    }
    record.dialled(dialled.peer);
    Ok(Found::Connection(dialled, rule, seat))
}

/// `None` if it counts nothing.
fn seat_of_rule(shared: &Shared, rule: &Rule) -> Result<Option<Seat>, ServeError> {
    let Some(holder) = rule.holder() else {
        return Ok(None);
    };
    match shared.shares.take(holder, rule.relays()) {
        Some(seat) => Ok(Some(seat)),
        None => Err(ServeError::RuleRelays(rule.label())),
    }
}

/// Leaves those candidates whose rule has a relay left, and takes it before anybody is dialled.
fn seats(
    shared: &Shared,
    candidates: &mut Vec<Candidate<'_>>,
) -> Result<Vec<(Holder, Seat)>, ServeError> {
    let mut seats: Vec<(Holder, Seat)> = Vec::new();
    let mut full = None;
    candidates.retain(|it| {
        let Some((rule, holder)) = it.rule.and_then(|rule| Some((rule, rule.holder()?))) else {
            return true;
        };
        if seats.iter().any(|(seated, _)| *seated == holder) {
            return true;
        }
        match seat_of_rule(shared, rule) {
            Ok(seat) => seats.extend(seat.map(|seat| (holder, seat))),
            Err(error) => {
                full = Some(error);
                return false;
            }
        }
        true
    });
    match full {
        Some(error) if candidates.is_empty() => Err(error),
        _ => Ok(seats),
    }
}

/// A connection to the first of these that answers.
fn connect<'r>(
    shared: &Shared,
    config: &Config,
    client: BorrowedFd<'_>,
    mut candidates: Vec<Candidate<'r>>,
    record: &mut Record<'_>,
) -> Result<(Dialled, Option<&'r Rule>, Option<Seat>), ServeError> {
    let seats = seats(shared, &mut candidates)?;
    let targets: Vec<_> = candidates
        .iter()
        .map(|it| Target {
            address: it.address,
            outgoing: it.rule.map(Rule::outgoing).unwrap_or_default(),
        })
        .collect();
    let deadline = within(config.dial_timeout);
    let dialled = dial(&targets, &config.nat64, client, deadline)?;
    let chosen = candidates.iter().find(|it| it.address == dialled.target);
    let rule = chosen.and_then(|it| it.rule);
    record.rule = rule.map(Rule::label);
    // Whatever the interfaces say, an address that answers from itself is this host.
    let forms = Forms::of(dialled.target.ip(), || config.nat64.prefix());
    match config.policy.judge_address(forms, &[dialled.local.ip()]) {
        Ok(()) => {
            let holder = rule.and_then(Rule::holder);
            let mut seats = seats.into_iter();
            let seat = seats.find(|(seated, _)| Some(seated) == holder.as_ref());
            Ok((dialled, rule, seat.map(|(_, seat)| seat)))
        }
        Err(denial) => Err(ServeError::Denied(denial, Some(dialled.peer))),
    }
}

/// A limit so far off that the clock cannot say it is as good as none: a day.
fn within(limit: Duration) -> Instant {
    let now = Instant::now();
    let day = Duration::from_secs(24 * 60 * 60);
    now.checked_add(limit.min(day)).unwrap_or(now)
}
