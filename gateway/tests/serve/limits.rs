//! More clients than there is room for.

use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::binary::{Binary, Folder};
use crate::harness::{PATIENCE, Running, connect, echo, nobody, read_reply, request, until};

pub(crate) fn has_reply(client: &mut TcpStream) -> bool {
    client
        .set_read_timeout(Some(Duration::from_millis(100)))
        .unwrap();
    let peeked = client.peek(&mut [0]);
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    match peeked {
        Ok(octets) => octets > 0,
        Err(error) => {
            assert!(
                matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
                "{error}"
            );
            false
        }
    }
}

#[test]
fn above_the_cap_clients_wait_for_their_turn() {
    let gateway = Running::with(|it| it.max_relays = Some(2));
    let to = echo();
    let first = gateway.relay_to(to);
    let _second = gateway.relay_to(to);
    let mut third = gateway.connect();
    third.write_all(&request(to)).unwrap();
    assert!(!has_reply(&mut third));
    drop(first);
    assert_eq!(read_reply(&mut third), 0x00);
}

/// Descriptors and threads after a crowd of clients of every kind are what they were before.
#[test]
fn nothing_is_left_of_a_crowd() {
    // Nobody but root may look at the descriptors of a process that dumps no core.
    let folder = Folder::new("crowd");
    let text = "listen = [\"127.0.0.1:0\"]\n[process]\ncore-dumps = true\n";
    let file = folder.write("gateway.toml", text);
    let gateway = Binary::start(&["--log", "warn", "--config", &file]);
    let to = echo();
    let (before, threads) = (gateway.descriptors(), gateway.threads());
    for number in 0..300 {
        let mut client = connect(gateway.address());
        match number % 4 {
            0 => drop(client),
            1 => client.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap(),
            2 => client.write_all(&request(nobody())).unwrap(),
            _ => {
                client
                    .write_all(&[request(to), vec![0; 300_000]].concat())
                    .unwrap();
                assert_eq!(read_reply(&mut client), 0x00);
            }
        }
    }
    // A few pipes stay for the next relay, and threads for the next client, though not for long.
    let spare_pipes = 16;
    until("descriptors", || {
        gateway.descriptors() <= before + 2 * spare_pipes
    });
    until("threads", || gateway.threads() <= threads + 1);
}
