//! A name in shared memory: written in private, complete before its row is published, never changed after.

use core::sync::atomic::Ordering::Relaxed;
use core::sync::atomic::{AtomicU32, AtomicU64};

use crate::name::Name;

/// Relaxed throughout: the slot's Release and Acquire order these accesses, and a reader who has come by another way
/// (a scribbled slot) checks what it reads.
#[derive(Debug, Default)]
#[repr(C)]
pub(crate) struct Record {
    len: AtomicU32,
    name: [AtomicU64; 32],
}

const WORD_OCTETS: usize = size_of::<u64>();

impl Record {
    pub(crate) fn write(&self, name: &Name) {
        let octets = name.as_bytes();
        for (word, chunk) in self.name.iter().zip(octets.chunks(WORD_OCTETS)) {
            let mut bytes = [0; WORD_OCTETS];
            for (to, from) in bytes.iter_mut().zip(chunk) {
                *to = *from;
            }
            word.store(u64::from_ne_bytes(bytes), Relaxed);
        }
        self.len.store(u32::from(name.len()), Relaxed);
    }

    /// Makes `name` what is here; false if that can be none. Whether it belongs to the slot that led here is for the
    /// slot's tag to say.
    pub(crate) fn read(&self, name: &mut Name) -> bool {
        let len = u8::try_from(self.len.load(Relaxed)).unwrap_or(0);
        name.set(len, self.name.iter().map(|word| word.load(Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_comes_back_whole_over_what_was_there_before() {
        let record = Record::default();
        for len in (1..=255).rev() {
            let name = Name::new(&vec![b'a'; len]).expect("a name");
            record.write(&name);
            let mut read = Name::EMPTY;
            assert!(record.read(&mut read));
            assert_eq!(read, name);
        }
    }

    #[test]
    fn a_length_that_no_name_has_is_no_name() {
        let record = Record::default();
        let mut read = Name::EMPTY;
        assert!(!record.read(&mut read), "never written");
        for len in [0, 256, u32::MAX] {
            record.write(&Name::new(b"a.example").expect("a name"));
            record.len.store(len, Relaxed);
            assert!(!record.read(&mut read), "{len}");
        }
    }
}
