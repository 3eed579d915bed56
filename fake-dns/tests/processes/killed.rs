//! kill -9 at the worst moments: all of them.
#![expect(unsafe_code, reason = "ptrace has no safe form")]

use std::collections::HashSet;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::ptr;

use fake_dns::{Ranges, Table};

use crate::support::{Chance, Child, Folder, can, fork, numbered, open, small};

/// Stops the child every so many instructions of its registration, one child for each such place, and kills it there.
#[test]
fn a_process_killed_anywhere_in_a_registration_leaves_the_table_whole() {
    if !can_trace() {
        return;
    }
    let folder = Folder::new();
    let ranges = Ranges {
        v4: "198.18.0.0/20".parse().unwrap(),
        ..Ranges::default()
    };
    let table = open(&folder.table(), &ranges);
    // A prime, so that loops are met at different places.
    let stride = 397;
    let mut slots = Vec::new();
    for victim in 0.. {
        let name = numbered(victim);
        let work = || assert!(table.register(name.as_bytes()).is_ok());
        let finished = killed_after(libc::PTRACE_SINGLESTEP, victim * stride, work);
        // Whether it had come to publish the name or not, the name can be had, and it is one.
        slots.push(table.register(name.as_bytes()).unwrap());
        if finished {
            break;
        }
    }
    assert!(
        slots.len() > 20,
        "it has not been killed much: {}",
        slots.len()
    );
    assert_whole(&table, &slots);
}

/// The same for the file itself: killed before and after each system call of its making.
#[test]
fn a_process_killed_anywhere_in_making_the_file_leaves_a_way_for_the_next() {
    if !can_trace() {
        return;
    }
    for stops in 0.. {
        let folder = Folder::new();
        let work = || {
            let table = open(&folder.table(), &small());
            assert!(table.register(b"a.example").is_ok());
        };
        let finished = killed_after(libc::PTRACE_SYSCALL, stops, work);
        let left = fs::read_dir(folder.path()).unwrap().count();
        assert!(left <= 1, "a file or a stray one, never both: {left}");
        let table = open(&folder.table(), &small());
        let slot = table.register(b"a.example").unwrap();
        assert_eq!(table.name(slot).unwrap().as_bytes(), b"a.example");
        if finished {
            assert!(stops > 20, "it has not been killed much: {stops}");
            folder.assert_tidy();
            break;
        }
    }
}

/// As it happens in life: four processes at work, killed at any moment, again and again.
#[test]
fn what_a_killed_process_was_told_stays_true() {
    let folder = Folder::new();
    let table = open(&folder.table(), &Ranges::default());
    let mut chance = Chance::new(9);
    let mut slots: Vec<u32> = Vec::new();
    for _round in 0..60 {
        let first = slots.len().saturating_sub(50) as u32;
        let (mut told, tell) = io::pipe().unwrap();
        let work = || {
            for i in first.. {
                let slot = table.register(numbered(i).as_bytes()).unwrap();
                let [pair_of, is] = [i, slot].map(u32::to_ne_bytes);
                (&tell).write_all(&[pair_of, is].concat()).unwrap();
            }
        };
        let children: Vec<_> = (0..4).map(|_| fork(work)).collect();
        drop(tell);
        let mut pairs = vec![0; 8 * (1 + chance.below(400) as usize)];
        told.read_exact(&mut pairs).unwrap();
        for child in &children {
            child.kill();
        }
        for child in children {
            assert_eq!(child.wait(), libc::SIGKILL);
        }
        told.read_to_end(&mut pairs).unwrap();

        let number = |octets: &[u8]| u32::from_ne_bytes(octets.try_into().unwrap());
        let mut pairs: Vec<_> = pairs
            .chunks_exact(8)
            .map(|pair| (number(&pair[..4]), number(&pair[4..])))
            .collect();
        pairs.sort_unstable();
        for (i, slot) in pairs {
            if i as usize == slots.len() {
                slots.push(slot);
            }
            assert_eq!(slots[i as usize], slot, "{}", numbered(i));
        }
    }
    assert_whole(&table, &slots);
}

/// Each name in its slot and in no other; no slot with anything else in it.
fn assert_whole(table: &Table, slots: &[u32]) {
    for (i, slot) in (0..).zip(slots) {
        assert_eq!(
            table.name(*slot).unwrap().as_bytes(),
            numbered(i).as_bytes()
        );
        assert_eq!(table.register(numbered(i).as_bytes()), Ok(*slot));
    }
    let names: Vec<_> = (0..table.pool().slots())
        .filter_map(|slot| table.name(slot))
        .collect();
    let different: HashSet<_> = names.iter().map(|name| name.as_bytes()).collect();
    assert_eq!(names.len(), different.len(), "a name twice");
}

/// Whether the child came to its end first. The system makes `stops` stops, each an instruction or the border of a
/// system call, counted from just before `work`.
fn killed_after(request: libc::c_uint, stops: u32, work: impl FnOnce()) -> bool {
    let child = fork(|| {
        // SAFETY: asks to be traced by the parent, which waits for the stop.
        unsafe {
            assert_eq!(libc::ptrace(libc::PTRACE_TRACEME), 0);
            libc::raise(libc::SIGSTOP);
        }
        work();
    });
    assert!(libc::WIFSTOPPED(wait_once(&child)));
    for _ in 0..stops {
        let none = ptr::null_mut::<libc::c_void>();
        // SAFETY: the child is stopped, and these requests touch no memory of ours.
        assert_eq!(unsafe { libc::ptrace(request, child.0, none, none) }, 0);
        let status = wait_once(&child);
        if !libc::WIFSTOPPED(status) {
            assert_eq!(status, 0, "the child failed");
            return true;
        }
    }
    child.kill();
    assert_eq!(child.wait(), libc::SIGKILL);
    false
}

fn wait_once(child: &Child) -> i32 {
    let mut status = 0;
    // SAFETY: writes one int; the child is ours.
    let pid = unsafe { libc::waitpid(child.0, &raw mut status, 0) };
    assert_eq!(pid, child.0);
    status
}

fn can_trace() -> bool {
    // SAFETY: in a child that does nothing else.
    let tried = fork(|| unsafe { assert_eq!(libc::ptrace(libc::PTRACE_TRACEME), 0) });
    can("ptrace", tried.wait() == 0)
}
