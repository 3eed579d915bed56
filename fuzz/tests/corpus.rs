//! Every target on its corpus, and on what chance makes of it.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test"
)]

use std::fs;
use std::path::PathBuf;

use fuzz::{TARGETS, Target};
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestRunner};

/// So many of each target.
const CASES: u32 = 500;

fn corpus() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

/// In the order of their names.
fn seeds(target: Target) -> Vec<(String, Vec<u8>)> {
    let folder = corpus().join(target.name);
    let files =
        fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let read = |file: fs::DirEntry| {
        let name = file.file_name().into_string().unwrap();
        (name, fs::read(file.path()).unwrap())
    };
    let mut seeds: Vec<_> = files.map(|file| read(file.unwrap())).collect();
    seeds.sort();
    seeds
}

#[test]
fn every_target_has_a_corpus_and_every_corpus_a_target() {
    let folders = fs::read_dir(corpus()).unwrap();
    let folders = folders.map(|folder| folder.unwrap().file_name().into_string().unwrap());
    let mut folders: Vec<_> = folders.collect();
    folders.sort();
    let mut names = TARGETS.map(|target| target.name);
    names.sort_unstable();
    assert_eq!(folders, names);
    for target in TARGETS {
        assert!(seeds(target).len() >= 3, "{}", target.name);
    }
}

#[test]
fn the_corpus_holds() {
    for target in TARGETS {
        for (name, seed) in seeds(target) {
            // What a failed test shows.
            println!("{} {name}", target.name);
            (target.run)(&seed);
        }
    }
}

#[test]
fn what_chance_makes_of_the_corpus_holds() {
    for target in TARGETS {
        let config = Config {
            cases: CASES,
            failure_persistence: None,
            ..Config::default()
        };
        let seeds = seeds(target).into_iter().map(|(_, seed)| seed).collect();
        let outcome = TestRunner::new(config).run(&spoiled(seeds), |input| {
            (target.run)(&input);
            Ok(())
        });
        if let Err(error) = outcome {
            panic!("{}: {error}", target.name);
        }
    }
}

/// A seed, or the beginning of one and the end of another, with some octets changed, put in or left out.
fn spoiled(seeds: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let one = prop::sample::select(seeds);
    let crossed = (one.clone(), one.clone(), any::<[Index; 2]>()).prop_map(|(a, b, [i, j])| {
        let (begin, end) = (i.index(a.len() + 1), j.index(b.len() + 1));
        [&a[..begin], &b[end..]].concat()
    });
    let base = prop_oneof![3 => one, 1 => crossed];
    let change = (any::<Index>(), 0..4_u8, any::<u8>());
    (base, prop::collection::vec(change, 0..6)).prop_map(|(mut octets, changes)| {
        for (at, how, octet) in changes {
            let at = at.index(octets.len() + 1);
            match how {
                0 => octets.insert(at, octet),
                1 => octets.truncate(at),
                _ if at == octets.len() => {}
                2 => octets[at] = octet,
                _ => drop(octets.remove(at)),
            }
        }
        octets
    })
}
