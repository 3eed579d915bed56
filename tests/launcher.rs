//! The command that a user types: `socks6 run`.

use std::time::Duration;

use testkit::{
    Ending, Families, Namespace, Origin, Outcome, SERVER, Topology, artefacts, c_program_with,
    until,
};

fn socks6() -> String {
    artefacts().launcher.display().to_string()
}

/// README: `socks6 run --gateway gw.example:1080 -- any-legacy-app args...`.
#[test]
fn run_takes_a_program_to_the_other_family() {
    let Some(topology) = Topology::new(Families::V4, Families::V6) else {
        return;
    };
    let _dns = topology.dns();
    let _http = Origin::http(&topology.destination, &topology.destination_sockets(80));
    let gateway = topology.start_gateway();
    let outcome = run(
        &topology,
        &["--gateway", "192.0.2.1:1080"],
        &["/usr/bin/curl", "-sS", SERVER],
    );
    outcome.expect_ok();
    assert!(
        outcome.stdout().contains("you come from 2001:db8:2::1"),
        "{outcome}"
    );
    gateway.wait_for_relays_to(SERVER, 1);
}

fn run(topology: &Topology, options: &[&str], command: &[&str]) -> Outcome {
    let launcher = socks6();
    let argv = [&[&*launcher, "run"], options, &["--"], command].concat();
    topology.victim(argv).run()
}

/// The gateway may be named by host name, here one of /etc/hosts.
#[test]
fn run_finds_the_gateway_by_name() {
    let Some(topology) = Topology::new(Families::V6, Families::V4) else {
        return;
    };
    let _dns = topology.dns();
    let _http = Origin::http(&topology.destination, &topology.destination_sockets(80));
    let _gateway = topology.start_gateway();
    topology
        .client
        .etc("hosts", "127.0.0.1 localhost\n2001:db8:1::1 gw.example\n");
    let outcome = run(
        &topology,
        &["--gateway", "gw.example:1080"],
        &["/usr/bin/curl", "-sS", SERVER],
    );
    assert!(
        outcome.stdout().contains("you come from 198.51.100.1"),
        "{outcome}"
    );
}

/// `socks6 run --help`: "The exit status is the command's own"; 127 if it is not found.
#[test]
fn run_ends_as_its_command_ends() {
    let Some(topology) = Topology::new(Families::V4, Families::V6) else {
        return;
    };
    let gateway = ["--gateway", "192.0.2.1:1080"];
    for (command, ending) in [
        ("exit 0", Ending::Exit(0)),
        ("exit 42", Ending::Exit(42)),
        ("kill -s TERM $$", Ending::Signal(15)),
    ] {
        let outcome = run(&topology, &gateway, &["/bin/sh", "-c", command]);
        assert_eq!(outcome.ending, ending, "{command}: {outcome}");
    }
    let missing = run(&topology, &gateway, &["/nonexistent"]);
    assert_eq!(missing.ending, Ending::Exit(127), "{missing}");
}

/// README: "With no gateway configured, `socks6 run` starts one for the run"; one line on stderr says so, and `--strict`
/// refuses instead.
#[test]
fn run_without_a_gateway_has_a_private_one_for_as_long_as_it_lives() {
    let Some(topology) = Topology::new(Families::V4, Families::V6) else {
        return;
    };
    let _dns = topology.dns();
    let _http = Origin::http(&topology.destination, &topology.destination_sockets(80));
    let launcher = socks6();
    // Beside the gateway, where both families are: this is the machine of a newcomer.
    let on_dual_stack = |argv: &[&str]| {
        topology
            .neighbour([&[&*launcher, "run"], argv].concat())
            .run()
    };
    let outcome = on_dual_stack(&["--", "/usr/bin/curl", "-4", "-sS", SERVER]);
    assert!(
        outcome.stdout().contains("you come from 2001:db8:2::1"),
        "{outcome}"
    );
    assert_eq!(outcome.stderr.lines().count(), 1, "{outcome}");
    until(Duration::from_secs(5), "the private gateway's end", || {
        running(&topology.gateway, "socks6-gateway")
            .is_empty()
            .then_some(())
    });

    let strict = on_dual_stack(&["--strict", "--", "/usr/bin/curl", "-sS", SERVER]);
    assert_eq!(strict.ending, Ending::Exit(125), "{strict}");
    assert_eq!(strict.stdout(), "");
}

/// `socks6 audit --help`: "what it did: names, connections, and what escaped the shim", and it ends as the command does.
#[test]
fn audit_lists_what_a_run_did_and_what_escaped() {
    let Some(topology) = Topology::new(Families::V4, Families::V6) else {
        return;
    };
    let _dns = topology.dns();
    let _http = Origin::http(&topology.destination, &topology.destination_sockets(80));
    let _gateway = topology.start_gateway();
    // A static program makes its own system calls.
    let escape = c_program_with("victims/connect", &["-static"])
        .display()
        .to_string();
    let script = format!(
        "curl -sS http://{SERVER}/ >/dev/null; curl -s http://{SERVER}:81/; curl -s http://127.0.0.1:9/\n\
         curl -s http://x.ads.example/; {escape} 203.0.113.5 443 >/dev/null; exit 7"
    );
    let launcher = socks6();
    let run = |script: &str| {
        let options = [
            "--gateway",
            "192.0.2.1:1080",
            "--table",
            "private",
            "--rule",
            "reject .ads.example",
        ];
        let argv = [
            &[&*launcher, "audit"],
            &options[..],
            &["--", "/bin/sh", "-c", script],
        ]
        .concat();
        topology.victim(argv).run()
    };
    let outcome = run(&script);
    assert_eq!(outcome.ending, Ending::Exit(7), "{outcome}");
    let said = &outcome.stderr;
    for line in [
        "relayed  connect server.example:80 fake ",
        "via 192.0.2.1:1080: ok\n",
        "failed   connect server.example:81 fake ",
        ": ECONNREFUSED (",
        "direct   connect 127.0.0.1:9 by ",
        "refused  name x.ads.example: rejected\n",
        "ESCAPED  connect 203.0.113.5:443 by ",
    ] {
        assert!(said.contains(line), "{line}: {outcome}");
    }
    assert!(
        said.contains(" 1 relayed") && said.contains(" 1 ESCAPED"),
        "{outcome}"
    );

    let outcome = run(&format!(
        "curl -sS http://{SERVER}/ >/dev/null; kill -TERM $$"
    ));
    assert_eq!(outcome.ending, Ending::Signal(15), "{outcome}");
    assert!(outcome.stderr.contains(" 0 ESCAPED"), "{outcome}");
}

/// docs/configuration.md: "LD_PRELOAD and the library's own variables are put back whenever a program of the run executes another
/// one", by each of the functions; and nothing of the kind without `--sticky`.
#[test]
fn sticky_stays_with_programs_whose_environment_was_cleaned() {
    let Some(topology) = Topology::new(Families::V4, Families::V6) else {
        return;
    };
    let _dns = topology.dns();
    let _http = Origin::http(&topology.destination, &topology.destination_sockets(80));
    let gateway = topology.start_gateway();
    let options = ["--gateway", "192.0.2.1:1080", "--table", "private"];
    let env = ["/usr/bin/env", "-i", "/usr/bin/curl", "-sS", SERVER];
    let outcome = run(&topology, &options, &env);
    assert_eq!(
        outcome.ending,
        Ending::Exit(6),
        "curl(1): no such host: {outcome}"
    );

    let sticky = [&options[..], &["--sticky"]].concat();
    run(&topology, &sticky, &env).expect_ok();
    // Each has an LD_PRELOAD of its own, or hundreds of entries, or none.
    let python = "import os, subprocess\n\
        a = ['/usr/bin/curl', '-sS', '-o', '/dev/null', 'server.example']\n\
        many = {f'N{n}': 'x' * 9 for n in range(500)}\n\
        def forked(run):\n \
            pid = os.fork()\n \
            if pid == 0: run(); os._exit(99)\n \
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])\n\
        print(forked(lambda: os.execve(a[0], a, {})), forked(lambda: os.execve(a[0], a, many)),\n \
            forked(lambda: os.execve(os.open(a[0], os.O_RDONLY), a, {})),\n \
            forked(lambda: (os.unsetenv('LD_PRELOAD'), os.unsetenv('SOCKS6_CONFIG'), os.execv(a[0], a))),\n \
            *(os.waitstatus_to_exitcode(os.waitpid(f(a[0], a, e), 0)[1])\n \
            for f in (os.posix_spawn, os.posix_spawnp) for e in ({}, many, {'LD_PRELOAD': '/usr/lib/x86_64-linux-gnu/libresolv.so.2'})),\n \
            *(subprocess.run(a, env=e).returncode for e in ({}, many)))\n\
        e = {'LD_PRELOAD': '/usr/lib/x86_64-linux-gnu/libresolv.so.2', 'A': 'b'}\n\
        print(subprocess.run(['/usr/bin/env'], env=e, capture_output=True, text=True).stdout)\n";
    let outcome = run(&topology, &sticky, &["/usr/bin/python3", "-c", python]);
    let stdout = outcome.stdout();
    let mut lines = stdout.lines();
    assert_eq!(lines.next(), Some("0 0 0 0 0 0 0 0 0 0 0 0"), "{outcome}");
    let preload = lines.find(|line| line.starts_with("LD_PRELOAD=")).unwrap();
    let ours = artefacts().shim.display();
    let theirs = "/usr/lib/x86_64-linux-gnu/libresolv.so.2";
    assert_eq!(preload, format!("LD_PRELOAD={ours}:{theirs}"));
    gateway.wait_for_relays_to(SERVER, 13);
}

/// The pids of the programs of this name in a namespace.
fn running(namespace: &Namespace, name: &str) -> Vec<String> {
    let of =
        |pid: &String| std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    namespace
        .pids()
        .into_iter()
        .filter(|pid| of(pid).contains(name))
        .collect()
}
