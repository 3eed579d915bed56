//! What every wait has in common: how much of its time is left, and room for a copy of its question.

use std::time::Duration;

use libc::timespec;
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use rustix::time::{ClockId, clock_gettime};

/// How long one call of libc's waits at most while handshakes are under way that it does not wait for: then they are
/// looked at. One may have run out of time; and a thread that begins a connection without blocking may wait for its other
/// end, a listener of the same program's, before it looks at its own.
#[derive(Debug)]
pub(crate) struct Rounds(Duration);

impl Rounds {
    /// Nearly all handshakes are over in the first.
    const SHORTEST: Duration = Duration::from_millis(50);
    const LONGEST: Duration = Duration::from_secs(2);

    pub(crate) const fn new() -> Self {
        Self(Self::SHORTEST)
    }

    pub(crate) fn next(&mut self) -> Duration {
        let this = self.0;
        self.0 = this.saturating_mul(2).min(Self::LONGEST);
        this
    }
}

/// When a wait is over; `None` is never.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline(Option<Duration>);

impl Deadline {
    /// Of poll's and epoll_wait's milliseconds: negative is never.
    pub(crate) fn in_milliseconds(milliseconds: i32) -> Self {
        let timeout = u64::try_from(milliseconds).ok().map(Duration::from_millis);
        Self(timeout.and_then(|timeout| now().checked_add(timeout)))
    }

    pub(crate) fn after(timeout: Option<Duration>) -> Self {
        Self(timeout.and_then(|timeout| now().checked_add(timeout)))
    }

    /// What is left; `None` is for ever.
    pub(crate) fn left(self) -> Option<Duration> {
        Some(self.0?.saturating_sub(now()))
    }

    /// What is left, and at most `limit`.
    pub(crate) fn left_within(self, limit: Duration) -> Duration {
        self.left().map_or(limit, |left| left.min(limit))
    }

    pub(crate) fn is_over(self) -> bool {
        self.left() == Some(Duration::ZERO)
    }
}

fn now() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// Milliseconds for poll and epoll_wait, rounded up so that nothing ends before its time.
pub(crate) fn milliseconds(left: Option<Duration>) -> i32 {
    let Some(left) = left else { return -1 };
    let whole = left.as_nanos().div_ceil(1_000_000);
    i32::try_from(whole).unwrap_or(i32::MAX)
}

/// A timespec; an invalid one (EINVAL, libc's to say) gives `Err`.
pub(crate) fn duration(time: &timespec) -> Result<Duration, ()> {
    let seconds = u64::try_from(time.tv_sec).map_err(drop)?;
    let nanoseconds = u32::try_from(time.tv_nsec).map_err(drop)?;
    if nanoseconds < 1_000_000_000 {
        Ok(Duration::new(seconds, nanoseconds))
    } else {
        Err(())
    }
}

pub(crate) fn timespec_of(left: Duration) -> timespec {
    timespec {
        tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(left.subsec_nanos()),
    }
}

/// Memory for a question that is larger than what the stack has room for. Without a destructor: a
/// cancelled thread leaves it behind, which costs address space and no more.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Borrowed {
    pub(crate) start: *mut u8,
    octets: usize,
}

impl Borrowed {
    /// Zeroed and page-aligned; `None` if there is none.
    pub(crate) fn take(octets: usize) -> Option<Self> {
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice takes nobody's memory.
        let start =
            unsafe { mmap_anonymous(std::ptr::null_mut(), octets, access, MapFlags::PRIVATE) };
        Some(Self {
            start: start.ok()?.cast(),
            octets,
        })
    }

    /// # Safety
    /// Nothing uses it afterwards.
    pub(crate) unsafe fn give_back(self) {
        // SAFETY: mapped in `take`; our caller's contract.
        let _kept = unsafe { munmap(self.start.cast(), self.octets) };
    }
}
