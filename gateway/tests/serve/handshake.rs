//! From the first octet to the reply.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use gateway::Users;

use crate::harness::{
    PATIENCE, Running, assert_end, destination_at, echo, echo_one, patient, read, read_bound,
    read_reply, request, request_by_name,
};

/// The request of each version and the head of its answer.
fn versions(to: SocketAddr) -> [(&'static str, Vec<u8>, Vec<u8>); 3] {
    let port = to.port().to_be_bytes();
    let v4 = [&[0x04, 0x01], port.as_slice(), &[127, 0, 0, 1], b"me\0"].concat();
    let v4a = [
        &[0x04, 0x01],
        port.as_slice(),
        &[0, 0, 0, 1],
        b"me\x00127.0.0.1\0",
    ]
    .concat();
    [
        (
            "SOCKS5",
            request(to),
            vec![0x05, 0x00, 0x05, 0x00, 0x00, 0x01],
        ),
        ("SOCKS4", v4, vec![0x00, 0x5a]),
        ("SOCKS4a", v4a, vec![0x00, 0x5a]),
    ]
}

fn assert_relays(client: &mut TcpStream, what: &str) {
    read(client, 6); // the rest of either version's answer
    client.write_all(b"hello").unwrap();
    assert_eq!(read(client, 5), b"hello", "{what}");
}

#[test]
fn every_version_is_understood_octet_by_octet() {
    let gateway = Running::new();
    for (version, octets, answer) in versions(echo()) {
        let mut client = gateway.connect();
        for octet in octets {
            client.write_all(&[octet]).unwrap();
            thread::sleep(Duration::from_millis(2));
        }
        assert_eq!(read(&mut client, answer.len()), answer, "{version}");
        assert_relays(&mut client, version);
    }
}

#[test]
fn every_version_is_understood_in_one_segment() {
    let gateway = Running::new();
    for (version, octets, answer) in versions(echo()) {
        let mut client = gateway.connect();
        client.write_all(&octets).unwrap();
        assert_eq!(read(&mut client, answer.len()), answer, "{version}");
        assert_relays(&mut client, version);
    }
}

/// RFC 1928 §6: "BND.PORT contains the port number that the server assigned to connect to the target
/// host, while BND.ADDR contains the associated IP address."
#[test]
fn bound_is_what_the_destination_sees_as_its_peer() {
    let gateway = Running::new();
    for at in ["127.0.0.1:0", "[::1]:0"] {
        let destination = TcpListener::bind(at).unwrap();
        let mut client = gateway.connect();
        client
            .write_all(&request(destination.local_addr().unwrap()))
            .unwrap();
        let (_stream, peer) = destination.accept().unwrap();
        assert_eq!(read_bound(&mut client), (0x00, peer));
    }
}

#[test]
fn all_four_pairs_of_families_are_joined() {
    for listen in ["127.0.0.1:0", "[::1]:0"] {
        let gateway = Running::with(|it| it.listen = vec![listen.parse().unwrap()]);
        for at in ["127.0.0.1:0", "[::1]:0"] {
            let mut client = gateway.relay_to(destination_at(at, echo_one));
            client.write_all(b"hello").unwrap();
            assert_eq!(read(&mut client, 5), b"hello", "{listen} to {at}");
        }
    }
}

#[test]
fn the_v6_wildcard_serves_v4_clients_as_v4_clients() {
    let gateway = Running::with(|it| {
        it.listen = vec!["[::]:0".parse().unwrap()];
        it.allow_clients = vec!["127.0.0.0/8".parse().unwrap()];
    });
    let port = gateway.address.port();
    let mut client = patient(TcpStream::connect(("127.0.0.1", port)).unwrap());
    client.write_all(&request(echo())).unwrap();
    assert_eq!(read_reply(&mut client), 0x00);

    let mut stranger = patient(TcpStream::connect(("::1", port)).unwrap());
    stranger.write_all(&request(echo())).ok();
    let silence = std::io::Read::read(&mut stranger, &mut [0]);
    assert!(
        matches!(silence, Ok(0) | Err(_)),
        "a client that is not allowed was answered"
    );
}

fn with_alice() -> Running {
    Running::with(|it| it.users = Users::from_lines(b"alice:s3cret\nbob:b").unwrap())
}

/// RFC 1929 §2: VER ULEN UNAME PLEN PASSWD
fn credentials(user: &str, password: &str) -> Vec<u8> {
    let mut octets = vec![0x01, user.len() as u8];
    octets.extend(user.as_bytes());
    octets.push(password.len() as u8);
    octets.extend(password.as_bytes());
    octets
}

#[test]
fn the_right_password_opens_the_way() {
    let gateway = with_alice();
    let mut client = gateway.connect();
    client.write_all(&[0x05, 0x02, 0x00, 0x02]).unwrap();
    assert_eq!(read(&mut client, 2), [0x05, 0x02]);
    client.write_all(&credentials("alice", "s3cret")).unwrap();
    assert_eq!(read(&mut client, 2), [0x01, 0x00]);
    client.write_all(&request(echo())[3..]).unwrap();
    assert_eq!(read(&mut client, 2), [0x05, 0x00]);
}

/// RFC 1929 §2: "If the server returns a `failure' (STATUS value other than X'00') status, it MUST
/// close the connection."
#[test]
fn a_wrong_password_is_told_and_the_connection_closed() {
    let gateway = with_alice();
    for (user, password) in [("alice", "S3cret"), ("alice", "b"), ("carol", "s3cret")] {
        let mut client = gateway.connect();
        // All at once: the request behind the password must not turn the answer into a reset.
        let octets = [
            vec![0x05, 0x01, 0x02],
            credentials(user, password),
            request(echo()),
        ];
        client.write_all(&octets.concat()).unwrap();
        assert_eq!(read(&mut client, 2), [0x05, 0x02]);
        let status = read(&mut client, 2);
        assert_eq!(status[0], 0x01);
        assert_ne!(status[1], 0x00, "{user}:{password}");
        assert_end(&mut client);
    }
}

/// RFC 1928 §3: "If the selected METHOD is X'FF', none of the methods listed by the client are
/// acceptable".
#[test]
fn without_a_common_method_the_client_is_told_so() {
    let gateway = with_alice();
    let mut client = gateway.connect();
    client.write_all(&[0x05, 0x01, 0x00]).unwrap();
    assert_eq!(read(&mut client, 2), [0x05, 0xff]);
    assert_end(&mut client);
}

#[test]
fn socks4_cannot_pass_by_the_password() {
    let gateway = with_alice();
    for (version, octets, _) in &versions(echo())[1..] {
        let mut client = gateway.connect();
        client.write_all(octets).unwrap();
        assert_eq!(read(&mut client, 2), [0x00, 0x5b], "{version}");
    }
}

#[test]
fn commands_and_address_types_that_we_do_not_have_are_refused_by_number() {
    let gateway = Running::new();
    for (cmd, atyp, rep) in [
        (0x02, 0x01, 0x07), // BIND
        (0x03, 0x01, 0x07), // UDP ASSOCIATE
        (0x09, 0x01, 0x07),
        (0x01, 0x02, 0x08),
        (0x01, 0x05, 0x08),
    ] {
        let mut client = gateway.connect();
        let octets = [0x05, 0x01, 0x00, 0x05, cmd, 0x00, atyp, 127, 0, 0, 1, 0, 80];
        client.write_all(&octets).unwrap();
        assert_eq!(
            read_reply(&mut client),
            rep,
            "CMD {cmd:02x} ATYP {atyp:02x}"
        );
        assert_end(&mut client);
    }
}

#[test]
fn a_name_that_is_an_address_is_that_address() {
    let gateway = Running::new();
    for (name, at) in [
        ("127.0.0.1", "127.0.0.1:0"),
        ("::1", "[::1]:0"),
        ("[::1]", "[::1]:0"),
    ] {
        let to = destination_at(at, echo_one);
        let mut client = gateway.connect();
        client.write_all(&request_by_name(name, to.port())).unwrap();
        assert_eq!(read_reply(&mut client), 0x00, "{name}");
    }
}

/// A client that says nothing, and one that says a little all the time: one deadline for both.
#[test]
fn the_handshake_has_one_deadline_in_all() {
    let limit = Duration::from_millis(300);
    let gateway = Running::with(|it| it.handshake_timeout = limit);
    let endless_name = [
        vec![0x05, 0x01, 0x00, 0x05, 0x01, 0x00, 0x03, 0xff],
        vec![b'a'; 250],
    ];
    for octets in [Vec::new(), endless_name.concat()] {
        let mut client = gateway.connect();
        let start = Instant::now();
        for octet in octets {
            if client.write_all(&[octet]).is_err() {
                break;
            }
            thread::sleep(Duration::from_millis(20)); // 5 seconds for all of them
        }
        while std::io::Read::read(&mut client, &mut [0; 64]).is_ok_and(|octets| octets > 0) {}
        let elapsed = start.elapsed();
        assert!(elapsed >= limit && elapsed < limit * 10, "{elapsed:?}");
    }
}

#[test]
fn nonsense_and_early_ends_cost_nobody_else_anything() {
    let gateway = Running::new();
    let nonsense: [&[u8]; 7] = [
        b"",
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        &[0x05, 0x00],
        &[0x05, 0xff],
        &[0x05, 0x01, 0x00, 0x05, 0x01, 0x00, 0x03, 0x00, 0x00, 0x50],
        &[
            0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03,
        ],
        &[0x04, 0x01, 0x00],
    ];
    for round in 0..30 {
        let mut client = gateway.connect();
        client.write_all(nonsense[round % nonsense.len()]).ok();
    }
    let to = echo();
    let mut client = gateway.relay_to(to);
    client.write_all(b"hello").unwrap();
    assert_eq!(read(&mut client, 5), b"hello");
    drop(client);

    // Endless octets in place of a SOCKS4 user id: there is a limit to what is listened to.
    let mut client = gateway.connect();
    client
        .write_all(&[0x04, 0x01, 0x00, 0x50, 127, 0, 0, 1])
        .unwrap();
    let start = Instant::now();
    while client.write_all(&[b'x'; 4096]).is_ok() {
        assert!(start.elapsed() < PATIENCE);
    }
}
