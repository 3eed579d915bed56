//! One name, one address: whoever asks, whenever.

use std::collections::HashMap;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, SocketAddrV6};
use std::thread;
use std::time::{Duration, Instant};

use fake_dns::{Connection, Family, Ranges, Table};

use crate::support::{Folder, fork, helper, lines, numbered, open, small, tell, told};

const PROCESSES: u32 = 16;
const SHARED: u32 = 1000;
const OWN: u32 = 100;

/// All sixteen make the table, and register a thousand names that all know and a hundred of their own, at once.
#[test]
fn sixteen_processes_that_register_at_once_agree_on_every_name() {
    let folder = Folder::new();
    let table = folder.table();
    let (ready, go) = io::pipe().unwrap();
    let children: Vec<_> = (0..PROCESSES)
        .map(|number| {
            let told = [
                ("TABLE", table.to_str().unwrap()),
                ("NUMBER", &number.to_string()),
            ];
            let mut command = helper("register", &told);
            command.stdin(ready.try_clone().unwrap()).spawn().unwrap()
        })
        .collect();
    // The other end of their pipe: they start when it is closed.
    drop(go);
    // Their output is more than a pipe holds: all are read at once, or those who wait to be read would not race.
    let outputs = thread::scope(|scope| {
        let readers: Vec<_> = children
            .into_iter()
            .map(|child| scope.spawn(move || child.wait_with_output().unwrap()))
            .collect();
        readers
            .into_iter()
            .map(|reader| lines(&reader.join().unwrap()))
            .collect::<Vec<_>>()
    });

    let mut address_of: HashMap<String, String> = HashMap::new();
    for line in outputs.iter().flatten() {
        let (name, address) = line.split_once(' ').unwrap();
        let first = address_of
            .entry(name.into())
            .or_insert_with(|| address.into());
        assert_eq!(first, address, "{name}");
    }
    assert!(
        outputs
            .iter()
            .all(|lines| lines.len() == (SHARED + OWN) as usize)
    );
    let names = SHARED + PROCESSES * OWN;
    let name_of: HashMap<_, _> = address_of
        .iter()
        .map(|(name, address)| (address, name))
        .collect();
    assert_eq!(
        (address_of.len(), name_of.len()),
        (names as usize, names as usize)
    );

    // All of them are gone; the names are not.
    let table = open(&table, &Ranges::default());
    assert_eq!(table.len(), names);
    for (name, addresses) in &address_of {
        for address in addresses.split(' ') {
            let address: IpAddr = address.parse().unwrap();
            assert_eq!(table.lookup(address).unwrap().as_bytes(), name.as_bytes());
            assert_eq!(
                table.fake(name.as_bytes(), Family::of(address)),
                Ok(address)
            );
        }
    }
    folder.assert_tidy();
}

pub(crate) fn register_as_told() {
    let number: u32 = told("NUMBER").parse().unwrap();
    io::stdin().read_to_end(&mut Vec::new()).unwrap();
    let table = open(told("TABLE").as_ref(), &Ranges::default());
    let shared = (0..SHARED).map(|i| numbered((i + number * 7) % SHARED));
    let own = (0..OWN).map(|i| format!("only-{number}-{i}.example"));
    for name in shared.chain(own) {
        let v4 = table.fake(name.as_bytes(), Family::V4).unwrap();
        let v6 = table.fake(name.as_bytes(), Family::V6).unwrap();
        tell(&format!("{name} {v4} {v6}"));
    }
}

/// Many short races for the file itself and its first names, with everybody at the same place.
#[test]
fn processes_that_make_the_table_at_once_have_one_table() {
    for round in 0..40 {
        let folder = Folder::new();
        let (ready, go) = io::pipe().unwrap();
        let (mut results, result) = io::pipe().unwrap();
        let children: Vec<_> = (0..PROCESSES)
            .map(|_| {
                fork(|| {
                    // A byte each, since the end of the pipe, of which each has a copy, never comes.
                    assert_eq!((&ready).read(&mut [0]).unwrap(), 1);
                    let table = open(&folder.table(), &small());
                    for i in 0..8 {
                        let slot = table.register(numbered(i).as_bytes()).unwrap();
                        (&result).write_all(&[i as u8, slot as u8]).unwrap();
                    }
                })
            })
            .collect();
        (&go).write_all(&[0; PROCESSES as usize]).unwrap();
        for child in children {
            assert_eq!(child.wait(), 0);
        }
        drop(result);
        let mut pairs = Vec::new();
        results.read_to_end(&mut pairs).unwrap();
        let mut slots: Vec<_> = pairs.chunks(2).collect();
        assert_eq!(slots.len(), 8 * PROCESSES as usize);
        slots.sort_unstable();
        slots.dedup();
        assert_eq!(slots.len(), 8, "round {round}: {slots:?}");
        assert_eq!(open(&folder.table(), &small()).len(), 8);
        folder.assert_tidy();
    }
}

#[test]
fn after_a_fork_each_sees_what_the_other_registers() {
    let folder = Folder::new();
    for table in [
        open(&folder.table(), &small()),
        Table::private(&small()).unwrap(),
    ] {
        let before = table.fake(b"before.example", Family::V4).unwrap();
        let child = fork(|| {
            assert_eq!(table.lookup(before).unwrap().as_bytes(), b"before.example");
            table.register(b"child.example").unwrap();
            // A child of the child, whose parent does not wait.
            fork(|| assert!(table.register(b"grandchild.example").is_ok()));
        });
        assert_eq!(child.wait(), 0);
        let late = Instant::now() + Duration::from_secs(10);
        while table.len() < 3 && Instant::now() < late {
            thread::yield_now();
        }
        assert_eq!(table.len(), 3);
        let of_child = table.register(b"child.example").unwrap();
        assert_eq!(table.name(of_child).unwrap().as_bytes(), b"child.example");
        table.register(b"grandchild.example").unwrap();
        assert_eq!(table.len(), 3);
    }
}

#[test]
fn a_private_table_is_nobody_else_s() {
    let [one, other] = [(); 2].map(|()| Table::private(&small()).unwrap());
    let address = one.fake(b"a.example", Family::V6).unwrap();
    assert!(one.lookup(address).is_some());
    assert_eq!(other.lookup(address), None);
}

#[test]
fn a_connection_is_known_to_whoever_inherits_its_socket() {
    let folder = Folder::new();
    let table = open(&folder.table(), &small());
    let row = Connection {
        asked: SocketAddrV6::new("fe80::1".parse().unwrap(), 80, 3, 7).into(),
        family: Family::V6,
    };
    table.remember(0x1234, row).unwrap();
    // Another mapping of the file, as after exec.
    let other = open(&folder.table(), &small());
    assert_eq!(other.recall(0x1234), Some(row));
    assert_eq!(fork(|| other.forget(0x1234)).wait(), 0);
    assert_eq!(table.recall(0x1234), None);
}

/// One name, however it is spelled; and the other family's address is the same slot's.
#[test]
fn every_spelling_of_a_name_has_one_address() {
    let table = Table::private(&small()).unwrap();
    let slot = table.register(b"www.example.com").unwrap();
    for spelling in ["WWW.Example.COM", "www.example.com."] {
        assert_eq!(table.register(spelling.as_bytes()), Ok(slot));
    }
    assert_ne!(table.register(b"www.example.com..").unwrap(), slot);
    let [v4, v6] = [Family::V4, Family::V6].map(|f| table.fake(b"www.example.com", f).unwrap());
    assert_eq!(
        (table.pool().slot_of(v4), table.pool().slot_of(v6)),
        (Some(slot), Some(slot))
    );
    assert_eq!(table.lookup(v4).unwrap(), table.lookup(v6).unwrap());
    let longest = [b'x'; 255];
    let address = table.fake(&longest, Family::V4).unwrap();
    assert_eq!(table.lookup(address).unwrap().as_bytes(), longest);
    for wrong in [&b""[..], b".", b"a\0b", &[b'x'; 256]] {
        assert_eq!(table.register(wrong), Err(fake_dns::TableError::Name));
    }
}
