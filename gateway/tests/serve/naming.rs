//! Names whose servers are silent, or say something else each time.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::thread;

use crate::binary::{BINARY, Binary, Folder};
use crate::harness::{
    connect, destination, echo, echo_one, read, read_reply, request_by_name, until,
};

/// The addresses of a name; `None` is silence.
type Answer = Option<Vec<Ipv4Addr>>;

/// A gateway that asks a name server of the test's own; `None` if it cannot have one. Its answers go by the name's last two
/// labels. Questions for addresses of IPv6 are answered by none.
fn asking(
    name: &str,
    toml: &str,
    answer: impl Fn(&str) -> Answer + Send + 'static,
) -> Option<Binary> {
    if !rustix::process::getuid().is_root() {
        testkit::skipped("only root can have a resolv.conf of its own");
        return None;
    }
    static NUMBER: AtomicU8 = AtomicU8::new(1);
    let id = process::id();
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let ip = Ipv4Addr::new(127, (id >> 8) as u8, id as u8, number);
    let socket = UdpSocket::bind((ip, 53)).unwrap();
    thread::spawn(move || serve(&socket, answer));
    let folder = Folder::new(name);
    let text = format!("nameserver {ip}\noptions timeout:3 attempts:1\n");
    let resolv_conf = folder.write("resolv.conf", &text);
    let config = folder.write("gateway.toml", toml);
    let script = format!("mount --bind {resolv_conf} /etc/resolv.conf && exec \"$@\"");
    let script = format!("exec unshare --mount sh -c '{script}' sh \"$@\"");
    let arguments = ["--config", &config, "--listen", "127.0.0.1:0"];
    Some(Binary::start_by(&script, BINARY, &arguments))
}

/// RFC 1035 §4.1, of one question a message.
fn serve(socket: &UdpSocket, answer: impl Fn(&str) -> Answer) {
    let mut octets = [0; 512];
    while let Ok((received, from)) = socket.recv_from(&mut octets) {
        let (mut at, mut labels) = (12, Vec::new());
        while octets[at] > 0 {
            let end = at + 1 + usize::from(octets[at]);
            labels.push(String::from_utf8_lossy(&octets[at + 1..end]).into_owned());
            at = end;
        }
        let is_a = octets[at + 1..at + 3] == [0, 1];
        let zone = labels[labels.len().saturating_sub(2)..].join(".");
        let records = if is_a {
            answer(&zone)
        } else {
            Some(Vec::new())
        };
        let Some(records) = records else { continue };
        let mut message = octets[..received.min(at + 5)].to_vec();
        message[2..12].copy_from_slice(&[0x85, 0x80, 0, 1, 0, records.len() as u8, 0, 0, 0, 0]);
        for record in records {
            message.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]); // the name, A, IN, TTL 0
            message.extend(record.octets());
        }
        socket.send_to(&message, from).unwrap();
    }
}

/// "negative and slow DNS do not pile up threads": a silent zone has 64 of them, and others wait neither for it nor with it.
#[test]
fn names_of_a_silent_zone_keep_few_threads_and_no_other_name_waiting() {
    let answer = |zone: &str| (zone == "good.test").then(|| vec![Ipv4Addr::LOCALHOST]);
    let Some(gateway) = asking("silent-zone", "", answer) else {
        return;
    };
    let to = echo();
    let assert_is_served = || {
        let mut client = connect(gateway.address());
        let request = request_by_name("www.good.test", to.port());
        client.write_all(&request).unwrap();
        assert_eq!(read_reply(&mut client), 0x00);
    };
    assert_is_served();
    let ask = |number| {
        let mut client = connect(gateway.address());
        let name = format!("{number}.zone.silent.test");
        client.write_all(&request_by_name(&name, 80)).unwrap();
        client
    };
    let mut clients: Vec<_> = (0..200).map(ask).collect();
    assert_is_served();
    for client in &mut clients {
        assert_eq!(read_reply(client), 0x01);
    }
    until("each has its line", || {
        let log = gateway.log();
        let ends = |word: &str| log.matches(&format!(" end={word} ")).count();
        (ends("too-many-look-ups"), ends("resolver-failed")) == (136, 64)
    });
}

/// DNS rebinding: one look-up for each request, whose every address is judged, and nobody asks again before it is dialled.
#[test]
fn a_name_that_changes_its_answer_leads_to_no_denied_address() {
    let good = destination(echo_one);
    let denied = SocketAddr::from(([127, 0, 0, 2], good.port()));
    let sentinel = TcpListener::bind(denied).unwrap();
    sentinel.set_nonblocking(true).unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let answer = {
        let asked = Arc::clone(&asked);
        move |_: &str| {
            let both = [Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 0, 0, 2)];
            Some(match asked.fetch_add(1, Ordering::Relaxed) % 4 {
                0 => both[..1].to_vec(),
                1 => both[1..].to_vec(),
                2 => both.to_vec(),
                _ => vec![both[1], both[0]],
            })
        }
    };
    let rules = "[[rule]]\naction = \"deny\"\ndestinations = [\"127.0.0.2\"]\n[[rule]]\naction = \"allow\"\n";
    let Some(gateway) = asking("rebinding", rules, answer) else {
        return;
    };
    for number in 0..12 {
        let mut client = connect(gateway.address());
        let request = request_by_name("rebind.test", good.port());
        client.write_all(&request).unwrap();
        if number % 4 == 1 {
            assert_eq!(read_reply(&mut client), 0x02);
            continue;
        }
        assert_eq!(read_reply(&mut client), 0x00);
        client.write_all(b"hello").unwrap();
        assert_eq!(read(&mut client, 5), b"hello");
    }
    assert_eq!(asked.load(Ordering::Relaxed), 12);
    assert!(sentinel.accept().is_err(), "somebody got through");
}
