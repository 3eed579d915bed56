//! Which descriptors of this process are in the middle of a connect() that did not block.
//!
//! One load tells a program that has none, which is every program nearly all of the time, that no wait,
//! read or write of its own is our business.

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// As many descriptors as there are rows at the most (2^20), one bit each.
const WORDS: usize = 1 << 14;
const WORD_BITS: u32 = 64;

/// A set of descriptors. Zeroed memory is an empty one. Which socket a number means is for its row to say.
#[derive(Debug)]
pub struct Pending {
    count: AtomicU32,
    /// Where those of several sets are counted together.
    total: Option<&'static AtomicU32>,
    /// Whether there has ever been one: from then on, epoll events may be markers of ours.
    was_any: AtomicBool,
    /// Words above this one have never had a bit.
    last_word: AtomicU32,
    bits: [AtomicU64; WORDS],
}

impl Pending {
    /// An empty one.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            count: AtomicU32::new(0),
            total: None,
            was_any: AtomicBool::new(false),
            last_word: AtomicU32::new(0),
            bits: [const { AtomicU64::new(0) }; WORDS],
        }
    }

    /// An empty one, whose descriptors are counted in `total` too: one load is then enough for several sets.
    #[must_use]
    pub const fn counted_in(total: &'static AtomicU32) -> Self {
        Self {
            total: Some(total),
            ..Self::new()
        }
    }

    fn counts(&self) -> impl Iterator<Item = &AtomicU32> {
        [Some(&self.count), self.total].into_iter().flatten()
    }

    /// Whether there is one.
    #[must_use]
    pub fn is_any(&self) -> bool {
        self.count.load(Ordering::Relaxed) != 0
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count.load(Ordering::Relaxed)
    }

    /// Whether there has ever been one.
    #[must_use]
    pub fn was_any(&self) -> bool {
        self.was_any.load(Ordering::Relaxed)
    }

    /// Adds `fd`; false if it is no descriptor, or too high a one.
    #[must_use]
    pub fn insert(&self, fd: i32) -> bool {
        let Some((index, bit)) = place(fd) else {
            return false;
        };
        let Some(word) = self.word(index) else {
            return false;
        };
        self.was_any.store(true, Ordering::Relaxed);
        self.last_word.fetch_max(index, Ordering::Relaxed);
        if word.fetch_or(bit, Ordering::AcqRel) & bit == 0 {
            for count in self.counts() {
                count.fetch_add(1, Ordering::Relaxed);
            }
        }
        true
    }

    /// Takes `fd` out; true for the one caller who did it.
    pub fn remove(&self, fd: i32) -> bool {
        let was_there = place(fd).is_some_and(|(index, bit)| {
            self.word(index)
                .is_some_and(|word| word.fetch_and(!bit, Ordering::AcqRel) & bit != 0)
        });
        if was_there {
            for count in self.counts() {
                count.fetch_sub(1, Ordering::Relaxed);
            }
        }
        was_there
    }

    /// Whether `fd` is there.
    #[must_use]
    pub fn has(&self, fd: i32) -> bool {
        place(fd).is_some_and(|(index, bit)| {
            self.word(index)
                .is_some_and(|word| word.load(Ordering::Acquire) & bit != 0)
        })
    }

    /// Those that are there.
    pub fn iter(&self) -> impl Iterator<Item = i32> + '_ {
        (0..=self.last_word.load(Ordering::Relaxed)).flat_map(move |index| {
            let word = self
                .word(index)
                .map_or(0, |word| word.load(Ordering::Acquire));
            let bits = (0..WORD_BITS)
                .filter(move |&bit| word.checked_shr(bit).is_some_and(|w| w & 1 != 0));
            bits.filter_map(move |bit| {
                i32::try_from(index.checked_mul(WORD_BITS)?.checked_add(bit)?).ok()
            })
        })
    }

    fn word(&self, index: u32) -> Option<&AtomicU64> {
        self.bits.get(usize::try_from(index).ok()?)
    }
}

fn place(fd: i32) -> Option<(u32, u64)> {
    let fd = u32::try_from(fd).ok()?;
    Some((
        fd.checked_div(WORD_BITS)?,
        1_u64.checked_shl(fd.checked_rem(WORD_BITS)?)?,
    ))
}

impl Default for Pending {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static PENDING: [Pending; 2] = [const { Pending::new() }; 2];

    #[test]
    fn a_descriptor_is_there_once_until_it_is_taken_out() {
        let pending = &PENDING[0];
        assert!(!pending.is_any() && !pending.was_any());
        assert!(pending.insert(0) && pending.insert(200) && pending.insert(200));
        assert!(pending.is_any() && pending.has(0) && !pending.has(1));
        assert!(pending.iter().eq([0, 200]) && pending.count() == 2);
        assert!(pending.remove(200) && !pending.remove(200) && pending.remove(0));
        assert!(!pending.is_any() && pending.was_any());
    }

    /// close(-1) is everyday clean-up code.
    #[test]
    fn what_is_no_descriptor_is_never_there() {
        let pending = &PENDING[1];
        for fd in [-1, i32::MIN, i32::MAX, 1 << 20] {
            assert!(
                !pending.insert(fd) && !pending.has(fd) && !pending.remove(fd),
                "{fd}"
            );
        }
        assert!(!pending.is_any());
    }
}
