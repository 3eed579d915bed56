use std::net::{Ipv4Addr, TcpListener};
use std::thread::{self, JoinHandle};

use socks_client::Secret;

use super::*;

/// A server that expects these octets and answers with those, in turn.
fn gateway(script: &'static [(&[u8], &[u8])]) -> (u16, JoinHandle<()>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        for (expected, answer) in script {
            let mut octets = vec![0; expected.len()];
            client.read_exact(&mut octets).unwrap();
            assert_eq!(&octets, expected);
            client.write_all(answer).unwrap();
        }
    });
    (port, server)
}

fn open(port: u16, login: Option<&Login>) -> Result<Probe, ProbeError> {
    Probe::open(Ipv4Addr::LOCALHOST.into(), port, login)
}

fn login() -> Login {
    Login {
        user: b"alice".to_vec(),
        password: Secret(b"secret".to_vec()),
    }
}

#[test]
fn without_a_target_nothing_is_asked_for() {
    let (port, server) = gateway(&[(b"\x05\x01\x00", b"\x05\x00")]);
    let probe = open(port, None).unwrap();
    assert_eq!(probe.method, Method::NO_AUTHENTICATION_REQUIRED);
    drop(probe);
    server.join().unwrap();
}

#[test]
fn a_login_is_shown_and_its_refusal_told() {
    const SENT: &[u8] = b"\x01\x05alice\x06secret";
    for (status, is_taken) in [(&b"\x01\x00"[..], true), (b"\x01\x01", false)] {
        let script = vec![(&b"\x05\x02\x00\x02"[..], &b"\x05\x02"[..]), (SENT, status)];
        let (port, server) = gateway(script.leak());
        assert_eq!(open(port, Some(&login())).is_ok(), is_taken);
        server.join().unwrap();
    }
}

#[test]
fn the_reply_to_a_request_is_given_as_it_came() {
    const REQUEST: &[u8] = b"\x05\x01\x00\x01\xc0\x00\x02\x07\x00\x50";
    const REPLY: &[u8] = b"\x05\x05\x00\x01\x00\x00\x00\x00\x00\x00";
    let target = "192.0.2.7:80".parse::<SocketAddr>().unwrap();
    let step_by_step = vec![(&b"\x05\x01\x00"[..], &b"\x05\x00"[..]), (REQUEST, REPLY)];
    let whole: &[u8] = [&b"\x05\x01\x00"[..], REQUEST].concat().leak();
    let pipelined = vec![(whole, &b"\x05\x00"[..]), (b"", REPLY)];
    for (is_pipelined, script) in [(false, step_by_step), (true, pipelined)] {
        let (port, server) = gateway(script.leak());
        let gateway = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
        let beginning = Progress::beginning(is_pipelined);
        let rep = ask(
            gateway,
            None,
            beginning,
            (Cmd::CONNECT, target.into()),
            LIMIT,
        )
        .unwrap();
        assert_eq!(rep, Rep::CONNECTION_REFUSED);
        server.join().unwrap();
    }
}

#[test]
fn what_is_no_socks_server_is_said_to_be_none() {
    let (port, server) = gateway(&[(b"\x05\x01\x00", b"HTTP/1.1 400 Bad Request\r\n")]);
    let error = open(port, None).unwrap_err().to_string();
    assert!(error.starts_with("not a SOCKS5 server"), "{error}");
    server.join().unwrap();

    let (port, server) = gateway(&[(b"\x05\x01\x00", b"\x05\xff")]);
    let error = open(port, None).unwrap_err().to_string();
    assert!(
        error.contains("no acceptable authentication method"),
        "{error}"
    );
    server.join().unwrap();

    let (port, server) = gateway(&[(b"\x05\x01\x00", b"\x05")]);
    let error = open(port, None).unwrap_err().to_string();
    assert!(error.contains("closed in mid-handshake"), "{error}");
    server.join().unwrap();
}
