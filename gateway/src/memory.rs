//! The last of the memory that this process may have. Rust ends a process whose malloc fails, and a gateway that ends takes
//! all of its relays with it; glibc does the same to a thread that begins. What relays cannot do without is a few octets
//! at a time, for a line of the log, say. So whoever wants more of it (a client, a thread, a buffer) looks whether so much
//! is left for them, and waits or does without.

use std::hint::black_box;

use crate::sys;

/// What the heap keeps, once it has had it: what is given back to the kernel may become stacks of threads, which are kept
/// by libc, and nothing would ever be left for another client.
const KEPT_OCTETS: u32 = 1 << 20;

/// What is left for small things.
/// Below 128 KiB malloc looks into the heap before it asks the kernel.
const ROOM_OCTETS: usize = 120 << 10;

/// Whether there is more than that, be it of the kernel's or of what relays that are gone have left. None of it is touched.
pub(crate) fn has_room() -> bool {
    let mut room: Vec<u8> = Vec::new();
    let is_there = room.try_reserve_exact(ROOM_OCTETS).is_ok();
    black_box(&room); // or it would be optimised away
    is_there
}

/// Has all threads of this process take their memory from the same heap, so that what one of them finds there is what
/// others have. Relays move octets without malloc: they do not stand in each other's way.
/// To be called before there are any.
pub fn share_one_heap() {
    sys::share_one_heap(KEPT_OCTETS.cast_signed());
}

/// Gives back what a burst has left between what is still in use, which free(3) does not. That takes milliseconds.
pub(crate) fn give_back() {
    sys::trim_heap(KEPT_OCTETS as usize);
}
