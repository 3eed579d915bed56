//! What the table must not do inside somebody else's process, once it is open: take heap, keep a descriptor, or touch errno.
//! One test alone in its binary, since its allocator is everybody's, and so are the descriptors that it counts.
#![allow(clippy::unwrap_used, reason = "a test")]
#![expect(unsafe_code, reason = "an allocator that counts, and errno")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::IpAddr;

use fake_dns::{Connection, Family, Ranges, Table, TableError};

#[test]
fn an_open_table_takes_no_heap_and_leaves_errno_alone() {
    // Small, so that a full window is among what happens.
    let ranges = Ranges {
        v4: "198.18.0.0/24".parse().unwrap(),
        ..Ranges::default()
    };
    let path = std::env::temp_dir().join(format!("fake-dns-quiet-{}", std::process::id()));
    let descriptors = open_descriptors();
    let tables = [
        Table::open(&path, &ranges).unwrap(),
        Table::private(&ranges).unwrap(),
    ];
    std::fs::remove_file(&path).unwrap();
    assert_eq!(open_descriptors(), descriptors);

    for table in &tables {
        set_errno(77);
        let before = ALLOCATIONS.get();
        let full = use_all_of_it(table);
        let after = ALLOCATIONS.get();
        assert_eq!((after, errno()), (before, 77));
        assert!(
            full > 0 && table.len() > 200,
            "{full} full, {} names",
            table.len()
        );
    }
}

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Every call, with success and failure.
fn use_all_of_it(table: &Table) -> u32 {
    let mut full = 0u32;
    for i in 0..500u16 {
        let [high, low] = i.to_be_bytes();
        let name = [
            b'a'.wrapping_add(high),
            b'0'.wrapping_add(low >> 4),
            b'0'.wrapping_add(low & 15),
        ];
        let addresses = [Family::V4, Family::V6].map(|family| table.fake(&name, family));
        if addresses == [Err(TableError::WindowFull); 2] {
            full = full.wrapping_add(1);
        }
        for address in addresses.into_iter().flatten() {
            assert_eq!(table.lookup(address).unwrap().as_bytes(), name);
        }
        let row = Connection {
            asked: ([198, 18, 0, 1], i).into(),
            family: Family::V4,
        };
        table.remember(i.into(), row).unwrap();
        assert!(i == 0 || table.recall(i.into()) == Some(row));
        table.forget(i.into());
    }
    assert_eq!(table.register(b""), Err(TableError::Name));
    assert_eq!(table.lookup(IpAddr::from([192, 0, 2, 1])), None);
    assert_eq!(table.name(0), None);
    full
}

struct Counting;

thread_local! {
    /// Of this thread: the test harness's own works meanwhile.
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

fn count() {
    ALLOCATIONS.set(ALLOCATIONS.get().wrapping_add(1));
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: all is passed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: our caller's contract, passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        count();
        // SAFETY: our caller's contract, passed on.
        unsafe { System.dealloc(memory, layout) };
    }
}

fn errno() -> i32 {
    // SAFETY: this thread's own errno.
    unsafe { *libc::__errno_location() }
}

fn set_errno(value: i32) {
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = value };
}
