//! A program of one family on a host that has only the other: for most, the whole point.

use testkit::{Families, Origin, SERVER, Topology, c_program};

/// RFC 3089 §3: "The fake address is of the family that the application asked for", whatever the host has: a program that
/// knows AF_INET alone, where the gateway can be reached by v6 alone.
#[test]
fn v4_only_program_on_v6_only_host_reaches_either_family() {
    for destination in [Families::V4, Families::V6] {
        one_family(Families::V6, destination, "demo/v4_only", "-4", "AF_INET");
    }
}

/// The reverse: a program that knows AF_INET6 alone, on a host whose kernel has IPv6 disabled.
#[test]
fn v6_only_program_on_v4_only_host_reaches_either_family() {
    for destination in [Families::V4, Families::V6] {
        one_family(Families::V4, destination, "demo/v6_only", "-6", "AF_INET6");
    }
}

fn one_family(host: Families, destination: Families, program: &str, flag: &str, family: &str) {
    let Some(topology) = Topology::new(host, destination) else {
        return;
    };
    let _dns = topology.dns();
    let origin = Origin::http(&topology.destination, &topology.destination_sockets(80));
    let gateway = topology.start_gateway();
    let shim = topology.shim();
    let program = c_program(program).display().to_string();
    let url = format!("http://{SERVER}/");
    let look_up = if family == "AF_INET" {
        format!("(s.gethostbyname('{SERVER}'), 80)")
    } else {
        format!("s.getaddrinfo('{SERVER}', 80, s.AF_INET6)[0][4][:2]")
    };
    // Blocking, with a timeout (hence non-blocking underneath), and by its own name again afterwards.
    let python = format!(
        "import socket as s\n\
         for timeout in None, 10:\n \
             c = s.socket(s.{family}); c.settimeout(timeout); to = {look_up}; c.connect(to)\n \
             assert c.getpeername()[:2] == to, c.getpeername()\n \
             assert c.getsockname()[0] not in ('0.0.0.0', '::'), c.getsockname()\n \
             assert c.family == s.{family}\n \
             c.sendall(b'GET / HTTP/1.0\\r\\n\\r\\n'); assert b'you come from' in c.makefile('rb').read()\n"
    );
    for argv in [
        vec![program.as_str(), SERVER],
        vec!["/usr/bin/curl", "-sS", flag, &url],
        vec!["/usr/bin/wget", "-q", "--tries=1", flag, "-O", "-", &url],
        vec!["/usr/bin/python3", "-c", &python],
    ] {
        let before = origin.connections();
        let outcome = topology.victim(&argv).shim(&shim).run();
        let context = format!("{argv:?}: {outcome}\n{}\n{}", shim.log(), gateway.log());
        assert!(outcome.is_ok(), "{context}");
        assert!(origin.connections() > before, "{context}");
    }
    let gateways: Vec<_> = origin
        .peers()
        .iter()
        .map(std::net::SocketAddr::ip)
        .collect();
    assert!(
        gateways
            .iter()
            .all(|ip| ip.is_ipv4() == (destination == Families::V4)),
        "{gateways:?}"
    );
}
