//! How far each handshake has come, in memory that duplicates of a descriptor and forked children
//! share: whoever waits for the socket steps the same handshake.
//!
//! One thread at a time steps it, and holds its lock meanwhile: never while anything waits, and with
//! signals blocked, so that no handler finds it held by its own thread and no siglongjmp leaves it
//! behind. The lock is the holder's process id, so that a dead process's can be taken over.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use socks_wire::Progress;

use crate::{Clock, Errno, HANDSHAKE_LIMIT};

/// How far a socket has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The TCP connect to the gateway is under way.
    Connecting,
    /// The SOCKS handshake is under way.
    Negotiating,
    /// Connected to the destination, through the gateway.
    Socksified,
    /// The handshake failed while nobody was in connect(): the kernel's socket stands as a refused one
    /// does, and the first to ask it is told this errno.
    Failed(Errno),
    /// It failed, and somebody has asked: the next connect() says ECONNABORTED.
    Told,
}

/// One handshake. Zeroed memory is a free one.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct Handshake {
    /// Stage in bits 0–7, candidate in 8–15, errno in 16–31, the pid of who is stepping in 32–63.
    word: AtomicU64,
    /// SO_COOKIE: names the socket, whatever its numbers are.
    cookie: AtomicU64,
    began: AtomicU64,
    /// When it turned to the candidate that it is at.
    turned: AtomicU64,
    progress: [AtomicU64; 4],
}

/// What a handshake says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// How far it has come.
    pub stage: Stage,
    /// Which of the gateway's addresses is being tried or was reached.
    pub candidate: u8,
    /// When the first connect() began.
    pub began: Clock,
    /// When this candidate's turn came.
    pub turned: Clock,
    /// How far the messages have come.
    pub progress: Progress,
}

const STAGE: u64 = 0xff;
const CANDIDATE_SHIFT: u32 = 8;
const ERRNO_SHIFT: u32 = 16;
const PID_SHIFT: u32 = 32;
const WITHOUT_PID: u64 = (1 << PID_SHIFT) - 1;

/// All handshakes of a process and its forked children.
#[derive(Debug)]
pub struct Handshakes {
    all: &'static [Handshake],
    next: AtomicU32,
}

impl Handshakes {
    /// The array is the caller's, of at most 65,535, in shared memory.
    #[must_use]
    pub const fn new(all: &'static [Handshake]) -> Self {
        Self {
            all,
            next: AtomicU32::new(0),
        }
    }

    /// A free one for the socket with this cookie: its index. `None` if all are under way.
    #[must_use]
    pub fn begin(&self, cookie: u64, now: Clock) -> Option<u16> {
        for _ in self.all {
            let count = u32::try_from(self.all.len()).ok()?;
            let index = self
                .next
                .fetch_add(1, Ordering::Relaxed)
                .checked_rem(count)?;
            let index = u16::try_from(index).ok()?;
            let handshake = self.get(index)?;
            let word = handshake.word.load(Ordering::Acquire);
            let began = handshake.began.load(Ordering::Acquire);
            let is_over = !matches!(
                Stage::of(word),
                Some(Stage::Connecting | Stage::Negotiating)
            );
            // A socket that was closed behind our back leaves its handshake where it was.
            let is_stale = now.0.saturating_sub(began) > HANDSHAKE_LIMIT;
            let begun = Stage::Connecting.code();
            if (is_over || is_stale)
                && handshake
                    .word
                    .compare_exchange(word, begun, Ordering::AcqRel, Ordering::Relaxed)
                    .is_ok()
            {
                handshake.cookie.store(cookie, Ordering::Release);
                handshake.began.store(now.0, Ordering::Release);
                handshake.store(Progress::default());
                return Some(index);
            }
        }
        None
    }

    /// The one of this index.
    #[must_use]
    pub fn get(&self, index: u16) -> Option<&'static Handshake> {
        self.all.get(usize::from(index))
    }
}

impl Handshake {
    /// What it says of the socket with this cookie; `None` once it is another's.
    #[must_use]
    pub fn standing(&self, cookie: u64) -> Option<Standing> {
        let word = self.word.load(Ordering::Acquire);
        let standing = Standing {
            stage: Stage::of(word)?,
            candidate: u8::try_from((word >> CANDIDATE_SHIFT) & 0xff).ok()?,
            began: Clock(self.began.load(Ordering::Acquire)),
            turned: Clock(self.turned.load(Ordering::Acquire)),
            progress: Progress::from_words(
                self.progress
                    .each_ref()
                    .map(|word| word.load(Ordering::Acquire)),
            )?,
        };
        (self.cookie.load(Ordering::Acquire) == cookie).then_some(standing)
    }

    /// Locks it for process `pid`; false while another thread has it. `is_alive` tells whether the
    /// process that holds it still exists.
    #[must_use]
    pub fn try_lock(&self, pid: u32, is_alive: impl Fn(u32) -> bool) -> bool {
        let word = self.word.load(Ordering::Acquire);
        let holder = u32::try_from(word >> PID_SHIFT).unwrap_or(0);
        if holder == pid || (holder != 0 && is_alive(holder)) {
            return false;
        }
        let locked = (word & WITHOUT_PID) | (u64::from(pid) << PID_SHIFT);
        self.word
            .compare_exchange(word, locked, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }

    /// Gives the lock back, by who has held it all the time.
    pub fn unlock_own(&self, pid: u32) {
        let word = self.word.load(Ordering::Acquire);
        if word >> PID_SHIFT == u64::from(pid) {
            let free = word & WITHOUT_PID;
            let _ = self
                .word
                .compare_exchange(word, free, Ordering::AcqRel, Ordering::Relaxed);
        }
    }

    /// Gives the lock back, if it is still this socket's handshake: it may have been ended meanwhile, and
    /// be another's.
    pub fn unlock(&self, pid: u32, cookie: u64) {
        let word = self.word.load(Ordering::Acquire);
        if word >> PID_SHIFT == u64::from(pid) && self.cookie.load(Ordering::Acquire) == cookie {
            let free = word & WITHOUT_PID;
            // Fails if it is another's by now.
            let _ = self
                .word
                .compare_exchange(word, free, Ordering::AcqRel, Ordering::Relaxed);
        }
    }

    /// How far it has come; the lock is held and stays so.
    pub fn save(&self, stage: Stage, candidate: u8, progress: Progress) {
        self.store(progress);
        let pid = self.word.load(Ordering::Acquire) & !WITHOUT_PID;
        let candidate = u64::from(candidate) << CANDIDATE_SHIFT;
        self.word
            .store(pid | stage.code() | candidate, Ordering::Release);
    }

    /// The TCP connect to this candidate begins; the lock is held and stays so.
    pub fn turn_to(&self, candidate: u8, now: Clock) {
        self.turned.store(now.0, Ordering::Release);
        self.save(Stage::Connecting, candidate, Progress::default());
    }

    /// The errno of a failure, for the first who asks.
    #[must_use]
    pub fn take_failure(&self) -> Option<Errno> {
        let word = self.word.load(Ordering::Acquire);
        let Some(Stage::Failed(errno)) = Stage::of(word) else {
            return None;
        };
        let told = Stage::Told.code();
        let taken = self
            .word
            .compare_exchange(word, told, Ordering::AcqRel, Ordering::Relaxed);
        taken.is_ok().then_some(errno)
    }

    /// It is nobody's any more.
    pub fn end(&self) {
        self.word.store(0, Ordering::Release);
    }

    fn store(&self, progress: Progress) {
        for (word, value) in self.progress.iter().zip(progress.to_words()) {
            word.store(value, Ordering::Release);
        }
    }
}

impl Stage {
    fn code(self) -> u64 {
        match self {
            Self::Connecting => 1,
            Self::Negotiating => 2,
            Self::Socksified => 3,
            Self::Told => 5,
            Self::Failed(errno) => 4 | (u64::from(errno.0.unsigned_abs() & 0xffff) << ERRNO_SHIFT),
        }
    }

    fn of(word: u64) -> Option<Self> {
        match word & STAGE {
            1 => Some(Self::Connecting),
            2 => Some(Self::Negotiating),
            3 => Some(Self::Socksified),
            5 => Some(Self::Told),
            4 => i32::try_from((word >> ERRNO_SHIFT) & 0xffff)
                .ok()
                .map(|n| Self::Failed(Errno(n))),
            _ => None,
        }
    }

    /// Whether connect(2) would say EALREADY.
    #[must_use]
    pub const fn is_under_way(self) -> bool {
        matches!(self, Self::Connecting | Self::Negotiating)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handshakes(count: usize) -> Handshakes {
        Handshakes::new(Vec::leak(
            (0..count).map(|_| Handshake::default()).collect(),
        ))
    }

    #[test]
    fn one_thread_steps_at_a_time_and_a_dead_process_is_followed() {
        let all = handshakes(1);
        let one = all.get(all.begin(77, Clock(5)).unwrap()).unwrap();
        assert!(one.try_lock(1000, |_| true));
        assert!(
            !one.try_lock(1000, |_| false),
            "another thread of ours has it"
        );
        assert!(!one.try_lock(1001, |_| true));
        assert!(one.standing(77).is_some(), "reading needs no lock");
        assert!(one.try_lock(1001, |pid| pid != 1000), "1000 has died");
        one.save(Stage::Socksified, 3, Progress::default());
        let standing = one.standing(77).unwrap();
        assert_eq!((standing.stage, standing.candidate), (Stage::Socksified, 3));
        one.unlock(1000, 77);
        one.unlock(1001, 78);
        assert!(!one.try_lock(1002, |_| true), "neither of these held it");
        one.unlock(1001, 77);
        assert!(one.try_lock(1002, |_| true));
    }

    #[test]
    fn a_failure_is_told_once() {
        let all = handshakes(1);
        let one = all.get(all.begin(7, Clock(0)).unwrap()).unwrap();
        let failed = Stage::Failed(Errno(libc::EHOSTUNREACH));
        one.save(failed, 0, Progress::default());
        assert_eq!(one.standing(7).unwrap().stage, failed);
        assert_eq!(one.standing(8), None);
        assert_eq!(one.take_failure(), Some(Errno(libc::EHOSTUNREACH)));
        assert_eq!(one.take_failure(), None);
        assert_eq!(one.standing(7).unwrap().stage, Stage::Told);
    }

    #[test]
    fn what_is_over_or_forgotten_is_used_again_and_what_is_under_way_is_not() {
        let all = handshakes(2);
        let (first, second) = (
            all.begin(1, Clock(0)).unwrap(),
            all.begin(2, Clock(9)).unwrap(),
        );
        assert_eq!(all.begin(3, Clock(10)), None);
        all.get(second)
            .unwrap()
            .save(Stage::Socksified, 0, Progress::default());
        assert_eq!(all.begin(3, Clock(11)), Some(second));
        assert_eq!(
            all.begin(4, Clock(HANDSHAKE_LIMIT + 1)),
            Some(first),
            "closed long ago"
        );
    }
}
