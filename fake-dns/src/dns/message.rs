//! The parts of a DNS message, read and written (RFC 1035 §4). What is answered is not its business.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::MAX_ANSWER;

// RFC 1035 §4.1.1, RFC 4035 §3.1.6 (CD).
pub(super) const IS_RESPONSE: u16 = 0x8000;
pub(super) const OPCODE: u16 = 0x7800;
pub(super) const RECURSION_DESIRED: u16 = 0x0100;
pub(super) const RECURSION_AVAILABLE: u16 = 0x0080;
pub(super) const CHECKING_DISABLED: u16 = 0x0010;

pub(super) const NO_ERROR: u16 = 0;
pub(super) const FORMAT_ERROR: u16 = 1;
pub(super) const SERVER_FAILURE: u16 = 2;
pub(super) const NAME_ERROR: u16 = 3;
pub(super) const NOT_IMPLEMENTED: u16 = 4;
pub(super) const REFUSED: u16 = 5;

pub(super) const TYPE_A: u16 = 1;
pub(super) const TYPE_PTR: u16 = 12;
pub(super) const TYPE_AAAA: u16 = 28;
pub(super) const TYPE_OPT: u16 = 41;
pub(super) const TYPE_SVCB: u16 = 64;
pub(super) const TYPE_HTTPS: u16 = 65;
pub(super) const TYPE_IXFR: u16 = 251;
pub(super) const TYPE_AXFR: u16 = 252;
pub(super) const TYPE_ANY: u16 = 255;
pub(super) const CLASS_IN: u16 = 1;
pub(super) const CLASS_ANY: u16 = 255;

pub(super) const HEADER_OCTETS: usize = 12;
/// RFC 1035 §2.3.4: a whole name, with the length of each label and of the root's.
pub(super) const NAME_OCTETS: usize = 255;
pub(super) const LABEL_OCTETS: usize = 63;
/// RFC 6891 §6.2.3: how long a question may be, which is no more than without EDNS.
pub(super) const UDP_OCTETS: u16 = 512;
pub(super) const DNSSEC_OK: u16 = 0x8000;
/// A fake address lasts as long as its table, which may be another in the next run.
pub(super) const TTL_SECONDS: u32 = 60;

pub(super) struct Header {
    id: u16,
    pub(super) flags: u16,
    pub(super) questions: u16,
    answers: u16,
    authorities: u16,
    additional: u16,
}

impl Header {
    pub(super) fn read(octets: &mut Reader<'_>) -> Option<Self> {
        Some(Self {
            id: octets.number()?,
            flags: octets.number()?,
            questions: octets.number()?,
            answers: octets.number()?,
            authorities: octets.number()?,
            additional: octets.number()?,
        })
    }
}

/// RFC 1035 §4.1.2.
pub(super) struct Question<'a> {
    /// All of it, to be given back octet for octet: resolvers play with the case of letters to see forgeries.
    octets: &'a [u8],
    /// QNAME: labels, each behind its length, up to the root's.
    name: &'a [u8],
    pub(super) kind: u16,
    pub(super) class: u16,
}

impl<'a> Question<'a> {
    pub(super) fn read(octets: &mut Reader<'a>) -> Option<Self> {
        let whole = octets.0;
        while octets.label()?.is_some() {}
        let name = whole.get(..whole.len().checked_sub(octets.0.len())?)?;
        let (kind, class) = (octets.number()?, octets.number()?);
        let len = whole.len().checked_sub(octets.0.len())?;
        (name.len() <= NAME_OCTETS).then_some(Self {
            octets: whole.get(..len)?,
            name,
            kind,
            class,
        })
    }

    fn labels(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let mut octets = Reader(self.name);
        core::iter::from_fn(move || octets.label()?)
    }

    /// The name with dots between its labels; `None` if a label itself has one, which no key of the table can say.
    pub(super) fn text<'r>(&self, room: &'r mut [u8; NAME_OCTETS]) -> Option<&'r [u8]> {
        let mut len: usize = 0;
        for label in self.labels() {
            if label.contains(&b'.') {
                return None;
            }
            if len > 0 {
                *room.get_mut(len)? = b'.';
                len = len.checked_add(1)?;
            }
            let end = len.checked_add(label.len())?;
            room.get_mut(len..end)?.copy_from_slice(label);
            len = end;
        }
        room.get(..len)
    }

    /// The address that the name of a PTR question spells (RFC 1035 §3.5, RFC 3596 §2.5): `None` if it lies below
    /// neither in-addr.arpa nor ip6.arpa, `Some(None)` if it does and is no whole address.
    #[expect(
        clippy::option_option,
        reason = "two questions: is it one of these, and which"
    )]
    pub(super) fn reverse(&self) -> Option<Option<IpAddr>> {
        let count = self.labels().count();
        let [mut last_two, mut digits] = [self.labels(), self.labels()];
        let zone = last_two.nth(count.checked_sub(2)?).filter(|_| {
            last_two
                .next()
                .is_some_and(|l| l.eq_ignore_ascii_case(b"arpa"))
        })?;
        // The last digit of the address comes first.
        if zone.eq_ignore_ascii_case(b"in-addr") {
            let mut octets = [0; 4];
            let read = octets.iter_mut().rev().try_for_each(|octet| {
                *octet = decimal(digits.next()?)?;
                Some(())
            });
            Some(
                read.filter(|()| count == 6)
                    .map(|()| Ipv4Addr::from(octets).into()),
            )
        } else if zone.eq_ignore_ascii_case(b"ip6") {
            let mut bits: u128 = 0;
            let read = (0..32).try_for_each(|place: u32| {
                bits |= u128::from(nibble(digits.next()?)?) << place.checked_mul(4)?;
                Some(())
            });
            Some(
                read.filter(|()| count == 34)
                    .map(|()| Ipv6Addr::from(bits).into()),
            )
        } else {
            None
        }
    }
}

fn decimal(label: &[u8]) -> Option<u8> {
    let is_plain =
        label.iter().all(u8::is_ascii_digit) && (label.len() == 1 || !label.starts_with(b"0"));
    str::from_utf8(label)
        .ok()
        .filter(|_| is_plain)?
        .parse()
        .ok()
}

fn nibble(label: &[u8]) -> Option<u8> {
    let [digit] = label else { return None };
    u8::try_from(char::from(*digit).to_digit(16)?).ok()
}

/// RFC 6891 §6.1.2.
pub(super) enum Opt {
    There { version: u8, flags: u16 },
    NotThere,
}

impl Opt {
    /// Reads the rest of the message, the records; `None` if it cannot be read, or has two of them.
    pub(super) fn find(header: &Header, mut octets: Reader<'_>) -> Option<Self> {
        let mut found = Self::NotThere;
        let before = u32::from(header.answers).checked_add(u32::from(header.authorities))?;
        for index in 0..before.checked_add(u32::from(header.additional))? {
            let is_of_root = octets.0.starts_with(&[0]);
            octets.skip_name()?;
            let (kind, _size) = (octets.number()?, octets.number()?);
            let ([_upper, version], flags) = (octets.number()?.to_be_bytes(), octets.number()?);
            let len = octets.number()?;
            octets.take(usize::from(len))?;
            if kind != TYPE_OPT || index < before {
                continue;
            }
            if !is_of_root || matches!(found, Self::There { .. }) {
                return None;
            }
            found = Self::There { version, flags };
        }
        Some(found)
    }
}

/// What is left to read.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u16> {
        let (number, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u16::from_be_bytes(*number))
    }

    /// The next label, `Some(None)` at the end of the name; `None` for a pointer, which leads nowhere in a name that is
    /// the first of its message.
    #[expect(clippy::option_option, reason = "can it be read, and is there one")]
    fn label(&mut self) -> Option<Option<&'a [u8]>> {
        let len = usize::from(*self.take(1)?.first()?);
        match len {
            0 => Some(None),
            1..=LABEL_OCTETS => self.take(len).map(Some),
            _ => None,
        }
    }

    /// RFC 1035 §4.1.4: a name ends with the root's label, or with a pointer.
    fn skip_name(&mut self) -> Option<()> {
        loop {
            if self.0.first()? & 0xc0 == 0xc0 {
                return self.take(2).map(drop);
            }
            if self.label()?.is_none() {
                return Some(());
            }
        }
    }
}

/// The answer as far as it is written, behind the place of its header. What is written always fits: [`MAX_ANSWER`].
pub(super) struct Writer<'a> {
    room: &'a mut [u8; MAX_ANSWER],
    len: usize,
    /// RFC 1035 §4.1.1: QDCOUNT, ANCOUNT, NSCOUNT, ARCOUNT.
    counts: [u16; 4],
}

impl<'a> Writer<'a> {
    pub(super) fn new(room: &'a mut [u8; MAX_ANSWER]) -> Self {
        Self {
            room,
            len: HEADER_OCTETS,
            counts: [0; 4],
        }
    }

    fn put(&mut self, octets: &[u8]) {
        let end = self.len.saturating_add(octets.len());
        if let Some(place) = self.room.get_mut(self.len..end) {
            place.copy_from_slice(octets);
            self.len = end;
        }
    }

    fn put_number(&mut self, number: u16) {
        self.put(&number.to_be_bytes());
    }

    pub(super) fn put_question(&mut self, question: &Question<'_>) {
        self.put(question.octets);
        self.counts[0] = 1;
    }

    /// RFC 1035 §4.1.3: a record of the name that was asked for, up to its RDATA.
    fn begin_record(&mut self, kind: u16, data_octets: u16) {
        self.put_number(0xc00c); // a pointer to the question's name, behind the header
        self.put_number(kind);
        self.put_number(CLASS_IN);
        self.put(&TTL_SECONDS.to_be_bytes());
        self.put_number(data_octets);
        self.counts[1] = self.counts[1].saturating_add(1);
    }

    pub(super) fn put_address(&mut self, address: IpAddr) {
        match address {
            IpAddr::V4(v4) => {
                self.begin_record(TYPE_A, 4);
                self.put(&v4.octets());
            }
            IpAddr::V6(v6) => {
                self.begin_record(TYPE_AAAA, 16);
                self.put(&v6.octets());
            }
        }
    }

    /// `None`, and nothing is written, if DNS cannot carry the name.
    pub(super) fn put_ptr(&mut self, name: &[u8]) -> Option<()> {
        let labels = || name.split(|&octet| octet == b'.');
        let octets = name
            .len()
            .checked_add(2)
            .filter(|octets| *octets <= NAME_OCTETS)?;
        if !labels().all(|label| (1..=LABEL_OCTETS).contains(&label.len())) {
            return None;
        }
        self.begin_record(TYPE_PTR, u16::try_from(octets).ok()?);
        for label in labels() {
            self.put(&[u8::try_from(label.len()).ok()?]);
            self.put(label);
        }
        self.put(&[0]);
        Some(())
    }

    /// RFC 6891 §6.1.2: root's name, our size, the upper bits of RCODE, version 0, and DO as it came (RFC 3225 §3).
    pub(super) fn put_opt(&mut self, upper: u8, flags: u16) {
        self.put(&[0]);
        self.put_number(TYPE_OPT);
        self.put_number(UDP_OCTETS);
        self.put(&[upper, 0]);
        self.put_number(flags & DNSSEC_OK);
        self.put_number(0);
        self.counts[3] = 1;
    }

    pub(super) fn finish(mut self, header: &Header, rcode: u16) -> &'a [u8] {
        let len = core::mem::replace(&mut self.len, 0);
        let kept = header.flags & (OPCODE | RECURSION_DESIRED | CHECKING_DISABLED);
        self.put_number(header.id);
        self.put_number(IS_RESPONSE | kept | RECURSION_AVAILABLE | rcode);
        for count in self.counts {
            self.put_number(count);
        }
        self.room.get(..len).unwrap_or_default()
    }
}
