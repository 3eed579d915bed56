//! How the gateway ends, by its own will and without it.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use socket2::{Domain, Socket, Type};

use crate::binary::Binary;
use crate::harness::{
    PATIENCE, Running, assert_end, assert_reset, connect, echo, patient, read, read_reply, request,
    until,
};

/// The client's and the destination's end of a relay.
fn relay(gateway: &Binary) -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = connect(gateway.address());
    client
        .write_all(&request(listener.local_addr().unwrap()))
        .unwrap();
    assert_eq!(read_reply(&mut client), 0x00);
    (client, patient(listener.accept().unwrap().0))
}

#[test]
fn sigterm_lets_running_relays_end_and_takes_no_new_ones() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut gateway = Binary::start(&[]);
        let (mut client, mut destination) = relay(&gateway);
        gateway.signal(signal);
        until("no new clients", || {
            TcpStream::connect(gateway.address()).is_err()
        });

        client.write_all(b"still").unwrap();
        assert_eq!(read(&mut destination, 5), b"still");
        assert!(gateway.is_running());
        drop(client);
        assert_end(&mut destination);
        drop(destination);
        assert_eq!(gateway.exit_status().code(), Some(0));
    }
}

#[test]
fn the_drain_has_an_end() {
    let mut gateway = Binary::start(&["--drain-timeout", "200ms"]);
    let (mut client, mut destination) = relay(&gateway);
    let start = Instant::now();
    gateway.signal(Signal::TERM);
    assert_reset(&mut client);
    assert_reset(&mut destination);
    assert!(start.elapsed() >= Duration::from_millis(200));
    assert_eq!(gateway.exit_status().code(), Some(0));
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let mut gateway = Binary::start(&[]);
    let (mut client, mut destination) = relay(&gateway);
    gateway.signal(Signal::TERM);
    gateway.wait_for_log("draining");
    assert!(gateway.is_running());
    gateway.signal(Signal::TERM);
    assert_reset(&mut client);
    assert_reset(&mut destination);
    assert_eq!(gateway.exit_status().code(), Some(0));
}

/// A clean end over a truncated stream would pass for the whole of it.
#[test]
fn a_gateway_that_is_killed_leaves_resets_and_no_ends() {
    let gateway = Binary::start(&[]);
    let (mut client, mut destination) = relay(&gateway);
    destination.write_all(b"half of it").unwrap();
    assert_eq!(read(&mut client, 10), b"half of it");
    gateway.signal(Signal::KILL);
    assert_reset(&mut client);
    assert_reset(&mut destination);
}

/// The kernel answers for a destination before either of them knows: here while the gateway is stopped.
#[test]
fn a_gateway_that_is_killed_before_its_reply_leaves_a_reset_too() {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener
        .bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
        .unwrap();
    listener.listen(0).unwrap(); // room for one
    listener.set_read_timeout(Some(PATIENCE)).unwrap(); // accept(2)'s, too
    let listener = TcpListener::from(listener);
    let first = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let gateway = Binary::start(&[]);
    let mut client = connect(gateway.address());
    client
        .write_all(&request(listener.local_addr().unwrap()))
        .unwrap();
    assert_eq!(read(&mut client, 2), [0x05, 0x00]);
    // The gateway's SYN finds no room; another one follows after a second.
    thread::sleep(Duration::from_millis(300));
    gateway.signal(Signal::STOP);
    drop((listener.accept().unwrap(), first));
    let mut destination = patient(listener.accept().unwrap().0);
    gateway.signal(Signal::KILL);
    assert_reset(&mut client);
    assert_reset(&mut destination);
}

#[test]
fn in_process_a_drain_waits_and_a_cut_does_not() {
    let mut gateway = Running::new();
    let mut client = gateway.relay_to(echo());
    gateway.shutdown.drain();
    until("no new clients", || {
        TcpStream::connect(gateway.address).is_err()
    });
    client.write_all(b"hello").unwrap();
    assert_eq!(read(&mut client, 5), b"hello");
    drop(client);
    assert!(gateway.stops_within(PATIENCE));

    let mut gateway = Running::new();
    let mut client = gateway.relay_to(echo());
    gateway.shutdown.cut();
    assert_reset(&mut client);
    assert!(gateway.stops_within(PATIENCE / 2));
}
