//! Many connections in one process: threads that share an epoll set, numbers that are closed and used again at once, failures in
//! between, children forked meanwhile. `scripts/soak` runs the same by the million.

use std::time::Duration;

use testkit::{Families, Origin, SERVER, Topology, c_program};

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

fn storm(manner: &[&str], expected: &str) {
    let Some(topology) = Topology::new(Families::V4, Families::V6) else {
        return;
    };
    let _dns = topology.dns();
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
    let expected = format!("{expected} wrong 0 children 4 descriptors +0\n");
    assert_eq!(outcome.stdout(), expected, "{outcome}");
}
