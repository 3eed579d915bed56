//! Octets made by chance, and good ones spoiled by chance, into every parser and both machines:
//! nothing panics, everything ends, and nothing is read beyond what was given.
//! `PROPTEST_CASES=100000 cargo test --release -p socks-wire hostile` looks longer.

use std::{vec, vec::Vec};

use proptest::{collection::vec, prelude::*};

use crate::{check::*, *};

/// More than the longest handshake, so that there is always something left to take too much of.
const MANY_OCTETS: usize = 1200;

/// What every parser owes to any octets: it takes no more than there are; it gives what its own
/// `encode` says again, of the same length; and where no message is that long, it asks for no more.
macro_rules! assert_sane {
    ($parse:expr, $octets:expr) => {{
        let octets: &[u8] = $octets;
        match $parse(octets) {
            Ok(Parsed::Whole {
                message,
                len_octets,
            }) => {
                prop_assert!(len_octets <= octets.len());
                let mut buf = [0; 600];
                let again = message.encode(&mut buf).unwrap();
                prop_assert_eq!(again, len_octets);
                prop_assert_eq!(
                    $parse(&buf[..again]),
                    Ok(Parsed::Whole {
                        message,
                        len_octets
                    })
                );
            }
            Ok(Parsed::More(more)) => {
                prop_assert!(more >= 1);
                prop_assert!(octets.len() < 520, "no message is as long as that");
            }
            Err(_) => {}
        }
    }};
}

proptest! {
    #[test]
    fn any_octets_into_every_parser(octets in any_words()) {
        assert_sane!(Greeting::parse, &octets);
        assert_sane!(Selection::parse, &octets);
        assert_sane!(Credentials::parse, &octets);
        assert_sane!(Status::parse, &octets);
        assert_sane!(Request::parse, &octets);
        assert_sane!(Reply::parse, &octets);
        assert_sane!(DatagramHeader::parse, &octets);
        assert_sane!(v4::Reply::parse, &octets);
        // DSTIP of 4a need not be the 0.0.0.1 that we write.
        if let Ok(Parsed::Whole { len_octets, message }) = v4::Request::parse(&octets) {
            prop_assert!(len_octets <= octets.len());
            prop_assert_eq!(message.encode(&mut [0; 600]), Ok(len_octets));
        }
    }

    /// Whatever is said before it, the answer to more octets is what it would be to all at once.
    #[test]
    fn a_prefix_is_judged_as_the_whole_is(octets in any_words(), len in 0..600_usize) {
        let len = len.min(octets.len());
        if let Ok(Parsed::Whole { .. }) = Request::parse(&octets[..len]) {
            prop_assert_eq!(Request::parse(&octets[..len]), Request::parse(&octets));
        }
        if let Err(error) = Request::parse(&octets[..len]) {
            prop_assert_eq!(Request::parse(&octets), Err(error));
        }
        if let Err(error) = v4::Request::parse(&octets[..len]) {
            prop_assert_eq!(v4::Request::parse(&octets), Err(error));
        }
    }

    #[test]
    fn any_words_from_a_server(
        words in any_words(),
        (password, is_pipelined) in any::<(bool, bool)>(),
        sizes in any_sizes(),
    ) {
        let destination = by_name(b"a.example", 80);
        let client = || start(is_pipelined, &destination, credentials(password));
        let (end, taken) = run_client(client(), &words, &sizes)?;
        prop_assert!(taken <= 2 + 2 + 262);
        prop_assert!(end.is_some() || taken == words.len());
        prop_assert_eq!(run_client(client(), &words, &[1])?.0, end);
    }

    /// Any reply, in pieces of any size, is taken to its last octet and no further.
    #[test]
    fn any_reply_is_taken_exactly(bound in any_bound(), sizes in any_sizes()) {
        let mut reply = [0; 300];
        let len = Reply { rep: Rep::SUCCEEDED, bound }.encode(&mut reply)?;
        let handshake = octets(&[&[0x05, 0x00], &reply[..len]]);
        let destination = by_name(b"a.example", 80);
        let client = ClientHandshake::new(Cmd::CONNECT, &destination, None);
        let words = octets(&[&handshake, b"220 a banner"]);
        let known = match bound.address {
            Address::Ip(_) => bound,
            Address::Fqdn(_) => Bound { port: bound.port, ..Bound::UNSPECIFIED },
        };
        let told = run_client(client, &words, &sizes)?;
        prop_assert_eq!(told, (Some(Ok(known)), handshake.len()));
    }

    /// Memory that someone scribbled on is refused, or it is the progress of a handshake that ends.
    #[test]
    fn any_words_of_progress(
        octets in progress_octets(),
        password: bool,
        words in any_words(),
        sizes in any_sizes(),
    ) {
        let progress_words = octets.as_chunks().0.iter().map(|&word| u64::from_le_bytes(word));
        let progress_words: Vec<u64> = progress_words.collect();
        let progress_words = progress_words.try_into().unwrap();
        if let Some(progress) = Progress::from_words(progress_words) {
            prop_assert_eq!(progress.to_words(), progress_words);
            let destination = by_name(b"a.example", 80);
            let cmd = Cmd::CONNECT;
            let client = ClientHandshake::resume(cmd, &destination, credentials(password), progress);
            run_client(client, &words, &sizes)?;
        }
    }

    #[test]
    fn any_words_from_a_client(words in any_words(), password: bool, sizes in any_sizes()) {
        let (end, taken) = run_server(policy(password), &words, &sizes)?;
        prop_assert!(end.is_some() || taken == words.len());
        prop_assert_eq!(run_server(policy(password), &words, &[1])?.0, end);
        prop_assert_eq!(run_server(policy(password), &words, &[MANY_OCTETS])?.0, end);
        if let Some(Ok(_)) = end {
            prop_assert!(taken <= 257 + 513 + 262);
        }
    }

    /// The two of them, with whatever arguments and pieces, mean the same.
    #[test]
    fn client_and_server_understand_each_other(
        destination in any_destination(),
        (user, word) in (any_text(), any_text()),
        (offered, required) in any::<(bool, bool)>(),
        (right, is_pipelined) in any::<(bool, bool)>(),
        rep: u8,
        bound in any_bound(),
        sizes in any_sizes(),
    ) {
        let credentials = Credentials::new(&user, &word)?;
        let mut client = start(is_pipelined, &destination, offered.then_some(credentials));
        let mut server = ServerHandshake::new(policy(required));
        let (mut to_server, mut to_client) = (vec![], vec![]);
        let mut requested = None;
        let mut end = None;
        for &size in sizes.iter().cycle().take(5 * MANY_OCTETS) {
            match server.step() {
                ServerStep::Receive => {
                    let len = size.min(to_server.len());
                    let taken = server.received(&to_server[..len]);
                    to_server.drain(..taken);
                }
                ServerStep::Send(octets) => {
                    let sent = size.min(octets.len());
                    to_client.extend_from_slice(&octets[..sent]);
                    server.sent(sent);
                }
                ServerStep::Authenticate(got) => {
                    prop_assert_eq!(got, credentials);
                    server.authenticated(right);
                }
                ServerStep::Request(request) if requested.is_none() => {
                    requested = Some(request);
                    let mut reply = [0; 300];
                    let len = encode_reply(request.version, Rep(rep), &bound, &mut reply)?;
                    to_client.extend_from_slice(&reply[..len]);
                }
                ServerStep::Request(_) | ServerStep::Fail(_) => {}
            }
            match client.step(&mut [0; CLIENT_SCRATCH_OCTETS]) {
                Step::Send(octets) => {
                    let sent = size.min(octets.len());
                    to_server.extend_from_slice(&octets[..sent]);
                    client.sent(sent);
                }
                Step::Receive(asked) => {
                    let received: Vec<_> =
                        to_client.drain(..size.min(asked).min(to_client.len())).collect();
                    if let Err(error) = client.received(&received) {
                        end = Some(Err(error));
                        break;
                    }
                }
                Step::Done(_) => {
                    end = Some(Ok(()));
                    break;
                }
            }
        }
        let expected = match (offered, required) {
            (false, true) => Err(HandshakeError::NoAcceptableMethod),
            (true, false) if is_pipelined => Err(HandshakeError::NoAcceptableMethod),
            (true, true) if !right => Err(HandshakeError::WrongPassword(0x01)),
            _ if rep != 0 => Err(HandshakeError::Reply(Rep(rep))),
            _ => Ok(()),
        };
        prop_assert_eq!(end, Some(expected));
        prop_assert!(expected.is_err() || (to_server.is_empty() && to_client.is_empty()));
        if let Some(request) = requested {
            prop_assert_eq!(request.destination, destination);
            prop_assert_eq!(request.cmd, Cmd::CONNECT);
        }
    }
}

type End<T> = Option<Result<T, HandshakeError>>;

/// How the handshake ends (`None`: it waits for more), and how many octets it takes.
fn run_client(
    mut client: ClientHandshake<'_>,
    words: &[u8],
    sizes: &[usize],
) -> Result<(End<Bound>, usize), TestCaseError> {
    let mut rest = words;
    let taken = |rest: &[u8]| words.len().abs_diff(rest.len());
    for &size in sizes.iter().cycle().take(5 * MANY_OCTETS) {
        match client.step(&mut [0; CLIENT_SCRATCH_OCTETS]) {
            Step::Send(octets) => {
                prop_assert!(!octets.is_empty());
                client.sent(size.min(octets.len()));
            }
            Step::Receive(asked) => {
                prop_assert_ne!(asked, 0);
                let (now, later) = rest.split_at(asked.min(size).min(rest.len()));
                rest = later;
                if now.is_empty() {
                    return Ok((None, taken(rest)));
                }
                if let Err(error) = client.received(now) {
                    return Ok((Some(Err(error)), taken(rest)));
                }
            }
            Step::Done(bound) => return Ok((Some(Ok(bound.into())), taken(rest))),
        }
    }
    Err(TestCaseError::fail("no end"))
}

/// The same for the server, which lets every other user in.
fn run_server(
    methods: ServerMethods,
    words: &[u8],
    sizes: &[usize],
) -> Result<(End<ServerRequest>, usize), TestCaseError> {
    let mut server = ServerHandshake::new(methods);
    let mut rest = words;
    let taken = |rest: &[u8]| words.len().abs_diff(rest.len());
    for &size in sizes.iter().cycle().take(5 * MANY_OCTETS) {
        match server.step() {
            ServerStep::Receive if rest.is_empty() => return Ok((None, taken(rest))),
            ServerStep::Receive => {
                let now = server.received(&rest[..size.min(rest.len())]);
                prop_assert_ne!(now, 0);
                rest = &rest[now..];
            }
            ServerStep::Send(octets) => {
                prop_assert!(!octets.is_empty());
                let sent = size.min(octets.len());
                server.sent(sent);
            }
            ServerStep::Authenticate(credentials) => {
                let ok = credentials.user().len().is_multiple_of(2);
                server.authenticated(ok);
            }
            ServerStep::Request(request) => return Ok((Some(Ok(request)), taken(rest))),
            ServerStep::Fail(error) => return Ok((Some(Err(error)), taken(rest))),
        }
    }
    Err(TestCaseError::fail("no end"))
}

fn start<'a>(
    is_pipelined: bool,
    destination: &'a Destination,
    credentials: Option<Credentials<'a>>,
) -> ClientHandshake<'a> {
    if is_pipelined {
        ClientHandshake::pipelined(Cmd::CONNECT, destination, credentials)
    } else {
        ClientHandshake::new(Cmd::CONNECT, destination, credentials)
    }
}

fn credentials(there_are: bool) -> Option<Credentials<'static>> {
    there_are.then(|| Credentials::new(b"alice", b"secret").unwrap())
}

fn policy(password: bool) -> ServerMethods {
    if password {
        ServerMethods::UsernamePassword
    } else {
        ServerMethods::NoAuthentication
    }
}

/// Sizes of segments, one after the other and then from the beginning again.
fn any_sizes() -> impl Strategy<Value = Vec<usize>> {
    vec(prop_oneof![1..8_usize, 1..MANY_OCTETS], 1..20)
}

/// Mere chance seldom gets past the first octet. So most of these are a few good messages with one
/// octet changed, or cut short, or with more behind them.
fn any_words() -> impl Strategy<Value = Vec<u8>> {
    let spoiled = (
        vec(prop_oneof![any_message(), any_noise(9)], 0..4),
        any_noise(MANY_OCTETS),
    );
    let change = prop::option::of((any::<prop::sample::Index>(), any::<u8>()));
    let cut = prop::option::of(any::<prop::sample::Index>());
    (spoiled, change, cut).prop_map(|((messages, behind), change, cut)| {
        let mut words = octets(&[&messages.concat(), &behind]);
        if let Some((at, octet)) = change.filter(|_| !words.is_empty()) {
            let at = at.index(words.len());
            words[at] = octet;
        }
        if let Some(cut) = cut.filter(|_| !words.is_empty()) {
            words.truncate(cut.index(words.len()));
        }
        words
    })
}

fn any_message() -> impl Strategy<Value = Vec<u8>> {
    let methods = vec(0..=3_u8, 0..4);
    let cmd = prop_oneof![Just(1_u8), any::<u8>()];
    prop_oneof![
        methods.prop_map(|methods| encoded(|buf| Greeting::new(&methods)?.encode(buf))),
        (any_text(), any_text())
            .prop_map(|(user, word)| encoded(|buf| Credentials::new(&user, &word)?.encode(buf))),
        (cmd.clone(), any_destination()).prop_map(|(cmd, destination)| {
            encoded(|buf| {
                Request {
                    cmd: Cmd(cmd),
                    destination,
                }
                .encode(buf)
            })
        }),
        (cmd, any_text(), any_user_id()).prop_map(|(cmd, name, user_id)| {
            let destination = by_name(&name, 80);
            encoded(|buf| {
                v4::Request {
                    cmd: Cmd(cmd),
                    destination,
                    user_id,
                }
                .encode(buf)
            })
        }),
        prop_oneof![
            Just(vec![5, 0]),
            Just(vec![5, 2]),
            Just(vec![1, 0]),
            Just(vec![5, 2, 1, 0])
        ],
        any_bound().prop_map(|bound| encoded(|buf| Reply {
            rep: Rep::SUCCEEDED,
            bound
        }
        .encode(buf))),
    ]
}

fn any_noise(most: usize) -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(vec![]),
        vec(any::<u8>(), 0..most),
        vec(1..=255_u8, 0..most)
    ]
}

fn encoded(encode: impl FnOnce(&mut [u8]) -> Result<usize, WireError>) -> Vec<u8> {
    let mut buf = vec![0; 600];
    let len = encode(&mut buf).unwrap();
    buf.truncate(len);
    buf
}

/// The words of some progress, mostly likely ones: phase, count, VER REP RSV ATYP LEN, and zeros from
/// some octet on.
fn progress_octets() -> impl Strategy<Value = Vec<u8>> {
    let ver = prop_oneof![Just(5_u8), Just(0), Just(1), any::<u8>()];
    let low = prop_oneof![0..8_u8, any::<u8>()];
    let rest = (
        prop_oneof![Just(0), any::<u8>()],
        0..=5_u8,
        vec(any::<u8>(), 25),
        0..25_usize,
    );
    (0..=7_u8, low, 0..=2_u8, ver, Just(0_u8), rest).prop_map(
        |(phase, low, high, ver, rep, (rsv, atyp, mut rest, zeros_from))| {
            rest[zeros_from..].fill(0);
            let atyp = if zeros_from == 0 { 0 } else { atyp };
            octets(&[&[phase, low, high, ver, rep, rsv, atyp], &rest])
        },
    )
}
