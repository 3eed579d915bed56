//! Bandwidth that several relays share. A relay moves what it may in one turn, which is charged to the bucket; when all
//! that was charged before is paid, at so many octets a second, is its next turn. So relays take turns in the order in
//! which they moved something, none waits for a lock, and one that has been quiet moves at once.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// A turn moves what may go in so long.
const TURN: Duration = Duration::from_millis(50);

/// A turn begins so much before all is paid: poll(2) wakes late rather than early.
const AHEAD: Duration = Duration::from_millis(100);

/// A client's, a user's and a rule's.
const MOST_BUCKETS: usize = 3;

/// When what has been moved is paid for.
#[derive(Debug)]
pub(crate) struct Bucket(Mutex<Instant>);

impl Default for Bucket {
    fn default() -> Self {
        Self(Mutex::new(Instant::now()))
    }
}

impl Bucket {
    pub(crate) fn is_in_debt(&self, now: Instant) -> bool {
        *self.0.lock() > now
    }

    fn paid_at(&self) -> Instant {
        *self.0.lock()
    }

    fn charge(&self, time: Duration, now: Instant) -> Instant {
        let mut paid = self.0.lock();
        // A time that the clock cannot say is longer than any relay.
        *paid = (*paid).max(now).checked_add(time).unwrap_or(*paid);
        *paid
    }
}

/// The buckets of one relay: its client's, its user's and its rule's, or none.
#[derive(Default)]
pub(crate) struct Meter<'a> {
    buckets: [Option<(&'a Bucket, u64)>; MOST_BUCKETS],
    ready_at: Option<Instant>,
}

impl<'a> Meter<'a> {
    /// Buckets, each with octets for a second.
    pub(crate) fn new<const N: usize>(given: [Option<(&'a Bucket, u64)>; N]) -> Self {
        const { assert!(N <= MOST_BUCKETS) };
        let mut buckets = [None; MOST_BUCKETS];
        for (room, bucket) in buckets.iter_mut().zip(given) {
            *room = bucket;
        }
        let paid = buckets.iter().flatten().map(|(bucket, _)| bucket.paid_at());
        Self {
            buckets,
            ready_at: paid.max().and_then(|at| at.checked_sub(AHEAD)),
        }
    }

    /// When this relay's next turn is; `None` if nobody counts.
    pub(crate) fn ready_at(&self) -> Option<Instant> {
        self.ready_at
    }

    /// How many octets one turn moves; `None` if nobody counts.
    pub(crate) fn turn_octets(&self) -> Option<usize> {
        let rate = self.buckets.iter().flatten().map(|(_, rate)| *rate).min()?;
        let octets = u128::from(rate).saturating_mul(TURN.as_millis()) / 1000;
        Some(usize::try_from(octets).unwrap_or(usize::MAX).max(1))
    }

    /// So much has been moved, in whichever direction.
    pub(crate) fn charge(&mut self, octets: u64, now: Instant) {
        if octets == 0 {
            return;
        }
        let paid = self.buckets.iter().flatten().map(|(bucket, rate)| {
            let nanoseconds = u128::from(octets)
                .saturating_mul(1_000_000_000)
                .checked_div((*rate).into());
            let nanoseconds = u64::try_from(nanoseconds.unwrap_or(0)).unwrap_or(u64::MAX);
            bucket.charge(Duration::from_nanos(nanoseconds), now)
        });
        self.ready_at = paid.max().and_then(|at| at.checked_sub(AHEAD));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Time as a number: whoever is ready first has its turn.
    #[test]
    fn relays_of_one_bucket_have_equal_parts_of_its_rate_together() {
        let bucket = Bucket::default();
        let start = Instant::now();
        let mut relays = [(); 3].map(|()| (Meter::new([Some((&bucket, 100_000))]), 0_u64));
        let end = start.checked_add(Duration::from_secs(10)).unwrap();
        loop {
            let next = relays.iter_mut().min_by_key(|(meter, _)| meter.ready_at());
            let (meter, moved) = next.unwrap();
            let now = meter.ready_at().unwrap().max(start);
            if now >= end {
                break;
            }
            let octets = u64::try_from(meter.turn_octets().unwrap()).unwrap();
            meter.charge(octets, now);
            *moved = moved.saturating_add(octets);
        }
        let moved = relays.map(|(_, moved)| moved);
        let all: u64 = moved.iter().sum();
        assert!((1_000_000..=1_030_000).contains(&all), "{moved:?}");
        assert!(
            moved.iter().all(|one| one.abs_diff(all / 3) <= 5_000),
            "{moved:?}"
        );
    }

    #[test]
    fn the_slower_of_two_buckets_counts_and_quiet_time_is_not_saved_up() {
        let (fast, slow) = (Bucket::default(), Bucket::default());
        let now = Instant::now().checked_add(Duration::from_secs(60)).unwrap();
        let mut meter = Meter::new([Some((&fast, 1 << 40)), Some((&slow, 1000))]);
        assert_eq!(meter.turn_octets(), Some(50));
        meter.charge(10_000, now);
        let ready = meter.ready_at().unwrap();
        assert_eq!(ready.duration_since(now), Duration::from_millis(9_900));
        assert_eq!(Meter::new([None]).ready_at(), None);
    }
}
