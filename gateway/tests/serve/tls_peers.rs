//! Who may speak TLS with a gateway, and what becomes of those who may not; and peers that we have not written.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use crate::binary::Binary;
use crate::certificates::{Ca, Openssl};
use crate::chaining::via;
use crate::harness::{
    assert_end, assert_reset, connect, destination, echo, nobody, read, read_reply, request, until,
};
use crate::reloading::{ConfigFile, run};

/// The reply to a request for an echo.
fn rep(gateway: &Binary) -> u8 {
    let mut client = connect(gateway.address());
    client.write_all(&request(echo())).unwrap();
    read_reply(&mut client)
}

fn started(name: &str, text: &str) -> (Binary, ConfigFile) {
    let file = ConfigFile::new(name, text);
    (Binary::start(&["--config", file.path()]), file)
}

/// An upstream whose certificate is wrong has failed, and another one is asked.
#[test]
fn an_upstream_that_is_not_who_it_should_be_is_told_nothing() {
    let (ca, stranger) = (Ca::new(), Ca::new());
    ca.sign("gw");
    ca.sign_too_late("late");
    ca.sign("branch");
    stranger.sign("gw");
    stranger.sign("branch");
    let plain = Binary::start(&[]);
    let mute = destination(|mut stream: TcpStream| drop(stream.read_to_end(&mut Vec::new())));
    let demanding = format!("client-ca = \"{}\"", ca.pem("ca"));
    let rows = [
        (stranger.listener("gw", ""), ca.trusted(""), "UnknownIssuer"),
        (
            ca.listener("late", ""),
            ca.trusted(""),
            "certificate: certificate expired",
        ),
        (
            ca.listener("gw", ""),
            ca.trusted(", server-name = \"other\""),
            "not valid for name \"other\"",
        ),
        (
            ca.listener("gw", ""),
            "tls = true".to_owned(), // whom the system trusts
            "UnknownIssuer",
        ),
        (
            ca.listener("gw", &demanding),
            ca.trusted(""),
            "fatal alert: CertificateRequired",
        ),
        (
            ca.listener("gw", &demanding),
            ca.trusted(&stranger.own("branch")),
            "fatal alert: UnknownCA",
        ),
    ];
    for (listener, tls, why) in rows {
        let (last, _file) = started("strange-last.toml", &listener);
        let (first, _file) = started(
            "strange-first.toml",
            &via(&[("it", last.address(), &tls), ("spare", plain.address(), "")]),
        );
        assert_eq!(rep(&first), 0x00);
        first.wait_for_log("upstream failed: TLS: ");
        assert!(first.log().contains(why), "{why}: {}", first.log());
        first.wait_for_log(" via=spare ");
        until("the other one's line", || {
            last.log().contains(" end=tls-failed ")
        });
        assert!(!last.log().contains(" cmd="), "{}", last.log());
    }
    // No TLS at all, and nothing at all.
    for (address, why) in [
        (
            plain.address(),
            "TLS: the connection ended where more was due",
        ),
        (mute, "it does not answer"),
    ] {
        let text = via(&[
            ("it", address, &ca.trusted("")),
            ("spare", plain.address(), ""),
        ]);
        let text = format!("{text}[limits]\nhandshake = \"500ms\"\n");
        let (first, _file) = started("plain-first.toml", &text);
        assert_eq!(rep(&first), 0x00);
        first.wait_for_log(&format!("upstream failed: {why}"));
    }
}

#[test]
fn whoever_has_no_certificate_is_no_client_where_one_is_asked_for() {
    let ca = Ca::new();
    ca.sign("gw");
    ca.sign("branch");
    let demanding = format!("client-ca = \"{}\"", ca.pem("ca"));
    let (last, _file) = started("mutual-last.toml", &ca.listener("gw", &demanding));
    let tls = ca.trusted(&ca.own("branch"));
    let (first, _file) = started("mutual.toml", &via(&[("it", last.address(), &tls)]));
    assert_eq!(rep(&first), 0x00, "{}", first.log());
    let ca_pem = ca.pem("ca");
    let trusted = ["-CAfile", &ca_pem, "-verify_return_error"];
    let (is_served, octets, said) = Openssl::client(last.address(), &trusted).end();
    assert!(!is_served && octets.is_empty(), "{said}");
    assert!(said.contains("certificate required"), "{said}"); // RFC 8446 §6.2
    let own = ["-cert", &ca.pem("branch"), "-key", &ca.key("branch")];
    let mut client = Openssl::client(last.address(), &[&trusted[..], &own].concat());
    client.write(&request(echo()));
    assert_eq!(client.read(4), [0x05, 0x00, 0x05, 0x00]);
    last.wait_for_log("end=tls-failed error=TLS: peer sent no certificates");
}

#[test]
fn openssl_is_a_client_like_any_other() {
    let ca = Ca::new();
    ca.sign("gw");
    let (gateway, _file) = started("s-client.toml", &ca.listener("gw", ""));
    let to = destination(|mut stream| {
        let mut octets = [0; 5];
        stream.read_exact(&mut octets).unwrap();
        stream.write_all(&octets).unwrap();
    });
    let ca_pem = ca.pem("ca");
    let arguments = ["-CAfile", &ca_pem, "-verify_return_error"];
    let checked = ["-verify_hostname", "gw"];
    let mut client = Openssl::client(gateway.address(), &[&arguments[..], &checked].concat());
    client.write(&[&request(to)[..], b"hello"].concat());
    client.read(2 + 10); // METHOD, and a reply with an IPv4 address
    assert_eq!(client.read(5), b"hello");
    // close_notify of the destination's end, without which it would complain.
    let (is_content, rest, said) = client.end();
    assert!(
        is_content && rest.is_empty() && !said.contains("error"),
        "{said}"
    );
    gateway.wait_for_log(" to_destination=5 to_client=5 ");
}

#[test]
fn openssl_is_an_upstream_like_any_other() {
    let ca = Ca::new();
    ca.sign("gw");
    let at = nobody();
    let (pem, key) = (ca.pem("gw"), ca.key("gw"));
    let arguments = ["-cert", &pem, "-key", &key, "-naccept", "1"];
    let mut upstream = Openssl::server(at, &arguments);
    let (gateway, _file) = started("s-server.toml", &via(&[("it", at, &ca.trusted(""))]));
    until("it listens", || is_listening(at));
    let mut client = connect(gateway.address());
    client
        .write_all(&request("192.0.2.1:80".parse().unwrap()))
        .unwrap();
    let greeting = upstream.read(2);
    let methods = upstream.read(usize::from(greeting[1]));
    assert!(
        greeting[0] == 0x05 && methods.contains(&0x00),
        "{methods:?}"
    );
    upstream.write(b"\x05\0");
    assert_eq!(upstream.read(10), b"\x05\x01\0\x01\xc0\0\x02\x01\0\x50");
    // Reply and first octets in one record.
    upstream.write(b"\x05\0\0\x01\x7f\0\0\x01\0\x01hello");
    assert_eq!(read_reply(&mut client), 0x00);
    assert_eq!(read(&mut client, 5), b"hello");
    client.write_all(b"back").unwrap();
    assert_eq!(upstream.read(4), b"back");
    // At the client's end it gets close_notify, answers it, and ends.
    client.shutdown(std::net::Shutdown::Write).unwrap();
    assert_end(&mut client);
    gateway.wait_for_log(" end=orderly");
}

/// Without a connection to it, of which it would take one.
fn is_listening(at: SocketAddr) -> bool {
    let sockets = std::fs::read_to_string("/proc/net/tcp").unwrap();
    sockets.contains(&format!("0100007F:{:04X} 00000000:0000 0A", at.port()))
}

#[test]
fn what_is_no_tls_is_refused_in_words_and_silence_has_an_end() {
    let ca = Ca::new();
    ca.sign("gw");
    let limits = "[limits]\nhandshake = \"500ms\"\n[log]\nlevel = \"debug\"\n";
    let (gateway, _file) = started("no-tls.toml", &ca.listener("gw", limits));
    let mut client = connect(gateway.address());
    client.write_all(&request(echo())).unwrap();
    let mut said = Vec::new();
    client.read_to_end(&mut said).unwrap();
    assert_eq!(said[0], 0x15, "an alert of TLS: {said:?}");
    gateway.wait_for_log("end=tls-failed error=TLS: that is not TLS");
    let (is_served, _, said) = Openssl::client(gateway.address(), &["-tls1_2"]).end();
    assert!(
        !is_served && said.contains("alert protocol version"),
        "{said}"
    );
    gateway.wait_for_log("end=tls-failed error=TLS: peer is incompatible");

    let start = Instant::now();
    let mut client = connect(gateway.address());
    client.write_all(&[0x16, 0x03]).unwrap();
    assert_reset(&mut client);
    assert!((500..5000).contains(&start.elapsed().as_millis()));
    gateway.wait_for_log(" end=handshake-deadline ");
    // One deadline for both handshakes.
    let mut client = Openssl::client(gateway.address(), &["-CAfile", &ca.pem("ca")]);
    client.write(&[0x05]);
    let (is_content, ..) = client.end();
    assert!(!is_content);
    until("two of them", || {
        gateway.log().matches(" end=handshake-deadline ").count() == 2
    });

    // A health check.
    drop(connect(gateway.address()));
    gateway.wait_for_log(" end=client-gone ");
}

/// The header comes before TLS, and is the balancer's.
#[test]
fn a_balancer_passes_tls_on_behind_its_header() {
    let ca = Ca::new();
    ca.sign("gw");
    let listener = ca.listener("gw", "");
    let text = format!(
        "proxy-protocol-from = [\"127.0.0.1\"]\nallow-clients = [\"192.0.2.0/24\"]\n{listener}"
    );
    let (last, _file) = started("behind-header.toml", &text);
    let balancer = destination({
        let to = last.address();
        move |one| {
            let mut other = connect(to);
            let header = b"PROXY TCP4 192.0.2.7 198.51.100.1 12345 1080\r\n";
            other.write_all(header).unwrap();
            std::thread::scope(|scope| {
                scope.spawn(|| std::io::copy(&mut &one, &mut &other));
                std::io::copy(&mut &other, &mut &one).ok();
                one.shutdown(std::net::Shutdown::Write).ok();
            });
        }
    });
    let (first, _file) = started(
        "header-first.toml",
        &via(&[("it", balancer, &ca.trusted(""))]),
    );
    assert_eq!(rep(&first), 0x00, "{} {}", first.log(), last.log());
    last.wait_for_log(" client=192.0.2.7:12345 ");
}

#[test]
fn tls_that_makes_no_sense_is_told_before_anybody_is_served() {
    let ca = Ca::new();
    ca.sign("gw");
    ca.sign("other");
    let whole = ca.listener("gw", "");
    let known = ca.listener("gw", &format!("client-ca = \"{}\"", ca.pem("ca")));
    let open = |text: &str| text.replace("127.0.0.1:0", "[::]:1443");
    let upstream = "[[upstream]]\nname = \"a\"\naddress = \"gw.example:1443\"\n";
    let lone = format!("{upstream}tls = {{ key = \"x\" }}\n");
    let tall = format!("{upstream}tls = {{ size = 3 }}\n");
    let nameless = "[[upstream]]\nname = \"a\"\naddress = \"a_b-.example:1443\"\n";
    let rows = [
        (whole.replace("gw.pem", "no.pem"), "cannot read"),
        (whole.replace("gw.key", "no.key"), "no.key: No such file"),
        (
            whole.replace("gw.key", "other.key"),
            "other.key is not the key of the certificate in",
        ),
        (
            whole.replace("gw.pem", "gw.key"),
            "there is no certificate in",
        ),
        (
            whole.replace("gw.key", "gw.pem"),
            "there is no private key, or it asks for a passphrase in",
        ),
        (
            whole.replace("[\"127.0.0.1:0\"]", "[]"),
            "[tls] wants a listener",
        ),
        (
            format!("listen = [\"127.0.0.1:0\"]\n{whole}"),
            "127.0.0.1:0 is listed under listen and under [tls] listen",
        ),
        (open(&whole), "[::]:1443 is not a loopback address"),
        (
            format!("listen = [\"[::]:1080\"]\n{}", open(&known)),
            "[::]:1080 is not a loopback address",
        ),
        (
            whole.clone() + "[[rule]]\naction = \"allow\"\nlisteners = [\"127.0.0.1:1080\"]\n",
            "127.0.0.1:1080",
        ),
        (lone, "line 1: certificate and key go together"),
        (tall, "unknown field `size`"),
        (format!("{upstream}tls = 1\n"), "true, or a table"),
        (
            format!("{upstream}tls = {{ ca = \"/no/such/file\" }}\n"),
            "upstream a: cannot read /no/such/file",
        ),
        (
            format!("{nameless}{}\n", ca.trusted("")),
            "no certificate is for \"a_b-.example\"",
        ),
    ];
    for (text, word) in rows {
        let file = ConfigFile::new("senseless-tls.toml", &text);
        let (status, _, stderr) = run(&["--config", file.path(), "--check"]);
        assert!(
            status == 2 && stderr.contains(word),
            "{word}: {text}: {stderr}"
        );
    }
    // Whoever has to show a certificate is not anybody; nor does it take a listener without TLS.
    let upstreams = format!("{upstream}{}\n", ca.trusted(", server-name = \"gw\""));
    let file = ConfigFile::new("sensible-tls.toml", &format!("{}{upstreams}", open(&known)));
    let (status, printed, stderr) = run(&["--config", file.path(), "--print-config"]);
    assert_eq!((status, stderr.as_str()), (0, ""));
    let again = ConfigFile::new("again-tls.toml", &printed);
    let printed_again = run(&["--config", again.path(), "--print-config"]).1;
    assert!(
        printed_again == printed && printed.contains("server-name = \"gw\""),
        "{printed}"
    );
}

/// Paths are relative to the file's folder; and what is there, or wherever else, can be read again in the sandbox.
#[test]
fn certificates_lie_beside_the_configuration_or_elsewhere() {
    let (ca, elsewhere) = (Ca::new(), Ca::new());
    ca.sign("gw");
    elsewhere.sign("branch");
    let folder = ca.pem("ca").replace("ca.pem", "");
    let upstream = elsewhere.trusted(&elsewhere.own("branch"));
    let text = format!(
        "{}[[upstream]]\nname = \"a\"\naddress = \"192.0.2.1:1443\"\n{upstream}\n",
        ca.listener("gw", "").replace(&folder, "")
    );
    let path = format!("{folder}gateway.toml");
    std::fs::write(&path, &text).unwrap();
    let gateway = Binary::start(&["--config", &path]);
    gateway.signal(rustix::process::Signal::HUP);
    gateway.wait_for_log("INFO reloaded");
    let (first, _file) = started(
        "beside.toml",
        &via(&[("it", gateway.address(), &ca.trusted(""))]),
    );
    assert_eq!(rep(&first), 0x00, "{}", first.log());
}
