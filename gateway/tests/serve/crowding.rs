//! Crowds that say nothing, or stay after they have been told, and clients that mean well among them.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::binary::Binary;
use crate::harness::{Running, assert_reset, connect, echo, read, read_reply, request, until};
use crate::limits::has_reply;

/// Sooner than the handshake's time is over.
const SOON: Duration = Duration::from_secs(5);

fn crowd(to: SocketAddr, clients: usize, says: &[u8]) -> Vec<TcpStream> {
    (0..clients)
        .map(|_| {
            let mut client = connect(to);
            client.write_all(says).unwrap();
            client
        })
        .collect()
}

#[track_caller]
fn assert_relays(client: &mut TcpStream) {
    client.write_all(b"hello").unwrap();
    assert_eq!(read(client, 5), b"hello");
}

#[test]
fn who_says_nothing_gives_way_to_who_does_and_relays_go_on() {
    let gateway = Binary::start(&["--max-relays", "16", "--handshake-timeout", "1m"]);
    let to = echo();
    let relay = || {
        let mut client = connect(gateway.address());
        client.write_all(&request(to)).unwrap();
        assert_eq!(read_reply(&mut client), 0x00);
        client
    };
    let mut first = relay();
    let mut silent = crowd(gateway.address(), 15, b"");
    let start = Instant::now();
    let mut others: Vec<_> = (0..5).map(|_| relay()).collect();
    assert!(start.elapsed() < SOON);
    // In the order in which they came, and none of the others.
    for client in &mut silent[..5] {
        assert_reset(client);
    }
    assert!(silent[5..].iter_mut().all(|client| !has_reply(client)));
    assert_relays(&mut first);
    others.iter_mut().for_each(assert_relays);
    until("five lines", || {
        gateway.log().matches(" end=gave-way").count() == 5
    });
}

/// Whoever has been told why not is given five seconds to take it, and not in the way of others.
#[test]
fn who_stays_after_it_was_told_gives_way_too() {
    let gateway = Running::with(|it| it.max_relays = Some(16));
    let stay = crowd(gateway.address, 16, b"GET / HTTP/1.1\r\n\r\n");
    let start = Instant::now();
    assert_relays(&mut gateway.relay_to(echo()));
    assert!(start.elapsed() < Duration::from_secs(4));
    drop(stay);
}

/// Or nobody would ever finish a handshake.
#[test]
fn in_a_gateway_full_of_relays_who_comes_waits_and_pushes_nobody_out() {
    let gateway = Running::with(|it| it.max_relays = Some(16));
    let to = echo();
    let mut relays: Vec<_> = (0..14).map(|_| gateway.relay_to(to)).collect();
    let mut slow: Vec<_> = (0..2).map(|_| gateway.connect()).collect();
    let mut waiting: Vec<_> = (0..3).map(|_| gateway.connect()).collect();
    for client in &mut waiting {
        client.write_all(&request(to)).unwrap();
    }
    assert!(waiting.iter_mut().all(|client| !has_reply(client)));
    for client in &mut slow {
        client.write_all(&request(to)).unwrap();
        assert_eq!(read_reply(client), 0x00);
        assert_relays(client);
    }
    relays.truncate(11);
    for client in &mut waiting {
        assert_eq!(read_reply(client), 0x00);
    }
}
