//! What signals, timeouts and cancellation do to a connect() that waits. Each case is run plainly beside the gateway and under
//! the shim, and has to say the same, times included (to half a second).

use std::net::SocketAddr;
use std::thread::sleep;
use std::time::Duration;

use testkit::{Families, Family, HOLE, Origin, SERVER, Topology, Victim, c_program};

/// connect(2), EINTR: "The system call was interrupted by a signal that was caught"; the connection goes on and a further
/// connect() waits for it.
#[test]
fn connect_is_interrupted_by_a_handler_without_sa_restart_and_goes_on() {
    same_output("interrupted", true);
}

/// signal(7): with SA_RESTART connect(2) is restarted when no timeout is set on the socket.
#[test]
fn connect_outlasts_a_handler_with_sa_restart() {
    same_output("restarted", true);
}

/// socket(7), SO_SNDTIMEO: connect() that takes longer gives EINPROGRESS, and can be waited for again.
#[test]
fn connect_keeps_to_so_sndtimeo_and_goes_on() {
    same_output("timed-out", true);
}

/// pthreads(7) lists connect() among the functions that "must be cancellation points".
#[test]
fn a_thread_in_connect_can_be_cancelled_and_leaves_nothing_locked() {
    same_output("cancelled", false);
}

/// signal-safety(7) lists these functions; a handler may run on a stack of MINSIGSTKSZ and no more, of which the kernel's own
/// frame takes the greater part. What libc's functions take is a few hundred octets.
#[test]
fn what_may_run_in_a_handler_takes_less_than_4_kib_of_stack() {
    for (client, families) in [(Families::V4, "both"), (Families::V6, "v4")] {
        let Some(topology) = Topology::new(client, Families::V6) else {
            return;
        };
        let _dns = topology.dns();
        let _echo = Origin::echo(&topology.destination, &topology.destination_sockets(7));
        let gateway = topology.start_gateway();
        let config = topology.dir().join("shim.conf");
        std::fs::write(&config, format!("families {families}\nsticky true\n")).unwrap();
        let shim = topology.shim().with("SOCKS6_CONFIG", &config);
        let program = c_program("victims/stack");
        let argv = [
            program.as_os_str(),
            SERVER.as_ref(),
            "7".as_ref(),
            "9".as_ref(),
        ];
        let outcome = topology.victim(argv).shim(&shim).run();
        outcome.expect_ok();
        let said = outcome.stdout();
        let octets = |line: &str| line.split(' ').next().unwrap().parse::<usize>().unwrap();
        assert_eq!(said.lines().count(), 32, "{said}");
        assert!(
            said.lines().all(|line| octets(line) < 4096),
            "{said}\n{}",
            shim.log()
        );
        gateway.wait_for_relays_to(SERVER, 1);
    }
}

fn same_output(case: &str, opens: bool) {
    let Some(topology) = Topology::new(Families::V4, Families::V6) else {
        return;
    };
    let at = [
        topology.destination_address(Family::V6),
        topology.hole_address(Family::V6),
    ]
    .map(|address| SocketAddr::new(address, 7));
    let _dns = topology.dns();
    let _echo = Origin::echo(&topology.destination, &at);
    let gateway = topology.start_gateway();
    let shim = topology.shim();
    let program = c_program("victims/signals");
    let argv = [
        program.as_os_str(),
        case.as_ref(),
        HOLE.as_ref(),
        "7".as_ref(),
        SERVER.as_ref(),
        "7".as_ref(),
    ];
    let run = |victim: Victim<'_>| {
        topology.close_hole();
        let running = victim.limit(Duration::from_secs(20)).start();
        if opens {
            // Between the signal and the second SYN, which comes a second after the first.
            sleep(Duration::from_millis(750));
            topology.open_hole();
        }
        let outcome = running.finish();
        assert!(
            outcome.is_ok(),
            "{case}: {outcome}\n{}\n{}",
            shim.log(),
            gateway.log()
        );
        outcome.stdout()
    };
    let mut attempts = String::new();
    for _ in 0..3 {
        let plain = run(topology.neighbour(argv));
        let shimmed = run(topology.victim(argv).shim(&shim));
        assert!(plain.contains("echoed"), "{case} without the shim: {plain}");
        if shimmed == plain {
            return;
        }
        // A busy machine may have opened the hole too late for the second SYN: once more.
        attempts += &format!("plain:\n{plain}under the shim:\n{shimmed}");
    }
    panic!("{case}:\n{attempts}{}\n{}", shim.log(), gateway.log());
}
