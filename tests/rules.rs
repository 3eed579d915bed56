//! Rules: what is reached directly, through the gateway, or not at all.

use std::net::SocketAddr;
use std::path::PathBuf;

use testkit::{Ending, Families, Gateway, GatewayOptions, Origin, SERVER, Topology, artefacts};

use crate::errors::{connect, said};

/// The address that the client's own resolver gives for every name.
const TRAP: &str = "203.0.113.66";

fn flat_file(topology: &Topology, rules: &[&str]) -> PathBuf {
    let path = topology.dir().join("shim.conf");
    let lines = rules.iter().map(|rule| format!("rule {rule}\n"));
    std::fs::write(&path, lines.collect::<String>()).unwrap();
    path
}

fn http(topology: &Topology, address: &str) -> Origin {
    let address: SocketAddr = address.parse().unwrap();
    Origin::http(&topology.client, &[address])
}

/// docs/configuration.md: "A name that is ruled direct is looked up by libc, and its addresses are reached directly", whichever
/// function looks it up; "a rejected name does not exist".
#[test]
fn names_are_direct_relayed_or_rejected_by_their_rules() {
    let Some(topology) = Topology::new(Families::V4, Families::V6) else {
        return;
    };
    let (_dns, decoy) = (topology.dns(), topology.decoy());
    let _corporate = http(&topology, &format!("{TRAP}:80"));
    let _http = Origin::http(&topology.destination, &topology.destination_sockets(80));
    let gateway = topology.start_gateway();
    let rules = [
        "reject .corp.example 25",
        "direct .corp.example",
        "reject *.ads.example",
    ];
    let config = flat_file(&topology, &rules);
    let shim = topology.shim().with("SOCKS6_CONFIG", config).with(
        "SOCKS6_LOG",
        format!("debug,file:{}", topology.dir().join("shim.log").display()),
    );
    let python = "import socket as s, urllib.request as r\n\
        for look_up in (s.gethostbyname, lambda n: s.gethostbyname_ex(n)[2][0], lambda n: s.getaddrinfo(n, 80)[0][4][0]):\n \
            n = look_up('www.corp.example'); assert n == '203.0.113.66', n\n \
            c = s.create_connection((n, 80), 5); assert c.getpeername() == (n, 80)\n \
            assert c.getsockname()[0] == n, c.getsockname()\n\
        assert b'you come from 203.0.113.66' in r.urlopen('http://corp.example/').read()\n\
        try: s.create_connection(('mail.corp.example', 25), 5)\n\
        except PermissionError: pass\n\
        else: raise SystemExit('port 25 is not rejected')\n\
        try: s.getaddrinfo('x.ads.example', 80)\n\
        except s.gaierror as e: assert e.errno == s.EAI_NONAME, e\n\
        else: raise SystemExit('x.ads.example has an address')\n\
        assert b'you come from 2001:db8:2::1' in r.urlopen('http://server.example/').read()\n";
    let outcome = topology
        .victim(["/usr/bin/python3", "-c", python])
        .shim(&shim)
        .run();
    assert!(outcome.is_ok(), "{outcome}\n{}", shim.log());
    assert!(!decoy.log().contains(SERVER), "{}", decoy.log());
    assert!(!gateway.log().contains("corp.example"), "{}", gateway.log());
    for line in [
        "name www.corp.example: direct",
        "name x.ads.example: rejected",
        "connect www.corp.example:80 address 203.0.113.66: direct",
        "connect mail.corp.example:25 address 203.0.113.66: refused: EACCES",
    ] {
        assert!(shim.log().contains(line), "{line}: {}", shim.log());
    }
}

/// Networks and ports, and the list that users know; everything else is relayed as ever.
#[test]
fn addresses_are_direct_or_rejected_by_their_rules() {
    let Some(topology) = Topology::new(Families::V4, Families::V6) else {
        return;
    };
    let _local = http(&topology, &format!("{TRAP}:8080"));
    let gateway = topology.start_gateway();
    let config = flat_file(&topology, &["reject 192.0.2.0/24 20-25"]);
    let shim = topology
        .shim()
        .with("SOCKS6_CONFIG", config)
        .with("SOCKS6_NO_PROXY", "intern.example, 203.0.113.0/24:8080");
    said(
        &connect(&topology, &shim, "192.0.2.1", "22"),
        "EACCES",
        &shim,
    );
    // Relayed: the gateway refuses its own addresses, which plain would be ECONNREFUSED here.
    said(
        &connect(&topology, &shim, "192.0.2.1", "26"),
        "EACCES",
        &shim,
    );
    assert!(gateway.log().contains("192.0.2.1:26"), "{}", gateway.log());
    assert!(!gateway.log().contains("192.0.2.1:22"), "{}", gateway.log());
    said(&connect(&topology, &shim, TRAP, "8080"), "0", &shim);
    said(
        &connect(&topology, &shim, TRAP, "8081"),
        "ENETUNREACH",
        &shim,
    );
}

/// "`rule relay 127.0.0.0/8 tcp`": loopback is the gateway's, the gateway itself is still reached, and datagrams stay.
#[test]
fn loopback_is_relayed_if_a_rule_says_so() {
    let Some(topology) = Topology::new(Families::V4, Families::V4) else {
        return;
    };
    let loopback = [
        "127.0.0.1:8080".parse().unwrap(),
        "[::1]:8080".parse().unwrap(),
    ];
    let origin = Origin::http(&topology.gateway, &loopback);
    let allowed = ["127.0.0.0/8", "::1/128"];
    let arguments = allowed
        .iter()
        .flat_map(|net| ["--allow-destination".to_owned(), (*net).to_owned()]);
    let options = GatewayOptions {
        arguments: arguments.collect(),
    };
    let _gateway = Gateway::start(&topology, &options);
    let config = flat_file(&topology, &["relay 127.0.0.0/8 tcp", "relay ::1 tcp"]);
    let shim = topology.shim().with("SOCKS6_CONFIG", config);
    // Without IPv6 a socket of it can still be had, and goes through the gateway.
    let python = "import socket as s\n\
        for host, peer in ('127.0.0.1', '127.0.0.1'), ('localhost', '127.0.0.1'), ('0.0.0.0', '127.0.0.1'), ('127.1.2.3', None):\n \
            try: c = s.create_connection((host, 8080), 5)\n \
            except ConnectionRefusedError: assert peer is None\n \
            else: assert c.getpeername()[0] == peer, (host, c.getpeername()); c.send(b'GET / HTTP/1.0\\r\\n\\r\\n'); assert b'you come from' in c.makefile('rb').read()\n\
        u = s.socket(s.AF_INET, s.SOCK_DGRAM); u.bind(('127.0.0.1', 0)); u.sendto(b'x', u.getsockname()); assert u.recv(9) == b'x'\n";
    let outcome = topology
        .victim(["/usr/bin/python3", "-c", python])
        .shim(&shim)
        .run();
    assert!(outcome.is_ok(), "{outcome}\n{}", shim.log());
    assert_eq!(origin.connections(), 3);
}

/// `socks6 run --rule`, before SOCKS6_NO_PROXY, before the file's.
#[test]
fn the_launcher_takes_rules_from_options_variables_and_file() {
    let Some(topology) = Topology::new(Families::V4, Families::V6) else {
        return;
    };
    let _decoy = topology.decoy();
    let _corporate = http(&topology, &format!("{TRAP}:80"));
    let config = topology.dir().join("config.toml");
    std::fs::write(
        &config,
        "gateway = '192.0.2.1:1080'\nrules = ['direct .file.example', 'reject .variable.example']\n",
    )
    .unwrap();
    let run = |name: &str| {
        let launcher = artefacts().launcher.as_os_str();
        let words = ["run", "--rule", "reject bad.file.example", "--config"].map(AsRef::as_ref);
        let url = format!("http://{name}/");
        let command = ["--", "/usr/bin/curl", "-sS", &url].map(AsRef::as_ref);
        let argv = [&[launcher], &words[..], &[config.as_os_str()], &command[..]].concat();
        topology
            .victim(argv)
            .env("SOCKS6_NO_PROXY", "variable.example")
            .env("SOCKS6_TABLE", "private")
            .run()
    };
    for name in ["a.file.example", "variable.example"] {
        let outcome = run(name);
        assert!(outcome.stdout().contains(TRAP), "{name}: {outcome}");
    }
    // curl(1), EXIT CODES: 6, "Could not resolve host".
    let outcome = run("bad.file.example");
    assert_eq!(outcome.ending, Ending::Exit(6), "{outcome}");
}
