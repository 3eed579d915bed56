//! What the gateway counts since it began. Touched once or twice in a client's life and never by its octets: those a
//! relay counts for itself ([`Watched`](crate::watched::Watched)).

use std::net::SocketAddr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime};

use parking_lot::RwLock;

use crate::error::ServeError;
use crate::serve::Served;

#[derive(Debug)]
pub(crate) struct Figures {
    pub(crate) since: SystemTime,
    /// Relays that are over, by [`End::word`](crate::relay::End::word).
    pub(crate) ended: Tally<&'static str>,
    /// Clients whose request was its reply's to answer: RESOLVE.
    pub(crate) answered: AtomicU64,
    /// Clients that got neither, by [`ServeError::word`].
    pub(crate) failed: Tally<&'static str>,
    /// Of those the ones whose destination could not be found or reached, by REP.
    pub(crate) unreachable: Tally<u8>,
    /// From accept to the end of the request.
    pub(crate) handshake: Histogram,
    /// From there to the destination's connection.
    pub(crate) dial: Histogram,
    /// Waits of a listener before the next client, by what was short.
    pub(crate) pauses: Tally<&'static str>,
    pub(crate) reloads: Tally<&'static str>,
    pub(crate) is_draining: AtomicBool,
    pub(crate) listeners: RwLock<Vec<SocketAddr>>,
}

impl Default for Figures {
    fn default() -> Self {
        Self {
            since: SystemTime::now(),
            ended: Tally::default(),
            answered: AtomicU64::new(0),
            failed: Tally::default(),
            unreachable: Tally::default(),
            handshake: Histogram::default(),
            dial: Histogram::default(),
            pauses: Tally::default(),
            reloads: Tally::default(),
            is_draining: AtomicBool::new(false),
            listeners: RwLock::default(),
        }
    }
}

impl Figures {
    /// A client's story is over.
    pub(crate) fn note(&self, outcome: &Result<Served, ServeError>) {
        match outcome {
            Ok(Served::Relayed(carried)) => self.ended.add(carried.end.word()),
            Ok(Served::Answered) => {
                self.answered.fetch_add(1, Relaxed);
            }
            Err(error) => {
                self.failed.add(error.word());
                if let (ServeError::Resolve(_) | ServeError::Dial(..), Some(rep)) =
                    (error, error.rep())
                {
                    self.unreachable.add(rep.0);
                }
            }
        }
    }
}

/// Counters by a word, for as many words as turn up. There is no list of them to be kept in step with what they count.
#[derive(Debug)]
pub(crate) struct Tally<K>([Slot<K>; 48]);

#[derive(Debug)]
struct Slot<K> {
    word: OnceLock<K>,
    count: AtomicU64,
}

impl<K> Default for Tally<K> {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Slot {
            word: OnceLock::new(),
            count: AtomicU64::new(0),
        }))
    }
}

impl<K: Copy + Ord> Tally<K> {
    pub(crate) fn add(&self, word: K) {
        // A word without a slot would be lost; the longest list of them is half as long as this.
        let mine = |slot: &&Slot<K>| *slot.word.get_or_init(|| word) == word;
        if let Some(slot) = self.0.iter().find(mine) {
            slot.count.fetch_add(1, Relaxed);
        }
    }

    /// In the order of the words.
    pub(crate) fn counts(&self) -> Vec<(K, u64)> {
        let mut counts: Vec<_> = self
            .0
            .iter()
            .filter_map(|slot| Some((*slot.word.get()?, slot.count.load(Relaxed))))
            .collect();
        counts.sort_unstable_by_key(|(word, _)| *word);
        counts
    }

    pub(crate) fn sum(&self) -> u64 {
        self.0
            .iter()
            .map(|slot| slot.count.load(Relaxed))
            .fold(0, u64::saturating_add)
    }
}

/// How long something took, in classes.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    /// One for each of [`Histogram::BOUNDS`], and one for what is above them.
    classes: [AtomicU64; Self::BOUNDS.len() + 1],
    sum_us: AtomicU64,
}

impl Histogram {
    /// Milliseconds; the last one is above the time that a dial has by default.
    pub(crate) const BOUNDS: [u32; 15] = [
        1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 130_000,
    ];

    pub(crate) fn observe(&self, time: Duration) {
        let is_within = |bound: &u32| time <= Duration::from_millis((*bound).into());
        let index = Self::BOUNDS.iter().position(is_within);
        if let Some(class) = self.classes.get(index.unwrap_or(Self::BOUNDS.len())) {
            class.fetch_add(1, Relaxed);
        }
        let us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.sum_us.fetch_add(us, Relaxed);
    }

    /// For each bound, and for none at the end, how many took no longer.
    pub(crate) fn cumulative(&self) -> Vec<(Option<u32>, u64)> {
        let bounds = Self::BOUNDS.iter().copied().map(Some).chain([None]);
        let mut sum = 0_u64;
        bounds
            .zip(&self.classes)
            .map(|(bound, class)| {
                sum = sum.saturating_add(class.load(Relaxed));
                (bound, sum)
            })
            .collect()
    }

    pub(crate) fn sum(&self) -> Duration {
        Duration::from_micros(self.sum_us.load(Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tally_has_a_count_for_each_word_whoever_brings_it_first() {
        let tally = Tally::default();
        std::thread::scope(|scope| {
            for words in [["a", "b"], ["b", "a"], ["c", "a"]] {
                let tally = &tally;
                scope.spawn(move || {
                    (0..1000).for_each(|_| words.iter().for_each(|it| tally.add(*it)));
                });
            }
        });
        assert_eq!(tally.counts(), [("a", 3000), ("b", 2000), ("c", 1000)]);
        assert_eq!(tally.sum(), 6000);
    }

    #[test]
    fn a_bound_belongs_to_its_class() {
        let histogram = Histogram::default();
        for us in [0, 1000, 1001, 131_000_000] {
            histogram.observe(Duration::from_micros(us));
        }
        let cumulative = histogram.cumulative();
        assert_eq!(cumulative[..2], [(Some(1), 2), (Some(2), 3)]);
        assert_eq!(cumulative[14..], [(Some(130_000), 3), (None, 4)]);
        assert_eq!(histogram.sum(), Duration::from_micros(131_002_001));
    }
}
