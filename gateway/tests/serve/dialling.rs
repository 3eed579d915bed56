//! What the client is told about destinations that cannot, or must not, be reached.

use std::io::Write;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::binary::Binary;
use crate::harness::{
    Running, assert_end, connect, destination_at, echo_one, nobody, read, read_reply, request,
    request_by_name, resets_on_close, silent,
};

fn rep(gateway: &Running, request: &[u8]) -> u8 {
    let mut client = gateway.connect();
    client.write_all(request).unwrap();
    let rep = read_reply(&mut client);
    if rep != 0 {
        assert_end(&mut client);
    }
    rep
}

#[test]
fn the_reply_says_what_the_network_said() {
    let gateway = Running::with(|it| it.allow_destinations.push("224.0.0.0/4".parse().unwrap()));
    assert_eq!(rep(&gateway, &request(nobody())), 0x05);
    let v6_nobody = SocketAddr::new("::1".parse().unwrap(), nobody().port());
    assert_eq!(rep(&gateway, &request(v6_nobody)), 0x05);
    // TCP to a multicast address is ENETUNREACH in our own kernel.
    assert_eq!(
        rep(&gateway, &request("224.0.0.1:80".parse().unwrap())),
        0x03
    );
    // libc's resolver knows without asking anybody that this is no host name.
    assert_eq!(rep(&gateway, &request_by_name("no host name", 80)), 0x04);
}

/// The limit holds for all addresses of a name together.
#[test]
fn a_destination_that_is_silent_has_timed_out_when_the_limit_says_so() {
    let limit = Duration::from_millis(200);
    let gateway = Running::with(|it| it.dial_timeout = limit);
    let (address, _queue) = silent();
    let start = Instant::now();
    assert_eq!(rep(&gateway, &request(address)), 0x06);
    assert!(start.elapsed() >= limit && start.elapsed() < limit * 25);
}

#[test]
fn nobody_dials_for_a_client_that_has_gone_away() {
    let gateway = Binary::start(&[]);
    let (address, _queue) = silent();
    let mut client = connect(gateway.address());
    client.write_all(&request(address)).unwrap();
    read(&mut client, 2);
    resets_on_close(&client);
    drop(client);
    gateway.wait_for_log(" end=client-gone");
}

#[test]
fn what_is_denied_by_default_is_denied_in_every_form() {
    let gateway = Running::with(|it| it.allow_destinations.clear());
    let port = destination_at("[::]:0", echo_one).port();
    for address in [
        "127.0.0.1",
        "127.255.255.254",
        "0.0.0.0",
        "::",
        "::1",
        "::ffff:127.0.0.1",
        "::127.0.0.1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
        "169.254.169.254",
        "fd00:ec2::254",
        "fe80::1",
        "224.0.0.1",
        "ff02::1",
        "255.255.255.255",
        "198.18.0.1",
        "100::1",
    ] {
        let to = SocketAddr::new(address.parse().unwrap(), port);
        assert_eq!(rep(&gateway, &request(to)), 0x02, "{address}");
        assert_eq!(
            rep(&gateway, &request_by_name(address, port)),
            0x02,
            "{address} as a name"
        );
    }
    // Names, and what libc's resolver takes for an address although it looks like a name.
    for name in [
        "localhost",
        "LocalHost.",
        "a.localhost",
        "127.1",
        "0x7f000001",
        "2130706433",
    ] {
        assert_eq!(rep(&gateway, &request_by_name(name, port)), 0x02, "{name}");
    }
}

#[test]
fn allowing_one_loopback_address_does_not_allow_the_other_one() {
    let gateway = Running::with(|it| it.allow_destinations = vec!["127.0.0.1/32".parse().unwrap()]);
    let port = destination_at("[::]:0", echo_one).port();
    let to = |ip: &str| request(SocketAddr::new(ip.parse().unwrap(), port));
    assert_eq!(rep(&gateway, &to("127.0.0.1")), 0x00);
    assert_eq!(rep(&gateway, &to("::ffff:127.0.0.1")), 0x00);
    assert_eq!(rep(&gateway, &to("127.0.0.2")), 0x02);
    assert_eq!(rep(&gateway, &to("::1")), 0x02);
    // A name is connected to its allowed address, and never to the others.
    assert_eq!(rep(&gateway, &request_by_name("localhost", port)), 0x00);
}
