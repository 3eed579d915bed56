//! The server's machine as transcripts: what the client says, in whatever pieces, and what the
//! server then says, asks of its caller and leaves over.

use std::{vec, vec::Vec};

use super::*;
use crate::{Atyp, Fqdn, check::*};

const EARLY: &[u8] = b"\x16\x03\x01 early data";

/// What a handshake did with a client that says `incoming` and no more.
#[derive(Debug, PartialEq, Eq)]
struct Story {
    said: Vec<u8>,
    end: Option<Result<ServerRequest, HandshakeError>>,
    left_over: Vec<u8>,
}

/// Carries out the steps. `sizes` are those of the segments that come; what a segment leaves over is
/// handed in again before the next one. One user is known, alice.
fn tell(methods: ServerMethods, incoming: &[u8], sizes: impl Fn(usize) -> usize) -> Story {
    let mut handshake = ServerHandshake::new(methods);
    let mut story = Story {
        said: vec![],
        end: None,
        left_over: vec![],
    };
    let mut incoming = incoming;
    for step in 0..10_000 {
        assert_eq!(handshake.step(), handshake.step(), "asked twice");
        match handshake.step() {
            ServerStep::Receive => {
                if story.left_over.is_empty() {
                    if incoming.is_empty() {
                        return story;
                    }
                    let (segment, later) = incoming.split_at(sizes(step).min(incoming.len()));
                    story.left_over.extend_from_slice(segment);
                    incoming = later;
                }
                let taken = handshake.received(&story.left_over);
                assert_ne!(taken, 0, "an octet is due and none is taken");
                story.left_over.drain(..taken);
            }
            ServerStep::Send(octets) => {
                assert!(!octets.is_empty(), "nothing to send");
                let sent = octets.len().min(sizes(step));
                story.said.extend_from_slice(&octets[..sent]);
                handshake.sent(sent);
            }
            ServerStep::Authenticate(credentials) => {
                let alice = Credentials::new(b"alice", b"secret").unwrap();
                handshake.authenticated(credentials == alice);
            }
            ServerStep::Request(request) => {
                story.end = Some(Ok(request));
                story.left_over.extend_from_slice(incoming);
                return story;
            }
            ServerStep::Fail(error) => {
                story.end = Some(Err(error));
                story.left_over.clear();
                return story;
            }
        }
    }
    panic!("no end: {story:?}");
}

/// The story is the same with the client's octets all at once, cut in two at each octet in turn, and
/// octet by octet.
fn tell_in_pieces(methods: ServerMethods, incoming: &[u8]) -> Story {
    let story = tell(methods, incoming, |_| usize::MAX);
    assert_eq!(tell(methods, incoming, |_| 1), story, "octet by octet");
    for cut in 1..incoming.len() {
        let sizes = |step| if step == 0 { cut } else { usize::MAX };
        assert_eq!(tell(methods, incoming, sizes), story, "cut at {cut}");
    }
    story
}

fn none(fields: &[&[u8]]) -> Story {
    tell_in_pieces(ServerMethods::NoAuthentication, &octets(fields))
}

fn password(fields: &[&[u8]]) -> Story {
    tell_in_pieces(ServerMethods::UsernamePassword, &octets(fields))
}

fn request(version: Version, cmd: Cmd, destination: Destination, user_id: &[u8]) -> ServerRequest {
    ServerRequest {
        version,
        cmd,
        destination,
        user_id: UserId::new(user_id).unwrap(),
    }
}

#[test]
fn connect_by_name_and_early_data() {
    let story = none(&[
        &[0x05, 2, 0x02, 0x00], // VER NMETHODS METHODS: password, none
        &[0x05, 0x01, 0x00],    // VER CMD RSV: CONNECT
        &[0x03],                // ATYP: DOMAINNAME
        b"\x09a.example",       // its length, DST.ADDR
        &[0x01, 0xBB],          // DST.PORT
        EARLY,
    ]);
    assert_eq!(story.said, [0x05, 0x00]); // VER METHOD: none
    let destination = by_name(b"a.example", 443);
    assert_eq!(
        story.end,
        Some(Ok(request(Version::V5, Cmd::CONNECT, destination, b"")))
    );
    assert_eq!(story.left_over, EARLY);
}

#[test]
fn connect_with_password_and_early_data() {
    let story = password(&[
        &[0x05, 2, 0x00, 0x02],       // VER NMETHODS METHODS: none, password
        &[0x01],                      // VER
        b"\x05alice",                 // ULEN UNAME
        b"\x06secret",                // PLEN PASSWD
        &[0x05, 0x01, 0x00],          // VER CMD RSV: CONNECT
        &[0x01, 192, 0, 2, 1, 0, 80], // ATYP DST.ADDR DST.PORT
        EARLY,
    ]);
    let said = octets(&[
        &[0x05, 0x02], // VER METHOD: password
        &[0x01, 0x00], // VER STATUS: success
    ]);
    assert_eq!(story.said, said);
    let destination = by_address("192.0.2.1:80");
    assert_eq!(
        story.end,
        Some(Ok(request(Version::V5, Cmd::CONNECT, destination, b"")))
    );
    assert_eq!(story.left_over, EARLY);
}

/// RFC 1929 §2: "If the server returns a `failure' (STATUS value other than X'00') status, it MUST
/// close the connection."
#[test]
fn wrong_credentials() {
    let story = password(&[&[0x05, 1, 0x02], &[0x01, 5], b"alice", &[5], b"guess"]);
    assert_eq!(story.said, [0x05, 0x02, 0x01, 0x01]);
    assert_eq!(story.end, Some(Err(HandshakeError::WrongPassword(0x01))));

    let empty = [
        (0, WireError::UserLength(0)),
        (1, WireError::PasswordLength(0)),
    ];
    for (user_len, error) in empty {
        let user = &b"alice"[..user_len];
        let ulen = [u8::try_from(user_len).unwrap()];
        let story = password(&[&[0x05, 1, 0x02], &[0x01], &ulen, user, &[0]]);
        assert_eq!(story.said, [0x05, 0x02, 0x01, 0x01]);
        assert_eq!(story.end, Some(Err(error.into())));
    }

    let story = password(&[&[0x05, 1, 0x02], &[0x05, 5], b"alice"]);
    assert_eq!(story.said, [0x05, 0x02, 0x01, 0x01]);
    let error = WireError::Version {
        found: 5,
        expected: 1,
    };
    assert_eq!(story.end, Some(Err(error.into())));
}

/// RFC 1928 §3: "If the selected METHOD is X'FF', none of the methods listed by the client are
/// acceptable".
#[test]
fn no_acceptable_method() {
    let stories = [
        none(&[&[0x05, 1, 0x02]]),
        none(&[&[0x05, 0]]),
        password(&[&[0x05, 2, 0x00, 0x01]]),
        password(&[&[0x05, 255], &[0x80; 255]]),
    ];
    for story in stories {
        assert_eq!(story.said, [0x05, 0xFF]);
        assert_eq!(story.end, Some(Err(HandshakeError::NoAcceptableMethod)));
    }
}

/// There is no word for these in any version of SOCKS.
#[test]
fn what_is_not_socks_gets_no_answer() {
    for words in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"\x16\x03\x01",
        b"\0\0",
        b"\xFF",
    ] {
        let story = none(&[words]);
        assert_eq!(story.said, []);
        let error = WireError::Version {
            found: words[0],
            expected: 5,
        };
        assert_eq!(story.end, Some(Err(error.into())));
    }
}

/// RFC 1928 §6.
#[test]
fn what_is_no_request_gets_its_reply() {
    let cases: [(&[u8], u8, WireError); 7] = [
        (
            &[0x05, 0x09, 0, 0x01, 192, 0, 2, 1, 0, 80],
            0x07,
            WireError::Cmd(Cmd(0x09)),
        ),
        (
            &[0x05, 0x00, 0, 0x03, 1, b'a', 0, 80],
            0x07,
            WireError::Cmd(Cmd(0x00)),
        ),
        (&[0x05, 0x01, 0, 0x00], 0x08, WireError::Atyp(0x00)),
        (
            &[0x05, 0x01, 0, 0x02, 1, 2, 3, 4, 5, 6],
            0x08,
            WireError::Atyp(0x02),
        ),
        (
            &[0x04, 0x01, 0, 80],
            0x01,
            WireError::Version {
                found: 4,
                expected: 5,
            },
        ),
        (
            &[0x05, 0x01, 0, 0x03, 0, 0, 80],
            0x01,
            WireError::FqdnLength(0),
        ),
        (
            &[0x05, 0x01, 0, 0x03, 3, b'a', 0, b'b', 0, 80],
            0x01,
            WireError::FqdnNul,
        ),
    ];
    for (words, rep, error) in cases {
        let story = none(&[&[0x05, 1, 0x00], words]);
        let said = [0x05, 0x00, 0x05, rep, 0x00, 0x01, 0, 0, 0, 0, 0, 0];
        assert_eq!(story.said, said, "{words:x?}");
        assert_eq!(story.end, Some(Err(error.into())));
    }
}

#[test]
fn each_command_of_socks5_is_passed_on() {
    for cmd in [0x01, 0x02, 0x03, 0xF0, 0xF1] {
        let story = none(&[
            &[0x05, 1, 0x00],
            &[0x05, cmd, 0x77, 0x04],
            &[0; 16],
            &[0, 0],
        ]);
        let destination = by_address("[::]:0");
        assert_eq!(
            story.end,
            Some(Ok(request(Version::V5, Cmd(cmd), destination, b"")))
        );
    }
}

#[test]
fn socks4_and_4a() {
    let head = [0x04, 0x01, 0x00, 80];
    let story = none(&[&head, &[192, 0, 2, 1], b"fred\0", EARLY]);
    assert_eq!(story.said, []);
    let destination = by_address("192.0.2.1:80");
    assert_eq!(
        story.end,
        Some(Ok(request(Version::V4, Cmd::CONNECT, destination, b"fred")))
    );
    assert_eq!(story.left_over, EARLY);

    let story = none(&[&head, &[0, 0, 0, 9], b"\0", b"a.example\0", EARLY]);
    assert_eq!(story.said, []);
    let destination = by_name(b"a.example", 80);
    assert_eq!(
        story.end,
        Some(Ok(request(Version::V4a, Cmd::CONNECT, destination, b"")))
    );
    assert_eq!(story.left_over, EARLY);

    // As long as it gets: each text has 255 octets.
    let text = [b'x'; 255];
    let story = none(&[&head, &[0, 0, 0, 9], &text, b"\0", &text, b"\0", EARLY]);
    let destination = by_name(&text, 80);
    assert_eq!(
        story.end,
        Some(Ok(request(Version::V4a, Cmd::CONNECT, destination, &text)))
    );
    assert_eq!(story.left_over, EARLY);
}

#[test]
fn refusals_in_socks4() {
    let ip = [192, 0, 2, 1];
    let named = [0, 0, 0, 1];
    let (text, port) = ([b'x'; 255], [0x00, 80]);
    let cases = [
        (
            octets(&[&[4, 1], &port, &ip, &text, b"x"]),
            WireError::UserIdLength(256),
        ),
        (
            octets(&[&[4, 1], &port, &named, b"\0", &text, b"x"]),
            WireError::FqdnLength(256),
        ),
        (
            octets(&[&[4, 1], &port, &named, b"\0\0"]),
            WireError::FqdnLength(0),
        ),
        (
            octets(&[&[4, 3], &port, &ip, b"\0"]),
            WireError::Cmd(Cmd::UDP_ASSOCIATE),
        ),
        (
            octets(&[&[4, 9], &port, &named, b"\0a\0"]),
            WireError::Cmd(Cmd(9)),
        ),
    ];
    for (words, error) in cases {
        let story = none(&[&words]);
        assert_eq!(story.said, [0x00, 0x5B, 0, 0, 0, 0, 0, 0], "{words:x?}");
        assert_eq!(story.end, Some(Err(error.into())));
    }
}

/// SOCKS4 has no password, so it must not be the way round one.
#[test]
fn socks4_is_refused_where_a_password_is_required() {
    for destination in [&[192, 0, 2, 1, 0][..], &[0, 0, 0, 1, 0, b'a', 0]] {
        let story = password(&[&[0x04, 0x01, 0x00, 80], destination]);
        assert_eq!(story.said, [0x00, 0x5B, 0, 0, 0, 0, 0, 0]);
        assert_eq!(story.end, Some(Err(HandshakeError::NoAcceptableMethod)));
    }
}

#[test]
fn a_client_that_stops_is_waited_for() {
    let whole = octets(&[
        &[0x05, 1, 0x02],
        b"\x01\x05alice\x06secret",
        &[0x05, 1, 0, 3, 1, b'a'],
    ]);
    for len in 0..whole.len() {
        let story = tell(ServerMethods::UsernamePassword, &whole[..len], |_| 3);
        assert_eq!((story.end, story.left_over.len()), (None, 0));
    }
}

#[test]
fn what_is_told_at_another_step_has_no_effect() {
    let mut handshake = ServerHandshake::new(ServerMethods::UsernamePassword);
    handshake.authenticated(true);
    handshake.sent(9);
    assert_eq!(handshake.received(&[]), 0);
    assert_eq!(handshake.step(), ServerStep::Receive);
    assert_eq!(handshake.received(&[0x05, 1, 0x02, 0x01]), 3);
    assert_eq!(handshake.received(&[0x01]), 0);
    handshake.sent(1);
    handshake.authenticated(true);
    assert_eq!(handshake.step(), ServerStep::Send(&[0x02]));
    handshake.sent(usize::MAX);
    assert_eq!(handshake.received(b"\x01\x05alice\x06secret"), 14);
    assert_eq!(handshake.received(&[0x05]), 0);
}

/// RFC 1928 §6, and SOCKS4's two words for it.
#[test]
fn replies_in_the_clients_own_version() {
    let v4 = Bound {
        address: by_address("198.51.100.7:1").address,
        port: 40_000,
    };
    let mapped = Bound {
        address: by_address("[::ffff:198.51.100.7]:1").address,
        port: 40_000,
    };
    let v6 = Bound {
        address: by_address("[2001:db8::1]:1").address,
        port: 40_000,
    };
    let name = Bound {
        address: Fqdn::new(b"gw").unwrap().into(),
        port: 40_000,
    };
    let reply = |version, rep, bound: &Bound| {
        let mut buf = [0; 300];
        let len = encode_reply(version, rep, bound, &mut buf).unwrap();
        buf[..len].to_vec()
    };

    let said = reply(Version::V5, Rep::SUCCEEDED, &v4);
    assert_eq!(said, [0x05, 0x00, 0x00, 0x01, 198, 51, 100, 7, 0x9C, 0x40]);
    let said = reply(Version::V5, Rep::HOST_UNREACHABLE, &name);
    assert_eq!(
        said,
        [
            0x05,
            0x04,
            0x00,
            Atyp::DOMAINNAME.0,
            2,
            b'g',
            b'w',
            0x9C,
            0x40
        ]
    );

    for version in [Version::V4, Version::V4a] {
        for bound in [&v4, &mapped] {
            let said = reply(version, Rep::SUCCEEDED, bound);
            assert_eq!(said, [0x00, 0x5A, 0x9C, 0x40, 198, 51, 100, 7]);
        }
        for bound in [&v6, &name] {
            let said = reply(version, Rep::SUCCEEDED, bound);
            assert_eq!(said, [0x00, 0x5A, 0x9C, 0x40, 0, 0, 0, 0]);
        }
        for rep in 1..=0xFF {
            assert_eq!(reply(version, Rep(rep), &v4)[1], 0x5B);
        }
    }

    let no_room = Err(WireError::NoRoom { needed: 8 });
    assert_eq!(
        encode_reply(Version::V4, Rep::SUCCEEDED, &v4, &mut [0; 7]),
        no_room
    );
}

#[test]
fn passwords_are_not_shown_and_do_not_stay() {
    let mut handshake = ServerHandshake::new(ServerMethods::UsernamePassword);
    handshake.received(&[0x05, 1, 0x02]);
    handshake.sent(2);
    handshake.received(b"\x01\x05alice\x06secret");
    assert!(!std::format!("{handshake:?}").contains("secret"));
    assert!(handshake.buf.windows(6).any(|octets| octets == b"secret"));
    handshake.authenticated(true);
    assert!(!handshake.buf.windows(6).any(|octets| octets == b"secret"));
}

/// A gateway holds one of these for each client that is still at its handshake.
#[test]
fn size() {
    assert!(size_of::<ServerHandshake>() <= 640);
}
