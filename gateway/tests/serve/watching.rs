//! The gateway as those see it who watch it: curl, and clients that mean no good.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use gateway::Users;

use crate::harness::{
    Running, assert_reset, connect, echo, nobody, patient, read, read_reply, request, silent, until,
};
use crate::reloading::{ConfigFile, run};

/// A gateway that can be watched, and where.
fn watched() -> (Running, SocketAddr) {
    let gateway =
        Running::with(|settings| settings.metrics.listen = Some("127.0.0.1:0".parse().unwrap()));
    let status = gateway.status.unwrap();
    (gateway, status)
}

/// What curl gets, with the head.
pub(crate) fn curl(status: SocketAddr, path: &str, options: &[&str]) -> String {
    let output = Command::new("curl")
        .args(["--silent", "--include", "--max-time", "10"])
        .args(options)
        .arg(format!("http://{status}{path}"))
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

fn metrics(status: SocketAddr) -> String {
    curl(status, "/metrics", &[])
}

#[track_caller]
fn shows(status: SocketAddr, lines: &[&str]) {
    for line in lines {
        until(line, || metrics(status).lines().any(|it| it == *line));
    }
}

#[test]
fn each_client_is_counted_where_it_belongs() {
    let (gateway, status) = watched();
    let text = metrics(status);
    for line in [
        "HTTP/1.1 200 OK\r",
        "Content-Type: text/plain; version=0.0.4; charset=utf-8\r",
    ] {
        assert!(text.contains(line), "{text}");
    }
    let build = concat!(
        "socks6_build_info{version=\"",
        env!("CARGO_PKG_VERSION"),
        "\"} 1"
    );
    shows(
        status,
        &[build, "socks6_clients 0", "socks6_clients_accepted_total 0"],
    );

    let to = echo();
    let mut relay = gateway.relay_to(to);
    relay.write_all(b"hello").unwrap();
    read(&mut relay, 5);
    let mut handshaking = gateway.connect();
    handshaking.write_all(&[0x05]).unwrap();
    shows(
        status,
        &[
            "socks6_clients 2",
            "socks6_relays 1",
            // of a relay that runs
            "socks6_relayed_bytes_total{direction=\"to_destination\"} 5",
            "socks6_relayed_bytes_total{direction=\"to_client\"} 5",
            "socks6_handshake_seconds_count 1",
            "socks6_dial_seconds_bucket{le=\"+Inf\"} 1",
        ],
    );
    drop((relay, handshaking));
    for (to, rep) in [
        (nobody(), 0x05),
        (nobody(), 0x05),
        ("198.18.0.1:80".parse().unwrap(), 0x02),
    ] {
        let mut client = gateway.connect();
        client.write_all(&request(to)).unwrap();
        assert_eq!(read_reply(&mut client), rep);
    }
    shows(
        status,
        &[
            "socks6_clients 0",
            "socks6_clients_accepted_total 5",
            "socks6_relays_ended_total{end=\"orderly\"} 1",
            "socks6_clients_failed_total{reason=\"client-gone\"} 1",
            "socks6_clients_failed_total{reason=\"dial-failed\"} 2",
            "socks6_clients_failed_total{reason=\"destination-not-allowed\"} 1",
            "socks6_dial_errors_total{rep=\"05\"} 2",
            "socks6_relayed_bytes_total{direction=\"to_destination\"} 5",
        ],
    );
}

/// One that nobody has served, either.
#[test]
fn a_client_that_is_turned_away_is_counted() {
    let gateway = Running::with(|settings| {
        settings.metrics.listen = Some("127.0.0.1:0".parse().unwrap());
        settings.quotas.relays_per_client = Some(1);
    });
    let relay = gateway.relay_to(echo());
    assert_reset(&mut gateway.connect());
    shows(
        gateway.status.unwrap(),
        &[
            "socks6_clients 1",
            "socks6_clients_accepted_total 2",
            "socks6_clients_failed_total{reason=\"too-many-relays-of-client\"} 1",
        ],
    );
    drop(relay);
}

/// A counter that falls is a restart to Prometheus, and makes a peak of nothing.
#[test]
fn octets_never_become_less() {
    let (gateway, status) = watched();
    let to = echo();
    let octets = || {
        let text = metrics(status);
        let row = "socks6_relayed_bytes_total{direction=\"to_client\"} ";
        let line = text.lines().find_map(|line| line.strip_prefix(row));
        line.unwrap().parse::<u64>().unwrap()
    };
    let mut last = 0;
    for _ in 0..10 {
        let mut relay = gateway.relay_to(to);
        relay.write_all(&[7; 10_000]).unwrap();
        read(&mut relay, 10_000);
        for _ in 0..3 {
            let now = octets();
            assert!(now >= last, "{last}, then {now}");
            last = now;
        }
    }
    until("all of them", || octets() == 100_000);
}

#[test]
fn a_gateway_that_drains_is_not_healthy() {
    let (mut gateway, status) = watched();
    assert!(curl(status, "/healthz", &[]).ends_with("\r\n\r\nserving\n"));
    let relay = gateway.relay_to(echo());
    gateway.shutdown.drain();
    until("503", || {
        let text = curl(status, "/healthz", &[]);
        text.starts_with("HTTP/1.1 503 ") && text.ends_with("\r\n\r\ndraining\n")
    });
    shows(status, &["socks6_draining 1"]);
    drop(relay);
    assert!(gateway.stops_within(Duration::from_secs(5)));
    until("closed", || TcpStream::connect(status).is_err());
}

#[test]
fn only_what_only_reads_is_served() {
    let (_gateway, status) = watched();
    let head = curl(status, "/metrics", &["--head"]);
    assert!(
        head.starts_with("HTTP/1.1 200 ") && head.ends_with("\r\n\r\n"),
        "{head}"
    );
    let post = curl(status, "/metrics", &["--data", &"x".repeat(30_000)]);
    assert!(
        post.starts_with("HTTP/1.1 405 ") && post.contains("\nAllow: GET, HEAD\r"),
        "{post}"
    );
    assert!(curl(status, "/nothing", &[]).starts_with("HTTP/1.1 404 "));
    let long = format!("X: {}", "x".repeat(20_000));
    assert!(curl(status, "/", &["--header", &long]).starts_with("HTTP/1.1 431 "));
    // A web page whose name has come to mean 127.0.0.1.
    let rebound = curl(status, "/metrics", &["--header", "Host: evil.example"]);
    assert!(rebound.starts_with("HTTP/1.1 421 "), "{rebound}");
    assert!(curl(status, "/healthz", &["--header", "Host: localhost:1"]).contains(" 200 OK"));
}

/// Many that say nothing, or half of something, or do not read: the next one is served, and so are relays.
#[test]
fn slow_clients_hold_nobody_up() {
    let (gateway, status) = watched();
    let start = Instant::now();
    let slow: Vec<TcpStream> = (0..100)
        .map(|number| {
            let mut client = connect(status);
            let some = match number % 3 {
                0 => "".as_bytes(),
                1 => b"GET /metrics HTTP/1.1\r\nHost: ",
                _ => b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n",
            };
            client.write_all(some).unwrap();
            client
        })
        .collect();
    shows(status, &["socks6_clients 0"]);
    let mut relay = gateway.relay_to(echo());
    relay.write_all(b"hello").unwrap();
    assert_eq!(read(&mut relay, 5), b"hello");
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "{:?}",
        start.elapsed()
    );
    drop(slow);
}

#[test]
fn a_client_that_says_nothing_is_closed_in_time() {
    let (_gateway, status) = watched();
    let mut client = TcpStream::connect(status).unwrap();
    client
        .set_read_timeout(Some(Duration::from_secs(15)))
        .unwrap();
    let start = Instant::now();
    assert_eq!(client.read(&mut [0]).unwrap(), 0, "closed");
    assert!(start.elapsed() > Duration::from_secs(5));
    assert!(metrics(status).contains("200 OK"));
}

#[test]
fn who_is_not_allowed_gets_nothing() {
    let gateway = Running::with(|settings| {
        settings.metrics.listen = Some("127.0.0.1:0".parse().unwrap());
        settings.metrics.allow_clients = vec!["127.0.0.2/32".parse().unwrap()];
    });
    let status = gateway.status.unwrap();
    assert_eq!(curl(status, "/metrics", &[]), "");
    assert!(curl(status, "/metrics", &["--interface", "127.0.0.2"]).contains(" 200 OK"));
}

#[test]
fn metrics_for_the_world_are_refused() {
    for (text, word) in [
        ("listen = \"0.0.0.0:9180\"", "not a loopback address"),
        (
            "listen = \"[::]:9180\"\nallow-clients = [\"::/0\"]",
            "the whole world",
        ),
        ("listen = \"9180\"", "line 2, column 10"),
    ] {
        let file = ConfigFile::new("open-metrics.toml", &format!("[metrics]\n{text}\n"));
        let (status, _, stderr) = run(&["--config", file.path(), "--check"]);
        assert!(status == 2 && stderr.contains(word), "{stderr}");
    }
    let text = "[metrics]\nlisten = \"[::]:9180\"\nallow-clients = [\"192.0.2.0/24\"]\n";
    let file = ConfigFile::new("metrics.toml", text);
    let (status, printed, _) = run(&["--config", file.path(), "--print-config"]);
    assert!(
        status == 0 && printed.contains(text.trim_end()),
        "{printed}"
    );
}

/// A listener that the configuration no longer names is gone, and one that it names anew is there.
#[test]
fn the_listener_follows_a_reload() {
    let with = |listen: SocketAddr| {
        format!("listen = [\"127.0.0.1:0\"]\n[metrics]\nlisten = \"{listen}\"\n")
    };
    let (first, second) = (nobody(), nobody());
    let file = ConfigFile::new("moved-metrics.toml", &with(first));
    let gateway = crate::binary::Binary::start(&["--config", file.path()]);
    shows(first, &["socks6_clients 0"]);
    let taken = with(gateway.address());
    file.reload(&gateway, &taken, "nothing has changed");
    shows(first, &["socks6_reloads_total{outcome=\"refused\"} 1"]);
    file.reload(&gateway, &with(second), "INFO reloaded");
    shows(second, &["socks6_reloads_total{outcome=\"replaced\"} 1"]);
    until("closed", || TcpStream::connect(first).is_err());
    let mut late = patient(TcpStream::connect(second).unwrap());
    late.write_all(b"GET /healthz HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    late.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("serving\n"), "{answer}");
}

/// Everything on the page that is a client's own: its name and where it wants to go.
#[test]
fn the_page_shows_who_is_there_and_runs_nothing_of_theirs() {
    let name = "<b>\"&'";
    let gateway = Running::with(|settings| {
        settings.metrics.listen = Some("127.0.0.1:0".parse().unwrap());
        settings.users = Users::single(name.as_bytes(), b"x").unwrap();
    });
    let status = gateway.status.unwrap();
    let (to, _queue) = silent();
    let client = |destination: &[u8], port: u16| {
        let mut client = gateway.connect();
        client
            .write_all(&[0x05, 0x01, 0x02, 0x01, name.len() as u8])
            .unwrap();
        client
            .write_all(&[name.as_bytes(), &[1, b'x']].concat())
            .unwrap();
        client
            .write_all(&[0x05, 0x01, 0x00, 0x03, destination.len() as u8])
            .unwrap();
        client
            .write_all(&[destination, &port.to_be_bytes()].concat())
            .unwrap();
        assert_eq!(read(&mut client, 4), [0x05, 0x02, 0x01, 0x00]);
        client
    };
    let echo = echo();
    let mut relay = client(b"localhost", echo.port());
    read(&mut relay, 10);
    relay.write_all(&[7; 1500]).unwrap();
    read(&mut relay, 1500);
    let _dialling = client(b"127.0.0.1", to.port());
    let mut failed = client(b"<img src=x onerror=alert(1)>", 80);
    assert_eq!(read(&mut failed, 2)[1], 0x04);

    let page = || curl(status, "/", &[]);
    until("all three", || {
        let page = page();
        page.contains("being connected") && page.contains("being closed")
    });
    let page = page();
    assert!(
        page.contains("\r\nContent-Security-Policy: default-src 'none'; "),
        "{page}"
    );
    for shown in [
        format!("<td>{}<td>", relay.local_addr().unwrap()),
        format!("<td>localhost:{}<small>127.0.0.1</small>", echo.port()),
        "<td>&lt;b&gt;\\&quot;&amp;\\&#39;<td>".to_owned(),
        "<td class=\"n\">1.50 kB<td class=\"n\">1.50 kB</tr>".to_owned(),
        format!("listening on {}<", gateway.address),
        "<dt>unknown name<dd>1".to_owned(),
        "<td>&lt;img\\x20src=x\\x20onerror=alert(1)&gt;:80<small>being closed</small>".to_owned(),
    ] {
        assert!(page.contains(&shown), "{shown}: {page}");
    }
    assert!(!page.contains("<b>\"") && !page.contains("<img"), "{page}");
}
