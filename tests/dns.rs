//! DESIGN §2, "Port 53": programs with a resolver of their own are answered from the table, by the addresses that every
//! other program gets, and no question leaves.

use std::net::IpAddr;

use testkit::{Families, Origin, Outcome, SERVER, Topology, payload, sha256};

use crate::table::Table;

/// Name servers that are nowhere, and where the decoy listens or could, for each family.
const SERVERS: [&str; 4] = ["198.51.100.53", "127.0.0.1", "2001:db8:2::53", "::1"];

/// dnspython asks by a socket that is not connected, and checks who answers.
const DNSPYTHON: &str = "
import dns.message, dns.query, sys
for kind in 'A', 'AAAA':
    question = dns.message.make_query(sys.argv[2], kind)
    ask = dns.query.tcp if sys.argv[3] == 'tcp' else dns.query.udp
    for record in ask(question, sys.argv[1], timeout=5).answer[0]:
        print(record)
";

/// c-ares waits by its caller's select() or epoll, and its sockets do not block.
const C_ARES: &str = "
import pycares, select, sys
channel = pycares.Channel(servers=[sys.argv[1]], flags=pycares.ARES_FLAG_USEVC if sys.argv[3] == 'tcp' else 0)
def show(answers, error):
    print('\\n'.join(answer.host for answer in answers) if error is None else pycares.errno.strerror(error))
channel.query(sys.argv[2], pycares.QUERY_TYPE_A, show)
channel.query(sys.argv[2], pycares.QUERY_TYPE_AAAA, show)
while any(channel.getsock()):
    readable, writable = channel.getsock()
    ready = select.select(readable, writable, [], channel.timeout())
    for fd in ready[0]: channel.process_fd(fd, pycares.ARES_SOCKET_BAD)
    for fd in ready[1]: channel.process_fd(pycares.ARES_SOCKET_BAD, fd)
    if not any(ready): channel.process_fd(pycares.ARES_SOCKET_BAD, pycares.ARES_SOCKET_BAD)
";

/// RFC 3089 §3: whoever is asked, the answer is the fake address, and it leads to the server.
#[test]
fn programs_with_a_resolver_of_their_own_are_answered_from_the_table() {
    let Some(topology) = Topology::new(Families::Both, Families::V6) else {
        return;
    };
    let decoy = topology.decoy();
    let _dns = topology.dns();
    let _http = Origin::http(&topology.destination, &topology.destination_sockets(80));
    let gateway = topology.start_gateway();
    let shim = topology.shim();
    let run = |argv: &[&str]| topology.victim(argv).shim(&shim).run();

    let mut expected = addresses(&run(&["/usr/bin/getent", "ahosts", SERVER]));
    expected.dedup();
    assert_eq!(expected.len(), 2, "one of each family");

    let mut table = Table::new("asked for the addresses of one name, answered by");
    for server in SERVERS {
        let at = format!("@{server}");
        let programs = [
            vec!["/usr/bin/dig", "+short", &at, SERVER, "AAAA", SERVER, "A"],
            vec![
                "/usr/bin/dig",
                "+short",
                "+tcp",
                &at,
                SERVER,
                "AAAA",
                SERVER,
                "A",
            ],
            vec!["/usr/bin/python3", "-c", DNSPYTHON, server, SERVER, "udp"],
            vec!["/usr/bin/python3", "-c", DNSPYTHON, server, SERVER, "tcp"],
            vec!["/usr/bin/python3", "-c", C_ARES, server, SERVER, "udp"],
            vec!["/usr/bin/python3", "-c", C_ARES, server, SERVER, "tcp"],
        ];
        for argv in programs {
            let outcome = run(&argv);
            let mut given = addresses(&outcome);
            given.sort_by_key(IpAddr::is_ipv4);
            assert_eq!(given, expected, "{server}: {outcome}\n{}", decoy.log());
            let words = argv.iter().filter(|word| !word.contains('\n'));
            let line: Vec<&str> = words.copied().collect();
            table.row(format_args!("{}", line.join(" ")));
        }
    }
    // host asks for mail servers too, and those are not for us to know.
    let outcome = run(&["/usr/bin/host", SERVER, "198.51.100.53"]);
    for address in &expected {
        assert!(outcome.stdout().contains(&address.to_string()), "{outcome}");
    }
    assert!(outcome.stdout().contains("SERVFAIL"), "{outcome}");
    // And back.
    for address in &expected {
        let outcome = run(&[
            "/usr/bin/dig",
            "+short",
            "@198.51.100.53",
            "-x",
            &address.to_string(),
        ]);
        assert_eq!(outcome.stdout().trim(), format!("{SERVER}."), "{outcome}");
    }
    assert_eq!(decoy.queries(), 0, "{}", decoy.log());

    for address in &expected {
        let pinned = format!("{SERVER}:80:{}", bracketed(*address));
        let url = format!("http://{SERVER}/bytes");
        let outcome = run(&["/usr/bin/curl", "-sS", "--resolve", &pinned, &url]);
        assert_eq!(
            sha256(&outcome.stdout_path),
            sha256(&payload()),
            "{outcome}\n{}",
            gateway.log()
        );
    }
}

/// "Answered from the table unless a rule says otherwise."
#[test]
fn a_name_server_that_is_ruled_direct_is_asked() {
    let Some(topology) = Topology::new(Families::V4, Families::V6) else {
        return;
    };
    let decoy = topology.decoy();
    let shim = topology.shim();
    let server = "127.0.0.1"; // where the decoy listens too
    let argv = ["/usr/bin/python3", "-c", DNSPYTHON, server, SERVER, "udp"];
    let outcome = topology.victim(argv).shim(&shim).run();
    assert_eq!(
        (addresses(&outcome).len(), decoy.queries()),
        (2, 0),
        "{outcome}"
    );
    let rules = topology
        .victim(argv)
        .env("SOCKS6_NO_PROXY", server)
        .shim(&shim);
    let outcome = rules.run();
    assert!(decoy.queries() > 0, "{outcome}");
}

fn addresses(outcome: &Outcome) -> Vec<IpAddr> {
    let text = outcome.stdout();
    text.split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect()
}

fn bracketed(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("[{v6}]"),
    }
}
