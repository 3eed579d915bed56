//! Names, sockets and descriptors that pass from process to process. Each case is run plainly beside the gateway and under the
//! shim, and has to say the same.

use std::net::SocketAddr;
use std::time::Duration;

use testkit::{Families, Origin, SERVER, Topology, c_program, until};

/// getpeername(2) "returns the address of the peer connected to the socket": the one that the program connected to, in
/// whatever process asks, however the socket came there.
#[test]
fn a_socket_answers_getpeername_after_exec_and_over_unix_sockets() {
    same_output(
        "processes",
        &[
            "connect-then-exec",
            "pass-over-unix-socket",
            "use-in-forked-child",
        ],
    );
}

/// RFC 3089 §3: the table pairs a name with a fake address; all processes of a user share it.
#[test]
fn an_address_is_good_in_a_parent_and_after_exec() {
    same_output("processes", &["resolve-in-child", "resolve-then-exec"]);
}

/// close_range(2), closefrom(3): daemons close every descriptor that they did not open.
#[test]
fn connect_works_after_every_descriptor_was_closed() {
    same_output("processes", &["close-all-first"]);
}

/// dup(2): "the two file descriptors refer to the same open file description"; and a number that was closed is a new socket's.
#[test]
fn duplicates_are_the_same_socket_and_closed_numbers_are_not() {
    same_output("processes", &["duplicates", "closed-in-a-set"]);
}

/// fork(2): the child goes on after its parent is gone, as daemons do.
#[test]
fn a_child_connects_after_its_parent_has_gone() {
    same_output("processes", &["orphan"]);
}

/// clone(2) by syscall(2), as Chromium's zygote does it; vfork(2), posix_spawn(3), system(3), popen(3), and a daemon that has
/// closed everything. The child uses its parent's connection, and makes one of its own.
#[test]
fn children_by_every_door_connect_and_inherit() {
    let doors = [
        "clone",
        "clone3",
        "libcs-clone",
        "vfork",
        "posix_spawn",
        "system",
        "popen",
        "daemon",
    ];
    same_output("children", &doors);
}

/// docs/configuration.md, "Sticky": with a cleaned environment, and with an LD_PRELOAD of the program's own, by each function that
/// has its arguments in a list (thousands of them, too) or hands on the environment from inside libc.
#[test]
fn sticky_holds_where_libc_hands_the_environment_on() {
    let cases = [
        "execl",
        "execl+",
        "execl-some",
        "execl-many",
        "execlp",
        "execlp-many",
        "execle",
        "execle-some",
        "execle-many",
        "execle-long",
        "execle-nothing",
        "fails",
        "vfork",
        "posix_spawn-long",
        "system",
        "system+",
        "popen",
        "popen+",
        "wordexp",
        "wordexp+",
    ];
    same_output_with("executes", &cases, "sticky true\n");
}

/// close_range(2), fclose(3), closefrom(3): nobody tells the library, and the number is the next socket's.
#[test]
fn a_number_that_was_closed_behind_our_back_is_a_new_sockets() {
    same_output("children", &["reused"]);
}

/// syscall(2) "is a small library function that invokes the system call": those of sockets and descriptors do what libc's
/// functions do, and all others what they always did.
#[test]
fn system_calls_by_syscall_are_those_of_libc() {
    same_output("children", &["syscall"]);
    let Some(topology) = Topology::new(Families::V4, Families::V6) else {
        return;
    };
    let program = c_program("victims/children");
    let argv = [
        program.as_os_str(),
        "io_uring".as_ref(),
        SERVER.as_ref(),
        "7".as_ref(),
    ];
    let outcome = topology.victim(argv).shim(&topology.shim()).run();
    assert_eq!(outcome.expect_ok().stdout(), "io_uring_setup: -1 ENOSYS\n");
}

/// Sixteen threads in each of four processes resolve and connect at once; no stream gets another's octets.
#[test]
fn many_streams_of_many_threads_are_whole() {
    let Some(topology) = Topology::new(Families::V4, Families::V6) else {
        return;
    };
    let _dns = topology.dns();
    let _echo = Origin::echo(&topology.destination, &topology.destination_sockets(7));
    let gateway = topology.start_gateway();
    let shim = topology.shim();
    let python = format!(
        "import os, socket, concurrent.futures as f\n\
         def stream(i):\n \
             octets = os.urandom(50000)\n \
             with socket.create_connection(('{SERVER}', 7)) as c:\n  \
                 c.sendall(octets); c.shutdown(socket.SHUT_WR)\n  \
                 assert c.makefile('rb').read() == octets\n\
         with f.ThreadPoolExecutor(16) as pool: print(len(list(pool.map(stream, range(50)))))"
    );
    let argv = ["/usr/bin/python3", "-c", &python];
    let running = [(); 4].map(|()| topology.victim(argv).shim(&shim).start());
    for outcome in running.map(testkit::RunningVictim::finish) {
        assert_eq!(outcome.stdout(), "50\n", "{outcome}\n{}", shim.log());
    }
    gateway.wait_for_relays_to(SERVER, 200);
}

fn same_output(program: &str, cases: &[&str]) {
    same_output_with(program, cases, "");
}

/// Case B and the harder one, where the program's sockets are of a family that its host has not.
fn same_output_with(program: &str, cases: &[&str], config: &str) {
    for (client, families) in [(Families::V4, ""), (Families::V6, "families v4\n")] {
        let Some(topology) = Topology::new(client, Families::V6) else {
            return;
        };
        let at: Vec<SocketAddr> = topology.destination_sockets(7);
        let _dns = topology.dns();
        let _echo = Origin::echo(&topology.destination, &at);
        let gateway = topology.start_gateway();
        let file = topology.dir().join("shim.conf");
        std::fs::write(&file, format!("{families}{config}")).unwrap();
        let shim = topology.shim().with("SOCKS6_CONFIG", &file);
        let program = c_program(&format!("victims/{program}"));
        for case in cases {
            let argv = [
                program.as_os_str(),
                case.as_ref(),
                SERVER.as_ref(),
                "7".as_ref(),
            ];
            let plain = finished(topology.neighbour(argv), case);
            let shimmed = finished(topology.victim(argv).shim(&shim), case);
            assert!(plain.contains("echoed"), "{case} without the shim: {plain}");
            assert_eq!(
                shimmed,
                plain,
                "{case} on a {} host\n{}\n{}",
                client.first(),
                shim.log(),
                gateway.log()
            );
        }
    }
}

/// What the victim said; the orphan says it after its first process has ended.
fn finished(victim: testkit::Victim<'_>, case: &str) -> String {
    let running = victim.start();
    if case == "orphan" {
        until(Duration::from_secs(20), "the orphan", || {
            running.stdout().contains("done").then_some(())
        });
    }
    let outcome = running.finish();
    assert!(outcome.is_ok(), "{case}: {outcome}");
    outcome.stdout()
}
