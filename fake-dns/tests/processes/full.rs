//! No room: in a name's window, on the disk, and on kernels that cannot be asked for a page.
#![expect(unsafe_code, reason = "a seccomp filter has no safe form")]

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use fake_dns::{Connection, Family, Ranges, Table, TableError};

use crate::support::{
    Folder, can_mount, fork, helper, helper_after, lines, numbered, open, open_error, small, tell,
    told, with_mounts,
};

#[test]
fn a_name_without_room_says_so_while_others_go_on() {
    let folder = Folder::new();
    let ranges = Ranges {
        v4: "198.18.0.0/22".parse().unwrap(),
        ..Ranges::default()
    };
    let table = open(&folder.table(), &ranges);
    let results: Vec<_> = (0..2000)
        .map(|i| table.register(numbered(i).as_bytes()))
        .collect();
    let first = results.iter().position(|result| result.is_err()).unwrap();
    assert!(
        results
            .iter()
            .all(|result| matches!(result, Ok(_) | Err(TableError::WindowFull)))
    );
    assert!(first > 800, "full at {first} of 1023");
    let later = results[first..]
        .iter()
        .filter(|result| result.is_ok())
        .count();
    assert!(later > 0, "others have room yet");
    assert_eq!(table.len() as usize, results.iter().flatten().count());
    assert_eq!(table.capacity(), 1023);

    // For another process, the names that are there are as before, and those that were not are not.
    let check = fork(|| {
        let table = open(&folder.table(), &ranges);
        for (i, before) in (0..).zip(&results) {
            assert_eq!(table.register(numbered(i).as_bytes()).ok(), before.ok());
        }
    });
    assert_eq!(check.wait(), 0);
}

const TMPFS: &str = "mount -t tmpfs -o size=1m tmpfs \"$FAKE_DNS_TEST_FOLDER\"";

/// On a full tmpfs the first touch of a page, even to read it, would be SIGBUS.
#[test]
fn on_a_full_disk_the_program_is_told_and_lives() {
    if !can_mount() {
        return;
    }
    let folder = Folder::new();
    let told = [("FOLDER", folder.path().to_str().unwrap())];
    let output = with_mounts(&helper_after(TMPFS, "fill-disk", &told))
        .output()
        .unwrap();
    assert_eq!(lines(&output), ["lives"]);
}

pub(crate) fn fill_the_disk() {
    let folder = PathBuf::from(told("FOLDER"));
    let path = folder.join("table");
    let table = open(&path, &Ranges::default());
    let patient = open(&folder.join("patient"), &small());
    patient.register(b"first.example").unwrap();
    let filler = folder.join("filler");
    fs::write(&filler, vec![1; 256 << 10]).unwrap();

    // Until there is no page left, be it for a slot or for a record.
    let mut slots = Vec::new();
    let error = loop {
        match table.register(numbered(slots.len() as u32).as_bytes()) {
            Ok(slot) => slots.push(slot),
            Err(error) => break error,
        }
    };
    assert_eq!(error, TableError::NoSpace);
    assert!(slots.len() > 50, "{}", slots.len());
    use_up(&folder);

    let assert_all_there = |table: &Table| {
        for (i, slot) in (0..).zip(&slots) {
            assert_eq!(
                table.name(*slot).unwrap().as_bytes(),
                numbered(i).as_bytes()
            );
            assert_eq!(table.register(numbered(i).as_bytes()), Ok(*slot));
        }
    };
    // Holes are read, in this process and in one to which all pages are new.
    assert_all_there(&table);
    let named = (0..table.pool().slots())
        .filter(|slot| table.name(*slot).is_some())
        .count();
    assert_eq!(named, slots.len());
    assert_all_there(&open(&path, &Ranges::default()));
    let row = Connection {
        asked: ([198, 18, 0, 1], 80).into(),
        family: Family::V4,
    };
    for cookie in 1..1000 {
        table.forget(cookie);
        assert_eq!(table.remember(cookie, row), Err(TableError::NoSpace));
        assert_eq!(table.recall(cookie), None);
    }

    // Far more attempts than the table has records: they use up nothing.
    let early = (0..2000)
        .map_while(|i| patient.register(numbered(i).as_bytes()).ok())
        .count() as u32;
    assert!(early < 20, "there is room for {early} more");
    for _attempt in 0..2000 {
        let full = patient.register(numbered(early).as_bytes());
        assert_eq!(full, Err(TableError::NoSpace));
    }

    // Nobody can make a table here, and the attempt leaves nothing.
    let count = fs::read_dir(&folder).unwrap().count();
    assert_eq!(
        open_error(&folder.join("another"), &Ranges::default()),
        TableError::NoSpace
    );
    assert_eq!(fs::read_dir(&folder).unwrap().count(), count);

    // With room again, all goes on.
    fs::remove_file(&filler).unwrap();
    assert!(
        table
            .register(numbered(slots.len() as u32).as_bytes())
            .is_ok()
    );
    table.remember(1, row).unwrap();
    assert_eq!(table.recall(1), Some(row));
    assert_all_there(&table);
    for i in 0..100 {
        patient.register(numbered(i).as_bytes()).unwrap();
    }
    tell("lives");
}

/// Octet by octet, to the last page.
fn use_up(folder: &std::path::Path) {
    let mut last = File::create(folder.join("last")).unwrap();
    while last.write_all(&[1]).is_ok() {}
}

/// Before Linux 5.14 there is no MADV_POPULATE_WRITE: all of the file is made at once, or it is not used.
#[test]
fn a_kernel_that_cannot_be_asked_for_a_page_is_asked_for_the_whole_file() {
    let folder = Folder::new();
    let told = [("FOLDER", folder.path().to_str().unwrap())];
    assert_eq!(
        lines(&helper("old-kernel", &told).output().unwrap()),
        ["Ok"]
    );
    let file = fs::metadata(folder.table()).unwrap();
    assert!(
        file.blocks() * 512 >= file.len(),
        "{} blocks",
        file.blocks()
    );

    if can_mount() {
        let output = with_mounts(&helper_after(TMPFS, "old-kernel", &told))
            .output()
            .unwrap();
        assert_eq!(lines(&output), ["NoSpace"]);
    }
}

pub(crate) fn live_without_populate() {
    let deny = [
        // Load the number of the call; if it is not madvise, allow it.
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0),
        jump_unless(libc::SYS_madvise as u32, 3),
        // Load its third argument (the low half, on a little-endian host); the same if it is not the advice.
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 32),
        jump_unless(libc::MADV_POPULATE_WRITE as u32, 1),
        statement(libc::BPF_RET, libc::SECCOMP_RET_ERRNO | libc::EINVAL as u32),
        statement(libc::BPF_RET, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog {
        len: deny.len() as u16,
        filter: deny.as_ptr().cast_mut(),
    };
    // SAFETY: `program` and the filter that it points to are alive during the call, which copies them.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        let mode = libc::SECCOMP_MODE_FILTER;
        assert_eq!(
            libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program),
            0
        );
    }

    let use_it = |table: Table| {
        let slots: Vec<_> = (0..200)
            .map(|i| table.register(numbered(i).as_bytes()))
            .collect();
        for (i, slot) in (0..).zip(slots) {
            assert_eq!(
                table.name(slot.unwrap()).unwrap().as_bytes(),
                numbered(i).as_bytes()
            );
        }
    };
    use_it(Table::private(&small()).unwrap());
    let path = PathBuf::from(told("FOLDER")).join("table");
    tell(&match Table::open(&path, &small()) {
        Ok(table) => {
            use_it(table);
            "Ok".into()
        }
        Err(error) => format!("{error:?}"),
    });
}

fn statement(code: u32, k: u32) -> libc::sock_filter {
    libc::sock_filter {
        code: code as u16,
        jt: 0,
        jf: 0,
        k,
    }
}

fn jump_unless(k: u32, jf: u8) -> libc::sock_filter {
    let code = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    libc::sock_filter {
        code: code as u16,
        jt: 0,
        jf,
        k,
    }
}
