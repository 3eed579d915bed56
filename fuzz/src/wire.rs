//! SOCKS messages and both handshakes.

use std::iter;

use gateway::fuzzing::pieces;
use socks_wire::{
    Address, Bound, CLIENT_SCRATCH_OCTETS, ClientHandshake, Cmd, Credentials, DatagramHeader,
    Destination, Fqdn, Greeting, HandshakeError, Parsed, Progress, Reply, Request, Selection,
    ServerHandshake, ServerMethods, ServerRequest, ServerStep, Status, Step, WireError, v4,
};

/// Longer than anything that is read of a client or a server.
const MANY_OCTETS: usize = 2048;

/// What every parser owes to any octets: it takes no more than there are; it gives what its own `encode` says again, of
/// the same length; each part of a message asks for more, and for no more than is missing; and where no message is that
/// long, none is asked for.
macro_rules! assert_sane {
    ($parse:expr, $octets:expr) => {{
        let octets: &[u8] = $octets;
        let parsed = $parse(octets);
        match parsed {
            Ok(Parsed::Whole {
                message,
                len_octets,
            }) => {
                let mut buf = [0; 600];
                let again = message.encode(&mut buf).unwrap();
                assert_eq!(again, len_octets);
                assert_eq!($parse(&buf[..again]), parsed);
                for len in 0..len_octets {
                    match $parse(&octets[..len]) {
                        Ok(Parsed::More(more)) => assert!((1..=len_octets - len).contains(&more)),
                        other => panic!("{other:?} at {len}"),
                    }
                }
            }
            Ok(Parsed::More(more)) => {
                assert!(more >= 1);
                assert!(octets.len() < 520, "no message is as long as that");
            }
            Err(error) => {
                let earlier = octets.len().saturating_sub(1);
                match $parse(&octets[..earlier]) {
                    Err(before) => assert_eq!(before, error, "judged otherwise later"),
                    Ok(Parsed::More(_)) => {}
                    Ok(Parsed::Whole { .. }) => panic!("whole, and then wrong"),
                }
            }
        }
    }};
}

/// Any octets as every message there is.
pub(crate) fn messages(octets: &[u8]) {
    let octets = &octets[..octets.len().min(MANY_OCTETS)];
    assert_sane!(Greeting::parse, octets);
    assert_sane!(Selection::parse, octets);
    assert_sane!(Credentials::parse, octets);
    assert_sane!(Status::parse, octets);
    assert_sane!(Request::parse, octets);
    assert_sane!(Reply::parse, octets);
    assert_sane!(DatagramHeader::parse, octets);
    assert_sane!(v4::Reply::parse, octets);
    // DSTIP of 4a need not be the 0.0.0.1 that we write.
    if let Ok(Parsed::Whole {
        message,
        len_octets,
    }) = v4::Request::parse(octets)
    {
        assert_eq!(message.encode(&mut [0; 600]), Ok(len_octets));
    }
}

/// `OPTIONS CUTS OCTETS…`: a client's octets, however they are cut, come to the same end with the same answers, and no octet
/// behind the request is taken. With bit 0 of OPTIONS a password is asked for, and every other user let in.
pub(crate) fn server(input: &[u8]) {
    let Some(([options, cuts], octets)) = input.split_first_chunk() else {
        return;
    };
    let octets = &octets[..octets.len().min(MANY_OCTETS)];
    let methods = if options & 1 == 1 {
        ServerMethods::UsernamePassword
    } else {
        ServerMethods::NoAuthentication
    };
    let at_once = serve(methods, octets, iter::repeat(usize::MAX));
    assert_eq!(serve(methods, octets, iter::repeat(1)), at_once);
    assert_eq!(serve(methods, octets, pieces(*cuts)), at_once);
    let (end, taken, _) = at_once;
    match end {
        None => assert_eq!(taken, octets.len(), "it waits for what is there"),
        Some(Ok(_)) => {
            assert!(taken <= 257 + 513 + 262);
            let exact = serve(methods, &octets[..taken], iter::repeat(usize::MAX));
            assert_eq!((exact.0, exact.1), (end, taken), "the rest is not its own");
            let less = serve(methods, &octets[..taken - 1], iter::repeat(usize::MAX));
            assert_eq!(less.0, None, "it went on without its last octet");
        }
        Some(Err(_)) => {}
    }
}

type End<T> = Option<Result<T, HandshakeError>>;

/// How the handshake ends (`None`: it waits for more), how many octets it takes, and what it says.
fn serve(
    methods: ServerMethods,
    octets: &[u8],
    mut sizes: impl Iterator<Item = usize>,
) -> (End<ServerRequest>, usize, Vec<u8>) {
    let mut server = ServerHandshake::new(methods);
    let (mut taken, mut said) = (0, Vec::new());
    for _ in 0..10 * MANY_OCTETS {
        let mut size = || sizes.next().unwrap();
        match server.step() {
            ServerStep::Receive if taken == octets.len() => return (None, taken, said),
            ServerStep::Receive => {
                let now = size().min(octets.len() - taken);
                let used = server.received(&octets[taken..taken + now]);
                assert!((1..=now).contains(&used));
                taken += used;
            }
            ServerStep::Send(message) => {
                assert!(!message.is_empty());
                let sent = size().min(message.len());
                said.extend_from_slice(&message[..sent]);
                server.sent(sent);
            }
            ServerStep::Authenticate(credentials) => {
                let ok = credentials.user().len().is_multiple_of(2);
                server.authenticated(ok);
            }
            ServerStep::Request(request) => return (Some(Ok(request)), taken, said),
            // What comes with a wrong octet is of no use to anybody, so how much is taken may differ.
            ServerStep::Fail(error) => return (Some(Err(error)), 0, said),
        }
    }
    panic!("no end");
}

/// `OPTIONS CUTS OCTETS…`: a server's octets, however they are cut, come to the same end, and none is asked for that belongs
/// to the application. Bits of OPTIONS: a password, all in one segment, hops, resumed after every step.
pub(crate) fn client(input: &[u8]) {
    let Some(([options, cuts], octets)) = input.split_first_chunk() else {
        return;
    };
    let octets = &octets[..octets.len().min(MANY_OCTETS)];
    let at_once = ask(*options, octets, iter::repeat(usize::MAX));
    assert_eq!(ask(*options, octets, iter::repeat(1)), at_once);
    assert_eq!(ask(*options, octets, pieces(*cuts)), at_once);
    match at_once {
        (None, taken, _) => assert_eq!(taken, octets.len(), "it waits for what is there"),
        (Some(Ok(bound)), taken, before) => {
            assert!(taken <= 2 + 2 + 262);
            let reply = &octets[before..taken];
            let of_name = |port| Bound {
                port,
                ..Bound::UNSPECIFIED
            };
            let known = match (Reply::parse(reply), reply) {
                (
                    Ok(Parsed::Whole {
                        message,
                        len_octets,
                    }),
                    _,
                ) => {
                    assert_eq!(len_octets, reply.len(), "it took what is not its own");
                    match message.bound.address {
                        Address::Ip(_) => message.bound,
                        Address::Fqdn(_) => of_name(message.bound.port),
                    }
                }
                // A name that is none, such as one of no octets, which some servers send: nobody asks for it.
                (
                    Err(WireError::FqdnLength(0) | WireError::FqdnNul),
                    [5, 0, _, 3, len, .., high, low],
                ) => {
                    assert_eq!(reply.len(), 7 + usize::from(*len));
                    of_name(u16::from_be_bytes([*high, *low]))
                }
                _ => panic!("{reply:?} is no reply"),
            };
            assert_eq!(bound, known);
        }
        (Some(Err(_)), ..) => {}
    }
}

/// How it ends, how many octets it takes, and how many of them before the reply.
fn ask(
    options: u8,
    octets: &[u8],
    mut sizes: impl Iterator<Item = usize>,
) -> (End<Bound>, usize, usize) {
    let destination = Destination {
        address: Fqdn::new(b"a.example").unwrap().into(),
        port: 80,
    };
    let credentials = (options & 1 != 0).then(|| Credentials::new(b"alice", b"secret").unwrap());
    let mut client = if options & 2 == 0 {
        ClientHandshake::new(Cmd::CONNECT, &destination, credentials)
    } else {
        ClientHandshake::pipelined(Cmd::CONNECT, &destination, credentials)
    };
    if options & 4 != 0 {
        client = client.with_hops(3);
    }
    let (mut taken, mut before) = (0, 0);
    for _ in 0..10 * MANY_OCTETS {
        // Who resumes counts no hops: these are for the gateway, whose handshake stays in one thread.
        if options & 4 == 0 {
            let words = client.progress().to_words();
            let progress = Progress::from_words(words).expect("its own progress");
            assert_eq!(progress, client.progress());
            if options & 8 != 0 {
                client = ClientHandshake::resume(Cmd::CONNECT, &destination, credentials, progress);
            }
        }
        match client.step(&mut [0; CLIENT_SCRATCH_OCTETS]) {
            Step::Send(message) => {
                assert!(!message.is_empty());
                client.sent(sizes.next().unwrap().min(message.len()));
                before = taken;
            }
            Step::Receive(asked) => {
                assert_ne!(asked, 0);
                if taken == octets.len() {
                    return (None, taken, before);
                }
                let now = asked.min(sizes.next().unwrap()).min(octets.len() - taken);
                let had_asked = client.has_asked();
                if let Err(error) = client.received(&octets[taken..taken + now]) {
                    return (Some(Err(error)), 0, 0);
                }
                taken += now;
                if !had_asked {
                    before = taken;
                }
            }
            Step::Done(bound) => return (Some(Ok(bound.into())), taken, before),
        }
    }
    panic!("no end");
}
