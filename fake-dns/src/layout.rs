//! Where things are in the file, and the header that says so: magic, version, geometry, key, check sum.

use core::sync::atomic::AtomicU64;

use crate::connections;
use crate::error::Foreign;
use crate::key::Key;
use crate::pool::Pool;
use crate::record::Record;
use crate::slot::Slot;

/// Header, slots, rows for connections, records; each part begins where the one before it ends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layout {
    slots: u32,
}

/// The part of the header that changes. Each has a cache line of its own.
#[derive(Debug, Default)]
#[repr(C)]
pub(crate) struct Counters {
    /// The next record that nobody has taken.
    pub(crate) records: Line,
    /// Names published.
    pub(crate) names: Line,
    /// The next age of a connection's row.
    pub(crate) ages: Line,
}

#[derive(Debug, Default)]
#[repr(C, align(64))]
pub(crate) struct Line(pub(crate) AtomicU64);

const COUNTERS_AT: usize = 512;
const SLOTS_AT: usize = 4096;

impl Layout {
    pub(crate) fn new(pool: &Pool) -> Self {
        Self {
            slots: pool.slots(),
        }
    }

    pub(crate) fn slots(&self) -> u32 {
        self.slots
    }

    /// Twice the slots: a process that dies in mid-registration, or loses a race for a name, leaves a record unused.
    fn records(&self) -> u32 {
        self.slots.saturating_mul(2)
    }

    pub(crate) fn counters_at() -> usize {
        COUNTERS_AT
    }

    /// `index` is below [`Layout::slots`].
    pub(crate) fn slot_at(&self, index: u32) -> usize {
        end_of::<Slot>(SLOTS_AT, index)
    }

    /// `index` is below [`connections::ROWS`].
    pub(crate) fn connection_at(&self, index: u32) -> usize {
        end_of::<connections::Row>(self.connections_at(), index)
    }

    /// An index comes from shared memory: it may be anything.
    pub(crate) fn record_at(&self, index: u32) -> Option<usize> {
        (index < self.records()).then(|| end_of::<Record>(self.records_at(), index))
    }

    fn connections_at(&self) -> usize {
        end_of::<Slot>(SLOTS_AT, self.slots)
    }

    fn records_at(&self) -> usize {
        end_of::<connections::Row>(self.connections_at(), connections::ROWS)
    }

    /// Of the whole file, in octets.
    pub(crate) fn size(&self) -> usize {
        end_of::<Record>(self.records_at(), self.records())
    }
}

/// Saturating, so that nothing here can panic; the largest table is far from the limit.
fn end_of<T>(start: usize, count: u32) -> usize {
    start.saturating_add(size_of::<T>().saturating_mul(count as usize))
}

/// The part of the header that never changes, in the host's own byte order: a process of another one is not to use it.
pub(crate) const HEADER_OCTETS: usize = 128;
const MAGIC: &[u8; 8] = b"socks6tb";
/// Of everything in the file, the order in which slots are tried and the hash included.
const VERSION: u32 = 1;
const KEY_AT: usize = HEADER_OCTETS - CHECK_OCTETS - Key::OCTETS;
const CHECK_OCTETS: usize = size_of::<u64>();

/// The header of a table with these ranges and this key.
pub(crate) fn header(pool: &Pool, key: &Key) -> [u8; HEADER_OCTETS] {
    let layout = Layout::new(pool);
    let ranges = pool.ranges();
    let mut header = [0; HEADER_OCTETS];
    let fields: [&[u8]; 9] = [
        MAGIC,
        &VERSION.to_ne_bytes(),
        &layout.slots.to_ne_bytes(),
        &layout.records().to_ne_bytes(),
        &connections::ROWS.to_ne_bytes(),
        &ranges.v4.base().octets(),
        &[ranges.v4.prefix(), ranges.v6.prefix(), 0, 0],
        &ranges.v6.base().octets(),
        &(layout.size() as u64).to_ne_bytes(),
    ];
    put(&mut header, 0, fields.into_iter().flatten());
    put(&mut header, KEY_AT, key.as_bytes());
    let check = check_sum(&header, key);
    put(&mut header, HEADER_OCTETS - CHECK_OCTETS, &check);
    header
}

/// The key of the table whose header was found in a file, if it is one that this process can use.
pub(crate) fn check(found: &[u8; HEADER_OCTETS], pool: &Pool) -> Result<Key, Foreign> {
    let key = Key::from_bytes(array_at(found, KEY_AT));
    if *found == header(pool, &key) {
        return Ok(key);
    }
    let version = u32::from_ne_bytes(array_at(found, MAGIC.len()));
    Err(if array_at(found, 0) != *MAGIC {
        Foreign::Magic
    } else if version != VERSION {
        Foreign::Version(version)
    } else if array_at(found, HEADER_OCTETS - CHECK_OCTETS) == check_sum(found, &key) {
        Foreign::Ranges
    } else {
        Foreign::Header
    })
}

fn check_sum(header: &[u8; HEADER_OCTETS], key: &Key) -> [u8; CHECK_OCTETS] {
    let checked: [u8; HEADER_OCTETS - CHECK_OCTETS] = array_at(header, 0);
    key.hash(&checked).to_ne_bytes()
}

fn put<'a>(header: &mut [u8; HEADER_OCTETS], at: usize, octets: impl IntoIterator<Item = &'a u8>) {
    for (to, from) in header.iter_mut().skip(at).zip(octets) {
        *to = *from;
    }
}

fn array_at<const N: usize>(header: &[u8; HEADER_OCTETS], at: usize) -> [u8; N] {
    header
        .get(at..)
        .and_then(|rest| rest.first_chunk())
        .copied()
        .unwrap_or([0; N])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::Ranges;

    fn default_pool() -> Pool {
        Pool::new(&Ranges::default())
    }

    const KEY: [u8; 16] = *b"sixteen  octets.";

    /// What is in files out there: a change of any of these octets is a new version.
    #[test]
    fn the_header_is_laid_out_field_by_field() {
        let header = header(&default_pool(), &Key::from_bytes(KEY));
        let mut expected = [0; HEADER_OCTETS];
        let fields: [&[u8]; 10] = [
            b"socks6tb",
            &1u32.to_ne_bytes(),                               // version
            &0x2_0000u32.to_ne_bytes(),                        // slots
            &0x4_0000u32.to_ne_bytes(),                        // records
            &0x4000u32.to_ne_bytes(),                          // rows for connections
            &[198, 18, 0, 0],                                  // v4
            &[15, 64, 0, 0],                                   // prefixes
            &[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], // v6
            &(4096u64 + (1 << 20) + (1 << 20) + 264 * 0x4_0000).to_ne_bytes(),
            &[0; 48],
        ];
        put(&mut expected, 0, fields.into_iter().flatten());
        put(&mut expected, 104, &KEY);
        assert_eq!(header[..120], expected[..120]);
        assert_eq!(
            header[120..],
            Key::from_bytes(KEY).hash(&expected[..120]).to_ne_bytes()
        );
    }

    #[test]
    fn one_s_own_header_is_accepted() {
        let key = Key::from_bytes(KEY);
        assert!(check(&header(&default_pool(), &key), &default_pool()) == Ok(key));
    }

    #[test]
    fn a_header_with_any_octet_changed_is_refused() {
        let good = header(&default_pool(), &Key::from_bytes(KEY));
        for at in 0..HEADER_OCTETS {
            let mut bad = good;
            bad[at] ^= 1;
            let why = check(&bad, &default_pool()).err();
            match at {
                0..8 => assert_eq!(why, Some(Foreign::Magic)),
                8..12 => assert!(matches!(why, Some(Foreign::Version(_)))),
                _ => assert_eq!(why, Some(Foreign::Header), "octet {at}"),
            }
        }
    }

    #[test]
    fn a_table_for_other_ranges_is_refused_even_if_it_has_as_many_slots() {
        let other = Ranges {
            v4: "240.0.0.0/15".parse().expect("a range"),
            ..Ranges::default()
        };
        let header = header(&Pool::new(&other), &Key::from_bytes(KEY));
        assert_eq!(check(&header, &default_pool()).err(), Some(Foreign::Ranges));
    }

    #[test]
    fn the_parts_follow_each_other_and_end_with_the_file() {
        let layout = Layout::new(&default_pool());
        assert_eq!(layout.slot_at(0), 4096);
        assert_eq!(layout.connection_at(0), layout.slot_at(layout.slots));
        assert_eq!(
            layout.record_at(0),
            Some(layout.connection_at(connections::ROWS))
        );
        assert_eq!(
            layout.record_at(layout.records() - 1),
            Some(layout.size() - 264)
        );
        assert_eq!(layout.record_at(layout.records()), None);
        assert!(COUNTERS_AT >= HEADER_OCTETS && COUNTERS_AT + size_of::<Counters>() <= SLOTS_AT);
    }
}
