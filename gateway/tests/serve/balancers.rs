//! Clients behind a load balancer that speaks the PROXY protocol: octets by hand, and HAProxy.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::binary::{Binary, Folder};
use crate::harness::{
    Running, assert_reset, connect, echo, nobody, read, read_reply, request, until,
};
use crate::users::login;
use crate::watching::curl;

/// Believes 127.0.0.1, and serves the clients of 192.0.2.0/24 and itself.
fn behind_a_balancer() -> Running {
    Running::with(|settings| {
        settings.proxy_protocol_from = vec!["127.0.0.1/32".parse().unwrap()];
        settings.allow_clients = vec![
            "192.0.2.0/24".parse().unwrap(),
            "2001:db8::/32".parse().unwrap(),
        ];
        settings.handshake_timeout = Duration::from_millis(500);
    })
}

const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21";

fn v2_from_v4(ip: [u8; 4]) -> Vec<u8> {
    let head: &[u8] = &[0x11, 0, 12 + 4]; // TCP over IPv4; addresses, and a TLV of one octet
    let addresses: &[u8] = &[198, 51, 100, 1, 0x30, 0x39, 0x04, 0x38];
    [V2, head, &ip, addresses, &[0x04, 0, 1, 0xff]].concat()
}

fn is_relayed(mut client: TcpStream) {
    assert_eq!(read_reply(&mut client), 0x00);
    client.write_all(b"hello").unwrap();
    assert_eq!(read(&mut client, 5), b"hello");
}

#[test]
fn the_header_s_source_is_the_client_for_the_policy() {
    let gateway = behind_a_balancer();
    let to = request(echo());
    let allowed: [Vec<u8>; 4] = [
        b"PROXY TCP4 192.0.2.7 198.51.100.1 12345 1080\r\n".to_vec(),
        b"PROXY TCP6 2001:db8::7 2001:db8::1 12345 1080\r\n".to_vec(),
        b"PROXY TCP6 ::ffff:192.0.2.7 ::1 12345 1080\r\n".to_vec(),
        v2_from_v4([192, 0, 2, 7]),
    ];
    for header in allowed {
        let mut client = gateway.connect();
        client.write_all(&[&header[..], &to].concat()).unwrap();
        is_relayed(client);
        // In as many segments as there are octets.
        let mut client = gateway.connect();
        for octet in header.iter().chain(&to) {
            client.write_all(&[*octet]).unwrap();
        }
        is_relayed(client);
    }
    // Not the balancer's own address, which LOCAL and UNKNOWN stand for, nor any other.
    for header in [
        b"PROXY TCP4 203.0.113.9 198.51.100.1 12345 1080\r\n".to_vec(),
        b"PROXY UNKNOWN\r\n".to_vec(),
        v2_from_v4([203, 0, 113, 9]),
        b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00".to_vec(),
    ] {
        let mut client = gateway.connect();
        client.write_all(&header).unwrap();
        assert_reset(&mut client);
    }
}

/// And for rules, log and metrics: whoever judges the client or tells of it.
#[test]
fn the_header_s_source_is_the_client_for_whoever_tells_of_it() {
    let folder = Folder::new("told");
    let (to, status) = (request(echo()), nobody());
    let text = format!(
        "listen = [\"127.0.0.1:0\"]\nproxy-protocol-from = [\"127.0.0.1\"]\nallow-clients = [\"192.0.2.0/24\"]\n\
         [metrics]\nlisten = \"{status}\"\n\
         [[rule]]\nname = \"not-him\"\naction = \"deny\"\nclients = [\"192.0.2.8\"]\n\
         [[rule]]\naction = \"allow\"\nclients = [\"192.0.2.0/24\"]\n"
    );
    let gateway = Binary::start(&["--config", &folder.write("gateway.toml", &text)]);
    let from = |ip| {
        let mut client = connect(gateway.address());
        client
            .write_all(&[&v2_from_v4(ip)[..], &to].concat())
            .unwrap();
        client
    };
    assert_eq!(read_reply(&mut from([192, 0, 2, 8])), 0x02);
    gateway.wait_for_log(" client=192.0.2.8:12345 ");
    gateway.wait_for_log(" rule=not-him rep=02 ");
    let mut relay = from([192, 0, 2, 7]);
    assert_eq!(read_reply(&mut relay), 0x00);
    until("the page shows him", || {
        curl(status, "/", &[]).contains("192.0.2.7:12345")
    });
    let mut wrong = connect(gateway.address());
    wrong.write_all(&to).unwrap();
    assert_reset(&mut wrong);
    let metrics = curl(status, "/metrics", &[]);
    for reason in ["denied-by-rule", "bad-proxy-header"] {
        let row = format!("socks6_clients_failed_total{{reason=\"{reason}\"}} 1\n");
        assert!(metrics.contains(&row), "{metrics}");
        gateway.wait_for_log(&format!(" end={reason} "));
    }
}

/// And for what a client may take: limits that held for the balancer would hold for all of its clients together.
#[test]
fn the_header_s_source_has_the_client_s_limits() {
    let folder = Folder::new("shares");
    let status = nobody();
    let users = folder.write("users", "alice:s3cret\n");
    let text = format!(
        "listen = [\"127.0.0.1:0\"]\nproxy-protocol-from = [\"127.0.0.1\"]\npassword-file = \"{users}\"\n\
         [limits]\nrelays-per-client = 1\nfailed-logins = 2\n[metrics]\nlisten = \"{status}\"\n"
    );
    let gateway = Binary::start(&["--config", &folder.write("gateway.toml", &text)]);
    let from = |host, password| {
        let mut client = connect(gateway.address());
        client.write_all(&v2_from_v4([192, 0, 2, host])).unwrap();
        (login(&mut client, "alice", password), client)
    };
    for (host, password, answer) in [
        (7, "guess", 0x01),
        (7, "guess", 0x01),
        (7, "s3cret", 0x01),
        (8, "s3cret", 0x00),
    ] {
        assert_eq!(from(host, password).0, answer, "{host}");
        until("its place is free", || {
            curl(status, "/metrics", &[]).contains("\nsocks6_clients 0\n")
        });
    }
    gateway.wait_for_log(" client=192.0.2.7:12345 ");
    gateway.wait_for_log(" end=too-many-wrong-passwords ");

    let (first, other) = (from(9, "s3cret"), from(10, "s3cret"));
    assert_eq!((first.0, other.0), (0x00, 0x00));
    let mut second = connect(gateway.address());
    second.write_all(&v2_from_v4([192, 0, 2, 9])).unwrap();
    assert_reset(&mut second);
    gateway.wait_for_log(" end=too-many-relays-of-client ");
    drop((first, other));
    until("each client is counted once", || {
        let text = curl(status, "/metrics", &[]);
        let sum = |name: &str| -> u64 {
            let rows = text.lines().filter(|line| line.starts_with(name));
            rows.map(|row| row.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
                .sum()
        };
        let accepted = sum("socks6_clients_accepted_total");
        accepted == 7 && accepted == sum("socks6_clients_failed_total")
    });
}

#[test]
fn a_balancer_without_its_header_is_reset_in_time() {
    let gateway = behind_a_balancer();
    let start = Instant::now();
    for wrong in [
        &request(nobody())[..],
        b"PROXY TCP4 nonsense\r\n",
        b"GET / HTTP/1.0\r\n\r\n",
    ] {
        let mut client = gateway.connect();
        client.write_all(wrong).unwrap();
        assert_reset(&mut client);
    }
    assert!(
        start.elapsed() < Duration::from_millis(400),
        "{:?}",
        start.elapsed()
    );
    // One deadline for header and handshake.
    for slow in [
        &b""[..],
        b"PROXY TCP4 192.0.2.7 ",
        b"PROXY TCP4 192.0.2.7 192.0.2.1 1 2\r\n\x05",
    ] {
        let mut client = gateway.connect();
        client.write_all(slow).unwrap();
        let start = Instant::now();
        assert_reset(&mut client);
        let limits = Duration::from_millis(350)..Duration::from_millis(1500);
        assert!(limits.contains(&start.elapsed()), "{:?}", start.elapsed());
    }
}

/// A client that says of itself who it is is none that speaks SOCKS.
#[test]
fn nobody_else_is_believed() {
    let gateway = Running::with(|settings| {
        settings.proxy_protocol_from = vec!["127.0.0.2/32".parse().unwrap()];
        settings.allow_clients = vec!["127.0.0.0/8".parse().unwrap()];
    });
    let to = request(echo());
    let mut client = gateway.connect();
    client
        .write_all(b"PROXY TCP4 127.0.0.9 127.0.0.1 1 2\r\n")
        .unwrap();
    client.write_all(&to).unwrap();
    let end = client.read(&mut [0]).map_err(|error| error.kind());
    assert!(
        matches!(end, Ok(0) | Err(ErrorKind::ConnectionReset)),
        "{end:?}"
    );
    let mut client = gateway.connect();
    client.write_all(&to).unwrap();
    is_relayed(client);
}

const HAPROXY: &str = "/usr/sbin/haproxy";

/// A running haproxy, killed with this value.
struct HaProxy {
    child: Child,
    _folder: Folder,
}

impl HaProxy {
    /// In front of `gateway`; `server` are the options of its `server` line.
    fn start(gateway: SocketAddr, server: &str) -> (Self, SocketAddr) {
        let (front, folder) = (nobody(), Folder::new("haproxy"));
        let text = format!(
            "defaults\n mode tcp\n timeout connect 5s\n timeout client 20s\n timeout server 20s\n\
             listen socks\n bind {front}\n server gateway {gateway} {server}\n"
        );
        let file = folder.write("haproxy.cfg", &text);
        let mut command = Command::new(HAPROXY);
        command.arg("-f").arg(&file).arg("-db");
        let child = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        until("haproxy listens", || TcpStream::connect(front).is_ok());
        let haproxy = Self {
            child,
            _folder: folder,
        };
        (haproxy, front)
    }
}

impl Drop for HaProxy {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[test]
fn haproxy_passes_its_clients_on() {
    if !testkit::has_tool(HAPROXY) {
        return;
    }
    for server in [
        "send-proxy",
        "send-proxy-v2",
        "send-proxy-v2 check inter 50ms",
    ] {
        let folder = Folder::new("balanced");
        let text = "listen = [\"127.0.0.1:0\"]\nproxy-protocol-from = [\"127.0.0.1\"]\n\
                    allow-clients = [\"127.0.0.5\"]\n";
        let file = folder.write("gateway.toml", text);
        let gateway = Binary::start(&["--config", &file, "--log", "debug"]);
        let (_haproxy, front) = HaProxy::start(gateway.address(), server);
        // A client of 127.0.0.5 is served, and logged as such; one of 127.0.0.6 is not.
        let mut client = from("127.0.0.5:0", front);
        client.write_all(&request(echo())).unwrap();
        let own = client.local_addr().unwrap();
        is_relayed(client);
        gateway.wait_for_log(&format!(" client={own} "));
        let mut stranger = from("127.0.0.6:0", front);
        stranger.write_all(&request(echo())).unwrap();
        let own = stranger.local_addr().unwrap();
        assert!(!matches!(stranger.read(&mut [0]), Ok(1)));
        gateway.wait_for_log(&format!(" client={own} "));
        assert!(
            gateway.log().contains("end=client-not-allowed"),
            "{}",
            gateway.log()
        );
        assert!(
            !gateway.log().contains("bad-proxy-header"),
            "{}",
            gateway.log()
        );
    }
}

/// A connection from an address of this host's choice.
fn from(own: &str, to: SocketAddr) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket
        .bind(&own.parse::<SocketAddr>().unwrap().into())
        .unwrap();
    socket.connect(&to.into()).unwrap();
    crate::harness::patient(socket.into())
}
