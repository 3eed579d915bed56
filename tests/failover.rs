//! Several gateways: the first that is alive serves, and the program notices nothing of those that are not.

use std::net::SocketAddr;
use std::time::Duration;

use testkit::{
    Act, Families, Origin, Outcome, Peer, SERVER, Service, Shim, Topology, artefacts, until,
};

use crate::errors::AT_ONCE;

/// A gateway may be silent for so long, and a moment, before the next is tried.
const SILENCE: Duration = Duration::from_secs(10);

/// Connects N times, and says how long each took and where it came from; by create_connection with a timeout, hence not
/// blocking, or without, hence blocking.
const PYTHON: &str = "import socket as s, sys, time\n\
    for n in range(int(sys.argv[1])):\n \
        before = time.monotonic()\n \
        c = s.create_connection(('server.example', 80), float(sys.argv[2]) if sys.argv[2] != '-' else None)\n \
        took = time.monotonic() - before\n \
        assert c.getsockopt(s.IPPROTO_TCP, 18) == 0, 'TCP_USER_TIMEOUT'\n \
        c.sendall(b'GET / HTTP/1.0\\r\\n\\r\\n'); assert b'you come from' in c.makefile('rb').read()\n \
        print('%.1f' % took, flush=True)\n \
        time.sleep(float(sys.argv[3]))\n";

fn python<'a>(connects: &'a str, timeout: &'a str, pause: &'a str) -> [&'a str; 6] {
    ["/usr/bin/python3", "-c", PYTHON, connects, timeout, pause]
}

fn address(port: u16) -> SocketAddr {
    SocketAddr::new("192.0.2.1".parse().unwrap(), port)
}

fn shim_for(topology: &Topology, first: &str) -> Shim {
    let gateways = format!("{first},192.0.2.1:1080");
    topology.shim().with("SOCKS6_GATEWAY", gateways)
}

fn times(outcome: &Outcome, shim: &Shim) -> Vec<f32> {
    assert!(outcome.is_ok(), "{outcome}\n{}", shim.log());
    let stdout = outcome.stdout();
    stdout.lines().map(|line| line.parse().unwrap()).collect()
}

/// docs/configuration.md: "tried in order": one that refuses, hangs up, talks nonsense or wants another password costs nothing
/// but a moment, and that once: it is dead for a while.
#[test]
fn a_gateway_that_fails_is_passed_over() {
    let Some(topology) = Topology::new(Families::V4, Families::V6) else {
        return;
    };
    let _dns = topology.dns();
    let _http = Origin::http(&topology.destination, &topology.destination_sockets(80));
    let gateway = topology.start_gateway();
    let start = |port, script| Peer::start(&topology.gateway, address(port), script);
    let peers = [
        start(1082, vec![]),
        start(
            1083,
            vec![Act::Send(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec())],
        ),
        start(1084, vec![Act::Receive(3), Act::Send(vec![5, 0xff])]),
    ];
    for (port, timeout) in (1081..=1084).flat_map(|port| [(port, "-"), (port, "9")]) {
        let shim = shim_for(&topology, &address(port).to_string());
        let outcome = topology.victim(python("3", timeout, "0")).shim(&shim).run();
        assert_eq!(times(&outcome, &shim).len(), 3);
        assert!(outcome.took < AT_ONCE, "{port}: {outcome}");
        assert!(
            shim.log().contains("; trying 192.0.2.1:1080"),
            "{}",
            shim.log()
        );
    }
    for peer in peers {
        assert_eq!(
            peer.connections(),
            2,
            "one of three connects of each program"
        );
    }
    gateway.wait_for_relays_to(SERVER, 24);
}

/// One that is silent, to the first SYN or to the greeting, is given up long before the program gives up.
#[test]
fn a_gateway_that_is_silent_is_passed_over() {
    let Some(topology) = Topology::new(Families::V4, Families::V6) else {
        return;
    };
    let _dns = topology.dns();
    let _http = Origin::http(&topology.destination, &topology.destination_sockets(80));
    let _gateway = topology.start_gateway();
    dig_a_hole(&topology);
    let _silent = Peer::start(&topology.gateway, address(1082), vec![Act::Hold]);
    let shims = ["192.0.2.99:1080", "192.0.2.1:1082"].map(|first| shim_for(&topology, first));
    // All at once: each of them waits.
    let runs: Vec<_> = shims
        .iter()
        .flat_map(|shim| ["-", "20"].map(|timeout| (shim, timeout)))
        .map(|(shim, timeout)| {
            let victim = topology.victim(python("2", timeout, "0")).shim(shim);
            (shim, victim.limit(Duration::from_secs(25)).start())
        })
        .collect();
    for (shim, run) in runs {
        let outcome = run.finish();
        let times = times(&outcome, shim);
        assert!(
            times[0] > 2.0 && times[0] < SILENCE.as_secs_f32(),
            "{outcome}"
        );
        assert!(times[1] < 1.0, "it is dead for a while: {outcome}");
    }
}

/// 192.0.2.99: nobody is there, and nobody says so.
fn dig_a_hole(topology: &Topology) {
    let hole = "neigh replace 192.0.2.99 dev eth0 lladdr 02:00:00:00:00:66 nud permanent";
    let mut hole = topology
        .client
        .command("ip")
        .args(hole.split(' '))
        .spawn()
        .unwrap();
    assert!(hole.wait().unwrap().success());
}

/// tcp(7), TCP_USER_TIMEOUT: 0 "will use the system default", unless the program has set it. A silent gateway is given up by that
/// option, and however the attempt ends, or while it lasts, the program sees what it has set.
#[test]
fn the_limit_for_a_silent_gateway_is_never_seen() {
    let Some(topology) = Topology::new(Families::Both, Families::V6) else {
        return;
    };
    let _dns = topology.dns();
    let _http = Origin::http(&topology.destination, &topology.destination_sockets(80));
    let _gateway = topology.start_gateway();
    dig_a_hole(&topology);
    let run = |gateways: &str, program: &str| {
        let shim = topology.shim().with("SOCKS6_GATEWAY", gateways);
        let program = [LIMITS, program].concat();
        let argv = ["/usr/bin/python3", "-c", &program];
        let outcome = topology.victim(argv).shim(&shim).run();
        assert!(outcome.is_ok(), "{outcome}\n{}", shim.log());
        outcome.stdout()
    };
    let silent = "192.0.2.99:1080,[2001:db8:1::1]:1080";
    assert_eq!(
        run(silent, ENDINGS),
        "0 00, shut 0 00\n\
         5000 88, shut 5000 88\n\
         0 00, dissolved 0 00\n\
         0 00, closed 0 00\n\
         0 00, timed out 0 00\n"
    );
    let refusing = "127.0.0.1:1081,192.0.2.1:1081,192.0.2.1:1080";
    assert_eq!(run(refusing, FROM_LOOPBACK), "EINVAL 0 00\n");
    let refusing = "192.0.2.1:1081,[2001:db8:1::1]:1080";
    assert_eq!(run(refusing, LEFT_TO_A_CHILD), "0 00\n");
}

/// A look at TCP_USER_TIMEOUT, whole and cut off to its first octet; and a connect that is under way.
const LIMITS: &str = "import array, ctypes, errno, socket as s\n\
    def limit(c):\n \
        whole = int.from_bytes(c.getsockopt(s.IPPROTO_TCP, 18, 4), 'little')\n \
        return f'{whole} {c.getsockopt(s.IPPROTO_TCP, 18, 1).hex()}'\n\
    to = s.getaddrinfo('server.example', 80, s.AF_INET, s.SOCK_STREAM)[0][4]\n\
    def connecting(own=None):\n \
        c = s.socket()\n \
        if own: c.setsockopt(s.IPPROTO_TCP, 18, own)\n \
        c.setblocking(False)\n \
        assert c.connect_ex(to) == errno.EINPROGRESS\n \
        return c\n";

/// shutdown(2); connect(2) with AF_UNSPEC; close(2), with another number for the socket of which nobody has told us; SO_SNDTIMEO.
const ENDINGS: &str = "for own in (None, 5000):\n \
        c = connecting(own); before = limit(c); c.shutdown(s.SHUT_RDWR)\n \
        print(f'{before}, shut {limit(c)}')\n\
    c = connecting(); before = limit(c)\n\
    assert ctypes.CDLL(None).connect(c.fileno(), bytes(16), 16) == 0\n\
    print(f'{before}, dissolved {limit(c)}')\n\
    c = connecting(); before = limit(c)\n\
    here, there = s.socketpair()\n\
    s.send_fds(here, [b'x'], [c.fileno()])\n\
    other = s.socket(fileno=s.recv_fds(there, 1, 1)[1][0])\n\
    c.close()\n\
    print(f'{before}, closed {limit(other)}')\n\
    c = s.socket()\n\
    c.setsockopt(s.SOL_SOCKET, s.SO_SNDTIMEO, array.array('q', [0, 100000]))\n\
    assert c.connect_ex(to) == errno.EINPROGRESS\n\
    before = limit(c); c.shutdown(s.SHUT_WR)\n\
    print(f'{before}, timed out {limit(c)}')\n";

/// connect(2) "EINVAL": the first gateway refuses, and the second cannot be reached from there.
const FROM_LOOPBACK: &str = "c = s.socket()\n\
    c.bind(('127.0.0.1', 0))\n\
    print(errno.errorcode[c.connect_ex(to)], limit(c))\n";

/// The first gateway refuses, and the second is reached by a socket of the other family: a child has the old one.
const LEFT_TO_A_CHILD: &str = "import os\n\
    c = s.socket()\n\
    here, there = s.socketpair()\n\
    if os.fork() == 0:\n \
        there.recv(1); print(limit(c), flush=True); os._exit(0)\n\
    c.connect(to); here.send(b'x'); os.wait()\n";

/// The gateway ends in the middle of the program's work: no connect fails.
#[test]
fn a_gateway_may_be_killed() {
    let Some(topology) = Topology::new(Families::V4, Families::V6) else {
        return;
    };
    let _dns = topology.dns();
    let _http = Origin::http(&topology.destination, &topology.destination_sockets(80));
    let mut first = topology.start_gateway();
    let mut command = topology
        .gateway
        .command(&artefacts().gateway.to_string_lossy());
    command.args([
        "--listen",
        "192.0.2.1:1081",
        "--allow-client",
        "192.0.2.0/24",
    ]);
    let mut second = Service::start("second-gateway", &mut command, topology.dir());
    second.wait_for_log("listening on ");
    let shim = topology
        .shim()
        .with("SOCKS6_GATEWAY", "192.0.2.1:1080,192.0.2.1:1081");
    let runs = ["-", "9"].map(|timeout| {
        topology
            .victim(python("10", timeout, "0.1"))
            .shim(&shim)
            .start()
    });
    until(Duration::from_secs(5), "a first connection", || {
        runs.iter()
            .all(|run| !run.stdout().is_empty())
            .then_some(())
    });
    first.kill();
    for run in runs {
        assert_eq!(times(&run.finish(), &shim).len(), 10);
    }
    let log = second.log();
    assert!(log.contains("destination=server.example:80"), "{log}");
}

/// "tried last if all are dead": each connect tries them all again, and says that the network is gone.
#[test]
fn all_dead_gateways_are_tried_again() {
    let Some(topology) = Topology::new(Families::V4, Families::V6) else {
        return;
    };
    let peers = [1082, 1083].map(|port| Peer::start(&topology.gateway, address(port), vec![]));
    let shim = topology
        .shim()
        .with("SOCKS6_GATEWAY", "192.0.2.1:1082,192.0.2.1:1083");
    let program = "import socket as s, time\n\
        for n in range(3):\n \
            time.sleep(0.01)\n \
            try: s.create_connection(('server.example', 80), 9 if n else None)\n \
            except OSError as e: print(e.errno)\n";
    let outcome = topology
        .victim(["/usr/bin/python3", "-c", program])
        .shim(&shim)
        .run();
    assert_eq!(
        outcome.stdout(),
        "101\n".repeat(3),
        "{outcome}\n{}",
        shim.log()
    );
    // A name has two fakes; the second is given the failure of the first.
    for peer in peers {
        assert_eq!(peer.connections(), 3, "{}", shim.log());
    }
}
