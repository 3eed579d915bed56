//! What the clients do that mean no good.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::crowd::{Pace, Sources, ends_orderly};
use crate::forbidden;
use crate::here::{CHARGEN, DEAF, DESTINATION, ECHO};
use crate::socks::{reply, to_address, to_name};

/// Prints what was done, and its rate.
pub(crate) fn attack(kind: &str, from: &str, time: Duration, rate: f64, most: usize) {
    let sources = Sources::parse(from);
    let forbidden = forbidden::all();
    let mut crowd: VecDeque<TcpStream> = VecDeque::new();
    let (mut pace, mut failed, mut told) = (Pace::new(rate), 0, [0_u64; 2]);
    while let Some(number) = pace.next(time) {
        if crowd.len() >= most
            && let Some(mut client) = crowd.pop_front()
            && let Some(is_there) = go_on(kind, &mut client)
        {
            if is_there {
                crowd.push_back(client);
            }
            continue;
        }
        let Ok(mut client) = sources.connect(number) else {
            failed += 1;
            continue;
        };
        match kind {
            "silent" | "octets" => crowd.push_back(client),
            "nonsense" => {
                client.write(&nonsense(number)).ok();
                crowd.push_back(client);
            }
            "no-header" => {
                client.write(b"PROXY TCP4 192.0.2.9 ").ok();
                crowd.push_back(client);
            }
            "deaf" => {
                deaf(&mut client, number);
                crowd.push_back(client);
            }
            "resets" => reset(client, number),
            "slow-names" => {
                let name = match number % 2 {
                    0 => format!("{number}.dead.test"),
                    _ => format!("www.{number}.dead.test"),
                };
                client.write(&to_name(name.as_bytes(), ECHO)).ok();
                match number % 3 {
                    0 => crowd.push_back(client),
                    1 => ends_orderly(&client),
                    _ => {}
                }
            }
            "no-names" => {
                let name = format!("{number}.none.test");
                client.write(&to_name(name.as_bytes(), ECHO)).ok();
                assert_eq!(reply(&client).unwrap(), 0x04, "{name}");
                ends_orderly(&client);
            }
            "forbidden" => {
                let index = number as usize % forbidden.len();
                let (what, request, is_no_name) = &forbidden[index];
                client.write_all(request).unwrap();
                let rep = reply(&client).unwrap();
                let is_refused = rep == 0x02 || *is_no_name && rep == 0x04;
                assert!(is_refused, "{what}: REP {rep:02x}");
                ends_orderly(&client);
            }
            "rebinding" => told[usize::from(rebinding(&mut client))] += 1,
            _ => panic!("{kind} is no kind"),
        }
    }
    if kind == "rebinding" {
        assert!(told.iter().all(|&it| it > 0), "{told:?} refused, connected");
    }
    println!(
        "{:.0} a second, {} stay, {failed} failed",
        pace.achieved(),
        crowd.len()
    );
}

/// Whether one of those who stay is still there, if there is something to be done about it; a kind for which there is not
/// has another one come in its place.
fn go_on(kind: &str, client: &mut TcpStream) -> Option<bool> {
    let done = match kind {
        // The next octet of SOCKS4's VER, CMD, DSTPORT, DSTIP and a user without an end.
        "octets" => client.write(&[0x04]),
        // It reads, but hardly.
        "deaf" => client.read(&mut [0]),
        _ => return None,
    };
    Some(match done {
        Ok(octets) => octets > 0,
        Err(error) => error.kind() == ErrorKind::WouldBlock,
    })
}

fn nonsense(number: u64) -> Vec<u8> {
    let long = |head: &[u8], octet: u8, len: usize| [head, &vec![octet; len]].concat();
    match number % 8 {
        0 => long(&[0x05, 0xff], 0x00, 255), // all methods, and no request
        1 => long(&[0x05, 0x01, 0x00, 0x05, 0x01, 0x00, 0x03, 0xff], b'a', 254), // a name, but for one octet
        2 => long(&[0x04, 0x01, 0, 80, 192, 0, 2, 9], b'a', 60_000), // a user without an end
        3 => long(&[0x04, 0x01, 0, 80, 0, 0, 0, 1, 0], b'a', 60_000), // a name without an end
        4 => long(b"PROXY TCP4 ", b'1', 60_000),
        5 => long(b"GET / HTTP/1.1\r\nX: ", b'x', 60_000),
        6 => [
            &[0x05, 0x01, 0x02, 0x01, 0xff],
            &[b'u'; 255][..],
            &[0xff],
            &[b'p'; 255],
        ]
        .concat(),
        _ => random(number, 600),
    }
}

fn random(seed: u64, len: usize) -> Vec<u8> {
    let mut state = (seed + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let octets = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    });
    octets.take(len).collect()
}

/// A relay of which one side never reads what the other one has to say, or hardly.
fn deaf(client: &mut TcpStream, number: u64) {
    let port = if number.is_multiple_of(2) {
        CHARGEN
    } else {
        DEAF
    };
    client.write_all(&to_address(destination(port))).ok();
    let rep = reply(client).ok();
    client.set_nonblocking(true).unwrap();
    let octets = [b'x'; 64 << 10];
    while rep == Some(0x00) && port == DEAF && client.write(&octets).is_ok() {}
}

fn destination(port: u16) -> SocketAddr {
    SocketAddr::new(DESTINATION.into(), port)
}

/// Before the first octet, behind the request, or in the middle of a relay.
fn reset(mut client: TcpStream, number: u64) {
    if number.is_multiple_of(3) {
        return;
    }
    client.write(&to_address(destination(CHARGEN))).ok();
    if number % 3 == 2 {
        client.read(&mut [0; 4096]).ok();
        client.read(&mut [0; 4096]).ok();
    }
}

/// Whether it was connected: then to the destination, which echoes, and to nobody else.
fn rebinding(client: &mut TcpStream) -> bool {
    client.write_all(&to_name(b"rebind.test", ECHO)).unwrap();
    let rep = reply(client).unwrap();
    ends_orderly(client);
    if rep != 0x00 {
        assert_eq!(rep, 0x02);
        return false;
    }
    client.write_all(b"who").unwrap();
    let mut echoed = [0; 3];
    client.read_exact(&mut echoed).unwrap();
    assert_eq!(&echoed, b"who");
    true
}
