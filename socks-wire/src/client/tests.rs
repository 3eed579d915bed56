//! The client's machine as transcripts: what the server says, in whatever pieces, and what the
//! client then says and takes.

use std::{vec, vec::Vec};

use super::*;
use crate::check::*;
use crate::{Bound, ServerHandshake, ServerMethods, ServerStep};

const ALICE: (&[u8], &[u8]) = (b"alice", b"secret");

const BANNER: &[u8] = b"SSH-2.0-x\r\n";

/// What a handshake did with a server that says `incoming` and no more.
#[derive(Debug, PartialEq, Eq)]
struct Story {
    said: Vec<u8>,
    taken: usize,
    /// `None`: it waits for more.
    end: Option<Result<Bound, HandshakeError>>,
}

/// Carries out the steps. `most` limits how many octets one send or receive moves, given how many
/// have been taken so far. Between two steps the handshake is saved as words and resumed.
fn tell(
    setting: (&Destination, Option<Credentials<'_>>),
    incoming: &[u8],
    most: impl Fn(usize) -> usize,
) -> Story {
    tell_from(Progress::default(), setting, incoming, most)
}

fn tell_from(
    beginning: Progress,
    (destination, credentials): (&Destination, Option<Credentials<'_>>),
    incoming: &[u8],
    most: impl Fn(usize) -> usize,
) -> Story {
    let mut story = Story {
        said: vec![],
        taken: 0,
        end: None,
    };
    let mut words = beginning.to_words();
    for _ in 0..10_000 {
        let progress = Progress::from_words(words).expect("its own words");
        let mut handshake =
            ClientHandshake::resume(Cmd::CONNECT, destination, credentials, progress);
        assert_eq!(handshake.progress(), progress);
        let mut scratch = [0xEE; CLIENT_SCRATCH_OCTETS];
        match handshake.step(&mut scratch) {
            Step::Send(octets) => {
                assert!(!octets.is_empty(), "nothing to send");
                let sent = &octets[..octets.len().min(most(story.taken))];
                story.said.extend_from_slice(sent);
                handshake.sent(sent.len());
            }
            Step::Receive(asked) => {
                assert_ne!(asked, 0, "nothing to receive");
                let rest = &incoming[story.taken..];
                let octets = &rest[..rest.len().min(asked).min(most(story.taken))];
                if octets.is_empty() {
                    return story;
                }
                story.taken = story.taken.saturating_add(octets.len());
                if let Err(error) = handshake.received(octets) {
                    assert_eq!(handshake.progress(), progress, "an error changes nothing");
                    story.end = Some(Err(error));
                    return story;
                }
            }
            Step::Done(bound) => {
                story.end = Some(Ok(bound.into()));
                return story;
            }
        }
        words = handshake.progress().to_words();
    }
    panic!("no end: {story:?}");
}

/// The story is the same with the server's octets all at once, cut in two at each octet in turn, and
/// octet by octet.
fn tell_in_pieces(setting: (&Destination, Option<Credentials<'_>>), incoming: &[u8]) -> Story {
    tell_in_pieces_from(Progress::default(), setting, incoming)
}

fn tell_in_pieces_from(
    beginning: Progress,
    setting: (&Destination, Option<Credentials<'_>>),
    incoming: &[u8],
) -> Story {
    let story = tell_from(beginning, setting, incoming, |_| usize::MAX);
    for cut in 1..incoming.len() {
        let most = |taken: usize| match cut.saturating_sub(taken) {
            0 => usize::MAX,
            before_the_cut => before_the_cut,
        };
        let cut_in_two = tell_from(beginning, setting, incoming, most);
        assert_eq!(cut_in_two.end, story.end, "cut at {cut}");
        assert_eq!(cut_in_two.said, story.said, "cut at {cut}");
    }
    let by_octet = tell_from(beginning, setting, incoming, |_| 1);
    assert_eq!(
        (&by_octet.end, &by_octet.said),
        (&story.end, &story.said),
        "octet by octet"
    );
    story
}

/// RFC 1928 §3, §4 and §6 in order.
#[test]
fn connect_by_name_without_authentication() {
    let destination = by_name(b"a.example", 443);
    let incoming = octets(&[
        &[0x05, 0x00],            // VER METHOD: none
        &[0x05, 0x00, 0x00],      // VER REP RSV: succeeded
        &[0x01, 198, 51, 100, 7], // ATYP BND.ADDR
        &[0x9C, 0x40],            // BND.PORT
    ]);
    let story = tell_in_pieces((&destination, None), &incoming);
    let said = octets(&[
        &[0x05, 1, 0x00],    // VER NMETHODS METHODS: none
        &[0x05, 0x01, 0x00], // VER CMD RSV: CONNECT
        &[0x03, 9],          // ATYP: DOMAINNAME, its length
        b"a.example",        // DST.ADDR
        &[0x01, 0xBB],       // DST.PORT
    ]);
    assert_eq!(story.said, said);
    assert_eq!(story.end, Some(Ok(bound("198.51.100.7:40000"))));
    assert_eq!(story.taken, incoming.len());
}

/// RFC 1929.
#[test]
fn connect_with_password() {
    let destination = by_address("[2001:db8::1]:80");
    let incoming = octets(&[
        &[0x05, 0x02],             // VER METHOD: username/password
        &[0x01, 0x00],             // VER STATUS: success
        &[0x05, 0x00, 0x00],       // VER REP RSV: succeeded
        &[0x01, 0, 0, 0, 0, 0, 0], // ATYP BND.ADDR BND.PORT
    ]);
    let story = tell_in_pieces((&destination, alice()), &incoming);
    let said = octets(&[
        &[0x05, 2, 0x00, 0x02], // VER NMETHODS METHODS: none, password
        &[0x01],                // VER
        b"\x05alice",           // ULEN UNAME
        b"\x06secret",          // PLEN PASSWD
        &[0x05, 0x01, 0x00],    // VER CMD RSV: CONNECT
        &[0x04],                // ATYP: IP V6
        &V6,                    // DST.ADDR
        &[0x00, 80],            // DST.PORT
    ]);
    assert_eq!(story.said, said);
    assert_eq!(story.end, Some(Ok(Bound::UNSPECIFIED)));
}

/// RFC 1928 §3: "the server selects from one of the methods".
#[test]
fn a_server_may_do_without_the_password() {
    let destination = by_address("192.0.2.1:80");
    let incoming = octets(&[&[0x05, 0x00], &[0x05, 0x00, 0x00, 0x01, 0, 0, 0, 0, 0, 0]]);
    let story = tell_in_pieces((&destination, alice()), &incoming);
    let request = [0x05, 0x01, 0x00, 0x01, 192, 0, 2, 1, 0, 80];
    assert_eq!(story.said, octets(&[&[0x05, 2, 0x00, 0x02], &request]));
    assert_eq!(story.end, Some(Ok(Bound::UNSPECIFIED)));
}

/// Whatever kind of address the reply has, the stream begins right behind it.
#[test]
fn a_banner_in_the_segment_of_the_reply_is_left_to_the_application() {
    let destination = by_name(b"a.example", 22);
    let longest = [b'n'; 255];
    let addresses: [(Vec<u8>, &str); 6] = [
        (octets(&[&[0x01, 192, 0, 2, 1], &[0, 22]]), "192.0.2.1:22"),
        (
            octets(&[&[0x04, 0x20, 1, 0x0D, 0xB8], &[0; 12], &[1, 2]]),
            "[2001:db8::]:258",
        ),
        (octets(&[&[0x03, 0], &[1, 2]]), "0.0.0.0:258"), // no name, as some servers send
        (octets(&[&[0x03, 1], b"n", &[1, 2]]), "0.0.0.0:258"),
        (
            octets(&[&[0x03, 10], b"gw.example", &[1, 2]]),
            "0.0.0.0:258",
        ),
        (octets(&[&[0x03, 255], &longest, &[1, 2]]), "0.0.0.0:258"),
    ];
    for (address, shown) in addresses {
        let handshake = octets(&[&[0x05, 0x00], &[0x05, 0x00, 0x00], &address]);
        let story = tell_in_pieces((&destination, None), &octets(&[&handshake, BANNER]));
        assert_eq!(story.end, Some(Ok(bound(shown))));
        assert_eq!(story.taken, handshake.len(), "{shown}");

        // Until its last octet is here, the handshake waits.
        for len in 0..handshake.len() {
            assert_eq!(
                tell((&destination, None), &handshake[..len], |_| 7).end,
                None
            );
        }
    }
}

/// RFC 1928 §6: "Fields marked RESERVED (RSV) must be set to X'00'"; a server that does not is
/// understood all the same.
#[test]
fn reserved_octet_is_not_judged() {
    let destination = by_address("192.0.2.1:80");
    let incoming = [0x05, 0x00, 0x05, 0x00, 0xFF, 0x01, 192, 0, 2, 1, 0, 80];
    let story = tell_in_pieces((&destination, None), &incoming);
    assert_eq!(story.end, Some(Ok(bound("192.0.2.1:80"))));
}

#[test]
fn wrong_words_from_a_server() {
    use HandshakeError::{NoAcceptableMethod, Reply, Wire, WrongPassword};
    let version = |found, expected| Wire(WireError::Version { found, expected });
    let destination = by_name(b"a.example", 80);
    let cases: [(Option<Credentials<'_>>, &[u8], HandshakeError); 14] = [
        (None, b"HTTP/1.1 400 Bad Request", version(b'H', 5)),
        (None, &[0x00, 0x5B], version(0, 5)),
        (None, &[0x05, 0xFF], NoAcceptableMethod),
        (
            None,
            &[0x05, 0x02],
            Wire(WireError::MethodNotOffered(Method::USERNAME_PASSWORD)),
        ),
        (
            alice(),
            &[0x05, 0x01],
            Wire(WireError::MethodNotOffered(Method::GSSAPI)),
        ),
        (alice(), &[0x05, 0xFF], NoAcceptableMethod),
        (alice(), &[0x05, 0x02, 0x00], version(0, 1)),
        (alice(), &[0x05, 0x02, 0x01, 0x01], WrongPassword(0x01)),
        (alice(), &[0x05, 0x02, 0x05, 0xFF], WrongPassword(0xFF)),
        (None, &[0x05, 0x00, 0x04], version(4, 5)),
        (
            None,
            &[0x05, 0x00, 0x05, 0x05],
            Reply(Rep::CONNECTION_REFUSED),
        ),
        (None, &[0x05, 0x00, 0x05, 0x99], Reply(Rep(0x99))),
        (
            None,
            &[0x05, 0x00, 0x05, 0x00, 0x00, 0x00],
            Wire(WireError::Atyp(0x00)),
        ),
        (
            None,
            &[0x05, 0x00, 0x05, 0x00, 0x00, 0x02],
            Wire(WireError::Atyp(0x02)),
        ),
    ];
    for (credentials, incoming, error) in cases {
        let story = tell_in_pieces((&destination, credentials), incoming);
        assert_eq!(story.end, Some(Err(error)), "{incoming:x?}");
    }
}

/// A refusal is known by its REP. Some servers send nothing behind it, or an ATYP of 0.
#[test]
fn a_refusal_needs_no_address() {
    let destination = by_name(b"a.example", 80);
    for code in 1..=0xFF {
        let error = Some(Err(HandshakeError::Reply(Rep(code))));
        let incoming = [0x05, 0x00, 0x05, code];
        assert_eq!(tell((&destination, None), &incoming, |_| 1).end, error);
        let incoming = [0x05, 0x00, 0x05, code, 0x00, 0x00, 0, 0, 0, 0, 0, 0];
        assert_eq!(
            tell((&destination, None), &incoming, |_| usize::MAX).end,
            error
        );
    }
}

#[test]
fn octets_that_were_not_asked_for_are_an_error() {
    let destination = by_address("192.0.2.1:80");
    let surplus = Err(WireError::Surplus.into());
    let mut handshake = ClientHandshake::new(Cmd::CONNECT, &destination, None);
    assert_eq!(
        handshake.received(&[0x05]),
        surplus,
        "before the greeting is sent"
    );
    handshake.sent(3);
    assert_eq!(
        handshake.received(&[0x05, 0x00, 0x05]),
        surplus,
        "more than two"
    );
    assert_eq!(handshake.received(&[]), Ok(()));
    assert_eq!(handshake.received(&[0x05, 0x00]), Ok(()));
}

#[test]
fn sent_means_nothing_where_nothing_is_sent_and_never_passes_a_message() {
    let destination = by_address("192.0.2.1:80");
    let mut handshake = ClientHandshake::new(Cmd::CONNECT, &destination, None);
    handshake.sent(usize::MAX);
    let receiving = handshake.progress();
    assert_eq!(receiving, begun(Phase::ReceiveSelection));
    handshake.sent(1);
    assert_eq!(handshake.progress(), receiving);
}

/// A caller that resumes with another destination or without its credentials gets a useless
/// connection, but no loop that sends nothing for ever.
#[test]
fn resumed_with_other_arguments_it_goes_on() {
    let (long, short) = (by_name(&[b'n'; 255], 80), by_name(b"n", 80));
    let sending = Progress {
        at: 200,
        ..begun(Phase::SendRequest)
    };
    let handshake = ClientHandshake::resume(Cmd::CONNECT, &long, None, sending);
    assert_eq!(handshake.progress(), sending);
    let handshake = ClientHandshake::resume(Cmd::CONNECT, &short, None, sending);
    assert_eq!(handshake.progress(), begun(Phase::ReceiveReply));

    let credentials = begun(Phase::SendCredentials);
    let handshake = ClientHandshake::resume(Cmd::CONNECT, &short, None, credentials);
    assert_eq!(handshake.progress(), begun(Phase::ReceiveStatus));
}

/// Fresh memory of zeros is a handshake that has not begun.
#[test]
fn zeros_are_the_beginning() {
    assert_eq!(Progress::default().to_words(), [0; 4]);
    assert_eq!(Progress::from_words([0; 4]), Some(Progress::default()));
}

#[test]
fn words_that_no_handshake_gives() {
    let word = |octets: [u8; 8]| [u64::from_le_bytes(octets), 0, 0, 0];
    let pipelined = |octets: [u8; 8]| [u64::from_le_bytes(octets), 0, 0, 1 << 8];
    let cases = [
        word([7, 0, 0, 0, 0, 0, 0, 0]),       // no such phase
        word([0, 4, 0, 0, 0, 0, 0, 0]),       // a greeting is sent by then
        word([0, 0, 0, 5, 0, 0, 0, 0]),       // octets received while sending
        word([1, 1, 0, 4, 0, 0, 0, 0]),       // VER was an error
        word([1, 2, 0, 5, 0, 0, 0, 0]),       // a selection is judged by then
        word([2, 1, 2, 0, 0, 0, 0, 0]),       // at 513
        word([5, 2, 0, 5, 1, 0, 0, 0]),       // a refusal was an error
        word([5, 4, 0, 5, 0, 0, 2, 0]),       // ATYP was an error
        word([5, 3, 0, 5, 0, 0, 1, 0]),       // an octet that is not here yet
        word([5, 10, 0, 5, 0, 0, 1, 0]),      // whole, so it is done
        word([6, 9, 0, 5, 0, 0, 1, 0]),       // done before its end
        pipelined([2, 0, 0, 0, 0, 0, 0, 0]),  // credentials are sent by then
        pipelined([4, 0, 0, 0, 0, 0, 0, 0]),  // the request is
        pipelined([0, 10, 3, 0, 0, 0, 0, 0]), // at 778
        [0, 0, 0, 2 << 8],                    // neither pipelined nor not
        [0, 0, 0, 1 << 63],                   // spare octets
    ];
    for words in cases {
        assert_eq!(Progress::from_words(words), None, "{words:x?}");
    }
}

/// The shim's stack and its four atomic words count on these.
#[test]
fn sizes() {
    assert_eq!(CLIENT_SCRATCH_OCTETS, 513);
    assert!(size_of::<Progress>() <= 32);
    assert!(size_of::<ClientHandshake<'_>>() <= 128);
}

const PIPELINED_ALICE: &[&[u8]] = &[
    &[0x05, 1, 0x02], // VER NMETHODS METHODS: password alone
    &[0x01],          // VER
    b"\x05alice",     // ULEN UNAME
    b"\x06secret",    // PLEN PASSWD
    &[0x05, 0x01, 0x00, 0x03, 9],
    b"a.example",
    &[0x01, 0xBB],
];

/// One round trip: all that the client says leaves before the first octet of the server's comes.
#[test]
fn pipelined_everything_is_in_the_first_message() {
    let destination = by_name(b"a.example", 443);
    for (credentials, said) in [
        (alice(), octets(PIPELINED_ALICE)),
        (
            None,
            octets(&[&[0x05, 1, 0x00], &octets(&PIPELINED_ALICE[4..])]),
        ),
    ] {
        let handshake = ClientHandshake::pipelined(Cmd::CONNECT, &destination, credentials);
        let mut scratch = [0; CLIENT_SCRATCH_OCTETS];
        assert_eq!(handshake.step(&mut scratch), Step::Send(&said));
    }
}

#[test]
fn pipelined_the_story_ends_as_it_does_step_by_step() {
    use HandshakeError::{NoAcceptableMethod, Reply, Wire, WrongPassword};
    let destination = by_name(b"a.example", 443);
    let not_offered = |method| Some(Err(Wire(WireError::MethodNotOffered(method))));
    let granted = octets(&[&[0x05, 0x00, 0x00, 0x03, 2], b"gw", &[0x9C, 0x40]]);
    let cases: [(Option<Credentials<'_>>, Vec<u8>, _); 9] = [
        (
            None,
            octets(&[&[0x05, 0x00], &granted]),
            Some(Ok(bound("0.0.0.0:40000"))),
        ),
        (
            alice(),
            octets(&[&[0x05, 0x02, 0x01, 0x00], &granted]),
            Some(Ok(bound("0.0.0.0:40000"))),
        ),
        (None, vec![0x05, 0xFF], Some(Err(NoAcceptableMethod))),
        (alice(), vec![0x05, 0xFF], Some(Err(NoAcceptableMethod))),
        (
            alice(),
            vec![0x05, 0x00],
            not_offered(Method::NO_AUTHENTICATION_REQUIRED),
        ),
        (
            None,
            vec![0x05, 0x02],
            not_offered(Method::USERNAME_PASSWORD),
        ),
        (
            alice(),
            vec![0x05, 0x02, 0x01, 0x01],
            Some(Err(WrongPassword(0x01))),
        ),
        (
            None,
            vec![0x05, 0x00, 0x05, 0x05],
            Some(Err(Reply(Rep::CONNECTION_REFUSED))),
        ),
        (
            alice(),
            vec![0x05, 0x02, 0x01, 0x00, 0x05, 0x02],
            Some(Err(Reply(Rep(2)))),
        ),
    ];
    let beginning = Progress::beginning(true);
    for (credentials, incoming, end) in cases {
        let setting = (&destination, credentials);
        let story = tell_in_pieces_from(beginning, setting, &octets(&[&incoming, BANNER]));
        assert_eq!(story.end, end, "{incoming:x?}");
        if matches!(end, Some(Ok(_))) {
            assert_eq!(
                story.taken,
                incoming.len(),
                "the banner is the application's"
            );
        }
        // Until its last octet is here, the handshake waits.
        for len in 0..incoming.len() {
            let waiting = tell_from(beginning, setting, &incoming[..len], |_| 7);
            assert_eq!(waiting.end, None, "{incoming:x?} cut at {len}");
        }
    }
}

/// More than the room for one step is said in two.
#[test]
fn pipelined_with_the_longest_credentials_and_name() {
    let destination = by_name(&[b'n'; 255], 80);
    let (user, password) = ([b'u'; 255], [b'p'; 255]);
    let credentials = Some(Credentials::new(&user, &password).unwrap());
    let incoming = octets(&[
        &[0x05, 0x02, 0x01, 0x00],
        &[0x05, 0, 0, 1, 0, 0, 0, 0, 0, 0],
    ]);
    let setting = (&destination, credentials);
    let story = tell_in_pieces_from(Progress::beginning(true), setting, &incoming);
    let said = octets(&[
        &[0x05, 1, 0x02],
        &[0x01, 255],
        &user,
        &[255],
        &password,
        &[0x05, 0x01, 0x00, 0x03, 255],
        &[b'n'; 255],
        &[0, 80],
    ]);
    assert_eq!((story.said.len(), PIPELINED_OCTETS), (778, 778));
    assert_eq!(story.said, said);
    assert_eq!(story.end, Some(Ok(Bound::UNSPECIFIED)));
}

fn begun(phase: Phase) -> Progress {
    Progress::default().begin(phase)
}

fn alice() -> Option<Credentials<'static>> {
    Some(Credentials::new(ALICE.0, ALICE.1).unwrap())
}

fn bound(text: &str) -> Bound {
    text.parse::<SocketAddr>().unwrap().into()
}

/// RFC 1928 §3: a server picks from what is offered, and what it does not know it passes over.
#[test]
fn gateways_are_counted_by_a_method_that_no_server_may_choose() {
    let destination = Destination::from(SocketAddr::from(([192, 0, 2, 1], 80)));
    for (credentials, hops, greeting) in [
        (None, 0, vec![0x05, 0x01, 0x00]),
        (None, 1, vec![0x05, 0x02, 0x00, 0xE1]),
        (alice(), 15, vec![0x05, 0x03, 0x00, 0x02, 0xEF]),
        (alice(), 200, vec![0x05, 0x03, 0x00, 0x02, 0xEF]),
    ] {
        let mut handshake =
            ClientHandshake::new(Cmd::CONNECT, &destination, credentials).with_hops(hops);
        let mut scratch = [0; CLIENT_SCRATCH_OCTETS];
        assert_eq!(handshake.step(&mut scratch), Step::Send(&greeting));
        handshake.sent(greeting.len());
        assert!(!handshake.has_asked());
        let chosen = handshake.received(&[0x05, 0xE1]);
        assert_eq!(
            chosen,
            Err(WireError::MethodNotOffered(Method(0xE1)).into())
        );

        let mut server = ServerHandshake::new(ServerMethods::NoAuthentication);
        for octet in &greeting {
            server.received(&[*octet]);
        }
        assert_eq!(server.hops(), hops.min(15));
        assert_eq!(server.step(), ServerStep::Send(&[0x05, 0x00]));
    }
    for (method, count) in [
        (0x00, None),
        (0xDF, None),
        (0xE0, Some(0)),
        (0xEF, Some(15)),
        (0xF0, None),
    ] {
        assert_eq!(Method(method).as_hops(), count);
    }
}
