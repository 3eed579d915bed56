//! A look-up for any family gives two fakes of one name; when the connection to one has just failed,
//! the other would fail in the same way after the same wait. So a failure is remembered for a second
//! and given at once for its twin (DESIGN §2, "Names").

use core::sync::atomic::{AtomicU64, Ordering};

use fake_dns::Family;

use crate::{Clock, Errno};

const ROWS: usize = 64;
/// How long a failure counts for the twin.
const LIFE_MS: u64 = 1_000;

/// The latest failures. Zeroed memory is an empty one; rows are overwritten by newer failures.
#[derive(Debug)]
pub struct Twins {
    /// Slot and port: what was connected to. Zero, which is no name's slot, is an empty row.
    keys: [AtomicU64; ROWS],
    /// Time in ms (47 bits), family (1 bit), errno (16 bits).
    values: [AtomicU64; ROWS],
}

impl Twins {
    /// An empty one.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            keys: [const { AtomicU64::new(0) }; ROWS],
            values: [const { AtomicU64::new(0) }; ROWS],
        }
    }

    /// Remembers that connecting by the fake of `family` failed at `now`.
    pub fn failed(&self, slot: u32, port: u16, family: Family, errno: Errno, now: Clock) {
        let Some((key, value)) = self.row(slot, port) else {
            return;
        };
        let errno = u16::try_from(errno.0).unwrap_or(0);
        let family_bit = u64::from(family == Family::V6) << 16;
        // A reader between the two stores sees the old value under the new key: at worst it goes to
        // the gateway, since a value of another time or a zero errno does not count.
        value.store(0, Ordering::Relaxed);
        key.store(key_of(slot, port), Ordering::Release);
        value.store(
            (now.0 << 17) | family_bit | u64::from(errno),
            Ordering::Release,
        );
    }

    /// The errno that the twin of this fake failed with less than a second ago, given once.
    #[must_use]
    pub fn take(&self, slot: u32, port: u16, family: Family, now: Clock) -> Option<Errno> {
        let (key, value) = self.row(slot, port)?;
        if key.load(Ordering::Acquire) != key_of(slot, port) {
            return None;
        }
        let packed = value.load(Ordering::Acquire);
        let (at, errno) = (packed >> 17, packed & 0xffff);
        let failed_family = if packed & (1 << 16) == 0 {
            Family::V4
        } else {
            Family::V6
        };
        let is_fresh = now.0.saturating_sub(at) < LIFE_MS;
        if errno == 0 || !is_fresh || failed_family == family {
            return None;
        }
        value.store(0, Ordering::Relaxed);
        i32::try_from(errno).ok().map(Errno)
    }

    fn row(&self, slot: u32, port: u16) -> Option<(&AtomicU64, &AtomicU64)> {
        let index = usize::try_from(slot ^ u32::from(port))
            .ok()?
            .checked_rem(ROWS)?;
        Some((self.keys.get(index)?, self.values.get(index)?))
    }
}

impl Default for Twins {
    fn default() -> Self {
        Self::new()
    }
}

fn key_of(slot: u32, port: u16) -> u64 {
    (u64::from(slot) << 16) | u64::from(port)
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFUSED: Errno = Errno(libc::ECONNREFUSED);

    #[test]
    fn a_failure_counts_once_for_the_twin_and_for_a_second() {
        let twins = Twins::new();
        twins.failed(7, 80, Family::V6, REFUSED, Clock(5_000));
        assert_eq!(
            twins.take(7, 80, Family::V6, Clock(5_001)),
            None,
            "a retry is a retry"
        );
        assert_eq!(twins.take(7, 81, Family::V4, Clock(5_001)), None);
        assert_eq!(twins.take(8, 80, Family::V4, Clock(5_001)), None);
        assert_eq!(twins.take(7, 80, Family::V4, Clock(5_999)), Some(REFUSED));
        assert_eq!(twins.take(7, 80, Family::V4, Clock(5_999)), None);
        twins.failed(7, 80, Family::V6, REFUSED, Clock(5_000));
        assert_eq!(twins.take(7, 80, Family::V4, Clock(6_000)), None);
    }
}
