//! A slot: one atomic word, empty or a record's index with a tag of the hash of the record's name.

use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::{Acquire, Release};

/// Goes from empty to taken by one compare-exchange, and never back.
#[derive(Debug, Default)]
#[repr(transparent)]
pub(crate) struct Slot(AtomicU64);

/// What a taken slot says. It may be anything that another process wrote: the index is checked where it is used, the
/// tag where the name is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row(u64);

/// 2^21 records at most, and one more since zero is an empty slot.
const INDEX_BITS: u32 = 22;
const INDEX_MASK: u64 = (1 << INDEX_BITS) - 1;

impl Slot {
    pub(crate) fn load(&self) -> Option<Row> {
        Row::from_word(self.0.load(Acquire))
    }

    /// Makes the row visible to everybody, or gives the row of the one who was faster.
    pub(crate) fn publish(&self, row: Row) -> Result<(), Row> {
        // Release: whoever loads the row sees the whole record behind it.
        match self.0.compare_exchange(0, row.0, Release, Acquire) {
            Ok(_empty) => Ok(()),
            Err(winner) => Err(Row(winner)),
        }
    }
}

impl Row {
    pub(crate) fn new(record: u32, hash: u64, slot: u32) -> Self {
        Self(tag(hash, slot) | (u64::from(record).wrapping_add(1) & INDEX_MASK))
    }

    fn from_word(word: u64) -> Option<Self> {
        (word != 0).then_some(Self(word))
    }

    /// The record that this row points to, if a row can point there at all.
    pub(crate) fn record(self) -> Option<u32> {
        u32::try_from(self.0 & INDEX_MASK).ok()?.checked_sub(1)
    }

    /// Whether this is the row that a name of this hash has in this slot.
    pub(crate) fn is_of(self, hash: u64, slot: u32) -> bool {
        self.0 & !INDEX_MASK == tag(hash, slot)
    }
}

/// 42 bits of the hash, which are not those that choose the slot, bound to the slot: a row that was copied to another
/// place by a stray write does not agree there.
fn tag(hash: u64, slot: u32) -> u64 {
    // 2^64 divided by the golden ratio: neighbouring slots differ in the high bits.
    (hash ^ u64::from(slot).wrapping_mul(0x9e37_79b9_7f4a_7c15)) & !INDEX_MASK
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_gives_back_its_record_and_knows_its_name() {
        for record in [0, 1, 0x1234, (1 << 21) - 1] {
            let row = Row::new(record, 0xdead_beef_0123_4567, 7);
            assert_eq!(row.record(), Some(record));
            assert!(row.is_of(0xdead_beef_0123_4567, 7));
            assert!(!row.is_of(0xdead_beef_0123_4567, 8), "another slot");
            assert!(!row.is_of(0xdeac_beef_0123_4567, 7), "another name");
        }
    }

    #[test]
    fn the_first_row_stays_and_the_second_learns_of_it() {
        let slot = Slot::default();
        assert_eq!(slot.load(), None);
        let (first, second) = (Row::new(1, 11, 1), Row::new(2, 22, 1));
        assert_eq!(slot.publish(first), Ok(()));
        assert_eq!(slot.publish(second), Err(first));
        assert_eq!(slot.load(), Some(first));
    }

    #[test]
    fn a_word_without_a_record_points_nowhere() {
        assert_eq!(Row(INDEX_MASK + 1).record(), None);
    }
}
