//! Messages laid out field by field, and whatever else may come.

use core::net::Ipv6Addr;

use proptest::prelude::*;

use super::*;
use crate::pool::Ranges;

/// What a resolver sends: ID 0x1234, RD.
const HEADER: [u8; 12] = [0x12, 0x34, 0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 0];
const OPT: [u8; 11] = [0, 0, 41, 0x02, 0x00, 0, 0, 0x80, 0, 0, 0];

struct Zone;

/// One name of each kind; what is registered under `*.example` are 198.18.0.7 and 100::7.
impl Names for Zone {
    fn address(&self, name: &[u8], family: Family) -> Found {
        match (name, family) {
            (b"gone.example", _) => Found::NoName,
            (b"full.example", _) => Found::Failed,
            (b"v4.example", Family::V6) => Found::NoAddress,
            (_, Family::V4) => Found::Address([198, 18, 0, 7].into()),
            (_, Family::V6) => Found::Address(Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 7).into()),
        }
    }

    fn name(&self, address: IpAddr) -> Option<Name> {
        let name: &[u8] = match address.to_string().as_str() {
            "198.18.0.7" | "100::7" => b"www.example",
            "198.18.0.8" => b"2001:db8::1",
            "198.18.0.9" => &[b'a'; 64],
            _ => return None,
        };
        Name::new(name).ok()
    }
}

fn wire(name: &str) -> Vec<u8> {
    let labels = name.split('.').filter(|label| !label.is_empty());
    let mut octets: Vec<u8> = labels
        .flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat())
        .collect();
    octets.push(0);
    octets
}

fn query(name: &str, kind: u16) -> Vec<u8> {
    [&HEADER[..], &wire(name), &kind.to_be_bytes(), &[0, 1]].concat()
}

fn asked(query: &[u8]) -> Option<Vec<u8>> {
    answer(query, &Zone, &mut [0xee; MAX_ANSWER]).map(<[u8]>::to_vec)
}

/// RCODE, ANCOUNT.
fn outcome(query: &[u8]) -> (u8, u8) {
    let answer = asked(query).expect("an answer");
    assert_eq!(answer[..2], query[..2], "ID");
    assert_eq!(answer[2] & 0x82, 0x80, "QR, and not TC");
    (answer[3] & 15, answer[7])
}

#[test]
fn a_question_for_an_address_laid_out_in_full() {
    let answer = asked(&query("wWw.Example", TYPE_A)).expect("an answer");
    let expected = [
        &[0x12, 0x34][..],                // ID
        &[0x81, 0x80],                    // QR, RD as it came, RA; RCODE 0
        &[0, 1, 0, 1, 0, 0, 0, 0],        // QDCOUNT, ANCOUNT, NSCOUNT, ARCOUNT
        b"\x03wWw\x07Example\0",          // QNAME, in the case that it came in
        &[0, 1, 0, 1],                    // QTYPE, QCLASS
        &[0xc0, 12],                      // NAME: the question's
        &[0, 1, 0, 1, 0, 0, 0, 60, 0, 4], // TYPE, CLASS, TTL, RDLENGTH
        &[198, 18, 0, 7],
    ];
    assert_eq!(answer, expected.concat());

    let answer = asked(&[&query("a", TYPE_AAAA)[..], &[]].concat()).expect("an answer");
    let record = [
        &[0xc0, 12, 0, 28, 0, 1, 0, 0, 0, 60, 0, 16, 1][..],
        &[0; 14],
        &[7],
    ]
    .concat();
    assert!(answer.ends_with(&record), "{answer:02x?}");
}

/// RFC 1035 §3.5, RFC 3596 §2.5.
#[test]
fn a_fake_address_has_the_name_that_it_stands_for_and_no_other_has_one() {
    let v6 = format!("7.{}1.0.ip6.ARPA", "0.".repeat(29));
    for name in ["7.0.18.198.in-addr.arpa", &v6] {
        let answer = asked(&query(name, TYPE_PTR)).expect("an answer");
        let record = b"\xc0\x0c\0\x0c\0\x01\0\0\0\x3c\0\x0d\x03www\x07example\0";
        assert!(answer.ends_with(record), "{name}: {answer:02x?}");
    }
    // A literal that was looked up is a name of one label.
    assert_eq!(outcome(&query("8.0.18.198.in-addr.arpa", TYPE_PTR)), (0, 1));
    for name in [
        "1.2.0.192.in-addr.arpa",
        "9.0.18.198.in-addr.arpa", // a label too long for DNS
        "07.0.18.198.in-addr.arpa",
        "+7.0.18.198.in-addr.arpa",
        "256.0.18.198.in-addr.arpa",
        "0.18.198.in-addr.arpa",
        "7.7.0.18.198.in-addr.arpa",
        "in-addr.arpa",
        "7.ip6.arpa",
    ] {
        assert_eq!(outcome(&query(name, TYPE_PTR)), (3, 0), "{name}");
    }
    // Such names lead to services, and there may be some.
    for name in ["_http._tcp.example", "arpa", ""] {
        assert_eq!(outcome(&query(name, TYPE_PTR)), (2, 0), "{name}");
    }
}

#[test]
fn what_cannot_be_known_is_not_denied() {
    for (name, kind, expected) in [
        ("gone.example", TYPE_A, (3, 0)),
        ("gone.example", TYPE_ANY, (3, 0)),
        ("full.example", TYPE_AAAA, (2, 0)),
        ("v4.example", TYPE_AAAA, (0, 0)),
        ("v4.example", TYPE_ANY, (0, 1)),
        ("a.example", TYPE_ANY, (0, 2)),
        ("a.example", TYPE_HTTPS, (0, 0)),
        ("a.example", TYPE_SVCB, (0, 0)),
        ("a.example", 15, (2, 0)), // MX
        ("a.example", 16, (2, 0)), // TXT
        ("a.example", 5, (2, 0)),  // CNAME
        ("a.example", TYPE_AXFR, (5, 0)),
        ("a.example", TYPE_IXFR, (5, 0)),
    ] {
        assert_eq!(outcome(&query(name, kind)), expected, "{name} {kind}");
    }
    let mut chaos = query("version.bind", 16);
    *chaos.last_mut().expect("QCLASS") = 3;
    assert_eq!(outcome(&chaos), (5, 0));
}

/// RFC 1035 §5.1 writes such a label as `a\.b`. As text it would be another name.
#[test]
fn a_dot_within_a_label_is_no_dot_between_two() {
    let dotted = [&HEADER[..], b"\x03a.b\x07example\0", &[0, 1, 0, 1]].concat();
    assert_eq!(outcome(&dotted), (3, 0));
}

#[test]
fn what_is_no_query_is_answered_as_the_rfcs_say() {
    let good = query("a.example", TYPE_A);
    let with = |place: usize, octet: u8| {
        let mut query = good.clone();
        query[place] = octet;
        query
    };
    assert_eq!(asked(&with(2, 0x81)), None, "a response");
    assert_eq!(outcome(&with(2, 0x29)), (4, 0), "UPDATE (RFC 2136)");
    assert_eq!(outcome(&with(5, 0)), (1, 0), "no question");
    assert_eq!(outcome(&with(5, 2)), (1, 0), "two questions");
    assert_eq!(outcome(&with(12, 0xc0)), (1, 0), "a pointer");
    assert_eq!(
        outcome(&with(12, 0x40)),
        (1, 0),
        "a label of a kind that nobody uses"
    );
    assert_eq!(outcome(&with(11, 1)), (1, 0), "a record that is not there");
    // CD and RD are given back, AD and TC are not.
    let answer = asked(&with(3, 0x30)).expect("an answer");
    assert_eq!(answer[2..4], [0x81, 0x90]);
    let long = [
        &HEADER[..],
        &[&[63][..], &[b'a'; 63]].concat().repeat(4),
        &[0, 0, 1, 0, 1],
    ]
    .concat();
    assert_eq!(outcome(&long), (1, 0), "a name of more than 255 octets");
}

/// RFC 6891 §6.1.1, §6.1.3; RFC 3225 §3.
#[test]
fn edns_is_answered_in_kind() {
    let with_opt = |opt: &[u8], count: u8| {
        let mut query = [&query("a.example", TYPE_A)[..], opt].concat();
        query[11] = count;
        query
    };
    let answer = asked(&with_opt(&OPT, 1)).expect("an answer");
    assert_eq!((answer[3] & 15, answer[7], answer[11]), (0, 1, 1));
    assert!(answer.ends_with(&OPT), "{answer:02x?}");

    // With a cookie (RFC 7873), which need not be answered.
    let mut cookie = [&OPT[..], &[0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8]].concat();
    cookie[10] = 12;
    assert!(
        asked(&with_opt(&cookie, 1))
            .expect("an answer")
            .ends_with(&OPT)
    );

    let mut newer = OPT;
    newer[6] = 1;
    let answer = asked(&with_opt(&newer, 1)).expect("an answer");
    assert_eq!(
        (answer[3] & 15, answer[7], answer[11]),
        (0, 0, 1),
        "BADVERS"
    );
    assert!(answer.ends_with(&[0, 0, 41, 0x02, 0x00, 1, 0, 0x80, 0, 0, 0]));

    assert_eq!(outcome(&with_opt(&OPT.repeat(2), 2)), (1, 0), "two of them");
    let of_a_name = [&[1, b'a'][..], &OPT].concat();
    assert_eq!(outcome(&with_opt(&of_a_name, 1)), (1, 0), "not the root's");
}

#[test]
fn each_prefix_of_a_query_is_malformed() {
    let mut whole = [&query("www.example", TYPE_A)[..], &OPT].concat();
    whole[11] = 1;
    for len in 0..whole.len() {
        match asked(&whole[..len]) {
            None => assert!(len < 12, "{len}"),
            Some(answer) => {
                assert_eq!((answer.len(), answer[3] & 15), (12, 1), "{len}");
            }
        }
    }
}

/// "A, AAAA, PTR answered from the table": there and back, and the key is that of every other look-up.
#[test]
fn the_table_itself_answers() {
    let table = Table::private(&Ranges::default()).expect("memory");
    let mut room = [0; MAX_ANSWER];
    let octets = answer(&query("WWW.example", TYPE_A), &table, &mut room).expect("an answer");
    let address: [u8; 4] = octets[octets.len() - 4..].try_into().expect("four");
    assert_eq!(
        table.fake(b"www.example", Family::V4),
        Ok(IpAddr::from(address))
    );
    let [a, b, c, d] = address;
    let reverse = query(&format!("{d}.{c}.{b}.{a}.in-addr.arpa"), TYPE_PTR);
    let octets = answer(&reverse, &table, &mut room).expect("an answer");
    assert!(octets.ends_with(b"\x03www\x07example\0"));
}

proptest! {
    #[test]
    fn whatever_comes_is_answered_within_bounds(octets in prop::collection::vec(any::<u8>(), 0..600)) {
        if let Some(answer) = asked(&octets) {
            prop_assert!(answer.len() >= 12 && octets[2] & 0x80 == 0);
            prop_assert_eq!(&answer[..2], &octets[..2]);
        } else {
            prop_assert!(octets.len() < 12 || octets[2] & 0x80 != 0);
        }
    }

    /// Nearly a query, so that the depths are reached.
    #[test]
    fn a_query_with_octets_changed_is_answered(
        name in prop::collection::vec("[a-z0-9._-]{0,63}", 0..6),
        kind in prop::sample::select(vec![TYPE_A, TYPE_AAAA, TYPE_PTR, TYPE_ANY, TYPE_HTTPS, 15]),
        reverse in prop::sample::select(vec!["", ".in-addr.arpa", ".ip6.arpa"]),
        changes in prop::collection::vec((2usize..400, any::<u8>()), 0..4),
    ) {
        let mut octets = [&query(&(name.join(".") + reverse), kind)[..], &OPT].concat();
        octets[11] = 1;
        for (place, octet) in changes {
            let len = octets.len();
            octets[place % len] = octet;
        }
        if let Some(answer) = asked(&octets) {
            prop_assert!(answer.len() >= 12);
            // What is given back of the question is what came.
            if answer[5] == 1 && answer[7] == 0 {
                let end = answer.len() - if answer[11] == 1 { 11 } else { 0 };
                prop_assert_eq!(&answer[12..end], &octets[12..end]);
            }
        }
    }
}
