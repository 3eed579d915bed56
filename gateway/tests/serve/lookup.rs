//! RESOLVE and RESOLVE_PTR: what a client may know of names and addresses.

use std::io::Write;
use std::net::TcpStream;

use crate::harness::{Running, assert_end, read, read_bound, read_reply};

const RESOLVE: u8 = 0xf0;
const RESOLVE_PTR: u8 = 0xf1;

/// Greeting and request in one; port 0.
fn ask(gateway: &Running, cmd: u8, address: &[u8]) -> TcpStream {
    let mut client = gateway.connect();
    let octets = [&[0x05, 0x01, 0x00, 0x05, cmd, 0x00], address, &[0, 0]];
    client.write_all(&octets.concat()).unwrap();
    client
}

fn by_name(name: &str) -> Vec<u8> {
    [&[0x03, name.len() as u8], name.as_bytes()].concat()
}

#[test]
fn an_address_is_told_in_the_reply_and_the_connection_ends() {
    let gateway = Running::new();
    for (address, told) in [
        (by_name("127.0.0.1"), "127.0.0.1:0"),
        (by_name("[::1]"), "[::1]:0"),
        (vec![0x01, 127, 0, 0, 2], "127.0.0.2:0"),
    ] {
        let mut client = ask(&gateway, RESOLVE, &address);
        assert_eq!(read_bound(&mut client), (0x00, told.parse().unwrap()));
        assert_end(&mut client);
    }
    let mut client = ask(&gateway, RESOLVE, &by_name("localhost"));
    let (rep, told) = read_bound(&mut client);
    assert!(rep == 0x00 && told.ip().is_loopback(), "{told}");
}

#[test]
fn a_name_is_told_in_the_reply() {
    let gateway = Running::new();
    let mut client = ask(&gateway, RESOLVE_PTR, &[0x01, 127, 0, 0, 1]);
    assert_eq!(read(&mut client, 2), [0x05, 0x00]);
    assert_eq!(read(&mut client, 5), [0x05, 0x00, 0x00, 0x03, 9]); // VER REP RSV ATYP, length
    assert_eq!(read(&mut client, 11), b"localhost\0\0");
    assert_end(&mut client);
}

/// What cannot be connected to is not told either.
#[test]
fn what_is_not_told_has_its_rep() {
    let gateway = Running::new();
    for (cmd, address, rep) in [
        (RESOLVE, by_name("169.254.169.254"), 0x02),
        (RESOLVE, by_name("no host name"), 0x04),
        (RESOLVE_PTR, vec![0x01, 198, 18, 0, 7], 0x02), // a fake address
        (RESOLVE_PTR, by_name("::ffff:169.254.0.1"), 0x02),
        (RESOLVE_PTR, by_name("localhost"), 0x08),
    ] {
        let mut client = ask(&gateway, cmd, &address);
        assert_eq!(read_reply(&mut client), rep, "{cmd:02x} {address:02x?}");
        assert_end(&mut client);
    }
    let strict = Running::with(|it| it.allow_destinations.clear());
    let mut client = ask(&strict, RESOLVE, &by_name("localhost"));
    assert_eq!(read_reply(&mut client), 0x02);
}

/// A reply of SOCKS4 has no room for a v6 address, or a name.
#[test]
fn socks4_has_no_look_ups() {
    let gateway = Running::new();
    for cmd in [RESOLVE, RESOLVE_PTR] {
        let mut client = gateway.connect();
        let octets = [&[0x04, cmd, 0, 0, 127, 0, 0, 1][..], b"\0"].concat();
        client.write_all(&octets).unwrap();
        assert_eq!(read(&mut client, 2), [0x00, 0x5b]);
    }
}
