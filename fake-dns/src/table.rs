//! Register and look up, over any slots and records: those of the shared file, or plain arrays in a test.
//! Where they are and how they are made present is [`Memory`]'s business.

use core::sync::atomic::Ordering::Relaxed;

use crate::connections;
use crate::error::TableError;
use crate::key::Key;
use crate::layout::Counters;
use crate::name::Name;
use crate::record::Record;
use crate::slot::{Row, Slot};

/// The parts of a table. A part that is asked for is there to be read and written until the table is dropped;
/// asking fails if there is no space for it, or no such part.
pub(crate) trait Memory {
    /// A power of two.
    fn slots(&self) -> u32;
    fn slot(&self, index: u32) -> Result<&Slot, TableError>;
    fn record(&self, index: u32) -> Result<Option<&Record>, TableError>;
    fn connection(&self, index: u32) -> Result<&connections::Row, TableError>;
    fn counters(&self) -> Result<&Counters, TableError>;
}

/// The slot of this name, its own from now on if it had none.
///
/// Slots only ever go from empty to taken and every process tries them in the same order, so two that register one
/// name meet at the same slot: the first empty one. There one of them wins, and the other reads the winner's name.
pub(crate) fn register<M: Memory>(memory: &M, key: &Key, name: &Name) -> Result<u32, TableError> {
    let hash = key.hash(name.as_bytes());
    let mut written = None;
    for index in window(hash, memory.slots()) {
        let slot = memory.slot(index)?;
        let taken_by = match slot.load() {
            Some(row) => row,
            None => {
                // A record that lost one race is as good for the next slot.
                let record = match written {
                    Some(record) => record,
                    None => *written.insert(write_record(memory, name)?),
                };
                match slot.publish(Row::new(record, hash, index)) {
                    Ok(()) => {
                        memory.counters()?.names.0.fetch_add(1, Relaxed);
                        return Ok(index);
                    }
                    Err(winner) => winner,
                }
            }
        };
        if taken_by.is_of(hash, index) {
            let mut winner = Name::EMPTY;
            let is_read =
                record_of(memory, taken_by)?.is_some_and(|record| record.read(&mut winner));
            if is_read && winner == *name {
                return Ok(index);
            }
        }
    }
    Err(TableError::WindowFull)
}

/// Makes `name` the one in a slot; false if there is none. Whatever is read may have been scribbled over: it is the slot's
/// name only if the tag in the slot is that of the name's hash.
pub(crate) fn name<M: Memory>(memory: &M, key: &Key, index: u32, name: &mut Name) -> bool {
    if index == 0 || index >= memory.slots() {
        return false;
    }
    // What cannot be made present holds no row: nobody has written it.
    let Some(row) = memory.slot(index).ok().and_then(Slot::load) else {
        return false;
    };
    let record = record_of(memory, row).ok().flatten();
    record.is_some_and(|record| record.read(name)) && row.is_of(key.hash(name.as_bytes()), index)
}

/// At most so many slots are tried for a name. With this order, a table fills to about nine tenths before the first
/// name finds no room.
const WINDOW: u32 = 64;

/// The slots at which a name may stand. Their distances grow by one (0, 1, 3, 6, 10...), which comes past each slot
/// once, keeps the first few in one cache line, and does not let taken slots clot as steps of one do: with those, 43
/// of 100,000 names found no room in 131,072 slots; so, none.
fn window(hash: u64, slots: u32) -> impl Iterator<Item = u32> {
    let mask = slots.wrapping_sub(1);
    let start = u32::try_from(hash & u64::from(mask)).unwrap_or_default();
    let steps = 0..WINDOW.min(slots);
    steps
        .scan(start, move |slot, step| {
            *slot = slot.wrapping_add(step) & mask;
            Some(*slot)
        })
        .filter(|slot| *slot != 0)
}

fn write_record<M: Memory>(memory: &M, name: &Name) -> Result<u32, TableError> {
    let next = &memory.counters()?.records.0;
    let record = |index: u64| {
        let index = u32::try_from(index).map_err(|_beyond_all| TableError::WindowFull)?;
        let record = memory.record(index)?.ok_or(TableError::WindowFull)?;
        Ok::<_, TableError>((index, record))
    };
    // Make it present, then take it: a program that tries again and again on a full disk would use up all records.
    record(next.load(Relaxed))?;
    let (index, record) = record(next.fetch_add(1, Relaxed))?;
    record.write(name);
    Ok(index)
}

fn record_of<M: Memory>(memory: &M, row: Row) -> Result<Option<&Record>, TableError> {
    match row.record() {
        Some(index) => memory.record(index),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Barrier;
    use std::thread;

    use super::*;
    use crate::arrays::Arrays;

    const KEY: &[u8; 16] = b"sixteen  octets.";

    fn name<M: Memory>(memory: &M, key: &Key, index: u32) -> Option<Name> {
        let mut name = Name::EMPTY;
        super::name(memory, key, index, &mut name).then_some(name)
    }

    fn key() -> Key {
        Key::from_bytes(*KEY)
    }

    fn name_of(text: &str) -> Name {
        Name::new(text.as_bytes()).expect("a name")
    }

    fn numbered(i: usize) -> Name {
        name_of(&format!("host-{i}.example"))
    }

    #[test]
    fn a_name_has_one_slot_and_the_slot_that_name() {
        let table = Arrays::new(256);
        let slots: Vec<_> = (0..100)
            .map(|i| register(&table, &key(), &numbered(i)).expect("room"))
            .collect();
        for (i, slot) in slots.iter().enumerate() {
            assert_eq!(register(&table, &key(), &numbered(i)), Ok(*slot), "again");
            assert_eq!(name(&table, &key(), *slot), Some(numbered(i)));
        }
        assert_eq!(
            table.counters().expect("there").records.0.load(Relaxed),
            100
        );
    }

    #[test]
    fn slots_without_a_name_and_slot_0_have_none() {
        let table = Arrays::new(16);
        while register(&table, &key(), &numbered(table.count())).is_ok() {}
        for index in (0..16).filter(|index| table.slots[*index].load().is_none()) {
            assert_eq!(name(&table, &key(), index as u32), None);
        }
        assert!(table.slots[0].load().is_none());
        for beyond in [16, 17, u32::MAX] {
            assert_eq!(name(&table, &key(), beyond), None);
        }
    }

    impl Arrays {
        fn count(&self) -> usize {
            self.slots
                .iter()
                .filter(|slot| slot.load().is_some())
                .count()
        }
    }

    #[test]
    fn a_small_table_fills_to_its_last_slot_and_then_says_so() {
        for slots in [4, 8, 64] {
            let table = Arrays::new(slots);
            for i in 0..slots - 1 {
                assert!(
                    register(&table, &key(), &numbered(i)).is_ok(),
                    "{i} of {slots}"
                );
            }
            assert_eq!(
                register(&table, &key(), &name_of("late")),
                Err(TableError::WindowFull)
            );
            assert!(
                register(&table, &key(), &numbered(0)).is_ok(),
                "a name that is there"
            );
            // A name that finds no room has taken no record.
            let taken = table.counters().expect("there").records.0.load(Relaxed);
            assert_eq!(taken, slots as u64 - 1);
        }
    }

    #[test]
    fn a_window_is_64_different_slots_in_bounds_and_never_slot_0() {
        for (hash, slots) in [
            (0, 4),
            (3, 4),
            (0, 64),
            (63, 64),
            (5, 256),
            (u64::MAX, 1 << 20),
        ] {
            let mut seen: Vec<_> = window(hash, slots).collect();
            let count = seen.len() as u32;
            assert!(seen.iter().all(|slot| *slot != 0 && *slot < slots));
            seen.sort_unstable();
            seen.dedup();
            assert_eq!(seen.len() as u32, count, "a slot twice");
            assert!(count == WINDOW.min(slots) || count == WINDOW.min(slots) - 1);
        }
    }

    /// The promise of the default ranges. The key is fixed, so this passes always or never.
    #[test]
    fn a_hundred_thousand_names_find_room_in_131072_slots() {
        let table = Arrays::new(1 << 17);
        for i in 0..100_000 {
            assert!(register(&table, &key(), &numbered(i)).is_ok(), "name {i}");
        }
    }

    #[test]
    fn no_more_records_is_a_full_table_and_no_panic() {
        let table = Arrays::new(256);
        let next = &table.counters().expect("there").records.0;
        for taken in [512, u64::from(u32::MAX), u64::MAX] {
            next.store(taken, Relaxed);
            let full = register(&table, &key(), &name_of("a.example"));
            assert_eq!(full, Err(TableError::WindowFull));
        }
    }

    /// A counter that was scribbled over gives one record out twice. The first name is lost; it is not the second.
    #[test]
    fn a_record_given_out_twice_gives_no_wrong_name() {
        let table = Arrays::new(256);
        let first = register(&table, &key(), &name_of("first.example")).expect("room");
        table.counters().expect("there").records.0.store(0, Relaxed);
        let second = register(&table, &key(), &name_of("second.example")).expect("room");
        assert_eq!(name(&table, &key(), first), None);
        assert_eq!(
            name(&table, &key(), second),
            Some(name_of("second.example"))
        );
    }

    #[test]
    fn a_row_copied_to_another_slot_is_no_row_there() {
        let table = Arrays::new(256);
        let slot = register(&table, &key(), &name_of("a.example")).expect("room");
        let row = table.slots[slot as usize].load().expect("a row");
        for other in (1..256).filter(|other| *other != slot) {
            table.slots[other as usize].publish(row).expect("empty");
            assert_eq!(name(&table, &key(), other), None);
        }
    }

    /// As many processes do, on few slots, so that nearly every step is a race. All agree on every name; no name and
    /// no slot is there twice.
    #[test]
    fn threads_that_register_the_same_names_at_once_agree() {
        const THREADS: usize = 8;
        for round in 0..200 {
            let table = Arrays::new(64);
            let start = Barrier::new(THREADS);
            let seen: Vec<Vec<u32>> = thread::scope(|scope| {
                let run = |first| {
                    let (table, start) = (&table, &start);
                    scope.spawn(move || {
                        start.wait();
                        // Each begins with another name, to meet at different places.
                        let mut slots = vec![0; 40];
                        for i in (0..40).map(|i| (i + first) % 40) {
                            let name = numbered(round * 40 + i);
                            slots[i] = register(table, &key(), &name).expect("room");
                        }
                        slots
                    })
                };
                let threads: Vec<_> = (0..THREADS).map(|t| run(t % 3)).collect();
                threads
                    .into_iter()
                    .map(|thread| thread.join().expect("no panic"))
                    .collect()
            });
            assert!(
                seen.iter().all(|slots| *slots == seen[0]),
                "round {round}: {seen:?}"
            );
            let by_slot: HashMap<_, _> = seen[0].iter().zip(0..).collect();
            assert_eq!((by_slot.len(), table.count()), (40, 40), "round {round}");
            for (slot, i) in by_slot {
                assert_eq!(name(&table, &key(), *slot), Some(numbered(round * 40 + i)));
            }
        }
    }
}
