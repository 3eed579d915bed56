//! DESIGN §2, "Port 53": programs with a resolver of their own are answered from the table, by the addresses that every
//! other program gets, and no question leaves.

use std::net::IpAddr;

use testkit::{Families, Family, Origin, Outcome, SERVER, Topology, payload, sha256};

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

/// Datagram sockets that are connected, as the program has it, to port 53 and to a name: others send to them from this host,
/// somebody who is not under the library writes into them, and then they ask. And those that have an interface, or a
/// foreign address, to send from.
const CONNECTED: &str = "
import dns.message, errno, os, select, socket, subprocess, sys
INTRUDER = '''import socket, sys
for at in sys.argv[2:]:
    one = socket.socket(socket.AF_INET6 if ':' in at else socket.AF_INET, socket.SOCK_DGRAM)
    one.sendto(b'intruder', (at, int(sys.argv[1])))
'''
def heard(one):
    return [one.recvfrom(512) for _ in iter(lambda: select.select([one], [], [], 0.2)[0], [])]
interface = next(name for _, name in socket.if_nameindex() if name != 'lo')
reader, writer = os.pipe()
os.write(writer, b'pipe')
file = os.open('/etc/passwd', os.O_RDONLY)
IP_UNICAST_IF, IPV6_UNICAST_IF, IP_FREEBIND = 50, 76, 15
for family, loopback, own, server, foreign in (socket.AF_INET, '127.0.0.1', sys.argv[2], '198.51.100.53', '192.0.2.77'), \\
        (socket.AF_INET6, '::1', sys.argv[3], '2001:db8:2::53', '2001:db8:1::77'):
    fake = socket.getaddrinfo(sys.argv[1], 9, family, socket.SOCK_DGRAM)[0][4][:2]
    for to in (server, 53), fake:
        for address in '', own:
            one = socket.socket(family, socket.SOCK_DGRAM)
            if address:
                one.bind((address, 0))
            one.connect(to)
            port = str(one.getsockname()[1])
            subprocess.run([sys.executable, '-c', INTRUDER, port, own, loopback], env={}, check=True)
            print(to[1], 'heard', [what for what, _ in heard(one)], end=' ')
            subprocess.run(['/bin/sh', '-c', f'echo leak >&{one.fileno()}'], env={}, pass_fds=[one.fileno()], check=True)
            print('kept', [what for what, _ in heard(one)], end=' ')
            for send in lambda: os.splice(reader, one.fileno(), 4), lambda: os.sendfile(one.fileno(), file, 0, 4):
                try:
                    send()
                except OSError as error:
                    print(errno.errorcode[error.errno], end=' ')
            try:
                one.send(dns.message.make_query(sys.argv[1], 'A').to_wire())
                print('answered', [whom[:2] == to for _, whom in heard(one)])
            except OSError as error:
                print(errno.errorcode[error.errno])
        unicast = (socket.IPPROTO_IP, IP_UNICAST_IF) if family == socket.AF_INET else (socket.IPPROTO_IPV6, IPV6_UNICAST_IF)
        for level, option, value in (socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode()), \\
                (*unicast, socket.htonl(socket.if_nametoindex(interface))), (socket.IPPROTO_IP, IP_FREEBIND, 1):
            one = socket.socket(family, socket.SOCK_DGRAM)
            one.setsockopt(level, option, value)
            if option == IP_FREEBIND:
                one.bind((foreign, 0))
            print(to[1], option, errno.errorcode.get(one.connect_ex(to)))
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

/// udp(7): a connected socket takes datagrams from its peer alone. And what is written into one stays on this host, whoever
/// writes.
#[test]
fn nobody_else_is_heard_by_a_connected_datagram_socket_and_nothing_leaves_by_it() {
    let Some(topology) = Topology::new(Families::Both, Families::V6) else {
        return;
    };
    let decoy = topology.decoy();
    let shim = topology.shim();
    let own = [Family::V4, Family::V6].map(|family| topology.client_address(family).to_string());
    let argv = [
        "/usr/bin/python3",
        "-c",
        CONNECTED,
        SERVER,
        &own[0],
        &own[1],
    ];
    let outcome = topology.victim(argv).shim(&shim).run();
    let mut expected = String::new();
    for unicast_if in [50, 76] {
        for (port, asked) in [(53, "answered [True]"), (9, "ENETUNREACH")] {
            expected +=
                &format!("{port} heard [] kept [b'leak\\n'] ENETUNREACH ENETUNREACH {asked}\n")
                    .repeat(2);
            for option in [25, unicast_if, 15] {
                expected += &format!("{port} {option} ENETUNREACH\n");
            }
        }
    }
    assert_eq!(outcome.stdout(), expected, "{outcome}\n{}", shim.log());
    assert_eq!(decoy.queries(), 0, "{}", decoy.log());
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
