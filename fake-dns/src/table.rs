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
        if taken_by.is_of(hash, index) && named(memory, taken_by)?.as_ref() == Some(name) {
            return Ok(index);
        }
    }
    Err(TableError::WindowFull)
}

/// The name in a slot. Whatever is read may have been scribbled over: it is the slot's name only if the tag in the
/// slot is that of the name's hash.
pub(crate) fn name<M: Memory>(memory: &M, key: &Key, index: u32) -> Option<Name> {
    if index == 0 || index >= memory.slots() {
        return None;
    }
    // What cannot be made present holds no row: nobody has written it.
    let row = memory.slot(index).ok()?.load()?;
    let name = named(memory, row).ok()??;
    row.is_of(key.hash(name.as_bytes()), index).then_some(name)
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
    let next = memory.counters()?.records.0.fetch_add(1, Relaxed);
    let index = u32::try_from(next).map_err(|_beyond_all| TableError::WindowFull)?;
    memory
        .record(index)?
        .ok_or(TableError::WindowFull)?
        .write(name);
    Ok(index)
}

fn named<M: Memory>(memory: &M, row: Row) -> Result<Option<Name>, TableError> {
    let Some(index) = row.record() else {
        return Ok(None);
    };
    Ok(memory.record(index)?.and_then(Record::read))
}
