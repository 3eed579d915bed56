//! Which descriptors of this process are in the middle of a connect() that did not block.
//!
//! One load tells a program that has none, which is every program nearly all of the time, that no wait,
//! read or write of its own is our business.

use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};

/// More at once, and connect() waits inside itself.
const ROOM: usize = 1024;

/// The descriptors. Zeroed memory is an empty list.
#[derive(Debug)]
pub struct Pending {
    count: AtomicU32,
    /// Whether there has ever been one: from then on, epoll events may be markers of ours.
    was_any: AtomicBool,
    /// The number plus one; zero is free.
    fds: [AtomicI32; ROOM],
}

impl Pending {
    /// An empty one.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            count: AtomicU32::new(0),
            was_any: AtomicBool::new(false),
            fds: [const { AtomicI32::new(0) }; ROOM],
        }
    }

    /// Whether there is one.
    #[must_use]
    pub fn is_any(&self) -> bool {
        self.count.load(Ordering::Relaxed) != 0
    }

    /// Whether there has ever been one.
    #[must_use]
    pub fn was_any(&self) -> bool {
        self.was_any.load(Ordering::Relaxed)
    }

    /// Adds `fd`, once; false if there is no room.
    #[must_use]
    pub fn insert(&self, fd: i32) -> bool {
        let entry = fd.saturating_add(1);
        if self.entry(fd).is_some() {
            return true;
        }
        self.was_any.store(true, Ordering::Relaxed);
        self.count.fetch_add(1, Ordering::Relaxed);
        let has_room = self.fds.iter().any(|free| {
            free.compare_exchange(0, entry, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
        });
        if !has_room {
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
        has_room
    }

    /// Takes `fd` out; false if it is not there.
    pub fn remove(&self, fd: i32) -> bool {
        let was_there = self.entry(fd).is_some_and(|entry| {
            entry
                .compare_exchange(fd.saturating_add(1), 0, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
        });
        if was_there {
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
        was_there
    }

    /// Whether `fd` is there.
    #[must_use]
    pub fn has(&self, fd: i32) -> bool {
        self.entry(fd).is_some()
    }

    /// Those that are there.
    pub fn iter(&self) -> impl Iterator<Item = i32> + '_ {
        let numbers = self.fds.iter().map(|entry| entry.load(Ordering::Acquire));
        numbers
            .filter(|&entry| entry != 0)
            .map(|entry| entry.saturating_sub(1))
    }

    fn entry(&self, fd: i32) -> Option<&AtomicI32> {
        self.fds
            .iter()
            .find(|entry| entry.load(Ordering::Acquire) == fd.saturating_add(1))
    }
}

impl Default for Pending {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_is_there_once_until_it_is_taken_out() {
        let pending = Pending::new();
        assert!(!pending.is_any() && !pending.was_any());
        assert!(pending.insert(0) && pending.insert(7) && pending.insert(7));
        assert!(pending.is_any() && pending.has(0) && !pending.has(1));
        assert!(pending.iter().eq([0, 7]));
        assert!(pending.remove(7) && !pending.remove(7) && pending.remove(0));
        assert!(!pending.is_any() && pending.was_any());
    }

    #[test]
    fn a_full_list_takes_no_more() {
        let pending = Pending::new();
        for fd in 0..1024 {
            assert!(pending.insert(fd));
        }
        assert!(!pending.insert(1024));
        assert!(pending.remove(3) && pending.insert(1024));
    }
}
