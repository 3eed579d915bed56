//! A gateway that is known to take it gets greeting, credentials and request in one segment: one round trip in place of three.

use std::time::Duration;

use testkit::{
    Act, Distance, Families, Gateway, GatewayOptions, Origin, Outcome, Peer, SERVER, Shim,
    Topology, danted, microsocks, ssh_dynamic,
};

use crate::errors::{connect, said};

const SELECTION: [u8; 2] = [0x05, 0x02];
const STATUS: [u8; 2] = [0x01, 0x00];
const REPLY: [u8; 10] = [0x05, 0x00, 0x00, 0x01, 0, 0, 0, 0, 0, 0];

/// The messages of alice's connection to [`SERVER`], port 25, after the greeting.
const CREDENTIALS: &[u8] = b"\x01\x05alice\x05right";
const REQUEST: &[u8] = b"\x05\x01\x00\x03\x0eserver.example\x00\x19";

fn as_alice(shim: &Shim, gateway: &str) -> Shim {
    shim.clone()
        .with("SOCKS6_GATEWAY", gateway)
        .with("SOCKS6_USER", "alice")
        .with("SOCKS6_PASSWORD", "right")
}

/// RFC 1928 §3 and §4, RFC 1929 §2: the messages, and how many times the client waits for an answer to them.
#[test]
fn the_messages_come_in_one_segment_where_the_gateway_takes_it() {
    let Some(topology) = Topology::new(Families::V4, Families::V6) else {
        return;
    };
    let at = topology.gateway_socket();
    let (piece, send) = (Act::ReceivePiece, |octets: &[u8]| {
        Act::Send(octets.to_vec())
    });
    let banner = b"220 hi\r\n";

    let step_by_step = vec![
        piece.clone(),
        send(&SELECTION),
        piece.clone(),
        send(&STATUS),
        piece.clone(),
        send(&[&REPLY[..], banner].concat()),
    ];
    let peer = Peer::start(&topology.gateway, at, step_by_step);
    let shim = as_alice(&topology.shim(), &at.to_string());
    said(&connect(&topology, &shim, SERVER, "25"), "0", &shim);
    assert_eq!(
        peer.pieces(),
        [&[0x05, 2, 0x00, 0x02], CREDENTIALS, REQUEST]
    );
    drop(peer);

    // What the server says comes in every two pieces that it can be cut into, and octet by octet.
    let whole = [&SELECTION[..], &STATUS, &REPLY, banner].concat();
    let cuts = (1..whole.len()).map(|cut| {
        let (before, after) = whole.split_at(cut);
        vec![
            send(before),
            Act::Wait(Duration::from_millis(5)),
            send(after),
        ]
    });
    let by_octet = vec![Act::Trickle(whole.clone(), Duration::from_millis(2))];
    let shim = as_alice(&topology.shim(), &format!("{at}?pipelined"));
    let said_at_once = [&[0x05, 1, 0x02], CREDENTIALS, REQUEST].concat();
    for answer in cuts.chain([vec![send(&whole)], by_octet]) {
        let script = [vec![piece.clone()], answer].concat();
        let peer = Peer::start(&topology.gateway, at, script);
        let outcome = connect(&topology, &shim, SERVER, "25");
        said(&outcome, "0", &shim);
        assert!(outcome.stdout().contains("220 hi"), "{outcome}");
        assert_eq!(peer.pieces(), std::slice::from_ref(&said_at_once));
    }
}

/// Our own gateway takes it, and over a link of 100 ms a connection costs one of them.
#[test]
fn a_connection_costs_one_round_trip() {
    let Some(topology) = Topology::new(Families::V4, Families::V6) else {
        return;
    };
    let _dns = topology.dns();
    let _banner = Origin::banner(
        &topology.destination,
        &topology.destination_sockets(25),
        b"hi",
    );
    let users = topology.dir().join("users");
    std::fs::write(&users, "alice:right\n").unwrap();
    let arguments = vec!["--password-file".to_owned(), users.display().to_string()];
    let _gateway = Gateway::start(&topology, &GatewayOptions { arguments });
    let mut near = topology.gateway_socket();
    near.set_port(1081);
    let one_way = Duration::from_millis(50);
    let _distance = Distance::start(&topology.gateway, near, topology.gateway_socket(), one_way);

    // Three cannot take less, whatever else the machine does.
    for (option, expected) in [("?pipelined", 100..300), ("", 300..u64::MAX)] {
        let shim = as_alice(&topology.shim(), &format!("{near}{option}"));
        let outcome = connect(&topology, &shim, SERVER, "25");
        said(&outcome, "0", &shim);
        let took = milliseconds(&shim, &outcome);
        assert!(
            expected.contains(&took),
            "{option}: {took} ms, not {expected:?}"
        );
    }
}

/// What the last line of the shim's log says that connect() took.
fn milliseconds(shim: &Shim, outcome: &Outcome) -> u64 {
    let log = shim.log();
    let words = log.lines().last().unwrap_or_default().split(' ');
    let took = words.rev().nth(1).and_then(|number| number.parse().ok());
    took.unwrap_or_else(|| panic!("no time in the log: {log}\n{outcome}"))
}

/// RFC 1928 §3 and §6, RFC 1929 §2: a refusal of each of the three messages is what it is step by step.
#[test]
fn a_refusal_of_each_message_has_its_errno() {
    let Some(topology) = Topology::new(Families::V4, Families::V6) else {
        return;
    };
    let at = topology.gateway_socket();
    let refused = |rep| {
        [
            &SELECTION[..],
            &STATUS,
            &[0x05, rep, 0, 1, 0, 0, 0, 0, 0, 0],
        ]
        .concat()
    };
    for (answer, errno) in [
        (vec![0x05, 0xff], "EACCES"),
        (vec![0x05, 0x02, 0x01, 0x01], "EACCES"),
        (refused(5), "ECONNREFUSED"),
        (refused(4), "EHOSTUNREACH"),
        // A method that was not offered, and no more.
        (vec![0x05, 0x00], "ENETUNREACH"),
        (SELECTION.to_vec(), "ENETUNREACH"),
    ] {
        let script = vec![Act::ReceivePiece, Act::Send(answer.clone())];
        let _peer = Peer::start(&topology.gateway, at, script);
        let shim = as_alice(&topology.shim(), &format!("{at}?pipelined"));
        let outcome = connect(&topology, &shim, SERVER, "25");
        said(&outcome, errno, &shim);
    }
}

/// `socks6 check` finds out who takes it: ours does, and Dante and ssh; microsocks waits for what it has thrown away.
#[test]
fn check_tells_who_takes_one_segment() {
    let Some(topology) = Topology::new(Families::V4, Families::V6) else {
        return;
    };
    let at = topology.gateway_socket();
    let check = |option: &str| {
        let launcher = testkit::artefacts().launcher.clone();
        let argv = [launcher.as_os_str(), "check".as_ref(), "--gateway".as_ref()];
        let gateway = format!("{at}{option}");
        let argv = argv.into_iter().chain([gateway.as_ref()]);
        topology.victim(argv).run()
    };
    let gateway = topology.start_gateway();
    for (option, sign) in [("", "--  "), ("?pipelined", "ok  ")] {
        let outcome = check(option);
        assert!(outcome.is_ok(), "{outcome}");
        let line = format!("gateway  {sign}  {at} takes all in one segment");
        assert!(outcome.stdout().contains(&line), "{outcome}");
    }
    drop(gateway);
    for start in [danted, ssh_dynamic] {
        let _gateway = start(&topology);
        let outcome = check("?pipelined");
        assert!(outcome.is_ok(), "{outcome}");
    }
    let _microsocks = microsocks(&topology);
    let outcome = check("?pipelined");
    assert!(!outcome.is_ok(), "{outcome}");
    let line = format!("gateway  FAIL  {at} does not take all in one segment");
    assert!(outcome.stdout().contains(&line), "{outcome}");
}
