//! What a program is told when it does not reach its destination: connect(2)'s own errno, in the time that it allowed.

use std::net::SocketAddr;
use std::time::Duration;

use testkit::{
    Families, Gateway, GatewayOptions, HOLE, NOWHERE, Origin, Outcome, SERVER, Shim, Topology,
    c_program, until,
};

/// For what should take no time at all.
pub(crate) const AT_ONCE: Duration = Duration::from_secs(3);

pub(crate) fn connect(topology: &Topology, shim: &Shim, host: &str, port: &str) -> Outcome {
    let program = c_program("victims/connect");
    let argv = [program.as_os_str(), host.as_ref(), port.as_ref()];
    topology
        .victim(argv)
        .shim(shim)
        .limit(Duration::from_secs(30))
        .run()
}

/// Checks what the victim said about its connect().
pub(crate) fn said(outcome: &Outcome, errno: &str, shim: &Shim) {
    let stdout = outcome.stdout();
    let first = stdout.lines().next().unwrap_or_default();
    assert_eq!(
        first,
        format!("connect: {errno}"),
        "{outcome}\n{}",
        shim.log()
    );
}

/// RFC 3089 §3 leaves one thing for connect() to say: that a name does not exist. RFC 1928 §6 has "Host unreachable" for it.
#[test]
fn an_unknown_name_is_ehostunreach_at_connect() {
    let Some(topology) = Topology::new(Families::V4, Families::V6) else {
        return;
    };
    let _dns = topology.dns();
    let _gateway = topology.start_gateway();
    let shim = topology.shim();
    let outcome = connect(&topology, &shim, NOWHERE, "80");
    said(&outcome, "EHOSTUNREACH", &shim);
    assert!(outcome.took < AT_ONCE, "{outcome}");
    assert!(shim.log().contains("EHOSTUNREACH"), "{}", shim.log());
}

/// connect(2), ECONNREFUSED: "A connect() on a stream socket found no one listening on the remote address". All that the
/// victim says is as it is beside the gateway.
#[test]
fn a_refused_port_is_econnrefused_as_it_is_without_the_shim() {
    for client in [Families::V4, Families::V6] {
        let Some(topology) = Topology::new(client, Families::V6) else {
            return;
        };
        let _dns = topology.dns();
        let _gateway = topology.start_gateway();
        let shim = topology.shim();
        let program = c_program("victims/connect");
        let plain = topology
            .neighbour([program.as_os_str(), SERVER.as_ref(), "81".as_ref()])
            .run();
        let shimmed = connect(&topology, &shim, SERVER, "81");
        said(&shimmed, "ECONNREFUSED", &shim);
        assert_eq!(shimmed.stdout(), plain.stdout());
        assert!(shimmed.took < AT_ONCE, "{shimmed}");
    }
}

/// Each program's own way of not waiting for ever works as it does without the shim, and takes as long: here by SO_SNDTIMEO,
/// and by a handler that leaves connect() with siglongjmp (wget).
#[test]
fn a_black_hole_ends_with_the_programs_own_timeout() {
    let connect = c_program("victims/connect").display().to_string();
    let url = format!("http://{HOLE}/");
    same_timeout(&[
        &[
            "/usr/bin/wget",
            "-q",
            "-T",
            "2",
            "--tries=1",
            "-O",
            "-",
            &url,
        ],
        &[&connect, HOLE, "80", "2"],
    ]);
}

/// The same for programs that wait for a non-blocking connect() by poll or select.
#[test]
fn a_black_hole_ends_with_the_programs_own_poll() {
    let url = format!("http://{HOLE}/");
    let python = |how: &str| format!("try: {how}\nexcept OSError as e: print(type(e).__name__, e)");
    let create = python(&format!(
        "__import__('socket').create_connection(('{HOLE}', 80), timeout=2)"
    ));
    let urlopen = python(&format!(
        "__import__('urllib.request').request.urlopen('{url}', timeout=2)"
    ));
    same_timeout(&[
        &["/usr/bin/curl", "-sS", "--connect-timeout", "2", &url],
        &["/usr/bin/curl", "-sS", "--max-time", "2", &url],
        &["/usr/bin/python3", "-c", &create],
        &["/usr/bin/python3", "-c", &urlopen],
        &[
            "/usr/bin/ssh",
            "-F",
            "none",
            "-o",
            "ConnectTimeout=2",
            "-o",
            "BatchMode=yes",
            HOLE,
        ],
    ]);
}

/// Both families at the destination, as a name has a fake of both: programs allow each address the same time.
fn same_timeout(programs: &[&[&str]]) {
    let Some(topology) = Topology::new(Families::V4, Families::Both) else {
        return;
    };
    let _dns = topology.dns();
    let gateway = topology.start_gateway();
    let shim = topology.shim();
    // All at once: each of them waits.
    let limit = Duration::from_secs(10);
    let plain: Vec<_> = programs
        .iter()
        .map(|argv| topology.neighbour(*argv).limit(limit).start())
        .collect();
    let shimmed: Vec<_> = programs
        .iter()
        .map(|argv| topology.victim(*argv).shim(&shim).limit(limit).start())
        .collect();
    let mut wrong = Vec::new();
    for ((argv, plain), shimmed) in programs.iter().zip(plain).zip(shimmed) {
        let (plain, shimmed) = (plain.finish(), shimmed.finish());
        let is_same = plain.ending == shimmed.ending && plain.stdout() == shimmed.stdout();
        if !is_same || shimmed.took.abs_diff(plain.took) > Duration::from_secs(1) {
            wrong.push(format!("{argv:?}\nplain: {plain}\nshimmed: {shimmed}"));
        }
    }
    assert!(
        wrong.is_empty(),
        "{}\n{}\n{}",
        wrong.join("\n"),
        shim.log(),
        gateway.log()
    );
}

/// connect(2), ETIMEDOUT: "Timeout while attempting connection". Ours gives 06 for it.
#[test]
fn a_gateway_that_gives_up_on_a_black_hole_gives_etimedout() {
    let Some(topology) = Topology::new(Families::V4, Families::V6) else {
        return;
    };
    let _dns = topology.dns();
    let arguments = ["--dial-timeout", "1s"].map(str::to_owned).to_vec();
    let _gateway = Gateway::start(&topology, &GatewayOptions { arguments });
    let shim = topology.shim();
    said(&connect(&topology, &shim, HOLE, "80"), "ETIMEDOUT", &shim);
}

/// A literal address needs no name: ATYP 1 or 4 (RFC 1928 §5), and the gateway's family for it.
#[test]
fn a_literal_address_goes_as_it_is() {
    for (destination, atyp) in [(Families::V4, "atyp=01"), (Families::V6, "atyp=04")] {
        let Some(topology) = Topology::new(Families::V4, destination) else {
            return;
        };
        let to: SocketAddr = topology.destination_sockets(25)[0];
        let _banner = Origin::banner(&topology.destination, &[to], b"220 hi\r\n");
        let gateway = topology.start_gateway();
        let shim = topology.shim();
        let outcome = connect(&topology, &shim, &to.ip().to_string(), "25");
        said(&outcome, "0", &shim);
        let line = until(AT_ONCE, "the gateway's log", || {
            gateway
                .log()
                .lines()
                .find(|line| line.contains("destination="))
                .map(str::to_owned)
        });
        assert!(line.contains(atyp), "{line}");
    }
}
