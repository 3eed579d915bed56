//! A table in plain memory, for tests of what works over any slots.

use crate::connections;
use crate::error::TableError;
use crate::layout::Counters;
use crate::record::Record;
use crate::slot::Slot;
use crate::table::Memory;

#[derive(Debug)]
pub(crate) struct Arrays {
    pub(crate) slots: Vec<Slot>,
    pub(crate) records: Vec<Record>,
    connections: Vec<connections::Row>,
    counters: Counters,
}

impl Arrays {
    pub(crate) fn new(slots: usize) -> Self {
        Self {
            slots: (0..slots).map(|_| Slot::default()).collect(),
            records: (0..2 * slots).map(|_| Record::default()).collect(),
            connections: (0..connections::ROWS)
                .map(|_| connections::Row::default())
                .collect(),
            counters: Counters::default(),
        }
    }
}

impl Memory for Arrays {
    fn slots(&self) -> u32 {
        self.slots.len() as u32
    }

    fn slot(&self, index: u32) -> Result<&Slot, TableError> {
        Ok(&self.slots[index as usize])
    }

    fn record(&self, index: u32) -> Result<Option<&Record>, TableError> {
        Ok(self.records.get(index as usize))
    }

    fn connection(&self, index: u32) -> Result<&connections::Row, TableError> {
        Ok(&self.connections[index as usize])
    }

    fn counters(&self) -> Result<&Counters, TableError> {
        Ok(&self.counters)
    }
}
