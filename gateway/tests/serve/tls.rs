//! A chain over a network of others: what goes over it, and how it ends. Who may speak to whom is in `tls_peers`.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use crate::binary::Binary;
use crate::certificates::Ca;
use crate::chaining::{LISTEN, via};
use crate::harness::{
    assert_end, assert_reset, connect, destination, echo, patient, pattern, read, read_bound,
    read_reply, request, request_by_name, until,
};
use crate::reloading::ConfigFile;
use crate::upgrading::Line;

const MIB: usize = 1 << 20;

/// A chain of two gateways: clients → first → wire → last.
struct Chain {
    ca: Ca,
    first: Binary,
    wire: Wire,
    last: Binary,
    last_file: ConfigFile,
    _first_file: ConfigFile,
}

impl Chain {
    fn new(name: &str) -> Self {
        let ca = Ca::new();
        ca.sign("gw.hq.example");
        let text = ca.listener("gw.hq.example", "");
        let last_file = ConfigFile::new(&format!("{name}-last.toml"), &text);
        let last = Binary::start(&["--config", last_file.path()]);
        let wire = Wire::to(last.address());
        let upstream = ca.trusted(", server-name = \"gw.hq.example\"");
        let text = via(&[("hq", wire.address, &upstream)]);
        let first_file = ConfigFile::new(&format!("{name}-first.toml"), &text);
        let first = Binary::start(&["--config", first_file.path()]);
        Self {
            ca,
            first,
            wire,
            last,
            last_file,
            _first_file: first_file,
        }
    }

    /// A relay to `destination`, whose reply has been read.
    fn relay_to(&self, destination: SocketAddr) -> TcpStream {
        let mut client = connect(self.first.address());
        client.write_all(&request(destination)).unwrap();
        assert_eq!(read_reply(&mut client), 0x00, "{}", self.first.log());
        client
    }

    /// Both ends of a relay.
    fn ends(&self) -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = self.relay_to(listener.local_addr().unwrap());
        (client, patient(listener.accept().unwrap().0))
    }
}

/// The network between two gateways: it listens in, and does what networks of others can do.
struct Wire {
    address: SocketAddr,
    sockets: Arc<Mutex<Vec<TcpStream>>>,
    seen: Arc<Mutex<Vec<u8>>>,
    forges: Arc<AtomicBool>,
}

impl Wire {
    fn to(to: SocketAddr) -> Self {
        let (sockets, seen): (Arc<Mutex<Vec<_>>>, Arc<Mutex<Vec<_>>>) = Default::default();
        let forges = Arc::new(AtomicBool::new(false));
        let address = destination({
            let (sockets, seen, forges) = (sockets.clone(), seen.clone(), forges.clone());
            move |one: TcpStream| {
                let Ok(other) = TcpStream::connect(to) else {
                    return;
                };
                for stream in [&one, &other] {
                    stream.set_read_timeout(None).unwrap();
                    stream.set_write_timeout(None).unwrap();
                    stream.set_nodelay(true).unwrap();
                    sockets.lock().unwrap().push(stream.try_clone().unwrap());
                }
                thread::scope(|scope| {
                    scope.spawn(|| carry(&one, &other, &seen, &forges));
                    carry(&other, &one, &seen, &forges);
                });
            }
        });
        Self {
            address,
            sockets,
            seen,
            forges,
        }
    }

    /// An end of TCP's, as anybody on the way can make it.
    fn cut(&self) {
        for socket in self.sockets.lock().unwrap().iter() {
            socket.shutdown(Shutdown::Write).ok();
        }
    }
}

fn carry(mut from: &TcpStream, mut to: &TcpStream, seen: &Mutex<Vec<u8>>, forges: &AtomicBool) {
    let mut octets = vec![0; 64 << 10];
    while let Ok(received @ 1..) = from.read(&mut octets) {
        if forges.swap(false, Ordering::Relaxed) {
            octets[..received].iter_mut().for_each(|it| *it ^= 1);
        }
        let mut seen = seen.lock().unwrap();
        if seen.len() < MIB {
            seen.extend(&octets[..received]);
        }
        drop(seen);
        if to.write_all(&octets[..received]).is_err() {
            break;
        }
    }
    // As networks do it, end or reset.
    to.shutdown(Shutdown::Write).ok();
}

#[test]
fn a_chain_over_tls_is_like_any_other_and_shows_nothing_on_its_way() {
    let chain = Chain::new("like-any-other");
    let to = destination(|mut stream| {
        let mut request = Vec::new();
        stream.read_to_end(&mut request).unwrap(); // until the client's half-close
        stream.write_all(&request).unwrap();
    });
    let mut client = connect(chain.first.address());
    let sent = pattern(3 * MIB, 5);
    let early = [&request_by_name("localhost", to.port())[..], b"early"].concat();
    client.write_all(&early).unwrap();
    let (rep, bound) = read_bound(&mut client);
    assert_eq!(rep, 0x00, "{}", chain.first.log());
    assert!(bound.ip().is_loopback() && bound.port() != 0);
    client.write_all(&sent).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut received = Vec::new();
    client.read_to_end(&mut received).unwrap();
    assert!(
        received == [b"early", &sent[..]].concat(),
        "{}",
        received.len()
    );
    let octets = 3 * MIB + 5;
    let line = format!(" to_destination={octets} to_client={octets} ");
    for gateway in [&chain.first, &chain.last] {
        gateway.wait_for_log(" end=orderly");
        let log = gateway.log();
        let name = format!(" atyp=03 destination=localhost:{} ", to.port());
        assert!(log.contains(&name) && log.contains(&line), "{log}");
    }
    let seen = chain.wire.seen.lock().unwrap();
    assert_eq!(seen[..3], [0x16, 0x03, 0x01], "a handshake of TLS");
    let shows = |text: &[u8]| seen.windows(text.len()).any(|part| part == text);
    assert!(!shows(b"localhost") && !shows(b"early") && !shows(&sent[..16]));
}

#[test]
fn each_direction_of_a_chain_over_tls_ends_for_itself() {
    let chain = Chain::new("half-close");
    for is_client_first in [true, false] {
        let (client, destination) = chain.ends();
        let (mut first, mut second) = if is_client_first {
            (client, destination)
        } else {
            (destination, client)
        };
        let (there, back) = (pattern(4 * MIB, 2), pattern(4 * MIB, 3));
        thread::scope(|scope| {
            scope.spawn(|| {
                (&first).write_all(&there).unwrap();
                first.shutdown(Shutdown::Write).unwrap();
            });
            assert!(read(&mut second, there.len()) == there);
            assert_end(&mut second);
        });
        thread::scope(|scope| {
            scope.spawn(|| (&second).write_all(&back).unwrap());
            assert!(read(&mut first, back.len()) == back);
        });
        second.shutdown(Shutdown::Write).unwrap();
        assert_end(&mut first);
    }
    for gateway in [&chain.first, &chain.last] {
        until("two ends", || {
            gateway.log().matches(" end=orderly").count() == 2
        });
    }
}

#[test]
fn a_hundred_mebibytes_go_each_way_at_once() {
    let chain = Chain::new("bulk");
    let (client, destination) = chain.ends();
    let sent = [pattern(100 * MIB, 7), pattern(100 * MIB, 8)];
    thread::scope(|scope| {
        for (mut from, mut to, sent) in [
            (&client, &destination, &sent[0]),
            (&destination, &client, &sent[1]),
        ] {
            scope.spawn(move || {
                from.write_all(sent).unwrap();
                from.shutdown(Shutdown::Write).unwrap();
            });
            scope.spawn(move || {
                let mut block = vec![0; MIB];
                for (number, expected) in sent.chunks(MIB).enumerate() {
                    to.read_exact(&mut block).unwrap();
                    assert!(block == expected, "in the {number}th MiB");
                }
                assert_eq!(to.read(&mut [0]).unwrap(), 0);
            });
        }
    });
}

fn resident_kib(gateway: &Binary) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", gateway.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    line.unwrap()
        .split_whitespace()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap()
}

/// A destination that does not read stops its client, and nobody else; nothing is heaped up, and nothing lost.
#[test]
fn a_reader_that_is_slow_holds_up_its_own_sender_alone() {
    let chain = Chain::new("slow");
    let (client, mut destination) = chain.ends();
    let sent = pattern(64 * MIB, 9);
    client.set_write_timeout(None).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| (&client).write_all(&sent).unwrap());
        thread::sleep(Duration::from_millis(500));
        let mut other = chain.relay_to(echo());
        other.write_all(b"hello").unwrap();
        assert_eq!(read(&mut other, 5), b"hello");
        for gateway in [&chain.first, &chain.last] {
            let resident = resident_kib(gateway);
            assert!(resident < 32 << 10, "{resident} KiB");
        }
        assert!(read(&mut destination, sent.len()) == sent);
    });
    drop(client);
    assert_end(&mut destination);
}

/// RFC 8446 §6.1: whoever can end the connection must not be able to end the stream.
#[test]
fn a_stream_that_was_cut_off_or_forged_on_its_way_does_not_end_in_order() {
    let chain = Chain::new("cut-off");
    for is_forged in [false, true] {
        let (mut client, mut destination) = chain.ends();
        destination.write_all(b"as much as").unwrap();
        assert_eq!(read(&mut client, 10), b"as much as");
        let seen = [chain.first.log().len(), chain.last.log().len()];
        let broken = if is_forged {
            chain.wire.forges.store(true, Ordering::Relaxed);
            destination.write_all(b"this").unwrap();
            // The last one is told why by the first, in an alert or by a reset.
            [" end=destination-tls-broken", " end=client-"]
        } else {
            chain.wire.cut();
            [" end=destination-tls-broken", " end=client-tls-broken"]
        };
        assert_reset(&mut client);
        assert_reset(&mut destination);
        let gateways = [&chain.first, &chain.last].into_iter().zip(seen);
        for ((gateway, seen), end) in gateways.zip(broken) {
            until(end, || gateway.log()[seen..].contains(end));
        }
    }
}

#[test]
fn a_gateway_that_is_killed_ends_the_relays_of_its_chain_by_a_reset() {
    for is_first_killed in [false, true] {
        let chain = Chain::new("killed");
        let (mut client, mut destination) = chain.ends();
        destination.write_all(b"as much as").unwrap();
        assert_eq!(read(&mut client, 10), b"as much as");
        let killed = if is_first_killed {
            &chain.first
        } else {
            &chain.last
        };
        killed.signal(Signal::KILL);
        assert_reset(&mut client);
        assert_reset(&mut destination);
    }
}

/// What either side has broken off itself is a break at the other end, as it is without TLS.
#[test]
fn a_reset_passes_through_tls() {
    let chain = Chain::new("reset");
    let (client, mut destination) = chain.ends();
    crate::harness::resets_on_close(&client);
    drop(client);
    assert_reset(&mut destination);
    let (mut client, destination) = chain.ends();
    crate::harness::resets_on_close(&destination);
    drop(destination);
    assert_reset(&mut client);
}

/// Whose certificate the listener shows.
fn is_accepted(chain: &Chain) -> bool {
    let mut client = connect(chain.first.address());
    client.write_all(&request(echo())).unwrap();
    read_reply(&mut client) == 0x00
}

#[test]
fn a_new_certificate_holds_for_new_connections_and_a_broken_one_for_none() {
    let chain = Chain::new("reload");
    let mut running = chain.relay_to(echo());
    let goes_on = |running: &mut TcpStream| {
        running.write_all(b"still here").unwrap();
        assert_eq!(read(running, 10), b"still here");
    };
    let (pem, key) = (chain.ca.pem("gw.hq.example"), chain.ca.key("gw.hq.example"));
    let text = chain.ca.listener("gw.hq.example", "");
    let good = [fs::read(&pem).unwrap(), fs::read(&key).unwrap()];

    fs::write(&pem, "no certificate").unwrap();
    chain.last_file.reload(
        &chain.last,
        &text,
        "nothing has changed: there is no certificate in",
    );
    assert!(is_accepted(&chain));
    chain.ca.sign("other");
    fs::write(&pem, &good[0]).unwrap();
    fs::copy(chain.ca.key("other"), &key).unwrap();
    chain
        .last_file
        .reload(&chain.last, &text, "is not the key of the certificate in");
    assert!(is_accepted(&chain));

    // One that the first gateway does not take.
    let stranger = Ca::new();
    stranger.sign("gw.hq.example");
    fs::copy(stranger.pem("gw.hq.example"), &pem).unwrap();
    fs::copy(stranger.key("gw.hq.example"), &key).unwrap();
    chain.last_file.reload(&chain.last, &text, "INFO reloaded");
    assert!(!is_accepted(&chain));
    chain
        .first
        .wait_for_log("upstream failed: TLS: invalid peer certificate: UnknownIssuer");
    goes_on(&mut running);

    // And a successor, in the sandbox of its predecessor, reads them once more.
    for (path, octets) in [(&pem, &good[0]), (&key, &good[1])] {
        fs::write(path, octets).unwrap();
    }
    let mut line = Line::new(&chain.last);
    line.upgrade();
    // A thread of the predecessor may have been waiting for one more client.
    until("the successor's certificate", || is_accepted(&chain));
    assert!(is_accepted(&chain));
    goes_on(&mut running);
}

/// A listener becomes one of TLS without closing, and a plain one stands beside it.
#[test]
fn plain_and_tls_listeners_stand_beside_each_other() {
    let ca = Ca::new();
    ca.sign("gw");
    let tls = ca.listener("gw", "").replace("127.0.0.1:0", "127.0.0.2:0");
    let rules = "[[rule]]\naction = \"allow\"\nlisteners = [\"127.0.0.1:0\"]\n";
    let file = ConfigFile::new("beside.toml", &format!("{LISTEN}{tls}{rules}"));
    let gateway = Binary::start(&["--config", file.path()]);
    let mut client = connect(gateway.address());
    client.write_all(&request(echo())).unwrap();
    assert_eq!(read_reply(&mut client), 0x00);
    let tls = ca.listener("gw", "");
    file.reload(&gateway, &format!("{tls}{rules}"), "INFO reloaded");
    client.write_all(b"hello").unwrap();
    assert_eq!(read(&mut client, 5), b"hello");
    let upstream = [("it", gateway.address(), ca.trusted(""))];
    let upstream = upstream
        .each_ref()
        .map(|(name, at, tls)| (*name, *at, tls.as_str()));
    let first = ConfigFile::new("beside-first.toml", &via(&upstream));
    let first = Binary::start(&["--config", first.path()]);
    let mut client = connect(first.address());
    client.write_all(&request(echo())).unwrap();
    assert_eq!(read_reply(&mut client), 0x00, "{}", first.log());
}
