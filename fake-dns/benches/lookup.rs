//! What a name costs: to register, to find again, and to read back from its address; and a hundred thousand of them.
//!
//! `cargo bench -p fake-dns`. The table is a file in memory, as in real use.
#![allow(missing_docs, reason = "criterion's macros make public items")]
#![allow(
    clippy::expect_used,
    reason = "a bench that cannot open its table has nothing to measure"
)]

use std::hint::black_box;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

use fake_dns::{Family, Ranges, Table};

const NAMES: usize = 100_000;

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_secs(1)).sample_size(20);
    targets = register, lookups, open
}
criterion_main!(benches);

/// The names are all new to the table, and the table's pages to the process.
fn register(c: &mut Criterion) {
    let names = names();
    let mut group = c.benchmark_group("register");
    group.throughput(Throughput::Elements(NAMES as u64));
    group.bench_function("100000 new names", |b| {
        b.iter_custom(|rounds| {
            let mut spent = Duration::ZERO;
            for _round in 0..rounds {
                let file = File::new("register");
                let table = file.open();
                let start = Instant::now();
                for name in &names {
                    black_box(table.register(name.as_bytes()).expect("room for all names"));
                }
                spent = spent.saturating_add(start.elapsed());
            }
            spent
        });
    });
    group.finish();
}

fn lookups(c: &mut Criterion) {
    let names = names();
    let file = File::new("lookups");
    let table = file.open();
    let addresses: Vec<_> = names
        .iter()
        .map(|name| {
            table
                .fake(name.as_bytes(), Family::V6)
                .expect("room for all names")
        })
        .collect();

    let mut group = c.benchmark_group("of 100000 names");
    let mut name = names.iter().cycle();
    group.bench_function("register again", |b| {
        b.iter_batched(
            || name.next().expect("endless").as_bytes(),
            |name| table.register(name),
            BatchSize::SmallInput,
        );
    });
    let mut address = addresses.iter().cycle();
    group.bench_function("name of an address", |b| {
        b.iter_batched(
            || *address.next().expect("endless"),
            |address| table.lookup(address),
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

/// What each new process pays.
fn open(c: &mut Criterion) {
    let file = File::new("open");
    let first = file.open();
    first.register(b"a.example").expect("room for a name");
    c.bench_function("attach and find one name", |b| {
        b.iter(|| file.open().register(b"a.example"));
    });
}

fn names() -> Vec<String> {
    (0..NAMES)
        .map(|i| format!("host-{i}.some-department.example.com"))
        .collect()
}

/// Removed when dropped.
struct File(PathBuf);

impl File {
    fn new(purpose: &str) -> Self {
        Self(PathBuf::from(format!(
            "/dev/shm/fake-dns-bench-{purpose}-{}",
            std::process::id()
        )))
    }

    fn open(&self) -> Table {
        Table::open(&self.0, &Ranges::default()).expect("a table in /dev/shm")
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _already_gone = std::fs::remove_file(&self.0);
    }
}
