//! Memory of the shim's own: the rows of the descriptors, and the word that tells a forked child.

use std::mem::size_of;
use std::ptr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous};
use rustix::process::{Resource, getpid, getrlimit};
use socks_client::{Handshake, Row};

use crate::sys::io;

/// Rows for at most this many descriptors; above it connect fails closed.
const MOST_ROWS: u64 = 1 << 20;
/// … and for no fewer than these, or there is no shim.
const LEAST_ROWS: usize = 1024;

/// Reserves a row for each descriptor that this process may ever have. Only rows that are written to
/// cost memory. `None` if not even address space is left.
pub(crate) fn rows() -> Option<&'static [Row]> {
    let limit = getrlimit(Resource::Nofile)
        .maximum
        .unwrap_or(MOST_ROWS)
        .min(MOST_ROWS);
    let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
    let access = ProtFlags::READ | ProtFlags::WRITE;
    let mut count = usize::try_from(limit).ok()?;
    let rows = loop {
        let octets = count.checked_mul(size_of::<Row>())?;
        // SAFETY: a new mapping at an address of the kernel's choice takes nobody's memory.
        match unsafe { mmap_anonymous(ptr::null_mut(), octets, access, flags) } {
            Ok(rows) => break rows,
            // RLIMIT_AS: fewer will do for a program that is kept so short.
            Err(_) if count > LEAST_ROWS => count = count.checked_div(2)?,
            Err(_) => return None,
        }
    };
    // SAFETY: `octets` of zeroed memory, page-aligned, which nobody unmaps; zeroes are plain rows, and
    // rows are atomics, so that they may be shared.
    Some(unsafe { std::slice::from_raw_parts(rows.cast::<Row>(), count) })
}

/// Handshakes under way at once, in a process and the children that it forks.
const HANDSHAKES: usize = 4096;

/// Memory for handshakes that forked children share: a child may go on with its parent's.
pub(crate) fn handshakes() -> Option<&'static [Handshake]> {
    let octets = HANDSHAKES.checked_mul(size_of::<Handshake>())?;
    let flags = MapFlags::SHARED | MapFlags::NORESERVE;
    let access = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a new mapping at an address of the kernel's choice takes nobody's memory.
    let all = unsafe { mmap_anonymous(ptr::null_mut(), octets, access, flags) }.ok()?;
    // SAFETY: `octets` of zeroed memory, page-aligned, which nobody unmaps; zeroes are free
    // handshakes, and they are atomics, so that they may be shared.
    Some(unsafe { std::slice::from_raw_parts(all.cast::<Handshake>(), HANDSHAKES) })
}

/// Tells which process this is: a page that fork leaves zeroed in the child (MADV_WIPEONFORK) and a
/// vfork child finds as its parent left it.
#[derive(Debug)]
pub(crate) struct Process {
    pid: &'static AtomicU32,
    /// When it last forked, or was forked, by [`io::now`]: a handshake begun before may be wanted by
    /// the other process.
    last_fork: AtomicU64,
}

impl Process {
    /// `None` if the kernel gives no memory.
    pub(crate) fn new() -> Option<Self> {
        let (octets, access) = (
            rustix::param::page_size(),
            ProtFlags::READ | ProtFlags::WRITE,
        );
        // SAFETY: a new mapping at an address of the kernel's choice takes nobody's memory.
        let page = unsafe { mmap_anonymous(ptr::null_mut(), octets, access, MapFlags::PRIVATE) };
        let page = page.ok()?;
        // SAFETY: the page was mapped above and is nobody else's. Kernels before 4.14 know no
        // WIPEONFORK: a child then finds its parent's pid and takes itself for a vfork child.
        let _wiped = unsafe { madvise(page, octets, Advice::LinuxWipeOnFork) };
        // SAFETY: a zeroed, page-aligned word that nobody unmaps.
        let pid = unsafe { &*page.cast::<AtomicU32>() };
        pid.store(own_pid(), Ordering::Relaxed);
        Some(Self {
            pid,
            last_fork: AtomicU64::new(0),
        })
    }

    /// What both processes do first after fork: in the child the word is its own before any vfork child
    /// of its own sees it.
    pub(crate) fn forked(&self) {
        self.pid.store(own_pid(), Ordering::Relaxed);
        self.last_fork.store(io::now().0, Ordering::Relaxed);
    }

    /// When the process last forked or was forked, in milliseconds of CLOCK_MONOTONIC.
    pub(crate) fn last_fork(&self) -> u64 {
        self.last_fork.load(Ordering::Relaxed)
    }

    /// The process's id if its memory is its own; `None` in a vfork child, whose memory is its
    /// parent's and stays as it is.
    pub(crate) fn own(&self) -> Option<u32> {
        let (stored, own) = (self.pid.load(Ordering::Relaxed), own_pid());
        if stored == 0 {
            self.pid.store(own, Ordering::Relaxed);
        }
        (stored == 0 || stored == own).then_some(own)
    }
}

fn own_pid() -> u32 {
    getpid().as_raw_nonzero().get().unsigned_abs()
}
