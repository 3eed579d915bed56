//! DNS messages answered from the table: query octets in, answer octets out (RFC 1035 §4), for programs that bring a
//! resolver of their own. Without heap, on the stack of whoever asks; who carries the octets is not its business.
//!
//! | asked for | answer |
//! |---|---|
//! | A, AAAA | the fake address of the name; none if [`Names`] has none of that family |
//! | ANY | both (RFC 8482 §4.1) |
//! | PTR below in-addr.arpa, ip6.arpa | the name behind a fake address; NXDOMAIN for any other: nobody is asked |
//! | HTTPS, SVCB | no such record: programs then go on with the addresses (RFC 9460 §3) |
//! | AXFR, IXFR; a class other than IN | REFUSED |
//! | any other type | SERVFAIL: there may be such a record, and "none" would be a lie that sends mail astray (RFC 5321 §5.1) |
//!
//! Every answer fits the 512 octets of RFC 1035 §2.3.4, so that TC is never set.

mod message;

use core::net::IpAddr;

use message::{
    CLASS_ANY, CLASS_IN, FORMAT_ERROR, Header, IS_RESPONSE, NAME_ERROR, NO_ERROR, NOT_IMPLEMENTED,
    OPCODE, Opt, Question, REFUSED, Reader, SERVER_FAILURE, TYPE_A, TYPE_AAAA, TYPE_ANY, TYPE_AXFR,
    TYPE_HTTPS, TYPE_IXFR, TYPE_PTR, TYPE_SVCB, Writer,
};

use crate::name::Name;
use crate::pool::Family;
use crate::shared::Table;

/// No answer is longer: 12 of header, 72 + 4 of the longest reverse question, 12 + 255 of its PTR record, 11 of OPT.
pub const MAX_ANSWER: usize = 512;

/// Who knows names and addresses: the table alone, or the table behind somebody's rules.
pub trait Names {
    /// The address of a name: text with dots, none at its end.
    fn address(&self, name: &[u8], family: Family) -> Found;
    /// The name of an address.
    fn name(&self, address: IpAddr) -> Option<Name>;
}

/// What became of the look-up of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// This one.
    Address(IpAddr),
    /// The name is there, with no address of this family.
    NoAddress,
    /// There is no such name.
    NoName,
    /// None can be given now.
    Failed,
}

impl Names for Table {
    fn address(&self, name: &[u8], family: Family) -> Found {
        self.fake(name, family)
            .map_or(Found::Failed, Found::Address)
    }

    fn name(&self, address: IpAddr) -> Option<Name> {
        self.lookup(address)
    }
}

/// The answer to a DNS query, in `room`; `None` if what came is none: a response, or shorter than a header.
pub fn answer<'a>(
    query: &[u8],
    names: &impl Names,
    room: &'a mut [u8; MAX_ANSWER],
) -> Option<&'a [u8]> {
    let mut octets = Reader(query);
    let header = Header::read(&mut octets)?;
    if header.flags & IS_RESPONSE != 0 {
        return None;
    }
    let mut message = Writer::new(room);
    let rcode = respond(&header, octets, names, &mut message);
    Some(message.finish(&header, rcode))
}

fn respond(
    header: &Header,
    mut octets: Reader<'_>,
    names: &impl Names,
    message: &mut Writer<'_>,
) -> u16 {
    if header.flags & OPCODE != 0 {
        return NOT_IMPLEMENTED;
    }
    // RFC 9619: a query has one question.
    let question = Question::read(&mut octets).filter(|_| header.questions == 1);
    let (Some(question), Some(opt)) = (question, Opt::find(header, octets)) else {
        return FORMAT_ERROR;
    };
    message.put_question(&question);
    let Opt::There { version, flags } = opt else {
        return resolve(&question, names, message);
    };
    // RFC 6891 §6.1.3: BADVERS is 16, of which the OPT record carries the upper bits.
    let (rcode, upper) = if version == 0 {
        (resolve(&question, names, message), 0)
    } else {
        (NO_ERROR, 1)
    };
    message.put_opt(upper, flags);
    rcode
}

fn resolve(question: &Question<'_>, names: &impl Names, message: &mut Writer<'_>) -> u16 {
    if !matches!(question.class, CLASS_IN | CLASS_ANY) {
        return REFUSED;
    }
    match question.kind {
        TYPE_A => resolve_addresses(question, &[Family::V4], names, message),
        TYPE_AAAA => resolve_addresses(question, &[Family::V6], names, message),
        TYPE_ANY => resolve_addresses(question, &[Family::V4, Family::V6], names, message),
        TYPE_PTR => match question.reverse() {
            None => SERVER_FAILURE,
            Some(address) => address
                .and_then(|address| names.name(address))
                .and_then(|name| message.put_ptr(name.as_bytes()))
                .map_or(NAME_ERROR, |()| NO_ERROR),
        },
        TYPE_SVCB | TYPE_HTTPS => NO_ERROR,
        TYPE_IXFR | TYPE_AXFR => REFUSED,
        _ => SERVER_FAILURE,
    }
}

fn resolve_addresses(
    question: &Question<'_>,
    families: &[Family],
    names: &impl Names,
    message: &mut Writer<'_>,
) -> u16 {
    let mut room = [0; 255];
    let Some(name) = question.text(&mut room) else {
        return NAME_ERROR;
    };
    for &family in families {
        match names.address(name, family) {
            Found::Address(address) => message.put_address(address),
            Found::NoAddress => {}
            Found::NoName => return NAME_ERROR,
            Found::Failed => return SERVER_FAILURE,
        }
    }
    NO_ERROR
}

/// Whether a stub resolver that gets this RCODE asks the next server: it says nothing of the name.
pub fn is_refusal(rcode: u8) -> bool {
    matches!(u16::from(rcode), SERVER_FAILURE | NOT_IMPLEMENTED | REFUSED)
}

#[cfg(test)]
mod tests;
