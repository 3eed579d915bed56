//! RFC 3089 §4: gateways behind gateways, and what becomes of a request there.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::binary::Binary;
use crate::harness::{
    assert_end, connect, destination, echo, nobody, pattern, read, read_bound, read_reply, request,
    request_by_name, silent, until,
};
use crate::reloading::{ConfigFile, run};

pub(crate) const LISTEN: &str = "listen = [\"127.0.0.1:0\"]\n";

/// Everything by these upstreams, in this order.
pub(crate) fn via(upstreams: &[(&str, SocketAddr, &str)]) -> String {
    let names: Vec<_> = upstreams
        .iter()
        .map(|(name, ..)| format!("\"{name}\""))
        .collect();
    let rule = format!(
        "{LISTEN}[[rule]]\naction = \"allow\"\nvia = [{}]\n",
        names.join(", ")
    );
    let tables = upstreams.iter().map(|(name, address, more)| {
        format!("[[upstream]]\nname = \"{name}\"\naddress = \"{address}\"\n{more}\n")
    });
    rule + &tables.collect::<String>()
}

/// A gateway that sends everything on, and its file.
fn chained(name: &str, upstreams: &[(&str, SocketAddr, &str)]) -> (Binary, ConfigFile) {
    let file = ConfigFile::new(name, &via(upstreams));
    (Binary::start(&["--config", file.path()]), file)
}

fn ask(gateway: &Binary, request: &[u8]) -> (u8, SocketAddr) {
    let mut client = connect(gateway.address());
    client.write_all(request).unwrap();
    read_bound(&mut client)
}

/// An upstream that reads what one recv gives, answers each piece with the next of these, and closes after the last.
fn scripted(answers: &'static [&'static [u8]]) -> (SocketAddr, Arc<Mutex<Vec<Vec<u8>>>>) {
    let heard: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
    let address = destination({
        let heard = Arc::clone(&heard);
        move |mut stream: TcpStream| {
            for answer in answers {
                let mut octets = [0; 1000];
                let len = stream.read(&mut octets).unwrap();
                heard.lock().unwrap().push(octets[..len].to_vec());
                stream.write_all(answer).unwrap();
            }
            drop(stream.read(&mut [0; 1000]));
        }
    });
    (address, heard)
}

#[test]
fn a_name_goes_on_unresolved_and_what_the_destination_says_comes_back() {
    let last = Binary::start(&[]);
    let (middle, _file) = chained("middle.toml", &[("last", last.address(), "")]);
    let (first, _file) = chained("first.toml", &[("middle", middle.address(), "")]);
    let to = destination(|mut stream| {
        let mut request = Vec::new();
        stream.read_to_end(&mut request).unwrap(); // until the client's half-close
        stream.write_all(&request).unwrap();
    });
    let mut client = connect(first.address());
    let sent = pattern(3 << 20, 5);
    let mut octets = request_by_name("localhost", to.port());
    octets.extend(b"early");
    client.write_all(&octets).unwrap();
    let (rep, bound) = read_bound(&mut client);
    assert_eq!(rep, 0x00);
    client.write_all(&sent).unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    let mut received = Vec::new();
    client.read_to_end(&mut received).unwrap();
    assert!(
        received == [b"early".as_slice(), &sent].concat(),
        "{}",
        received.len()
    );
    for (gateway, via) in [
        (&first, " via=middle "),
        (&middle, " via=last "),
        (&last, " family=v4 "),
    ] {
        gateway.wait_for_log(" end=orderly");
        let log = gateway.log();
        let name = format!(" atyp=03 destination=localhost:{} ", to.port());
        assert!(log.contains(&name) && log.contains(via), "{log}");
    }
    // BND.ADDR is where the last one's own connection begins.
    assert!(bound.ip().is_loopback() && bound.port() != 0);
}

/// curl's own name and password, and ours at the upstream, have nothing to do with each other.
#[test]
fn an_upstream_is_told_its_own_password() {
    let users = ConfigFile::new("upstream-users", "gw:s3cret\n");
    let password = ConfigFile::new("upstream-password", "s3cret\n");
    let last = Binary::start(&["--password-file", users.path()]);
    let login = format!("user = \"gw\"\npassword-file = \"{}\"", password.path());
    let (first, _file) = chained("login.toml", &[("last", last.address(), &login)]);
    let to = destination(|mut stream| {
        drop(stream.read(&mut [0; 1000]));
        stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nhello").unwrap();
    });
    let output = Command::new("curl")
        .args(["-sS", "--max-time", "10", "--proxy"])
        .arg(format!("socks5h://{}", first.address()))
        .arg(format!("http://localhost:{}/", to.port()))
        .output()
        .unwrap();
    assert_eq!(output.stdout, b"hello", "{output:?}\n{}", first.log());
    last.wait_for_log(" user=gw ");
}

/// Whatever it is, and even if we do not know it.
#[test]
fn the_upstreams_rep_is_passed_on_and_nobody_else_is_asked() {
    let spare = Binary::start(&[]);
    for rep in [0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x08, 0x5e] {
        let (upstream, heard) = scripted(match rep {
            0x01 => &[b"\x05\0", b"\x05\x01\0\x01\0\0\0\0\0\0"],
            0x02 => &[b"\x05\0", b"\x05\x02\0\x01\0\0\0\0\0\0"],
            0x03 => &[b"\x05\0", b"\x05\x03\0\x01\0\0\0\0\0\0"],
            0x04 => &[b"\x05\0", b"\x05\x04\0\x01\0\0\0\0\0\0"],
            0x05 => &[b"\x05\0", b"\x05\x05\0\x01\0\0\0\0\0\0"],
            0x06 => &[b"\x05\0", b"\x05\x06\0\x01\0\0\0\0\0\0"],
            0x08 => &[b"\x05\0", b"\x05\x08\0\x01\0\0\0\0\0\0"],
            _ => &[b"\x05\0", b"\x05\x5e\0\x01\0\0\0\0\0\0"],
        });
        let (gateway, _file) = chained(
            "rep.toml",
            &[("it", upstream, ""), ("spare", spare.address(), "")],
        );
        assert_eq!(ask(&gateway, &request_by_name("www.example", 80)).0, rep);
        gateway.wait_for_log("end=refused-by-upstream error=upstream it: ");
        let heard = heard.lock().unwrap().clone();
        assert_eq!(
            heard[0],
            [0x05, 0x02, 0x00, 0xE1],
            "a first gateway's greeting"
        );
        assert_eq!(heard[1], b"\x05\x01\0\x03\x0bwww.example\0\x50");
    }
    assert_eq!(spare.log(), "");
}

#[test]
fn bnd_is_the_upstreams_of_either_family() {
    let (v6, _) = scripted(&[
        b"\x05\0",
        b"\x05\0\0\x04\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x07\x12\x34banner",
    ]);
    let (gateway, _file) = chained("bnd.toml", &[("it", v6, "")]);
    let mut client = connect(gateway.address());
    client
        .write_all(&request_by_name("www.example", 80))
        .unwrap();
    let expected = (0x00, "[2001:db8::7]:4660".parse().unwrap());
    assert_eq!(read_bound(&mut client), expected);
    assert_eq!(
        read(&mut client, 6),
        b"banner",
        "what came with the reply is the client's"
    );
}

/// RESOLVE too goes where the name is known.
#[test]
fn a_look_up_is_the_upstreams() {
    let last = Binary::start(&[]);
    let (first, _file) = chained("resolve.toml", &[("last", last.address(), "")]);
    let mut octets = request_by_name("127.0.0.9", 0);
    octets[4] = 0xf0;
    assert_eq!(ask(&first, &octets), (0x00, "127.0.0.9:0".parse().unwrap()));
    octets[4] = 0xf1;
    assert_eq!(ask(&first, &octets).0, 0x07, "whose name would that be?");
}

#[test]
fn a_dead_upstream_is_passed_over_and_a_wrong_one_too() {
    let last = Binary::start(&[]);
    let to = echo();
    let (web_server, _) = scripted(&[b"HTTP/1.1 400 Bad Request\r\n\r\n"]);
    let closing = destination(drop);
    let (gateway, _file) = chained(
        "dead.toml",
        &[
            ("refusing", nobody(), ""),
            ("web-server", web_server, ""),
            ("closing", closing, ""),
            ("last", last.address(), ""),
        ],
    );
    for _ in 0..3 {
        assert_eq!(ask(&gateway, &request(to)).0, 0x00);
    }
    let log = gateway.log();
    let failed = |name: &str| log.matches(&format!("upstream failed: {name}")).count();
    assert_eq!(
        log.matches("upstream failed").count(),
        3,
        "each of them once: {log} {}",
        failed("")
    );
    drop(last);
    // With nobody left the dead ones are tried for want of a better.
    assert_eq!(ask(&gateway, &request(to)).0, 0x01);
    gateway.wait_for_log("end=upstream-failed");
}

#[test]
fn a_silent_upstream_costs_the_time_of_a_handshake() {
    let last = Binary::start(&[]);
    let (silent, _queue) = silent();
    let mute = destination(|mut stream| drop(stream.read_to_end(&mut Vec::new())));
    let upstreams = [
        ("silent", silent, ""),
        ("mute", mute, ""),
        ("last", last.address(), ""),
    ];
    let text = via(&upstreams) + "[limits]\nhandshake = \"300ms\"\n";
    let file = ConfigFile::new("silent.toml", &text);
    let gateway = Binary::start(&["--config", file.path()]);
    let start = Instant::now();
    assert_eq!(ask(&gateway, &request(echo())).0, 0x00);
    let elapsed = start.elapsed();
    assert!(
        elapsed >= Duration::from_millis(600) && elapsed < Duration::from_secs(5),
        "{elapsed:?}"
    );
}

/// One that lets us in and then takes its time is on its way to the destination.
#[test]
fn a_destination_that_is_silent_behind_an_upstream_has_timed_out() {
    let last = Binary::start(&[]);
    let (silent, _queue) = silent();
    let text = via(&[("last", last.address(), "")])
        + "[limits]\ndial = \"700ms\"\nhandshake = \"200ms\"\n";
    let file = ConfigFile::new("behind.toml", &text);
    let gateway = Binary::start(&["--config", file.path()]);
    let start = Instant::now();
    assert_eq!(ask(&gateway, &request(silent)).0, 0x06);
    assert!(start.elapsed() >= Duration::from_millis(700));
    assert!(
        !gateway.log().contains("upstream failed"),
        "{}",
        gateway.log()
    );
    // And a client that does not wait for it ends it.
    let mut client = connect(gateway.address());
    client.write_all(&request(silent)).unwrap();
    read(&mut client, 2);
    crate::harness::resets_on_close(&client);
    drop(client);
    gateway.wait_for_log(" end=client-gone");
}

#[test]
fn weights_spread_the_load() {
    let (one, other) = (Binary::start(&[]), Binary::start(&[]));
    let upstreams = [
        ("one", one.address(), "weight = 1"),
        ("other", other.address(), "weight = 1"),
    ];
    let (gateway, _file) = chained("weights.toml", &upstreams);
    let to = destination(drop);
    for _ in 0..40 {
        assert_eq!(ask(&gateway, &request(to)).0, 0x00);
    }
    until("40 relays", || gateway.log().matches(" via=").count() == 40);
    let log = gateway.log();
    let ones = log.matches(" via=one ").count();
    assert!((5..=35).contains(&ones), "{ones} of 40"); // by chance outside once in a million
}

/// The gateway's own listener as its upstream.
#[test]
fn a_gateway_that_is_its_own_upstream_notices() {
    let own = nobody();
    let text = via(&[("me", own, "")]).replace("127.0.0.1:0", &own.to_string());
    let file = ConfigFile::new("own.toml", &text);
    let gateway = Binary::start(&["--config", file.path()]);
    assert_eq!(ask(&gateway, &request(echo())).0, 0x01);
    gateway.wait_for_log("error=upstream me: it is this gateway itself");
    assert_eq!(gateway.log().matches(" cmd=CONNECT ").count(), 1);
}

/// RFC 3089 §4 warns of loops. Each gateway counts on, and after eight of them it is one.
#[test]
fn a_longer_loop_ends() {
    let (a, b, c) = (nobody(), nobody(), nobody());
    let listening = |at: SocketAddr, next: SocketAddr, name: &str| {
        let text = via(&[("next", next, "")]).replace("127.0.0.1:0", &at.to_string());
        let file = ConfigFile::new(name, &text);
        (Binary::start(&["--config", file.path()]), file)
    };
    let (first, _file) = listening(a, b, "loop-a.toml");
    let (second, _file) = listening(b, c, "loop-b.toml");
    let (third, _file) = listening(c, a, "loop-c.toml");
    let start = Instant::now();
    assert_eq!(ask(&first, &request_by_name("www.example", 80)).0, 0x06);
    assert!(start.elapsed() < Duration::from_secs(5));
    third.wait_for_log(" end=loop ");
    let requests = |gateway: &Binary| {
        gateway
            .log()
            .matches(" destination=www.example:80 ")
            .count()
    };
    until("nine requests", || {
        [&first, &second, &third].map(requests) == [3, 3, 3]
    });
}

/// A destination that the client has sent as an address is judged before it goes on.
#[test]
fn what_is_denied_by_default_is_not_sent_on_either() {
    let (upstream, heard) = scripted(&[b"\x05\0"]);
    let (gateway, _file) = chained("denied.toml", &[("it", upstream, "")]);
    for request in [
        request("169.254.169.254:80".parse().unwrap()),
        request_by_name("169.254.169.254", 80),
        request("[::1]:80".parse().unwrap()),
    ] {
        assert_eq!(ask(&gateway, &request).0, 0x02);
    }
    assert!(heard.lock().unwrap().is_empty());
}

/// A rule with `destinations` has judged an address, so it sends that and no name.
#[test]
fn a_rule_about_addresses_sends_the_address() {
    let (upstream, heard) = scripted(&[b"\x05\0", b"\x05\0\0\x01\x7f\0\0\x01\0\x01"]);
    let text = via(&[("it", upstream, "")]).replace("via", "destinations = [\"127.0.0.0/8\"]\nvia");
    let file = ConfigFile::new("judged.toml", &text);
    let gateway = Binary::start(&["--config", file.path()]);
    assert_eq!(ask(&gateway, &request_by_name("localhost", 80)).0, 0x00);
    assert_eq!(
        heard.lock().unwrap()[1],
        b"\x05\x01\0\x01\x7f\0\0\x01\0\x50"
    );
}

#[test]
fn a_new_configuration_has_new_upstreams_and_running_relays_go_on() {
    let (one, other) = (Binary::start(&[]), Binary::start(&[]));
    let to = echo();
    let (gateway, file) = chained("exchanged.toml", &[("one", one.address(), "")]);
    let mut running = connect(gateway.address());
    running.write_all(&request(to)).unwrap();
    assert_eq!(read_reply(&mut running), 0x00);
    file.reload(
        &gateway,
        &via(&[("other", other.address(), "")]),
        "INFO reloaded",
    );
    one.signal(Signal::TERM);
    assert_eq!(ask(&gateway, &request(to)).0, 0x00);
    running.write_all(b"still here").unwrap();
    assert_eq!(read(&mut running, 10), b"still here");
    running.shutdown(std::net::Shutdown::Write).unwrap();
    assert_end(&mut running);
    other.wait_for_log(" end=");
}

#[test]
fn upstreams_that_make_no_sense_are_told_with_their_line() {
    let it = "[[upstream]]\nname = \"a\"\naddress = \"gw.example:1080\"\n";
    let rule = "[[rule]]\naction = \"allow\"\nvia = [\"b\"]\n";
    for (text, word) in [
        (
            format!("{it}{rule}"),
            "line 4: there is no [[upstream]] \"b\"",
        ),
        (format!("{it}{it}"), "line 4: there are two upstreams \"a\""),
        (
            format!("{it}user = \"x\"\n"),
            "line 1: user and password-file go together",
        ),
        (format!("{it}weight = 0\n"), "line 1: weight"),
        (it.replace(":1080", ""), "line 3, column 11"),
        (
            format!("{it}user = \"x\"\npassword-file = \"/no/such/file\"\n"),
            "upstream a: cannot read /no/such/file",
        ),
        (
            format!(
                "{it}{}",
                rule.replace("allow", "deny").replace("\"b\"", "\"a\"")
            ),
            "line 4: a rule that denies",
        ),
    ] {
        let file = ConfigFile::new("senseless-upstream.toml", &text);
        let (status, _, stderr) = run(&["--config", file.path(), "--check"]);
        assert!(status == 2 && stderr.contains(word), "{text}: {stderr}");
    }
    let whole = format!("{it}weight = 3\n\n{}", rule.replace("\"b\"", "\"a\""));
    let file = ConfigFile::new("printed-upstream.toml", &whole);
    let printed = run(&["--config", file.path(), "--print-config"]).1;
    assert!(
        printed.contains(&format!("{it}weight = 3\n")) && printed.contains("via = [\"a\"]"),
        "{printed}"
    );
}

/// What the resolver of some upstream would take for an address is judged as one here.
#[test]
fn an_address_in_an_old_spelling_is_not_a_name_that_goes_on() {
    let (upstream, heard) = scripted(&[b"\x05\0", b"\x05\0\0\x01\x7f\0\0\x01\0\x01"]);
    let deny =
        "[[rule]]\nname = \"net\"\naction = \"deny\"\ndestinations = [\"127.0.0.0/8\"]\n[[rule]]";
    let text = via(&[("it", upstream, "")]).replace("[[rule]]", deny);
    let file = ConfigFile::new("spelling.toml", &text);
    let gateway = Binary::start(&["--config", file.path()]);
    for (name, rep) in [
        ("127.1", 0x02),
        ("2130706433", 0x02),
        ("0x7f000001", 0x02),
        ("127.0x1", 0x02),
    ] {
        assert_eq!(ask(&gateway, &request_by_name(name, 80)).0, rep, "{name}");
    }
    assert!(heard.lock().unwrap().is_empty());
    assert_eq!(ask(&gateway, &request_by_name("x1.example", 80)).0, 0x00);
}

/// Whoever asks for something at which an upstream stumbles must not take it from all others.
#[test]
fn an_upstream_that_lets_us_in_is_not_dead_because_it_closes_over_a_request() {
    let spare = Binary::start(&[]);
    let (upstream, heard) = scripted(&[b"\x05\0"]);
    let upstreams = [("it", upstream, ""), ("spare", spare.address(), "")];
    let (gateway, _file) = chained("closes.toml", &upstreams);
    for _ in 0..2 {
        assert_eq!(ask(&gateway, &request_by_name("www.example", 80)).0, 0x01);
    }
    gateway.wait_for_log("end=upstream-failed error=upstream it: it has closed the connection");
    assert_eq!((heard.lock().unwrap().len(), spare.log().as_str()), (2, ""));
}
