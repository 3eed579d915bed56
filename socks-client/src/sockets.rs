//! What the shim knows of each descriptor: Plain → Connecting → Negotiating → Socksified.
//!
//! A row is a handful of atomic words, so that it may be read and written in a signal handler and is
//! never found locked after fork. It belongs to a *socket*, named by SO_COOKIE, and only stands at
//! a descriptor's index to be found fast: a number that was closed and reused behind our back has
//! another cookie, and the row then says nothing.

use core::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use core::sync::atomic::{AtomicU64, Ordering};

use fake_dns::{Connection, Family};
use socks_wire::Progress;

use crate::Clock;

/// How far a socket has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Nothing is known of it: the kernel's answers are the application's.
    Plain,
    /// The TCP connect to the gateway is under way.
    Connecting,
    /// The SOCKS handshake is under way.
    Negotiating,
    /// Connected to the destination, through the gateway.
    Socksified,
}

/// What a row says of the socket that it was asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct View {
    /// How far it has come.
    pub state: State,
    /// The address that the application connected to, and its socket's family.
    pub connection: Connection,
    /// Which of the gateway's addresses is being tried or was reached: an index.
    pub candidate: u8,
    /// When the first connect() began.
    pub began: Clock,
    /// How far the handshake has come.
    pub progress: Progress,
    /// The kernel's socket is AF_INET6 where the application asked for AF_INET.
    pub is_swapped: bool,
}

/// One descriptor's row. Zeroed memory is a plain one.
#[derive(Debug, Default)]
#[repr(C, align(128))]
pub struct Row {
    /// State, flags, the candidate's index and the process that is stepping the handshake.
    word: AtomicU64,
    cookie: AtomicU64,
    /// Port and address as the application gave them; see [`pack`].
    asked: [AtomicU64; 4],
    began: AtomicU64,
    progress: [AtomicU64; 4],
}

/// `Row::word`: state in bits 0–7, flags in 8–15, candidate in 16–23, claimer's pid in 32–63.
const STATE: u64 = 0xff;
const IS_V6: u64 = 1 << 8;
const IS_SWAPPED: u64 = 1 << 9;
const CANDIDATE_SHIFT: u32 = 16;
const PID_SHIFT: u32 = 32;
const WITHOUT_PID: u64 = u64::MAX >> (64 - PID_SHIFT);

/// What a handshake begins with.
#[derive(Debug, Clone, Copy)]
pub struct Begin {
    /// SO_COOKIE.
    pub cookie: u64,
    /// The address that the application connects to, and its socket's family.
    pub connection: Connection,
    /// When connect() was called.
    pub began: Clock,
    /// The kernel's socket has been swapped for one of the other family.
    pub is_swapped: bool,
}

/// The right to step a handshake: one thread at a time has it, between two waits.
///
/// Signals are blocked while it is held, so that no handler finds it held by its own thread and no
/// siglongjmp leaves it behind; a child that fork made meanwhile takes it over, its pid being another.
#[derive(Debug)]
pub struct Claim<'a> {
    row: &'a Row,
}

/// The rows of all descriptors.
#[derive(Debug, Clone, Copy)]
pub struct Sockets {
    rows: &'static [Row],
}

impl Sockets {
    /// The array is the caller's: one row for each descriptor that the process may have.
    #[must_use]
    pub const fn new(rows: &'static [Row]) -> Self {
        Self { rows }
    }

    /// The row of `fd`; `None` above the array's end, where connect fails closed.
    #[must_use]
    pub fn row(&self, fd: i32) -> Option<&'static Row> {
        self.rows.get(usize::try_from(fd).ok()?)
    }

    /// Whether the row of `fd` says anything, of this socket or of an earlier one: one load.
    #[must_use]
    pub fn is_known(&self, fd: i32) -> bool {
        self.row(fd)
            .is_some_and(|row| row.word.load(Ordering::Relaxed) & WITHOUT_PID != 0)
    }

    /// dup(2) gave `old` the further number `new`.
    pub fn duplicated(&self, old: i32, new: i32) {
        if let (Some(old), Some(new)) = (self.row(old), self.row(new)) {
            new.copy(old);
        }
    }
}

impl Row {
    /// What is known of the socket with this cookie.
    #[must_use]
    pub fn view(&self, cookie: u64) -> Option<View> {
        let word = self.word.load(Ordering::Acquire);
        let state = State::of(word)?;
        if self.cookie.load(Ordering::Acquire) != cookie {
            return None;
        }
        let family = if word & IS_V6 == 0 {
            Family::V4
        } else {
            Family::V6
        };
        Some(View {
            state,
            connection: Connection {
                asked: unpack(self.load(&self.asked))?,
                family,
            },
            candidate: u8::try_from((word >> CANDIDATE_SHIFT) & 0xff).unwrap_or(0),
            began: Clock(self.began.load(Ordering::Acquire)),
            progress: Progress::from_words(self.load(&self.progress))?,
            is_swapped: word & IS_SWAPPED != 0,
        })
    }

    /// A handshake begins: whatever the row said of an earlier socket is gone.
    pub fn begin(&self, begin: &Begin) {
        self.word.store(State::Plain as u64, Ordering::Release);
        self.cookie.store(begin.cookie, Ordering::Release);
        self.store(&self.asked, pack(begin.connection.asked));
        self.store(&self.progress, Progress::default().to_words());
        self.began.store(begin.began.0, Ordering::Release);
        let family = if begin.connection.family == Family::V6 {
            IS_V6
        } else {
            0
        };
        let swapped = if begin.is_swapped { IS_SWAPPED } else { 0 };
        self.word.store(
            State::Connecting as u64 | family | swapped,
            Ordering::Release,
        );
    }

    /// The right to step this socket's handshake; `None` while another thread of process `pid` has it.
    #[must_use]
    pub fn claim(&self, pid: u32) -> Option<Claim<'_>> {
        let mut word = self.word.load(Ordering::Acquire);
        loop {
            if word >> PID_SHIFT == u64::from(pid) {
                return None;
            }
            let claimed = (word & WITHOUT_PID) | (u64::from(pid) << PID_SHIFT);
            match self
                .word
                .compare_exchange(word, claimed, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => return Some(Claim { row: self }),
                Err(now) => word = now,
            }
        }
    }

    /// Nothing is known any more, except that the socket has been swapped, which lasts.
    pub fn clear(&self) {
        let word = self.word.load(Ordering::Acquire);
        self.word
            .store(word & (IS_SWAPPED | IS_V6), Ordering::Release);
    }

    /// Whether the socket with this cookie is AF_INET6 to the kernel and AF_INET to the application.
    #[must_use]
    pub fn is_swapped(&self, cookie: u64) -> bool {
        self.word.load(Ordering::Acquire) & IS_SWAPPED != 0
            && self.cookie.load(Ordering::Acquire) == cookie
    }

    fn copy(&self, from: &Self) {
        self.word.store(State::Plain as u64, Ordering::Release);
        self.cookie
            .store(from.cookie.load(Ordering::Acquire), Ordering::Release);
        self.store(&self.asked, from.load(&from.asked));
        self.store(&self.progress, from.load(&from.progress));
        self.began
            .store(from.began.load(Ordering::Acquire), Ordering::Release);
        self.word.store(
            from.word.load(Ordering::Acquire) & WITHOUT_PID,
            Ordering::Release,
        );
    }

    fn load(&self, words: &[AtomicU64; 4]) -> [u64; 4] {
        words.each_ref().map(|word| word.load(Ordering::Acquire))
    }

    fn store(&self, words: &[AtomicU64; 4], values: [u64; 4]) {
        for (word, value) in words.iter().zip(values) {
            word.store(value, Ordering::Release);
        }
    }
}

impl Claim<'_> {
    /// Gives the right back, with how far the socket has come.
    pub fn release(self, state: State, candidate: u8, progress: Progress) {
        self.row.store(&self.row.progress, progress.to_words());
        let flags = self.row.word.load(Ordering::Acquire) & (IS_V6 | IS_SWAPPED);
        let candidate = u64::from(candidate) << CANDIDATE_SHIFT;
        self.row
            .word
            .store(state as u64 | flags | candidate, Ordering::Release);
    }
}

impl State {
    fn of(word: u64) -> Option<Self> {
        match word & STATE {
            1 => Some(Self::Connecting),
            2 => Some(Self::Negotiating),
            3 => Some(Self::Socksified),
            _ => None,
        }
    }
}

/// Word 0: 4 or 6, and the port; word 1: v6 flow information and scope; words 2 and 3: the address.
fn pack(asked: SocketAddr) -> [u64; 4] {
    let port = u64::from(asked.port());
    match asked {
        SocketAddr::V4(v4) => [(4 << 16) | port, 0, u64::from(u32::from(*v4.ip())), 0],
        SocketAddr::V6(v6) => {
            let bits = v6.ip().to_bits();
            let low = u64::try_from(bits & u128::from(u64::MAX)).unwrap_or(0);
            let high = u64::try_from(bits >> 64).unwrap_or(0);
            let place = (u64::from(v6.flowinfo()) << 32) | u64::from(v6.scope_id());
            [(6 << 16) | port, place, high, low]
        }
    }
}

fn unpack([head, place, high, low]: [u64; 4]) -> Option<SocketAddr> {
    let port = u16::try_from(head & 0xffff).ok()?;
    match head >> 16 {
        4 => {
            let ip = Ipv4Addr::from(u32::try_from(high).ok()?);
            Some(SocketAddr::V4(SocketAddrV4::new(ip, port)))
        }
        6 => {
            let ip = Ipv6Addr::from((u128::from(high) << 64) | u128::from(low));
            let flowinfo = u32::try_from(place >> 32).ok()?;
            let scope = u32::try_from(place & u64::from(u32::MAX)).ok()?;
            Some(SocketAddr::V6(SocketAddrV6::new(ip, port, flowinfo, scope)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(asked: &str) -> Connection {
        let asked: SocketAddr = asked.parse().unwrap();
        let family = if asked.is_ipv4() {
            Family::V4
        } else {
            Family::V6
        };
        Connection { asked, family }
    }

    fn begun(asked: &str) -> Row {
        let row = Row::default();
        let connection = connection(asked);
        row.begin(&Begin {
            cookie: 77,
            connection,
            began: Clock(5),
            is_swapped: false,
        });
        row
    }

    #[test]
    fn a_row_gives_back_the_address_that_the_application_connected_to() {
        for asked in [
            "192.0.2.1:65535",
            "[2001:db8::1]:80",
            "0.0.0.0:0",
            "[ffff::fffe]:1",
        ] {
            let view = begun(asked).view(77).unwrap();
            assert_eq!(view.connection, connection(asked));
            assert_eq!(view.state, State::Connecting);
        }
        let scoped = SocketAddrV6::new(Ipv6Addr::LOCALHOST, 1, 0xfffff, u32::MAX);
        assert_eq!(unpack(pack(scoped.into())), Some(scoped.into()));
    }

    #[test]
    fn a_reused_number_knows_nothing_of_its_predecessor() {
        let row = begun("192.0.2.1:80");
        assert_eq!(row.view(78), None);
        assert!(!row.is_swapped(78));
    }

    #[test]
    fn one_thread_steps_at_a_time_and_a_forked_child_takes_over() {
        let row = begun("192.0.2.1:80");
        let claim = row.claim(1000).unwrap();
        assert!(row.claim(1000).is_none());
        assert!(row.view(77).is_some(), "reading needs no claim");
        let Claim { .. } = claim; // never released: the thread is gone, as after fork
        let claim = row.claim(1001).expect("a child's copy of a claim is stale");
        claim.release(State::Socksified, 3, Progress::default());
        let view = row.view(77).unwrap();
        assert_eq!((view.state, view.candidate), (State::Socksified, 3));
        assert!(row.claim(1001).is_some());
    }

    #[test]
    fn a_duplicate_knows_what_its_original_knows() {
        let rows: &'static [Row] = Vec::leak((0..4).map(|_| Row::default()).collect());
        let sockets = Sockets::new(rows);
        let connection = connection("192.0.2.1:80");
        rows[1].begin(&Begin {
            cookie: 9,
            connection,
            began: Clock(0),
            is_swapped: true,
        });
        sockets.duplicated(1, 3);
        sockets.duplicated(1, 99);
        assert_eq!(rows[3].view(9).unwrap().connection, connection);
        rows[3].clear();
        assert_eq!(rows[3].view(9), None);
        assert!(rows[3].is_swapped(9), "the swap lasts");
        assert!(rows[1].view(9).is_some());
    }
}
