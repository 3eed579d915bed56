//! The real addresses that libc has looked up for names that may be ruled direct: at connect() they
//! are judged by the name too. Known to the process and its forked children.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::net::IpAddr;

use crate::Rules;

const ROWS: usize = 4096;
/// At most so many rows are looked at.
const PROBES: usize = 64;

const FREE: u32 = 0;
const BEING_WRITTEN: u32 = 1;
const WHOLE: u32 = 2;

/// Address → row of the mapping table, where the name is. A row is written once and never freed.
#[derive(Debug)]
pub struct DirectNames {
    rows: Vec<Row>,
}

#[derive(Debug, Default)]
struct Row {
    state: AtomicU32,
    /// The name looked up last.
    slot: AtomicU32,
    high: AtomicU64,
    low: AtomicU64,
}

impl DirectNames {
    /// An empty one; without room if no rule needs it.
    #[must_use]
    pub fn new(rules: &Rules) -> Self {
        let rows = if rules.has_direct_name() { ROWS } else { 0 };
        Self {
            rows: (0..rows).map(|_| Row::default()).collect(),
        }
    }

    /// Remembers that the name of `slot` has this address; false if there is no room.
    #[must_use]
    pub fn note(&self, address: IpAddr, slot: u32) -> bool {
        let (high, low) = words(address);
        for row in self.probes(high, low) {
            let claimed = row.state.compare_exchange(
                FREE,
                BEING_WRITTEN,
                Ordering::AcqRel,
                Ordering::Acquire,
            );
            if claimed.is_ok() {
                row.high.store(high, Ordering::Relaxed);
                row.low.store(low, Ordering::Relaxed);
                row.slot.store(slot, Ordering::Relaxed);
                row.state.store(WHOLE, Ordering::Release);
                return true;
            }
            if row.is(high, low) {
                row.slot.store(slot, Ordering::Relaxed);
                return true;
            }
        }
        false
    }

    /// The row of the name that has this address.
    #[must_use]
    pub fn slot_of(&self, address: IpAddr) -> Option<u32> {
        let (high, low) = words(address);
        let mut probes = self.probes(high, low);
        let row = probes.find(|row| row.is(high, low))?;
        Some(row.slot.load(Ordering::Relaxed))
    }

    fn probes(&self, high: u64, low: u64) -> impl Iterator<Item = &Row> {
        // Fibonacci hashing: the high bits are the well mixed ones.
        let hash = (high ^ low.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let first = usize::try_from(hash).unwrap_or(0);
        (0..PROBES).filter_map(move |step| {
            let index = first.checked_add(step)?.checked_rem(self.rows.len())?;
            self.rows.get(index)
        })
    }
}

impl Row {
    fn is(&self, high: u64, low: u64) -> bool {
        self.state.load(Ordering::Acquire) == WHOLE
            && self.high.load(Ordering::Relaxed) == high
            && self.low.load(Ordering::Relaxed) == low
    }
}

/// v4 as v4-mapped.
fn words(address: IpAddr) -> (u64, u64) {
    let v6 = match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    let [a, b, c, d, e, f, g, h, rest @ ..] = v6.octets();
    (
        u64::from_be_bytes([a, b, c, d, e, f, g, h]),
        u64::from_be_bytes(rest),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rule;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_leads_to_the_name_that_was_looked_up_last() {
        let mut rules = Rules::default();
        assert!(
            !DirectNames::new(&rules).note(address("192.0.2.1"), 1),
            "nobody needs it"
        );
        rules.push(Rule::parse("direct .corp.example").unwrap());
        let names = DirectNames::new(&rules);
        assert_eq!(names.slot_of(address("192.0.2.1")), None);
        assert!(names.note(address("192.0.2.1"), 7) && names.note(address("2001:db8::1"), 8));
        assert_eq!(names.slot_of(address("::ffff:192.0.2.1")), Some(7));
        assert!(names.note(address("192.0.2.1"), 9));
        assert_eq!(names.slot_of(address("192.0.2.1")), Some(9));
        assert_eq!(names.slot_of(address("2001:db8::1")), Some(8));
        assert_eq!(names.slot_of(address("192.0.2.2")), None);
    }

    #[test]
    fn a_full_one_says_so_and_forgets_nothing() {
        let mut rules = Rules::default();
        rules.push(Rule::parse("direct .corp.example").unwrap());
        let names = DirectNames::new(&rules);
        let of = |n: u32| IpAddr::from((0x0a00_0000 + n).to_be_bytes());
        let kept: Vec<_> = (0..20_000).filter(|&n| names.note(of(n), n)).collect();
        assert!(
            kept.len() > ROWS / 2 && kept.len() <= ROWS,
            "{}",
            kept.len()
        );
        assert!(kept.iter().all(|&n| names.slot_of(of(n)) == Some(n)));
    }
}
