//! `resolve = "verify"`: a name that the gateway does not find is none, and it is the look-up that says so.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use testkit::{
    Act, DnsServer, Families, Family, NOWHERE, Origin, Outcome, Peer, SERVER, Shim, Topology, Zone,
    c_program, danted, microsocks, ssh_dynamic,
};

use crate::errors::{AT_ONCE, connect, said};
use crate::names::{FORWARD, REVERSE};

const NO_ADDRESS: &str = "no-address.example";
/// A name whose address the gateway lets nobody reach.
const FORBIDDEN: &str = "forbidden.example";

/// netdb.h: the EAI_ code, and the h_errno of the older functions.
const NONAME: [&str; 2] = ["-2", "1"];
const AGAIN: [&str; 2] = ["-3", "2"];
const NODATA: [&str; 2] = ["-5", "4"];

fn verifying(topology: &Topology) -> Shim {
    let config = topology.dir().join("shim.conf");
    fs::write(&config, "resolve verify\n").unwrap();
    topology.shim().with("SOCKS6_CONFIG", config)
}

fn dns(topology: &Topology) -> DnsServer {
    let zone = Zone::default()
        .host(SERVER, topology.destination_address(Family::V6))
        .host(FORBIDDEN, Ipv4Addr::new(169, 254, 169, 254).into())
        .without_address(NO_ADDRESS);
    DnsServer::start(
        topology,
        &topology.gateway,
        &[Ipv4Addr::LOCALHOST.into()],
        &zone,
    )
}

fn ask(topology: &Topology, shim: &Shim, function: &str, question: &str) -> Outcome {
    let program = c_program("victims/names");
    let argv = [program.as_os_str(), function.as_ref(), question.as_ref()];
    topology.victim(argv).shim(shim).run()
}

/// Checks that `function` failed with the one of these codes that is of its kind.
fn failed(outcome: &Outcome, function: &str, [eai, h_errno]: [&str; 2]) {
    let is_new = function.starts_with("getaddrinfo") || function == "getnameinfo";
    let code = if is_new { eai } else { h_errno };
    assert_eq!(outcome.stderr.trim(), code, "{function}: {outcome}");
}

fn is_fake(outcome: &Outcome) -> bool {
    let text = outcome.expect_ok().stdout();
    let mut answers = text.lines().map(|line| line.parse::<IpAddr>().unwrap());
    answers.all(|answer| crate::names::is_fake(&answer)) && !text.is_empty()
}

/// getaddrinfo(3): "The node or service is not known"; "exists, but does not have any network addresses defined".
#[test]
fn every_function_tells_a_name_that_does_not_exist_from_one_that_has_no_address() {
    let Some(topology) = Topology::new(Families::V4, Families::V6) else {
        return;
    };
    let (_dns, decoy) = (dns(&topology), topology.decoy());
    let _gateway = topology.start_gateway();
    let _banner = Origin::banner(
        &topology.destination,
        &topology.destination_sockets(25),
        b"hi",
    );
    let shim = verifying(&topology);
    for function in FORWARD {
        failed(&ask(&topology, &shim, function, NOWHERE), function, NONAME);
        failed(
            &ask(&topology, &shim, function, NO_ADDRESS),
            function,
            NODATA,
        );
        assert!(
            is_fake(&ask(&topology, &shim, function, SERVER)),
            "{function}"
        );
        // Only connect() can say that it is forbidden.
        assert!(
            is_fake(&ask(&topology, &shim, function, FORBIDDEN)),
            "{function}"
        );
    }
    said(&connect(&topology, &shim, SERVER, "25"), "0", &shim);
    said(&connect(&topology, &shim, FORBIDDEN, "25"), "EACCES", &shim);
    let log = shim.log();
    assert!(
        log.contains(&format!("look-up {NOWHERE}: EAI_NONAME in ")),
        "{log}"
    );
    assert_eq!(decoy.queries(), 0);
}

/// The real address of a real host, which the program has from elsewhere.
#[test]
fn every_function_finds_the_name_of_a_real_address() {
    let Some(topology) = Topology::new(Families::V4, Families::V6) else {
        return;
    };
    let (_dns, decoy) = (dns(&topology), topology.decoy());
    let _gateway = topology.start_gateway();
    let shim = verifying(&topology);
    let known = topology.destination_address(Family::V6).to_string();
    for function in REVERSE {
        let outcome = ask(&topology, &shim, function, &known);
        assert_eq!(outcome.expect_ok().stdout().trim(), SERVER, "{function}");
        for unknown in ["198.51.100.77", "169.254.169.254", "127.0.0.77"] {
            failed(&ask(&topology, &shim, function, unknown), function, NONAME);
        }
    }
    assert_eq!(decoy.queries(), 0);
}

/// getaddrinfo(3), EAI_AGAIN: "The name server returned a temporary failure indication. Try again later."
#[test]
fn a_gateway_that_cannot_tell_now_is_eai_again() {
    let Some(topology) = Topology::new(Families::V4, Families::V6) else {
        return;
    };
    let shim = verifying(&topology);
    let some = [
        "getaddrinfo",
        "gethostbyname_r",
        "getnameinfo",
        "gethostbyaddr",
    ];
    let question = |function: &str| {
        if REVERSE.contains(&function) {
            "198.51.100.77"
        } else {
            SERVER
        }
    };
    for function in some {
        let outcome = ask(&topology, &shim, function, question(function));
        failed(&outcome, function, AGAIN);
        assert!(outcome.took < AT_ONCE, "no gateway: {outcome}");
    }
    let gateway = topology.gateway_socket().to_string();
    assert!(shim.log().contains(&gateway), "{}", shim.log());
    // Its name server does not answer: resolv.conf has one attempt of one second.
    let _gateway = topology.start_gateway();
    for function in some {
        let outcome = ask(&topology, &shim, function, question(function));
        failed(&outcome, function, AGAIN);
    }
}

/// DESIGN §2: where the gateway answers no look-ups, it is as if none were asked for.
#[test]
fn a_gateway_that_answers_no_look_ups_is_used_without() {
    let Some(topology) = Topology::new(Families::V4, Families::V6) else {
        return;
    };
    let _dns = dns(&topology);
    let _banner = Origin::banner(
        &topology.destination,
        &topology.destination_sockets(25),
        b"hi",
    );
    for start in [microsocks, danted, ssh_dynamic] {
        let gateway = start(&topology);
        let shim = verifying(&topology);
        let seen = shim.log().len();
        let program = format!(
            "import socket\nfor name in '{NOWHERE}', '{SERVER}': print(socket.gethostbyname(name))\n\
             c = socket.create_connection(('{SERVER}', 25)); print(c.recv(2))"
        );
        let outcome = topology
            .victim(["/usr/bin/python3", "-c", &program])
            .shim(&shim)
            .run();
        assert!(outcome.expect_ok().stdout().contains("b'hi'"), "{outcome}");
        let log = shim.log();
        let said = log[seen..].matches("answers no look-ups").count();
        assert_eq!(said, 1, "{log}\n{}", gateway.log());
    }
}

/// Such a gateway says so by hanging up; one that is cut off in the middle of an answer has said nothing.
#[test]
fn a_gateway_that_breaks_off_once_is_asked_again() {
    let Some(topology) = Topology::new(Families::V4, Families::V6) else {
        return;
    };
    let request = || vec![Act::Receive(3), Act::Send(vec![5, 0]), Act::ReceiveRequest];
    // RFC 1928 §6, in the manner of Tor's RESOLVE: REP 04, no such host.
    let unknown = Act::Send(vec![5, 4, 0, 1, 0, 0, 0, 0, 0, 0]);
    let cut = [request(), vec![Act::Reset]].concat();
    let told = [request(), vec![unknown]].concat();
    let scripts = vec![cut, told];
    let peer = Peer::start_in_turn(&topology.gateway, topology.gateway_socket(), scripts);
    let shim = verifying(&topology);
    let program = "import socket\nfor i in 1, 2:\n try: socket.getaddrinfo('gone.example', 80)\n \
                   except socket.gaierror as error: print(error.errno)";
    let outcome = topology
        .victim(["/usr/bin/python3", "-c", program])
        .shim(&shim)
        .run();
    assert_eq!(outcome.expect_ok().stdout(), "-2\n-2\n", "{outcome}");
    assert_eq!(peer.connections(), 3);
}

/// A program that closes whatever is open closes our connection too; what it opens then is its own.
#[test]
fn what_a_program_opens_in_the_middle_of_a_look_up_is_left_alone() {
    let Some(topology) = Topology::new(Families::V4, Families::V6) else {
        return;
    };
    let script = vec![Act::Receive(3), Act::Wait(Duration::from_secs(2))];
    let _peer = Peer::start(&topology.gateway, topology.gateway_socket(), script);
    let shim = verifying(&topology);
    let program = "import os, socket, threading, time\n\
                   def look_up():\n try: socket.getaddrinfo('gone.example', 80)\n \
                   except socket.gaierror as error: print(error.errno)\n\
                   thread = threading.Thread(target=look_up)\nthread.start()\ntime.sleep(0.7)\n\
                   os.closerange(3, 400)\nmine = [os.open('/dev/null', os.O_RDONLY) for _ in range(200)]\n\
                   thread.join()\nfor fd in mine: os.fstat(fd)\nprint('mine')";
    let outcome = topology
        .victim(["/usr/bin/python3", "-c", program])
        .shim(&shim)
        .run();
    assert_eq!(outcome.expect_ok().stdout(), "-3\nmine\n", "{outcome}");
}

/// `socks6 check` finds out who answers them.
#[test]
fn check_tells_who_answers_look_ups() {
    let Some(topology) = Topology::new(Families::V4, Families::V6) else {
        return;
    };
    let config = topology.dir().join("shim.conf");
    let gateway = topology.gateway_socket();
    fs::write(&config, format!("gateway {gateway}\nresolve verify\n")).unwrap();
    let launcher = &testkit::artefacts().launcher;
    let argv = [
        launcher.as_os_str(),
        "check".as_ref(),
        "--config".as_ref(),
        config.as_os_str(),
    ];
    let check = || topology.victim(argv).run();
    let ours = topology.start_gateway();
    let outcome = check();
    let line = format!("gateway  ok    {gateway} answers look-ups");
    assert!(outcome.expect_ok().stdout().contains(&line), "{outcome}");
    drop(ours);
    let _danted = danted(&topology);
    let outcome = check();
    let line = format!("gateway  FAIL  {gateway} answers no look-ups");
    assert!(
        !outcome.is_ok() && outcome.stdout().contains(&line),
        "{outcome}"
    );
}

/// pthreads(7): getaddrinfo() may be a cancellation point, and waits for a silent gateway as for a silent name server.
#[test]
fn a_look_up_ends_in_time_and_can_be_cancelled() {
    let Some(topology) = Topology::new(Families::V4, Families::V6) else {
        return;
    };
    let script = vec![Act::Receive(3), Act::Hold];
    let _peer = Peer::start(&topology.gateway, topology.gateway_socket(), script);
    let shim = verifying(&topology);
    let program = c_program("victims/cancelled");
    let cancelled = topology
        .victim([program.as_os_str(), SERVER.as_ref()])
        .shim(&shim)
        .start();
    let outcome = ask(&topology, &shim, "getaddrinfo", SERVER);
    failed(&outcome, "getaddrinfo", AGAIN);
    let limit = Duration::from_secs(9)..Duration::from_secs(12);
    assert!(limit.contains(&outcome.took), "{outcome}");
    let outcome = cancelled.finish();
    assert_eq!(
        outcome.stdout(),
        "looking up: 1\ncancelled: 0\n",
        "{outcome}"
    );
    assert!(outcome.took < AT_ONCE, "{outcome}");
}
