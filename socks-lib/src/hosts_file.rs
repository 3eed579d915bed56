//! `/etc/hosts`, read when it has changed since the last look-up.

use std::path::Path;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use rustix::fs::Stat;
use socks_client::Hosts;

use crate::sys::file::File;

const PATH: &str = "/etc/hosts";
/// Lists of blocked names have a few megabytes; what is larger is no hosts file.
const MOST_OCTETS: usize = 64 << 20;

/// The last reading of the file. Look-ups may allocate, as libc's own do; there is no lock, so a
/// reading that another thread may still hold is never freed: a change of the file costs its size.
#[derive(Debug)]
pub(crate) struct HostsFile {
    last: AtomicPtr<Reading>,
}

#[derive(Debug)]
struct Reading {
    stamp: Stamp,
    hosts: Hosts,
}

/// What tells one state of the file from another.
#[derive(Debug, PartialEq, Eq)]
struct Stamp(u64, u64, i64, i64, i64);

impl HostsFile {
    pub(crate) const fn new() -> Self {
        Self {
            last: AtomicPtr::new(ptr::null_mut()),
        }
    }

    /// What the file says now; `None` if it cannot be read.
    pub(crate) fn read(&self) -> Option<&'static Hosts> {
        let stamp = Stamp::of(&rustix::fs::stat(PATH).ok()?);
        // SAFETY: null, or a reading that was leaked below.
        let last = unsafe { self.last.load(Ordering::Acquire).as_ref() };
        if let Some(reading) = last.filter(|reading| reading.stamp == stamp) {
            return Some(&reading.hosts);
        }
        let text = File::read_whole(Path::new(PATH), MOST_OCTETS).ok()?;
        let reading = Box::leak(Box::new(Reading {
            stamp,
            hosts: Hosts::parse(&text),
        }));
        self.last.store(reading, Ordering::Release);
        Some(&reading.hosts)
    }
}

impl Stamp {
    fn of(stat: &Stat) -> Self {
        let nanoseconds = i64::try_from(stat.st_mtime_nsec).unwrap_or(0);
        Self(
            stat.st_dev,
            stat.st_ino,
            stat.st_size,
            stat.st_mtime,
            nanoseconds,
        )
    }
}
