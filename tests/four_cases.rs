//! The main promise: Debian's own programs reach a server of either family from a host of either family, by name.

use std::path::PathBuf;

use testkit::{
    Families, Family, Gateway, Origin, Outcome, PAYLOAD_OCTETS, SERVER, Sshd, Topology, git_daemon,
    payload, repository, sha256,
};

use crate::table::Table;

/// RFC 3089 §2: "The following four types of combinations of IPvX and IPvY are possible in the mechanism." This is A, the
/// one that plain SOCKS has too.
#[test]
fn case_a_v4_client_reaches_v4_destination_by_name() {
    five_programs("A", Families::V4, Families::V4);
}

/// RFC 3089 §2, type B: a v4 client and a v6 destination, one of the two for which the mechanism exists.
#[test]
fn case_b_v4_client_reaches_v6_destination_by_name() {
    five_programs("B", Families::V4, Families::V6);
}

/// RFC 3089 §2, type C: a v6 client and a v4 destination, the other one.
#[test]
fn case_c_v6_client_reaches_v4_destination_by_name() {
    five_programs("C", Families::V6, Families::V4);
}

/// RFC 3089 §2, type D: v6 on both sides, where the mechanism "works too".
#[test]
fn case_d_v6_client_reaches_v6_destination_by_name() {
    five_programs("D", Families::V6, Families::V6);
}

/// RFC 3089 §2 again, by git's own protocol on its own port: git connects in its own process and waits.
#[test]
fn git_clones_by_its_own_protocol_from_either_family() {
    for (client, destination) in [(Families::V4, Families::V6), (Families::V6, Families::V4)] {
        let Some(topology) = Topology::new(client, destination) else {
            return;
        };
        let _dns = topology.dns();
        let _daemon = git_daemon(&topology, &topology.destination);
        let gateway = topology.start_gateway();
        let url = format!("git://{SERVER}/repository.git");
        let argv = [
            "/usr/bin/git",
            "-c",
            "core.compression=0",
            "clone",
            "--quiet",
            &url,
            "clone",
        ];
        assert!(!topology.victim(argv).run().is_ok());
        let outcome = topology.victim(argv).shim(&topology.shim()).run();
        assert!(outcome.is_ok(), "{outcome}\n{}", gateway.log());
        let received = sha256(&topology.dir().join("clone/payload"));
        assert_eq!(received, sha256(&payload()));
    }
}

/// One program that fetches the payload.
struct Cell {
    program: &'static str,
    argv: Vec<String>,
    port: u16,
    /// Where the octets end up, if not on stdout.
    file: Option<PathBuf>,
}

fn five_programs(case: &str, client: Families, destination: Families) {
    let Some(topology) = Topology::new(client, destination) else {
        return;
    };
    let (from, to) = (client.first(), destination.first());
    let mut table = Table::new(format_args!("case {case}: {from} client, {to} destination"));
    no_route(&topology, to, &mut table);

    let _dns = topology.dns();
    let _http = Origin::http(&topology.destination, &topology.destination_sockets(80));
    let sshd = Sshd::start(
        &topology,
        &topology.destination,
        &topology.destination_sockets(22),
    );
    let gateway = topology.start_gateway();
    let wanted = sha256(&payload());
    for cell in cells(&topology, &sshd) {
        let plain = run(&topology, &cell, false);
        assert!(!plain.is_ok(), "{} needs no shim?\n{plain}", cell.program);
        let before = gateway.relays_to(SERVER).len();
        let socksified = run(&topology, &cell, true);
        let context = || format!("{socksified}\ngateway:\n{}", gateway.log());
        assert!(socksified.is_ok(), "{}: {}", cell.program, context());
        let received = sha256(cell.file.as_ref().unwrap_or(&socksified.stdout_path));
        assert_eq!(received, wanted, "{}: {}", cell.program, context());
        let relays = relays_logged(&gateway, before, cell.port, to);
        table.row(format_args!(
            "{:<7} {}, {PAYLOAD_OCTETS} octets in {:.1} s, SHA-256 equal; {relays} with atyp=03 family={to}; \
             without the shim: {}",
            cell.program,
            socksified.ending,
            socksified.took.as_secs_f32(),
            plain.ending,
        ));
    }
}

/// The kernels on both sides know no way to each other, and the client none to the destination's family.
fn no_route(topology: &Topology, to: Family, table: &mut Table) {
    let destination = topology.destination_address(to);
    let client = topology.client_address(topology.families().client.first());
    for (namespace, address) in [
        (&topology.client, destination),
        (&topology.destination, client),
    ] {
        let refusal = namespace
            .route_to(address)
            .expect_err("a route, where none should be");
        table.row(format_args!("route look-up for {address}: {refusal}"));
    }
}

fn cells(topology: &Topology, sshd: &Sshd) -> Vec<Cell> {
    let dir = topology.dir();
    let url = format!("http://{SERVER}/bytes");
    let words = |line: &[&str]| line.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
    let file = |name: &str| (dir.join(name).display().to_string(), Some(dir.join(name)));
    let (curl, curl_file) = file("by-curl");
    let (wget, wget_file) = file("by-wget");
    let (python, python_file) = file("by-python");
    let (clone, _) = file("by-git");
    let fetch = format!("import urllib.request as r; r.urlretrieve('{url}', '{python}')");
    let git_url = format!("http://{SERVER}/git/repository.git");
    drop(repository()); // made before the clock runs
    let mut ssh = sshd.client();
    ssh.extend([SERVER.to_owned(), format!("cat {}", payload().display())]);
    let cell = |program, argv, file| Cell {
        program,
        argv,
        port: 80,
        file,
    };
    vec![
        cell(
            "curl",
            words(&["/usr/bin/curl", "-sS", "-o", &curl, &url]),
            curl_file,
        ),
        cell(
            "wget",
            words(&["/usr/bin/wget", "-q", "--tries=1", "-O", &wget, &url]),
            wget_file,
        ),
        Cell {
            program: "ssh",
            argv: ssh,
            port: 22,
            file: None,
        },
        cell(
            "git",
            // Compressing random octets takes time and shows nothing.
            words(&[
                "/usr/bin/git",
                "-c",
                "core.compression=0",
                "clone",
                "--quiet",
                &git_url,
                &clone,
            ]),
            Some(dir.join("by-git/payload")),
        ),
        cell(
            "python",
            words(&["/usr/bin/python3", "-c", &fetch]),
            python_file,
        ),
    ]
}

fn run(topology: &Topology, cell: &Cell, socksified: bool) -> Outcome {
    let victim = topology.victim(&cell.argv);
    if socksified {
        victim.shim(&topology.shim()).run()
    } else {
        victim.run()
    }
}

/// RFC 3089 §3: the name goes to the Gateway, which makes the *normal connection* in the Destination's family.
/// Gives the number of relays.
fn relays_logged(gateway: &Gateway, before: usize, port: u16, to: Family) -> usize {
    let relays = gateway.wait_for_relays_to(SERVER, before + 1);
    for line in &relays[before..] {
        for part in [
            "cmd=CONNECT",
            "atyp=03",
            &format!("destination={SERVER}:{port}"),
            &format!("family={to}"),
            "rep=00",
        ] {
            assert!(line.contains(part), "{part} is not in: {line}");
        }
    }
    relays.len() - before
}
