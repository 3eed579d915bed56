//! What is connected to: the destination, and what must not be.

use std::io::{Read, Write};
use std::net::{Ipv6Addr, TcpListener, TcpStream};
use std::thread;

use crate::here::{CHARGEN, DEAF, ECHO};

/// Until it is killed.
pub(crate) fn destination() {
    let serving = [
        (ECHO, echo as fn(TcpStream)),
        (DEAF, deaf),
        (CHARGEN, chargen),
    ]
    .map(|(port, serve)| {
        let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).unwrap();
        thread::spawn(move || {
            each(&listener, |client| {
                drop(thread::spawn(move || serve(client)));
            });
        })
    });
    println!("ready");
    for thread in serving {
        thread.join().unwrap();
    }
}

/// Says of each connection that somebody has got through.
pub(crate) fn sentinel(ports: &[&str]) {
    let listeners = ports.iter().map(|port| {
        let port: u16 = port.parse().unwrap();
        TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).unwrap()
    });
    let listeners: Vec<_> = listeners.collect();
    println!("ready");
    thread::scope(|scope| {
        for listener in &listeners {
            scope.spawn(|| each(listener, |client| println!("reached {client:?}")));
        }
    });
}

fn each(listener: &TcpListener, serve: impl Fn(TcpStream)) {
    for client in listener.incoming() {
        // One that is gone already.
        client.map(&serve).ok();
    }
}

fn echo(mut client: TcpStream) {
    client.set_nodelay(true).unwrap();
    let mut octets = [0; 4096];
    while let Ok(received) = client.read(&mut octets)
        && received > 0
        && client.write_all(&octets[..received]).is_ok()
    {}
}

#[expect(clippy::needless_pass_by_value, reason = "closed when it is over")]
fn deaf(client: TcpStream) {
    // Until the other side has reset it: the error does not have to be read.
    while client.take_error().is_ok_and(|error| error.is_none()) {
        thread::sleep(std::time::Duration::from_millis(100));
    }
}

fn chargen(mut client: TcpStream) {
    let octets = [b'x'; 64 << 10];
    while client.write_all(&octets).is_ok() {}
}
