//! More clients than there is room for.

use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::binary::{BINARY, Binary, Folder};
use crate::harness::{PATIENCE, Running, connect, echo, nobody, read, read_reply, request, until};

fn has_reply(client: &mut TcpStream) -> bool {
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

/// accept(2): EMFILE. Clients wait, running relays go on, and so does the gateway afterwards.
#[test]
fn out_of_descriptors_accept_pauses_and_goes_on() {
    let script = "ulimit -n 24 && exec \"$@\"";
    let gateway = Binary::start_by(script, BINARY, &["--max-relays", "1000"]);
    let to = echo();
    let mut clients: Vec<TcpStream> = (0..24)
        .map(|_| {
            let mut client = connect(gateway.address());
            client.write_all(&request(to)).unwrap();
            client
        })
        .collect();
    gateway.wait_for_log("out of descriptors");
    let mut served = 0;
    // Those that were accepted with the last descriptors are refused; others work, others wait.
    for client in &mut clients {
        if has_reply(client) && read_reply(client) == 0x00 {
            client.write_all(b"hello").unwrap();
            assert_eq!(read(client, 5), b"hello");
            served += 1;
        }
    }
    assert!(served > 0, "nobody was served");
    assert_eq!(
        gateway.log().matches("out of descriptors").count(),
        1,
        "{}",
        gateway.log()
    );
    drop(clients);
    // At first the last descriptor may go to the client itself, and none is left for the dial.
    until("as before", || {
        let mut late = connect(gateway.address());
        late.write_all(&request(to)).unwrap();
        read_reply(&mut late) == 0x00
    });
}

/// pthread_create(3): EAGAIN, here by RLIMIT_NPROC, which does not bind root.
#[test]
fn out_of_threads_clients_wait_and_the_gateway_goes_on() {
    if !rustix::process::getuid().is_root() {
        return testkit::skipped("only root can become a user whose threads can be counted");
    }
    // A user without other processes, who must be able to reach the binary.
    let user = 60_000 + std::process::id() % 5_000;
    let copy = std::env::temp_dir().join(format!("socks6-gateway-{user}"));
    std::fs::copy(BINARY, &copy).unwrap();
    let become_user = format!("setpriv --reuid={user} --regid={user} --clear-groups");
    let script = format!("exec prlimit --nproc=12 {become_user} \"$@\"");
    let gateway = Binary::start_by(&script, copy.to_str().unwrap(), &[]);
    std::fs::remove_file(&copy).unwrap();
    let to = echo();
    let clients: Vec<TcpStream> = (0..40)
        .map(|_| {
            let mut client = connect(gateway.address());
            client.write_all(&request(to)).unwrap();
            client
        })
        .collect();
    gateway.wait_for_log("no thread for the next client");
    drop(clients);
    let mut late = connect(gateway.address());
    late.write_all(&request(to)).unwrap();
    assert_eq!(read_reply(&mut late), 0x00);
    late.write_all(b"hello").unwrap();
    assert_eq!(read(&mut late, 5), b"hello");
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
