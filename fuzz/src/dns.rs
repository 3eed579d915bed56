//! Questions of programs that bring a resolver of their own.

use std::net::IpAddr;

use fake_dns::Family;
use fake_dns::Name;
use fake_dns::dns::{Found, MAX_ANSWER, Names, answer as answer_of};

const HEADER_OCTETS: usize = 12;

/// Names by their last letter, and whatever name an address asks for: long ones, with labels that DNS has no room for.
struct Zone;

impl Names for Zone {
    fn address(&self, name: &[u8], family: Family) -> Found {
        assert!(name.len() <= 253, "no name in DNS is as long");
        assert!(!name.ends_with(b"."), "{}", name.escape_ascii());
        match (name.last(), family) {
            (Some(b'n'), _) => Found::NoName,
            (Some(b'f'), _) => Found::Failed,
            (Some(b'4'), Family::V6) | (Some(b'6'), Family::V4) => Found::NoAddress,
            (_, Family::V4) => Found::Address([198, 18, 0, 7].into()),
            (_, Family::V6) => Found::Address(0x100_u128.rotate_right(16).to_be_bytes().into()),
        }
    }

    fn name(&self, address: IpAddr) -> Option<Name> {
        let last = match address {
            IpAddr::V4(v4) => v4.octets()[3],
            IpAddr::V6(v6) => v6.octets()[15],
        };
        let label = vec![b'a'; usize::from(last % 65)];
        let labels = vec![label; usize::from(last / 65) + 1];
        Name::new(&labels.join(&b'.')).ok()
    }
}

/// A query has an answer that is whole, the query's own, and not too long; what is no query has none.
pub(crate) fn answer(query: &[u8]) {
    let mut room = [0xee; MAX_ANSWER];
    let answer = answer_of(query, &Zone, &mut room);
    let is_query = query.len() >= HEADER_OCTETS && query[2] & 0x80 == 0;
    let Some(answer) = answer else {
        assert!(!is_query, "a query without an answer");
        return;
    };
    assert!(is_query, "an answer to what is no query");
    assert_eq!(answer[..2], query[..2], "ID");
    let kept = 0x79; // OPCODE and RD
    assert_eq!(
        answer[2],
        query[2] & kept | 0x80,
        "QR, and neither AA nor TC"
    );
    let rcode = answer[3] & 0x0f;
    let counts = [4, 6, 8, 10].map(|at| u16::from_be_bytes([answer[at], answer[at + 1]]));
    let [questions, answers, authorities, additional] = counts;
    assert!(questions <= 1 && answers <= 2 && authorities == 0 && additional <= 1);
    assert!(answers == 0 || rcode == 0, "records beside an error");

    let mut rest = &answer[HEADER_OCTETS..];
    for _ in 0..questions {
        let before = rest;
        skip_name(&mut rest);
        take(&mut rest, 4);
        let question = &before[..before.len() - rest.len()];
        assert!(
            query[HEADER_OCTETS..].starts_with(question),
            "the question as it came"
        );
    }
    for _ in 0..answers + additional {
        skip_name(&mut rest);
        let fixed = take(&mut rest, 10);
        take(&mut rest, u16::from_be_bytes([fixed[8], fixed[9]]).into());
    }
    assert!(rest.is_empty(), "octets that nobody counts");
}

fn take<'a>(rest: &mut &'a [u8], len: usize) -> &'a [u8] {
    let (taken, behind) = rest.split_at(len);
    *rest = behind;
    taken
}

fn skip_name(rest: &mut &[u8]) {
    loop {
        match take(rest, 1)[0] {
            0 => return,
            pointer @ 0xc0.. => {
                let low = take(rest, 1)[0];
                assert_eq!([pointer, low], [0xc0, 0x0c], "the question's name");
                return;
            }
            len => {
                assert!(len < 64);
                take(rest, len.into());
            }
        }
    }
}
