//! A file over which somebody writes nonsense while others use it.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::time::{Duration, Instant};

use fake_dns::{Connection, Family, Table};

use crate::support::{Chance, Folder, fork, numbered, open, small};

const NAMES: u32 = 150;

// Where things are in a file for the ranges of `small`; src/layout.rs has a test for the order.
const SLOTS: u64 = 4096;
const CONNECTIONS: u64 = SLOTS + 256 * 8;
const RECORDS: u64 = CONNECTIONS + 16384 * 64;
const RECORD_OCTETS: u64 = 264;

/// Random octets, and, what is worse, true rows and records in the wrong places. Whoever looks up or registers
/// meanwhile gets the right name or none, never another one, and lives.
#[test]
fn a_scribbled_file_never_gives_a_wrong_name() {
    let folder = Folder::new();
    let table = open(&folder.table(), &small());
    let slots: Vec<u32> = (0..NAMES)
        .map(|i| table.register(numbered(i).as_bytes()).unwrap())
        .collect();
    let until = Instant::now() + Duration::from_secs(2);
    let users: Vec<_> = (0..4)
        .map(|_| {
            fork(|| {
                while Instant::now() < until {
                    use_it(&table, &slots);
                }
            })
        })
        .collect();
    let file = File::options()
        .read(true)
        .write(true)
        .open(folder.table())
        .unwrap();
    let mut chance = Chance::new(3089);
    while Instant::now() < until {
        scribble(&file, &mut chance);
    }
    for user in users {
        assert_eq!(user.wait(), 0);
    }
    let lost = slots
        .iter()
        .filter(|slot| table.name(**slot).is_none())
        .count();
    assert!(
        lost > 10,
        "only {lost} rows were hit: this test proves little"
    );
}

/// And when all is over, whoever opens the file gets a table or an error.
#[test]
fn a_file_of_noise_behind_a_good_header_is_an_empty_table() {
    let folder = Folder::new();
    drop(open(&folder.table(), &small()));
    let mut octets = fs::read(folder.table()).unwrap();
    let mut chance = Chance::new(1);
    for chunk in octets[512..].chunks_exact_mut(8) {
        chunk.copy_from_slice(&chance.word().to_ne_bytes());
    }
    let file = File::options().write(true).open(folder.table()).unwrap();
    file.write_all_at(&octets, 0).unwrap();
    let table = open(&folder.table(), &small());
    for slot in 0..256 {
        assert_eq!(table.name(slot), None);
    }
    // Every slot is taken, by nobody.
    for i in 0..1000 {
        assert!(table.register(numbered(i).as_bytes()).is_err());
        assert_eq!(table.recall(chance.word()), None);
    }
    assert!(table.len() <= table.capacity());
}

fn use_it(table: &Table, slots: &[u32]) {
    for (i, slot) in (0..).zip(slots) {
        let name = numbered(i);
        if let Some(found) = table.name(*slot) {
            assert_eq!(found.as_bytes(), name.as_bytes());
        }
        if let Ok(slot) = table.register(name.as_bytes())
            && let Some(found) = table.name(slot)
        {
            assert_eq!(found.as_bytes(), name.as_bytes());
        }
        let _full = table.register(numbered(i + NAMES).as_bytes());
    }
    for cookie in 1..200u16 {
        let row = Connection {
            asked: ([198, 18, 0, 1], cookie).into(),
            family: Family::V4,
        };
        table.remember(cookie.into(), row).unwrap();
        if let Some(found) = table.recall(cookie.into()) {
            assert_eq!(found, row);
        }
    }
}

fn scribble(file: &File, chance: &mut Chance) {
    let slot = |chance: &mut Chance| SLOTS + 8 * (1 + chance.below(255));
    let record = |chance: &mut Chance| RECORDS + RECORD_OCTETS * chance.below(512);
    let noise = chance.word().to_ne_bytes();
    match chance.below(6) {
        0 => file.write_all_at(&noise, slot(chance)),
        1 => copy(file, 8, slot(chance), slot(chance)),
        2 => file.write_all_at(&noise[..4], record(chance) + 4 * chance.below(8)),
        3 => copy(file, RECORD_OCTETS as usize, record(chance), record(chance)),
        4 => file.write_all_at(&noise, CONNECTIONS + 8 * chance.below(16384 * 8)),
        // The counters. Small numbers give records out again.
        _ => file.write_all_at(&chance.below(512).to_ne_bytes(), 512),
    }
    .unwrap();
}

fn copy(file: &File, len: usize, from: u64, to: u64) -> std::io::Result<()> {
    let mut octets = vec![0; len];
    file.read_exact_at(&mut octets, from)?;
    // An empty slot put over a taken one would make room for another name there: that is no longer a scribble.
    if octets.iter().all(|octet| *octet == 0) {
        return Ok(());
    }
    file.write_all_at(&octets, to)
}
