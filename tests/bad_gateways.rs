//! A gateway that is down, dies, talks nonsense or is slow: the program is told at once, or when its own time is up, and the log
//! says whose fault it is.

use std::time::Duration;

use testkit::{
    Act, Ending, Families, Gateway, GatewayOptions, Origin, Peer, RunningVictim, SERVER, Topology,
    c_program, until,
};

use crate::errors::{AT_ONCE, connect, said};

/// connect(2), ENETUNREACH: "Network is unreachable", which it is; the log line names the gateway, so that nobody blames the
/// destination.
#[test]
fn a_gateway_that_is_down_is_enetunreach_and_named_in_the_log() {
    let Some(topology) = Topology::new(Families::V4, Families::V6) else {
        return;
    };
    let shim = topology.shim();
    let outcome = connect(&topology, &shim, SERVER, "80");
    said(&outcome, "ENETUNREACH", &shim);
    assert!(outcome.took < AT_ONCE, "{outcome}");
    assert!(shim.log().contains("192.0.2.1:1080"), "{}", shim.log());
}

/// docs/configuration.md: where no gateway is configured, connections are ENETUNREACH; nothing goes out by itself.
#[test]
fn without_a_gateway_nothing_goes_out() {
    let Some(topology) = Topology::new(Families::V4, Families::V6) else {
        return;
    };
    let decoy = topology.decoy();
    let trap = topology.trap(&[80]);
    let shim = topology.shim().with("SOCKS6_GATEWAY", "");
    for host in [SERVER, "203.0.113.66"] {
        said(&connect(&topology, &shim, host, "80"), "ENETUNREACH", &shim);
    }
    assert_eq!((decoy.queries(), trap.connections()), (0, 0));
}

/// docs/configuration.md: "look-ups give EAI_FAIL if it is bad, connections ENETUNREACH, and one line on stderr says why".
#[test]
fn bad_configuration_fails_closed() {
    let Some(topology) = Topology::new(Families::V4, Families::V6) else {
        return;
    };
    let decoy = topology.decoy();
    let trap = topology.trap(&[80]);
    let shim = topology.shim().with("SOCKS6_GATEWAY", "no port");
    let outcome = connect(&topology, &shim, SERVER, "80");
    assert!(
        outcome.stdout().contains("Non-recoverable failure"),
        "{outcome}"
    );
    assert_eq!(outcome.stderr.lines().count(), 1, "{outcome}");
    let program = c_program("victims/connect");
    let argv = [program.as_os_str(), "203.0.113.66".as_ref(), "80".as_ref()];
    said(
        &topology.victim(argv).shim(&shim).run(),
        "ENETUNREACH",
        &shim,
    );
    assert_eq!((decoy.queries(), trap.connections()), (0, 0));
}

/// A gateway that is killed must not look like an orderly end: the octets so far are not the whole file.
#[test]
fn a_gateway_killed_in_mid_transfer_is_an_error_and_no_end_of_file() {
    let Some(topology) = Topology::new(Families::V4, Families::V6) else {
        return;
    };
    let _dns = topology.dns();
    let _http = Origin::http(&topology.destination, &topology.destination_sockets(80));
    let mut gateway = topology.start_gateway();
    let shim = topology.shim();
    let url = format!("http://{SERVER}/slow");
    let python = format!(
        "import socket, sys\nc = socket.create_connection(('{SERVER}', 80))\n\
         c.sendall(b'GET /slow HTTP/1.0\\r\\n\\r\\n')\n\
         while o := c.recv(65536): sys.stdout.buffer.write(o); sys.stdout.flush()\nsys.exit('end of file')"
    );
    let curl = topology
        .victim(["/usr/bin/curl", "-sSN", &url])
        .shim(&shim)
        .start();
    let python = topology
        .victim(["/usr/bin/python3", "-c", &python])
        .shim(&shim)
        .start();
    for running in [&curl, &python] {
        until(Duration::from_secs(20), "the first octets", || {
            (running.stdout_octets() > 1 << 20).then_some(())
        });
    }
    gateway.kill();
    let (curl, python) = (curl.finish(), python.finish());
    // curl's 56: failure in receiving network data.
    assert_eq!(curl.ending, Ending::Exit(56), "{}", curl.stderr);
    assert!(
        python.stderr.contains("ConnectionResetError"),
        "{}",
        python.stderr
    );
}

/// RFC 1929 §2: a STATUS other than 0 ends the connection; RFC 1928 §3: so does X'FF'. Both are EACCES; the right password works.
#[test]
fn a_wrong_password_is_eacces() {
    let Some(topology) = Topology::new(Families::V4, Families::V6) else {
        return;
    };
    let _dns = topology.dns();
    let _banner = Origin::banner(
        &topology.destination,
        &topology.destination_sockets(25),
        b"220 hi\r\n",
    );
    let users = topology.dir().join("users");
    std::fs::write(&users, "alice:right\n").unwrap();
    let arguments = vec!["--password-file".to_owned(), users.display().to_string()];
    let gateway = Gateway::start(&topology, &GatewayOptions { arguments });
    let none = topology.shim();
    let with = |password| {
        none.clone()
            .with("SOCKS6_USER", "alice")
            .with("SOCKS6_PASSWORD", password)
    };
    for (shim, errno) in [
        (&none, "EACCES"),
        (&with("wrong"), "EACCES"),
        (&with("right"), "0"),
    ] {
        said(&connect(&topology, shim, SERVER, "25"), errno, shim);
    }
    assert!(!gateway.log().contains("right") && !none.log().contains("right"));
}

/// A greeting as the shim sends it without a password: VER, NMETHODS, METHODS.
const GREETING: Act = Act::Receive(3);

fn reply(rep: u8) -> Vec<u8> {
    vec![5, rep, 0, 1, 192, 0, 2, 1, 4, 56]
}

/// The script of a well-behaved server up to its reply.
fn answers(reply: Vec<u8>) -> Vec<Act> {
    vec![
        GREETING,
        Act::Send(vec![5, 0]),
        Act::ReceiveRequest,
        Act::Send(reply),
    ]
}

fn played(topology: &Topology, script: Vec<Act>) -> Peer {
    Peer::start(&topology.gateway, topology.gateway_socket(), script)
}

/// RFC 1928 §6, each REP, and one that nobody has defined.
#[test]
fn each_rep_has_its_errno() {
    let Some(topology) = Topology::new(Families::V4, Families::V6) else {
        return;
    };
    for (rep, errno) in [
        (1, "ECONNABORTED"),
        (2, "EACCES"),
        (3, "ENETUNREACH"),
        (4, "EHOSTUNREACH"),
        (5, "ECONNREFUSED"),
        (6, "ETIMEDOUT"),
        (7, "EOPNOTSUPP"),
        (8, "ENETUNREACH"),
        (0x5b, "ECONNABORTED"),
    ] {
        let shim = topology.shim();
        let peer = played(&topology, answers(reply(rep)));
        said(&connect(&topology, &shim, SERVER, "80"), errno, &shim);
        assert!(peer.connections() > 0);
    }
}

/// What is not SOCKS5 is nobody's fault but the gateway's: ENETUNREACH, at once, and the log names it.
#[test]
fn a_gateway_that_talks_nonsense_is_enetunreach() {
    let Some(topology) = Topology::new(Families::V4, Families::V6) else {
        return;
    };
    let greeted = |rest: &[Act]| {
        [
            &[GREETING, Act::Send(vec![5, 0]), Act::ReceiveRequest],
            rest,
        ]
        .concat()
    };
    let scripts: [(&str, Vec<Act>); 9] = [
        (
            "another protocol",
            vec![
                GREETING,
                Act::Send(b"HTTP/1.0 400 Bad Request\r\n\r\n".to_vec()),
            ],
        ),
        ("closes at once", vec![]),
        ("closes after the greeting", vec![GREETING]),
        (
            "a method not offered",
            vec![GREETING, Act::Send(vec![5, 0x80]), Act::Hold],
        ),
        (
            "closes after its method",
            vec![GREETING, Act::Send(vec![5, 0])],
        ),
        (
            "another version in its reply",
            greeted(&[Act::Send(vec![4, 0, 0, 1, 1, 2, 3, 4, 5, 6]), Act::Hold]),
        ),
        (
            "an address type of its own",
            greeted(&[Act::Send(vec![5, 0, 0, 9, 1, 2, 3, 4, 5, 6]), Act::Hold]),
        ),
        ("half a reply", greeted(&[Act::Send(vec![5, 0, 0, 1, 192])])),
        (
            "a name of no length",
            greeted(&[Act::Send(vec![5, 0, 0, 3, 0, 0, 80]), Act::Echo]),
        ),
    ];
    let mut wrong = Vec::new();
    for (what, script) in scripts {
        let shim = topology.shim();
        let _peer = played(&topology, script);
        let outcome = connect(&topology, &shim, SERVER, "80");
        // A bound name that is empty is odd, but says nothing against the connection.
        let allowed: &[&str] = if what.contains("no length") {
            &["ENETUNREACH", "0"]
        } else {
            &["ENETUNREACH"]
        };
        let stdout = outcome.stdout();
        let is_right = allowed
            .iter()
            .any(|errno| stdout.starts_with(&format!("connect: {errno}\n")));
        if !is_right || outcome.took > AT_ONCE {
            wrong.push(format!("{what}: {outcome}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let log = topology.shim().log();
    assert!(log.contains("192.0.2.1:1080"), "{log}");
}

/// RFC 1928 §6: BND.ADDR may be of any type; what follows the reply in the same segment is the destination's.
#[test]
fn whatever_follows_the_reply_reaches_the_program_whole() {
    let Some(topology) = Topology::new(Families::V4, Families::V6) else {
        return;
    };
    let bound_v6 = [
        &[5, 0, 0, 4][..],
        &[0x20, 1, 0xd, 0xb8, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
        &[4, 56],
    ]
    .concat();
    let bound_name = [&[5, 0, 0, 3, 10][..], b"gw.example", &[4, 56]].concat();
    let banner = b"220 hello\r\n";
    for bound in [reply(0), bound_v6, bound_name] {
        let shim = topology.shim();
        let with_banner = [&bound[..], banner].concat();
        let _peer = played(&topology, answers(with_banner));
        let outcome = connect(&topology, &shim, SERVER, "25");
        let expected =
            "connect: 0\ngetpeername: as connected\nagain: EISCONN\n220 hello\r\nend: 0\n";
        assert_eq!(outcome.stdout(), expected, "{outcome}\n{}", shim.log());
    }
}

/// A gateway that sends an octet a second is slow and no more: programs that allow no such time end in their own, others
/// connect.
#[test]
fn a_gateway_that_trickles_keeps_nobody_longer_than_allowed() {
    let Some(topology) = Topology::new(Families::V4, Families::V6) else {
        return;
    };
    let _peer = played(&topology, trickle());
    let shim = topology.shim();
    let program = c_program("victims/connect").display().to_string();
    let start = |argv: &[&str]| topology.victim(argv).shim(&shim).start();
    let patient = start(&[&program, SERVER, "80"]);
    let limited = start(&[&program, SERVER, "80", "3"]);
    let wget = start(&[
        "/usr/bin/wget",
        "-q4",
        "--connect-timeout=3",
        "--tries=1",
        "-O-",
        SERVER,
    ]);
    let [patient, limited, wget] = [patient, limited, wget].map(RunningVictim::finish);
    said(&limited, "EINPROGRESS", &shim);
    assert_eq!(wget.ending, Ending::Exit(4), "{wget}");
    for outcome in [&limited, &wget] {
        assert!((3..5).contains(&outcome.took.as_secs()), "{outcome}");
    }
    said(&patient, "0", &shim);
    assert!((10..15).contains(&patient.took.as_secs()), "{patient}");
}

/// The same for a program that waits by poll; and for a gateway that accepts and never says a word.
#[test]
fn a_slow_gateway_keeps_no_poll_longer_than_allowed() {
    for script in [trickle(), vec![Act::Hold]] {
        let Some(topology) = Topology::new(Families::V4, Families::V6) else {
            return;
        };
        let _peer = played(&topology, script);
        let argv = ["/usr/bin/curl", "-sS", "--connect-timeout", "2", SERVER];
        let curl = topology
            .victim(argv)
            .shim(&topology.shim())
            .limit(AT_ONCE * 2)
            .run();
        assert_eq!(curl.ending, Ending::Exit(28), "{curl}");
        assert!(curl.took < AT_ONCE, "{curl}");
    }
}

fn trickle() -> Vec<Act> {
    let pause = Duration::from_secs(1);
    vec![
        GREETING,
        Act::Trickle(vec![5, 0], pause),
        Act::ReceiveRequest,
        Act::Trickle(reply(0), pause),
    ]
}

/// A gateway that accepts and never says a word: whoever limits the wait gets away in time.
#[test]
fn a_silent_gateway_keeps_nobody_longer_than_allowed() {
    let Some(topology) = Topology::new(Families::V4, Families::V6) else {
        return;
    };
    let _peer = played(&topology, vec![Act::Hold]);
    let shim = topology.shim();
    let program = c_program("victims/connect").display().to_string();
    let outcome = topology
        .victim([&program, SERVER, "80", "2"])
        .shim(&shim)
        .run();
    said(&outcome, "EINPROGRESS", &shim);
    assert!(outcome.took < AT_ONCE, "{outcome}");
}
