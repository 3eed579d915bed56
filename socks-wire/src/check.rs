//! For this crate's tests: what is to be true of every message, and messages made by chance.

use core::net::IpAddr;
use std::vec::Vec;

use proptest::{collection::vec, prelude::*};

use crate::{Address, Bound, Destination, Fqdn, v4::UserId};

/// Fields in their order on the wire.
pub(crate) fn octets(fields: &[&[u8]]) -> Vec<u8> {
    fields.concat()
}

/// The message is these octets and these octets are the message; each prefix of them asks for more,
/// and never for more than is missing; what follows them is left alone; a buffer that is too small
/// is told how small.
macro_rules! assert_on_the_wire {
    ($Message:ident, $message:expr, $octets:expr) => {{
        let message = $message;
        let octets: &[u8] = &$octets.to_vec();
        let len_octets = octets.len();

        let mut longer = octets.to_vec();
        longer.extend_from_slice(b"220 a banner");
        assert_eq!(
            $Message::parse(octets),
            Ok(Parsed::Whole {
                message,
                len_octets
            })
        );
        assert_eq!(
            $Message::parse(&longer),
            Ok(Parsed::Whole {
                message,
                len_octets
            })
        );
        for len in 0..len_octets {
            match $Message::parse(&octets[..len]) {
                Ok(Parsed::More(more)) => {
                    assert!((1..=octets[len..].len()).contains(&more), "{more} at {len}");
                }
                other => panic!("{other:?} at {len} of {len_octets}"),
            }
        }

        let mut buf = [0xEE; 600];
        assert_eq!(message.encode(&mut buf), Ok(len_octets));
        assert_eq!(&buf[..len_octets], octets);
        assert!(
            buf[len_octets..].iter().all(|&octet| octet == 0xEE),
            "written past the end"
        );
        assert_eq!(message.encode(&mut buf[..len_octets]), Ok(len_octets));
        for len in 0..len_octets {
            let no_room = WireError::NoRoom { needed: len_octets };
            assert_eq!(message.encode(&mut buf[..len]), Err(no_room));
        }
    }};
}
pub(crate) use assert_on_the_wire;

/// The message, encoded and read back.
macro_rules! assert_round_trip {
    ($Message:ident, $message:expr) => {{
        let mut buf = [0; 600];
        let len_octets = $message.encode(&mut buf).unwrap();
        assert_on_the_wire!($Message, $message, &buf[..len_octets]);
    }};
}
pub(crate) use assert_round_trip;

/// 2001:db8::1, as the wire has it.
pub(crate) const V6: [u8; 16] = [0x20, 0x01, 0x0D, 0xB8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

pub(crate) fn by_name(name: &[u8], port: u16) -> Destination {
    Destination {
        address: Fqdn::new(name).unwrap().into(),
        port,
    }
}

pub(crate) fn by_address(text: &str) -> Destination {
    text.parse::<core::net::SocketAddr>().unwrap().into()
}

/// Most names are made of few different octets, so that two of them are often alike in part.
fn text(len: core::ops::RangeInclusive<usize>) -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        vec(1..=255_u8, len.clone()),
        vec(prop_oneof![Just(b'a'), Just(b'.')], len)
    ]
}

pub(crate) fn any_text() -> impl Strategy<Value = Vec<u8>> {
    text(1..=255)
}

pub(crate) fn any_user_id() -> impl Strategy<Value = UserId> {
    text(0..=255).prop_map(|octets| UserId::new(&octets).unwrap())
}

pub(crate) fn any_address() -> impl Strategy<Value = Address> {
    prop_oneof![
        any::<IpAddr>().prop_map(Address::from),
        any_text().prop_map(|octets| Fqdn::new(&octets).unwrap().into()),
    ]
}

pub(crate) fn any_destination() -> impl Strategy<Value = Destination> {
    (any_address(), any::<u16>()).prop_map(|(address, port)| Destination { address, port })
}

pub(crate) fn any_bound() -> impl Strategy<Value = Bound> {
    (any_address(), any::<u16>()).prop_map(|(address, port)| Bound { address, port })
}
