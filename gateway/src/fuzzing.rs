//! What has to be true of whatever a client sends and an operator writes. The parsers are private, so what fuzz/ asks of
//! them stands here; a target panics where it is not so.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "a target's way of saying that something is wrong"
)]

use std::fmt::Debug;
use std::iter;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::str::FromStr;
use std::time::{Duration, Instant};

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType, recv, send, shutdown,
    socketpair,
};
use socks_wire::{Credentials, ServerRequest};

use crate::config::Config;
use crate::error::ServeError;
use crate::file::File;
use crate::handshake::negotiate;
use crate::hash::{self, Hash};
use crate::nat64::Source;
use crate::passwd::with_line;
use crate::proxy::{parse, read_source};
use crate::rules::words::{Names, Ports};
use crate::stream::Stream;
use crate::text::{Cidr, Endpoint, Level, Rate, Span};
use crate::upstream::HostPort;
use crate::users::{Users, UsersError, split};

/// What a client's three longest messages take together.
const HANDSHAKE_OCTETS: usize = 257 + 513 + 262;

/// `OPTIONS CUTS OCTETS…`: the octets of a client, cut into pieces in a way that CUTS says, come to the same as all of them
/// at once and as one by one: the same request, answers and early data. With bit 0 of OPTIONS a password is asked for.
pub fn handshake(input: &[u8]) {
    let Some(([options, cuts], octets)) = input.split_first_chunk() else {
        return;
    };
    let octets = octets.get(..2048).unwrap_or(octets);
    let asks = options & 1 == 1;
    let at_once = negotiated(octets, iter::repeat(usize::MAX), asks);
    assert_eq!(negotiated(octets, iter::repeat(1), asks), at_once);
    assert_eq!(negotiated(octets, pieces(*cuts), asks), at_once);
    if let Ok((_, behind)) = &at_once.end {
        assert!(octets.ends_with(behind), "early data is what was sent");
        let taken = octets.len().saturating_sub(behind.len());
        assert!(taken <= HANDSHAKE_OCTETS, "{taken} octets for a handshake");
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    /// The request, and what the client has sent behind it.
    end: Result<(ServerRequest, Vec<u8>), String>,
    user: Option<String>,
    answers: Vec<u8>,
}

fn negotiated(octets: &[u8], sizes: impl Iterator<Item = usize>, asks: bool) -> Outcome {
    // Each piece is a packet, which recv(2) gives by itself however soon the next one comes.
    let (client, ours) = pair(SocketType::SEQPACKET);
    let mut rest = octets;
    for (count, size) in sizes.enumerate() {
        // Of small packets a socket holds some two hundred.
        let size = if count < 100 { size } else { usize::MAX };
        let (piece, later) = rest.split_at(size.clamp(1, 1024).min(rest.len()));
        if piece.is_empty() {
            break;
        }
        send(&client, piece, SendFlags::NOSIGNAL).expect("room for it");
        rest = later;
    }
    shutdown(&client, Shutdown::Write).expect("it is connected");

    let check = |given: &Credentials<'_>| Ok(given.user().len().is_multiple_of(2));
    let check: Option<&crate::handshake::Check<'_>> = asks.then_some(&check);
    let mut user = None;
    let end = negotiate(Stream::plain(ours.as_fd()), check, later(), &mut user);
    let end = match end {
        Ok(negotiated) => {
            let behind = [negotiated.early, everything(&ours)].concat();
            Ok((negotiated.request, behind))
        }
        Err(error) => Err(format!("{error:?}")),
    };
    // Before our end is closed: with octets unread that would be a reset.
    let answers = everything(&client);
    Outcome { end, user, answers }
}

/// `CUTS OCTETS…`: a header of the PROXY protocol is judged alike as soon as it is whole or wrong, whatever follows; and
/// of a stream no octet more is read than the header has.
pub fn proxy(input: &[u8]) {
    let Some((cuts, octets)) = input.split_first() else {
        return;
    };
    let octets = octets.get(..8192).unwrap_or(octets);
    let whole = parse(octets);
    if let Ok(Some(header)) = whole {
        assert_eq!(Some(header.len_octets), end_of_header(octets));
        let less = octets.get(..header.len_octets.saturating_sub(1));
        assert_eq!(parse(less.unwrap_or_default()), Ok(None));
    }
    let mut len = 0_usize;
    for size in pieces(*cuts).take(64) {
        len = len.saturating_add(size);
        let Some(begin) = octets.get(..len) else {
            break;
        };
        let so_far = parse(begin);
        assert!(so_far == Ok(None) || so_far == whole, "{so_far:?} at {len}");
    }

    let (balancer, ours) = pair(SocketType::STREAM);
    send(&balancer, octets, SendFlags::NOSIGNAL).ok();
    shutdown(&balancer, Shutdown::Write).expect("it is connected");
    match (read_source(ours.as_fd(), later()), whole) {
        (Ok(source), Ok(Some(header))) => {
            assert_eq!(source, header.source);
            let behind = octets.get(header.len_octets..);
            assert_eq!(everything(&ours), behind.expect("no more than there is"));
        }
        (Err(ServeError::Proxy(error)), Err(other)) => assert_eq!(error, other),
        (Err(ServeError::ClientGone), Ok(None)) => {}
        (read, parsed) => panic!("{read:?} where the parser says {parsed:?}"),
    }
}

/// Where it says that it ends: version 1 has a line, version 2 a length.
fn end_of_header(octets: &[u8]) -> Option<usize> {
    if octets.starts_with(b"PROXY") {
        let line = octets.windows(2).position(|two| two == b"\r\n")?;
        return Some(line + 2);
    }
    let (head, _) = octets.split_first_chunk::<16>()?;
    let [.., high, low] = *head;
    Some(16 + usize::from(u16::from_be_bytes([high, low])))
}

/// A configuration file that is understood can be printed, and what is printed says the same, to the letter and in what is
/// made of it. One that is not says where it is wrong.
pub fn config(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else {
        return;
    };
    let path = Path::new("gateway.toml");
    let file = match File::parse(path, text) {
        Ok(file) => file,
        Err(error) => {
            let said = error.to_string();
            assert!(said.contains("line "), "{said}");
            return;
        }
    };
    let settings = file.settings();
    let printed = toml::to_string(&file.in_force()).expect("all of it has a form");
    let again = File::parse(path, &printed).expect("it is a configuration");
    let settings_again = again.settings();
    assert_eq!(format!("{settings:?}"), format!("{settings_again:?}"));
    let printed_again = toml::to_string(&again.in_force()).expect("all of it has a form");
    assert_eq!(printed_again, printed);
    match (Config::new(settings), Config::new(settings_again)) {
        (Ok(_), Ok(_)) => {}
        (Err(one), Err(other)) => assert_eq!(one, other),
        (one, other) => panic!("{:?} and {:?}", one.err(), other.err()),
    }
}

/// `KIND TEXT`: a value that is understood is written in a form that is understood as the same.
pub fn value(input: &[u8]) {
    let Some((kind, text)) = input.split_first() else {
        return;
    };
    let Ok(text) = str::from_utf8(text) else {
        return;
    };
    match kind {
        b's' => is_written_as_it_is_read::<Span>(text),
        b'c' => is_written_as_it_is_read::<Cidr>(text),
        b'e' => is_written_as_it_is_read::<Endpoint>(text),
        b'l' => is_written_as_it_is_read::<Level>(text),
        b'r' => is_written_as_it_is_read::<Rate>(text),
        b'n' => is_written_as_it_is_read::<Names>(text),
        b'p' => is_written_as_it_is_read::<Ports>(text),
        b'u' => is_written_as_it_is_read::<HostPort>(text),
        b'6' => is_written_as_it_is_read::<Source>(text),
        _ => {}
    }
}

fn is_written_as_it_is_read<T>(text: &str)
where
    T: FromStr<Err = String> + ToString + PartialEq + Debug,
{
    if let Ok(value) = text.parse::<T>() {
        let written = value.to_string();
        assert_eq!(written.parse::<T>().as_ref(), Ok(&value), "{written}");
    }
}

/// Whether a rule's `names` has this name; `None` if it is no pattern.
#[must_use]
pub fn names_contain(pattern: &str, name: &[u8]) -> Option<bool> {
    let names: Names = pattern.parse().ok()?;
    Some(names.contain(name))
}

/// A password file: no hash is taken on that costs more than a gateway gives, whatever its text says, and a cheap one can
/// be computed; `passwd` changes the line of its user and no other.
pub fn passwords(input: &[u8]) {
    let lines = || input.split_inclusive(|octet| *octet == b'\n');
    for (_, text) in lines().filter_map(split) {
        let text = text.strip_suffix(b"\n").unwrap_or(text);
        let Some(hash) = Hash::parse(text) else {
            continue;
        };
        assert!(hash::is_hash(text), "{}", text.escape_ascii());
        let said = |key: &[u8]| number_behind(text, key);
        let (memory, passes, lanes) = (said(b"m="), said(b"t="), said(b"p="));
        assert!(
            memory <= 256 << 10 && passes <= 16 && lanes <= 16,
            "{memory} {passes} {lanes}"
        );
        if memory <= 64 && passes <= 2 {
            hash.is_of(b"password").expect("memory for it");
        }
    }

    let users = Users::from_lines(input);
    let (name, line) = (b"alice".as_slice(), b"alice:s3cret\n".as_slice());
    let (new, was_there) = with_line(input, name, line);
    let is_alices =
        |line: &&[u8]| !line.starts_with(b"#") && split(line).is_some_and(|(user, _)| user == name);
    assert_eq!(was_there, lines().any(|line| is_alices(&line)));
    assert_eq!(with_line(&new, name, line), (new.clone(), true));
    let (without, _) = with_line(&new, name, b"");
    let others = lines().filter(|line| !is_alices(line));
    let others: Vec<_> = others.collect::<Vec<_>>().concat();
    let kept = without.strip_prefix(others.as_slice());
    assert!(
        matches!(kept, Some(b"" | b"\n")),
        "{}",
        without.escape_ascii()
    );
    match (users, Users::from_lines(&new)) {
        (Ok(_) | Err(UsersError::Empty), Ok(_)) | (Err(_), _) => {}
        (Ok(_), Err(error)) => panic!("passwd has spoiled a file: {error}"),
    }
}

/// The largest number behind such a key, 0 if there is none.
fn number_behind(text: &[u8], key: &[u8]) -> u64 {
    let parameters = text.split(|octet| b"$,".contains(octet));
    let numbers = parameters.filter_map(|it| str::from_utf8(it.strip_prefix(key)?).ok());
    numbers
        .map(|digits| digits.parse().unwrap_or(u64::MAX))
        .max()
        .unwrap_or(0)
}

/// Sizes of pieces without end, the same for the same seed: mostly small ones.
pub fn pieces(seed: u8) -> impl Iterator<Item = usize> {
    let mut state = u32::from(seed).wrapping_mul(0x9e37_79b9) | 1;
    iter::from_fn(move || {
        // Marsaglia's xorshift.
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        let bits = state % 10;
        usize::try_from(1 + (state >> 8) % (1 << bits)).ok()
    })
}

fn pair(kind: SocketType) -> (OwnedFd, OwnedFd) {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socketpair(AddressFamily::UNIX, kind, flags, None).expect("sockets")
}

/// Nothing here waits: what is to come is there, and its end too.
fn later() -> Instant {
    let now = Instant::now();
    now.checked_add(Duration::from_secs(3600)).unwrap_or(now)
}

/// What is there to be read.
fn everything(socket: &OwnedFd) -> Vec<u8> {
    let mut all = Vec::new();
    let mut octets = [0; 4096];
    while let Ok((received @ 1.., _)) = recv(socket, &mut octets, RecvFlags::empty()) {
        all.extend_from_slice(octets.get(..received).unwrap_or_default());
    }
    all
}
