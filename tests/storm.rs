//! Many connections in one process: threads that share an epoll set, numbers that are closed and used again at once, failures in
//! between, children forked meanwhile. `scripts/soak` runs the same by the million.

use std::net::Ipv4Addr;
use std::time::Duration;

use testkit::{DnsServer, Families, Family, Origin, SERVER, Topology, Zone, artefacts, c_program};

/// epoll(7): several threads may wait on one set. Each connection ends once, in one of them, as it should, and none is lost.
#[test]
fn four_threads_on_one_epoll_set_lose_no_connection() {
    let opened = CONNECTS - CONNECTS / 8 - CONNECTS / 16;
    storm(
        &[],
        &format!(
            "opened {opened} refused {} abandoned {}",
            CONNECTS / 8,
            CONNECTS / 16
        ),
    );
}

/// The same by connect() that blocks.
#[test]
fn four_threads_that_wait_in_connect_lose_no_connection() {
    let opened = CONNECTS - CONNECTS / 8;
    storm(
        &["blocking"],
        &format!("opened {opened} refused {} abandoned 0", CONNECTS / 8),
    );
}

const CONNECTS: usize = 16_000;
/// At the start, in the course of it, and one for each child.
const NAMES: usize = 16 + 256 + 4;

fn storm(manner: &[&str], expected: &str) {
    let Some(topology) = Topology::new(Families::V4, Families::V6) else {
        return;
    };
    // Each connection leaves its port in TIME_WAIT.
    let ports = [("ipv4/ip_local_port_range", "2000 65000")];
    topology.client.sysctl(&ports);
    let address = topology.destination_address(Family::V6);
    let zone = (0..NAMES).fold(Zone::default(), |zone, name| {
        zone.host(&format!("{name}.{SERVER}"), address)
    });
    let localhost = [Ipv4Addr::LOCALHOST.into()];
    let _dns = DnsServer::start(&topology, &topology.gateway, &localhost, &zone);
    let _echo = Origin::echo(&topology.destination, &topology.destination_sockets(7));
    let _gateway = topology.start_gateway();
    let shim = topology.shim().with("SOCKS6_LOG", "error,stderr");
    let program = c_program("victims/storm").display().to_string();
    let connects = CONNECTS.to_string();
    let mut argv = vec![&*program, &*connects, "4", "4", SERVER, "7", "9"];
    argv.extend(manner);
    let outcome = topology
        .victim(argv)
        .shim(&shim)
        .limit(Duration::from_secs(120))
        .run();
    outcome.expect_ok();
    let expected =
        format!("{expected} wrong 0 children 4 names {NAMES} moved 0 at once +0 descriptors +0\n");
    assert_eq!(outcome.stdout(), expected, "{outcome}");
    let launcher = artefacts().launcher.as_os_str();
    let table = topology.victim([launcher, "table".as_ref()]);
    let said = table
        .env("SOCKS6_TABLE", topology.dir().join("table"))
        .run();
    let rows = format!(": {NAMES} names of ");
    assert!(said.stdout().contains(&rows), "{NAMES} rows: {said}");
}
