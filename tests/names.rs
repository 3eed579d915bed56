//! RFC 3089 §3, "DNS name resolving delegation": no real resolver is asked, and no program is led astray by one.
//!
//! The client's resolver is a decoy that answers every name with the address of a trap. Without the shim each function and
//! each program falls for it, which proves that the counters count; with it they stay where they were.

use std::net::IpAddr;

use testkit::{
    DnsServer, Families, Origin, Outcome, SERVER, Shim, Sshd, Topology, c_program, repository,
};

use crate::table::Table;

/// The functions of libc that give addresses of a name.
pub(crate) const FORWARD: [&str; 6] = [
    "getaddrinfo",
    "getaddrinfo_a",
    "gethostbyname",
    "gethostbyname2",
    "gethostbyname_r",
    "gethostbyname2_r",
];

/// Those that carry questions to a name server, and datagrams of the program's own to port 53.
const QUESTIONS: [&str; 12] = [
    "res_query",
    "res_search",
    "res_querydomain",
    "res_nquery",
    "res_nsearch",
    "res_nquerydomain",
    "res_send",
    "res_nsend",
    "datagram",
    "connected-datagram",
    "local-datagram",
    "connected-local-datagram",
];

/// Those that ask for names.
pub(crate) const REVERSE: [&str; 3] = ["gethostbyaddr", "gethostbyaddr_r", "getnameinfo"];

/// RFC 3089 §3: the FQDN is paired with a fake address, and no real resolver is called.
#[test]
fn no_name_function_asks_the_resolver_of_a_v4_host() {
    functions(Families::V4);
}

/// The same where the name server is asked over v6.
#[test]
fn no_name_function_asks_the_resolver_of_a_v6_host() {
    functions(Families::V6);
}

fn functions(client: Families) {
    let Some(topology) = Topology::new(client, Families::V6) else {
        return;
    };
    let decoy = topology.decoy();
    let shim = topology.shim();
    let mut wrong = Vec::new();
    let mut fakes: Vec<IpAddr> = Vec::new();
    for function in FORWARD.iter().chain(&QUESTIONS) {
        let plain = ask(&topology, &decoy, function, SERVER, None);
        assert!(
            plain.queries > 0,
            "{function} without the shim asked nobody"
        );
        let shimmed = ask(&topology, &decoy, function, SERVER, Some(&shim));
        let answers: Vec<IpAddr> = shimmed
            .words()
            .filter_map(|word| word.parse().ok())
            .collect();
        if shimmed.queries > 0 || answers.is_empty() || !answers.iter().all(is_fake) {
            wrong.push(format!("{function}({SERVER}): {shimmed}"));
        }
        fakes.extend(answers);
    }
    fakes.sort();
    fakes.dedup();
    assert!(
        fakes.len() <= 2,
        "one name, more than one fake a family: {fakes:?}"
    );

    for function in REVERSE {
        for real in ["198.51.100.2", "2001:db8:2::2"] {
            let plain = ask(&topology, &decoy, function, real, None);
            assert!(
                plain.queries > 0,
                "{function} without the shim asked nobody"
            );
            let shimmed = ask(&topology, &decoy, function, real, Some(&shim));
            if shimmed.queries > 0 || shimmed.outcome.is_ok() {
                wrong.push(format!("{function}({real}): {shimmed}"));
            }
        }
        for fake in &fakes {
            let shimmed = ask(&topology, &decoy, function, &fake.to_string(), Some(&shim));
            if shimmed.queries > 0 || !shimmed.words().eq([SERVER]) {
                wrong.push(format!("{function}({fake}): {shimmed}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}\n{}", wrong.join("\n"), decoy.log());
}

/// What came of one question.
struct Answer {
    outcome: Outcome,
    text: String,
    queries: usize,
}

impl Answer {
    fn words(&self) -> impl Iterator<Item = &str> {
        self.text.split_whitespace()
    }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} queries left the program, {}",
            self.queries, self.outcome
        )
    }
}

fn ask(
    topology: &Topology,
    decoy: &DnsServer,
    function: &str,
    question: &str,
    shim: Option<&Shim>,
) -> Answer {
    let program = c_program("victims/names");
    let victim = topology.victim([program.as_os_str(), function.as_ref(), question.as_ref()]);
    let before = decoy.queries();
    let outcome = match shim {
        Some(shim) => victim.shim(shim).run(),
        None => victim.run(),
    };
    Answer {
        text: outcome.stdout(),
        outcome,
        queries: decoy.queries() - before,
    }
}

pub(crate) fn is_fake(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.octets()[0] == 198 && v4.octets()[1] & 0xfe == 18,
        IpAddr::V6(v6) => v6.segments()[..4] == [0x100, 0, 0, 0],
    }
}

/// RFC 3089 §3, on Debian's programs: what they look up and connect to goes to the gateway and nowhere else.
#[test]
fn no_program_asks_the_resolver_or_falls_into_the_trap() {
    let Some(topology) = Topology::new(Families::Both, Families::V6) else {
        return;
    };
    let decoy = topology.decoy();
    let trap = topology.trap(&[22, 80, 9418]);
    let _dns = topology.dns();
    let _http = Origin::http(&topology.destination, &topology.destination_sockets(80));
    let sshd = Sshd::start(
        &topology,
        &topology.destination,
        &topology.destination_sockets(22),
    );
    let gateway = topology.start_gateway();
    let shim = topology.shim();
    let url = format!("http://{SERVER}/");
    let git_url = format!(
        "{url}git/{}",
        repository().file_name().unwrap().to_string_lossy()
    );
    let legacy = format!(
        "import socket as s; c = s.socket(s.AF_INET); c.connect((s.gethostbyname('{SERVER}'), 80)); c.close()"
    );
    let words = |line: &[&str]| line.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
    let programs = [
        words(&["/usr/bin/curl", "-sS", &url]),
        words(&["/usr/bin/wget", "-q", "--tries=1", "-O", "-", &url]),
        [sshd.client(), words(&[SERVER, "true"])].concat(),
        words(&["/usr/bin/ssh", "-G", SERVER]), // looks nothing up: the table shows that too
        words(&["/usr/bin/git", "ls-remote", &git_url]),
        words(&[
            "/usr/bin/python3",
            "-c",
            &format!("import urllib.request as r; r.urlopen('{url}')"),
        ]),
        words(&["/usr/bin/python3", "-c", &legacy]),
        words(&["/usr/bin/getent", "hosts", SERVER]),
        words(&["/usr/bin/getent", "ahosts", SERVER]),
        words(&["/usr/bin/getent", "ahostsv4", SERVER]),
        words(&["/usr/bin/getent", "ahostsv6", SERVER]),
    ];
    let mut table =
        Table::new("questions to the decoy and visits to the trap: without the shim, with it");
    let (mut asked, mut trapped) = (0, 0);
    for argv in &programs {
        drop(topology.victim(argv).run());
        let (queries, visits) = (decoy.queries() - asked, trap.connections() - trapped);
        (asked, trapped) = (decoy.queries(), trap.connections());

        let outcome = topology.victim(argv).shim(&shim).run();
        let with = (decoy.queries() - asked, trap.connections() - trapped);
        let name: String = argv.join(" ").chars().take(90).collect();
        table.row(format_args!(
            "{queries:>3} {visits:>3}   {} {}   {name}",
            with.0, with.1
        ));
        assert_eq!(with, (0, 0), "{name} leaks: {outcome}\n{}", decoy.log());
        assert!(outcome.is_ok(), "{name}: {outcome}\n{}", gateway.log());
        let looks_up = !argv.contains(&"-G".to_owned());
        assert_eq!(
            queries > 0,
            looks_up,
            "{name} without the shim asks the decoy"
        );
        let connects = looks_up && !argv[0].ends_with("getent");
        assert_eq!(
            visits > 0,
            connects,
            "{name} without the shim falls into the trap"
        );
    }
}
