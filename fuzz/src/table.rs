//! The mapping table's file, in whatever state somebody has left it.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::{env, process};

use fake_dns::{Connection, Family, Ranges, Table, TableError};

const HEADER_OCTETS: usize = 128;
const PAGE: usize = 4096;
const NAMES: u32 = 24;
const COOKIES: u64 = 8;

// Where things are in a file for these ranges; fake-dns/src/layout.rs has a test for the order.
const SLOTS: u64 = 4096;
const CONNECTIONS: u64 = SLOTS + 256 * 8;
const ROW_OCTETS: usize = 64;
const RECORDS: u64 = CONNECTIONS + 16384 * 64;
const RECORD_OCTETS: u64 = 264;

/// A table as it should be, with some names and connections in it. Its key is another one in each process, so inputs speak
/// of names, and not of where their slots are.
struct Good {
    len: u64,
    /// The pages that are not all zero, and where they are.
    pages: Vec<(u64, Vec<u8>)>,
    /// By name.
    slots: Vec<u32>,
    /// Where connections stand.
    rows: Vec<u64>,
}

/// Octets of the file that are changed: `PART WHICH AT HOW` and eight octets for it.
const PATCH_OCTETS: usize = 12;

/// Patches of a good table's file. Whoever attaches gets it or is told what is wrong with it, and looks up and registers
/// without harm: a slot has the name that it had, or none, and never another one.
pub(crate) fn attach(input: &[u8]) {
    static GOOD: OnceLock<Good> = OnceLock::new();
    let good = GOOD.get_or_init(Good::new);
    let scratch = Scratch::new();
    let file = good.write(&scratch.0);
    let patches = input.chunks_exact(PATCH_OCTETS).take(64);
    patches.for_each(|patch| good.patch(&file, patch));
    let whole = good.header(&file) == good.pages[0].1[..HEADER_OCTETS]
        && file.metadata().unwrap().len() == good.len;
    let table = match Table::open(&scratch.0, &ranges()) {
        Ok(table) => table,
        Err(TableError::Foreign { .. }) if !whole => return,
        Err(error) => panic!("{error}"),
    };
    assert!(whole, "a header that nobody has written");
    drop(scratch);

    for slot in 0..=table.capacity() {
        let Some(found) = table.name(slot) else {
            continue;
        };
        let known = (0..).zip(&good.slots).find(|(_, known)| **known == slot);
        if let Some((number, _)) = known {
            assert_eq!(found.as_bytes(), name(number).as_bytes(), "slot {slot}");
        }
    }
    for number in 0..NAMES + 8 {
        let name = name(number);
        // A full window is an answer, too.
        if let Ok(slot) = table.register(name.as_bytes()) {
            assert!((1..=table.capacity()).contains(&slot));
            let address = table.pool().address(slot, Family::V4);
            let found = table.lookup(address).expect("it is registered");
            assert_eq!(found.as_bytes(), name.as_bytes());
        }
    }
    for cookie in 1..=COOKIES + 8 {
        if let Some(found) = table.recall(cookie) {
            assert_eq!(found, row(cookie), "{cookie}");
        }
        table.remember(cookie, row(cookie)).unwrap();
        table.forget(cookie);
        assert_eq!(table.recall(cookie), None);
    }
    assert!(table.len() <= table.capacity());
}

impl Good {
    fn new() -> Self {
        let scratch = Scratch::new();
        let table = Table::open(&scratch.0, &ranges()).unwrap();
        let slots = (0..NAMES).map(|number| table.register(name(number).as_bytes()).unwrap());
        let slots = slots.collect();
        for cookie in 1..=COOKIES {
            table.remember(cookie, row(cookie)).unwrap();
        }
        let octets = fs::read(&scratch.0).unwrap();
        let pages = (0..).step_by(PAGE).zip(octets.chunks(PAGE));
        let pages = pages.filter(|(_, page)| page.iter().any(|octet| *octet != 0));
        let is_row = |at: &u64| octets[usize::try_from(*at).unwrap()..][..8] != [0; 8];
        Self {
            len: octets.len().try_into().unwrap(),
            pages: pages.map(|(at, page)| (at, page.to_vec())).collect(),
            slots,
            rows: (CONNECTIONS..RECORDS)
                .step_by(ROW_OCTETS)
                .filter(is_row)
                .collect(),
        }
    }

    fn write(&self, path: &Path) -> File {
        let mut options = File::options();
        options.read(true).write(true).create_new(true).mode(0o600);
        let file = options.open(path).unwrap();
        file.set_len(self.len).unwrap();
        for (at, page) in &self.pages {
            file.write_all_at(page, *at).unwrap();
        }
        file
    }

    fn header(&self, file: &File) -> Vec<u8> {
        let mut header = vec![0; HEADER_OCTETS];
        // A file that was cut short has less of it.
        let len = file.read_at(&mut header, 0).unwrap();
        header.truncate(len);
        header
    }

    fn patch(&self, file: &File, patch: &[u8]) {
        let [part, which, at, how, value @ ..] = patch else {
            return;
        };
        let which = usize::from(*which);
        let (start, len) = match part % 8 {
            0 => (0, 128),   // the header
            1 => (512, 192), // counters
            2 => (
                SLOTS + 8 * u64::from(self.slots[which % self.slots.len()]),
                8,
            ),
            3 => (SLOTS + 8 * which as u64, 8),
            4 => (RECORDS + RECORD_OCTETS * (which as u64), RECORD_OCTETS),
            5 => (self.rows[which % self.rows.len()], 64),
            6 => (CONNECTIONS + 64 * which as u64, 64),
            _ => {
                // Shorter or longer, mostly by little.
                let value: [u8; 8] = value.try_into().unwrap();
                let len = u64::from_le_bytes(value) % (2 * self.len);
                let len = if *at < 128 {
                    self.len ^ u64::from(*how)
                } else {
                    len
                };
                file.set_len(len).unwrap();
                return;
            }
        };
        let place = start + u64::from(*at) % len;
        let mut octets = [0; 8];
        match how % 4 {
            0 => octets.copy_from_slice(value),
            1 => {
                // What is beyond the end is zero.
                let _short = file.read_at(&mut octets, place).unwrap();
                for (octet, change) in octets.iter_mut().zip(value) {
                    *octet ^= change;
                }
            }
            // Another slot's row, or another record.
            _ => {
                let from = match part % 8 {
                    2 | 3 => {
                        SLOTS + 8 * u64::from(self.slots[usize::from(value[0]) % self.slots.len()])
                    }
                    4 => RECORDS + RECORD_OCTETS * u64::from(value[0]),
                    5 | 6 => self.rows[usize::from(value[0]) % self.rows.len()],
                    _ => 0,
                };
                let mut all = vec![0; usize::try_from(len).unwrap()];
                let _short = file.read_at(&mut all, from).unwrap();
                // An empty slot in a taken one's place makes room for another name: no stray write, but a new table.
                if all.iter().any(|octet| *octet != 0) {
                    write(file, &all, start);
                }
                return;
            }
        }
        if !(SLOTS..CONNECTIONS).contains(&start) || octets != [0; 8] {
            write(file, &octets, place);
        }
    }
}

/// Nothing behind the end: that is for the length to say.
fn write(file: &File, octets: &[u8], at: u64) {
    let room = file.metadata().unwrap().len().saturating_sub(at);
    let len = octets.len().min(usize::try_from(room).unwrap());
    file.write_all_at(&octets[..len], at).unwrap();
}

/// 255 names.
fn ranges() -> Ranges {
    Ranges {
        v4: "198.18.0.0/24".parse().unwrap(),
        ..Ranges::default()
    }
}

fn name(number: u32) -> String {
    format!("host-{number}.example")
}

fn row(cookie: u64) -> Connection {
    let port = u16::try_from(cookie).unwrap();
    Connection {
        asked: ([198, 18, 0, 1], port).into(),
        family: Family::V4,
    }
}

/// A path at which nothing is, and nothing stays.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Relaxed);
        Self(env::temp_dir().join(format!("socks6-fuzz-{}-{count}", process::id())))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _not_made_yet = fs::remove_file(&self.0);
    }
}
