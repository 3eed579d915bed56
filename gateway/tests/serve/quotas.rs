//! What a single client or user may take, and what the others have of it meanwhile.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use gateway::Users;
use rustix::process::Signal;

use crate::binary::{Binary, PasswordFile};
use crate::harness::{
    PATIENCE, Running, connect, connect_from, destination, echo, pattern, read, read_reply,
    request, resets_on_close, until,
};
use crate::users::login;

/// SOCKS5 of an address that is another client to the gateway.
fn relay_from(from: &str, gateway: SocketAddr, to: SocketAddr) -> TcpStream {
    let mut client = connect_from(from, gateway);
    client.write_all(&request(to)).unwrap();
    assert_eq!(read_reply(&mut client), 0x00);
    client
}

/// Whether the gateway resets a further client without a word.
fn is_refused(gateway: SocketAddr) -> bool {
    let mut client = connect(gateway);
    let end = client.read(&mut [0]).map_err(|error| error.kind());
    assert_eq!(end, Err(ErrorKind::ConnectionReset));
    true
}

#[test]
fn a_client_at_its_limit_is_refused_at_once_and_delays_nobody() {
    let config = PasswordFile::new(
        "quotas.toml",
        "listen = [\"127.0.0.1:0\"]\n[limits]\nrelays-per-client = 2\n",
    );
    let gateway = Binary::start(&["--config", config.path()]);
    let to = echo();
    let relay = || relay_from("127.0.0.1:0", gateway.address(), to);
    let (first, mut second) = (relay(), relay());
    for _ in 0..50 {
        assert!(is_refused(gateway.address()));
    }
    gateway.wait_for_log("too-many-relays-of-client");
    let mut neighbour = relay_from("127.0.0.2:0", gateway.address(), to);
    for client in [&mut second, &mut neighbour] {
        client.write_all(b"still here").unwrap();
        assert_eq!(read(client, 10), b"still here");
    }
    drop(first);
    until("one less, one more", || {
        let mut client = connect(gateway.address());
        client.write_all(&request(to)).ok();
        client.read(&mut [0]).is_ok()
    });

    fs::write(
        config.path(),
        "listen = [\"127.0.0.1:0\"]\n[limits]\nrelays-per-client = 1\n",
    )
    .unwrap();
    gateway.signal(Signal::HUP);
    gateway.wait_for_log("reloaded");
    assert!(is_refused(gateway.address()), "those that are there count");
    second.write_all(b"still here").unwrap();
    assert_eq!(read(&mut second, 10), b"still here");
}

/// RFC 1928 §6: 01, which says nothing of the destination and may pass.
#[test]
fn a_user_at_its_limit_is_told_so_and_other_users_are_served() {
    let users = Users::from_lines(b"alice:a\nbob:b").unwrap();
    let gateway = Running::with(|it| {
        it.users = users;
        it.quotas.relays_per_user = Some(1);
    });
    let to = echo();
    let relay = |user: &str, password: &str| {
        let mut client = gateway.connect();
        assert_eq!(login(&mut client, user, password), 0x00);
        client.write_all(&request(to)[3..]).unwrap();
        let rep = read(&mut client, 10)[1]; // VER REP …
        (client, rep)
    };
    let first = relay("alice", "a");
    assert_eq!(first.1, 0x00);
    assert_eq!(relay("alice", "a").1, 0x01);
    assert_eq!(relay("bob", "b").1, 0x00);
    drop(first);
    until("one less, one more", || relay("alice", "a").1 == 0x00);
}

#[test]
fn a_relay_ends_after_its_total_time_however_busy_it_is() {
    let total = Duration::from_millis(600);
    let gateway = Running::with(|it| it.quotas.total = Some(total));
    let start = Instant::now();
    let mut client = gateway.relay_to(echo());
    let end = loop {
        assert!(start.elapsed() < PATIENCE, "it goes on");
        if let Err(error) = client.write_all(b"busy") {
            break error.kind();
        }
        if let Err(error) = client.read(&mut [0; 4]) {
            break error.kind();
        }
        thread::sleep(Duration::from_millis(5));
    };
    assert!(start.elapsed() >= total);
    assert!(
        matches!(end, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe),
        "{end}"
    );
}

/// What a process has had of the processors (proc(5), stat, utime and stime in hundredths).
fn cpu(id: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap();
    let fields = stat.rsplit_once(')').unwrap().1.split_whitespace();
    let ticks: u64 = fields
        .skip(11)
        .take(2)
        .map(|it| it.parse::<u64>().unwrap())
        .sum();
    Duration::from_millis(ticks.saturating_mul(10))
}

/// Some of it goes by recv and send, and some by splice(2): see gateway/src/direction.rs.
#[test]
fn all_relays_of_a_client_have_its_bandwidth_together() {
    const OCTETS: usize = 2 << 20;
    for (rate, relays) in [("2MiB", 2), ("1MiB", 1)] {
        let config = PasswordFile::new(
            &format!("bandwidth-{rate}.toml"),
            &format!("listen = [\"127.0.0.1:0\"]\n[limits]\nbandwidth-per-client = \"{rate}\"\n"),
        );
        let gateway = Binary::start(&["--config", config.path()]);
        let source = destination(|mut client| client.write_all(&pattern(OCTETS, 1)).unwrap());
        let start = Instant::now();
        thread::scope(|scope| {
            for _ in 0..relays {
                scope.spawn(|| {
                    let mut client = relay_from("127.0.0.1:0", gateway.address(), source);
                    assert!(read(&mut client, OCTETS) == pattern(OCTETS, 1));
                });
            }
        });
        // Two seconds' worth, less what may go ahead.
        let elapsed = start.elapsed();
        assert!(
            elapsed >= Duration::from_millis(1500),
            "{rate}: {elapsed:?}"
        );
        let cpu = cpu(gateway.id());
        assert!(cpu * 3 < elapsed, "{cpu:?} busy of {elapsed:?}");
    }
}

#[test]
fn both_directions_of_a_users_relays_count() {
    const OCTETS: usize = 1 << 20;
    let users = Users::from_lines(b"alice:a\nbob:b").unwrap();
    let gateway = Running::with(|it| {
        it.users = users;
        it.quotas.bandwidth_per_user = Some(1 << 20);
    });
    let to = echo();
    let relay = |user: &str, password: &str| {
        let mut client = gateway.connect();
        assert_eq!(login(&mut client, user, password), 0x00);
        client.write_all(&request(to)[3..]).unwrap();
        assert_eq!(read(&mut client, 10)[1], 0x00);
        client
    };
    let mut client = relay("alice", "a");
    let start = Instant::now();
    let sending = thread::spawn({
        let mut client = client.try_clone().unwrap();
        move || client.write_all(&pattern(OCTETS, 7)).unwrap()
    });
    // Others have their own.
    let mut other = relay("bob", "b");
    other.write_all(b"at once").unwrap();
    assert_eq!(read(&mut other, 7), b"at once");

    assert!(read(&mut client, OCTETS) == pattern(OCTETS, 7));
    sending.join().unwrap();
    let elapsed = start.elapsed();
    assert!(elapsed >= Duration::from_millis(1500), "{elapsed:?}");
}

/// A relay that must not move anything for a minute still sees that its client is gone.
#[test]
fn a_relay_that_waits_for_its_turn_ends_with_its_client() {
    let (ended, end) = std::sync::mpsc::channel();
    let to = destination(move |mut stream| {
        let mut octets = vec![0; 64 << 10];
        let end = loop {
            match stream.read(&mut octets) {
                Ok(received) if received > 0 => {}
                end => break end.map_err(|error| error.kind()),
            }
        };
        ended.send(end).ok();
    });
    let config = PasswordFile::new(
        "waiting.toml",
        "listen = [\"127.0.0.1:0\"]\n[limits]\nbandwidth-per-client = \"1000\"\n",
    );
    let gateway = Binary::start(&["--config", config.path()]);
    let mut client = relay_from("127.0.0.1:0", gateway.address(), to);
    // Early data is a turn of its own, sent with the request or not.
    client.write_all(&pattern(100_000, 3)).unwrap();
    thread::sleep(Duration::from_millis(300));
    resets_on_close(&client);
    drop(client);
    let end = end.recv_timeout(Duration::from_secs(20)).unwrap();
    assert_eq!(end, Err(ErrorKind::ConnectionReset));
    let cpu = cpu(gateway.id());
    assert!(cpu < Duration::from_millis(700), "{cpu:?}");
    let mut crowd = connect_from("127.0.0.2:0", gateway.address());
    crowd.write_all(&request(to)).unwrap();
    assert_eq!(read_reply(&mut crowd), 0x00);
}

/// What rules have in common with their clients' own limits, and what they count for themselves.
#[test]
fn a_rule_at_its_limit_tells_further_clients_so_and_other_rules_go_on() {
    let (to, other) = (echo(), echo());
    let config = PasswordFile::new(
        "rule-relays.toml",
        &format!(
            "listen = [\"127.0.0.1:0\"]\nallow-destinations = [\"127.0.0.0/8\"]\n\
             [[rule]]\nname = \"narrow\"\naction = \"allow\"\nports = [\"{}\"]\nrelays = 2\n\
             [[rule]]\naction = \"allow\"\n",
            to.port()
        ),
    );
    let gateway = Binary::start(&["--config", config.path()]);
    let relay = |from: &str, to| {
        let mut client = connect_from(from, gateway.address());
        client.write_all(&request(to)).unwrap();
        let rep = read_reply(&mut client);
        (client, rep)
    };
    // By whichever client.
    let (first, second) = (relay("127.0.0.1:0", to), relay("127.0.0.2:0", to));
    assert_eq!([first.1, second.1], [0x00; 2]);
    assert_eq!(relay("127.0.0.1:0", to).1, 0x01);
    assert_eq!(relay("127.0.0.3:0", to).1, 0x01);
    gateway.wait_for_log("end=too-many-relays-of-rule");
    let log = gateway.log();
    let line = log
        .lines()
        .find(|it| it.contains("too-many-relays-of-rule"));
    assert!(line.unwrap().contains("rule=narrow"), "{log}");
    assert_eq!(relay("127.0.0.3:0", other).1, 0x00);
    drop(first);
    until("one less, one more", || relay("127.0.0.3:0", to).1 == 0x00);
}

/// Refused before anybody is dialled: a destination that has had enough is not to hear of those who get nothing.
#[test]
fn a_client_beyond_a_rules_limit_is_nothing_to_the_destination() {
    let (accepted, count) = std::sync::mpsc::channel();
    let to = destination(move |stream| {
        accepted.send(()).ok();
        crate::harness::echo_one(stream);
    });
    let config = PasswordFile::new(
        "rule-undialled.toml",
        "listen = [\"127.0.0.1:0\"]\nallow-destinations = [\"127.0.0.0/8\"]\n\
         [[rule]]\naction = \"allow\"\nrelays = 1\n",
    );
    let gateway = Binary::start(&["--config", config.path()]);
    let _first = relay_from("127.0.0.1:0", gateway.address(), to);
    count.recv_timeout(PATIENCE).unwrap();
    for _ in 0..20 {
        let mut client = connect(gateway.address());
        client.write_all(&request(to)).unwrap();
        assert_eq!(read_reply(&mut client), 0x01);
    }
    assert!(count.recv_timeout(Duration::from_millis(200)).is_err());
}

#[test]
fn all_relays_of_a_rule_have_its_bandwidth_together() {
    const OCTETS: usize = 1 << 20;
    let source = destination(|mut client| client.write_all(&pattern(OCTETS, 1)).unwrap());
    let config = PasswordFile::new(
        "rule-bandwidth.toml",
        &format!(
            "listen = [\"127.0.0.1:0\"]\nallow-destinations = [\"127.0.0.0/8\"]\n\
             [[rule]]\naction = \"allow\"\nports = [\"{}\"]\nbandwidth = \"1MiB\"\n",
            source.port()
        ),
    );
    let gateway = Binary::start(&["--config", config.path()]);
    let start = Instant::now();
    thread::scope(|scope| {
        for from in ["127.0.0.1:0", "127.0.0.2:0"] {
            let gateway = gateway.address();
            scope.spawn(move || {
                let mut client = relay_from(from, gateway, source);
                assert!(read(&mut client, OCTETS) == pattern(OCTETS, 1));
            });
        }
    });
    // Two seconds' worth, less what may go ahead.
    let elapsed = start.elapsed();
    assert!(elapsed >= Duration::from_millis(1500), "{elapsed:?}");
}

/// It would take four minutes.
#[test]
fn a_rule_without_bandwidth_is_not_held_up_by_one_that_has() {
    let (slow, other) = (echo(), echo());
    let config = PasswordFile::new(
        "rule-beside.toml",
        &format!(
            "listen = [\"127.0.0.1:0\"]\nallow-destinations = [\"127.0.0.0/8\"]\n\
             [[rule]]\naction = \"allow\"\nports = [\"{}\"]\nbandwidth = \"1KiB\"\n\
             [[rule]]\naction = \"allow\"\n",
            slow.port()
        ),
    );
    let gateway = Binary::start(&["--config", config.path()]);
    let mut slow = relay_from("127.0.0.1:0", gateway.address(), slow);
    slow.write_all(&pattern(1 << 16, 1)).unwrap();
    let start = Instant::now();
    let mut other = relay_from("127.0.0.1:0", gateway.address(), other);
    other.write_all(&pattern(1 << 18, 9)).unwrap();
    assert!(read(&mut other, 1 << 18) == pattern(1 << 18, 9));
    assert!(start.elapsed() < Duration::from_secs(60), "it waited");
}

/// Two hosts of one network are one client, and one of the next network another.
#[test]
fn clients_of_one_v6_network_are_counted_together() {
    for (bits, neighbour) in [("", false), ("client-prefix-v6 = 128\n", true)] {
        let config = PasswordFile::new(
            &format!("network-{neighbour}.toml"),
            &format!(
                "listen = [\"127.0.0.1:0\"]\nallow-destinations = [\"127.0.0.0/8\"]\n\
                 proxy-protocol-from = [\"127.0.0.1\"]\nallow-clients = [\"2001:db8::/32\"]\n\
                 [limits]\nrelays-per-client = 1\n{bits}"
            ),
        );
        let gateway = Binary::start(&["--config", config.path()]);
        let to = echo();
        let relay = |client: &str| {
            let mut balancer = connect(gateway.address());
            let header = format!("PROXY TCP6 {client} 2001:db8::1 40000 1080\r\n");
            balancer.write_all(header.as_bytes()).unwrap();
            // Whoever is refused is so without a word of it.
            balancer.write_all(&request(to)).ok();
            let is_served = balancer.read_exact(&mut [0; 2]).is_ok();
            (balancer, is_served)
        };
        let first = relay("2001:db8:1:2::1");
        assert!(first.1);
        assert_eq!(relay("2001:db8:1:2:ffff::2").1, neighbour, "{bits}");
        assert!(relay("2001:db8:1:3::1").1, "{bits}");
    }
}
