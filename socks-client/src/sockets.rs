//! What the shim knows of each descriptor.
//!
//! A row is a handful of atomic words, so that it may be read and written in a signal handler and is
//! never found locked after fork. It belongs to a *socket*, named by SO_COOKIE, and only stands at
//! a descriptor's index to be found fast: a number that was closed and reused behind our back has
//! another cookie, and the row then says nothing.

use core::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use core::sync::atomic::{AtomicU64, Ordering};

use fake_dns::{Connection, Family};

/// What a row says of the socket that it was asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct View {
    /// The address that the application connected to, and its socket's family.
    pub connection: Connection,
    /// The index of its handshake, which is another's once it has long been over; or [`HELD`] or [`ANSWERED`].
    pub handshake: u16,
}

/// In place of a handshake's index: a datagram socket that is connected to itself, where the application takes it for
/// connected to a destination.
pub const HELD: u16 = u16::MAX;
/// The same of a socket of either kind that was connected to port 53: what it sends is answered from the table.
pub const ANSWERED: u16 = u16::MAX - 1;

/// One descriptor's row. Zeroed memory is a plain one.
#[derive(Debug, Default)]
#[repr(C, align(128))]
pub struct Row {
    /// Flags in bits 0–7, the handshake's index in 16–31, the length of a question in 32–49.
    word: AtomicU64,
    cookie: AtomicU64,
    /// Port and address as the application gave them; see [`pack`].
    asked: [AtomicU64; 4],
    /// The thread that began the handshake.
    thread: AtomicU64,
    /// Where epoll sets have it: two words each; see [`Registration`].
    registrations: [[AtomicU64; 2]; 3],
}

/// The first octets of a stream of questions, up to a whole length.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Prefix {
    /// High octet first.
    pub octets: [u8; 2],
    /// How many of them there are.
    pub len: usize,
}

impl Prefix {
    /// Adds the next octet to one that is not whole.
    pub fn push(&mut self, octet: u8) {
        self.octets = [self.octets[1], octet];
        self.len = self.len.saturating_add(1);
    }
}

const IS_KNOWN: u64 = 1;
const IS_V6: u64 = 1 << 1;
const IS_SWAPPED: u64 = 1 << 2;
const IS_ASKING: u64 = 1 << 3;
const HANDSHAKE_SHIFT: u32 = 16;
const PREFIX_SHIFT: u32 = 32;
const PREFIX_MASK: u64 = 0x3_ffff << PREFIX_SHIFT;

/// What epoll_ctl(2) was told of a descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Registration {
    /// The epoll descriptor.
    pub set: i32,
    /// `events` of epoll_event, with EPOLLERR and EPOLLHUP, which the kernel adds.
    pub events: u32,
    /// `data` of epoll_event.
    pub data: u64,
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
            .is_some_and(|row| row.word.load(Ordering::Relaxed) != 0)
    }

    /// dup(2) gave `old` the further number `new`.
    pub fn duplicated(&self, old: i32, new: i32) {
        if let (Some(old), Some(new)) = (self.row(old), self.row(new)) {
            new.copy(old);
        }
    }

    /// `new` has been another number of the socket at `old` for a while, and keeps its own registrations.
    pub fn named_alike(&self, old: i32, new: i32) {
        if let (Some(old), Some(new)) = (self.row(old), self.row(new)) {
            new.become_alike(old);
        }
    }

    /// The address of the first row, and behind the last: what lies between is no data of a program's.
    #[must_use]
    pub fn addresses(&self) -> core::ops::Range<usize> {
        let rows = self.rows.as_ptr_range();
        rows.start.addr()..rows.end.addr()
    }
}

impl Row {
    /// What is known of the socket with this cookie.
    #[must_use]
    pub fn view(&self, cookie: u64) -> Option<View> {
        let word = self.word.load(Ordering::Acquire);
        if word & IS_KNOWN == 0 || self.cookie.load(Ordering::Acquire) != cookie {
            return None;
        }
        let family = if word & IS_V6 == 0 {
            Family::V4
        } else {
            Family::V6
        };
        let asked = unpack(
            self.asked
                .each_ref()
                .map(|word| word.load(Ordering::Acquire)),
        )?;
        let handshake = u16::try_from((word >> HANDSHAKE_SHIFT) & 0xffff).ok()?;
        Some(View {
            connection: Connection { asked, family },
            handshake,
        })
    }

    /// Whether this is a socket that is connected to itself, and that the application takes for connected elsewhere.
    #[must_use]
    pub fn is_held(&self, cookie: u64) -> bool {
        self.view(cookie)
            .is_some_and(|view| matches!(view.handshake, HELD | ANSWERED))
    }

    /// The name server that it was connected to, if what it sends is answered from the table.
    #[must_use]
    pub fn name_server(&self, cookie: u64) -> Option<SocketAddr> {
        let view = self.view(cookie)?;
        (view.handshake == ANSWERED).then_some(view.connection.asked)
    }

    /// A question goes out on the socket with this cookie.
    pub fn asks(&self, cookie: u64) {
        if self.cookie.load(Ordering::Acquire) != cookie {
            self.word.store(0, Ordering::Release);
            self.cookie.store(cookie, Ordering::Release);
        }
        self.word.fetch_or(IS_ASKING, Ordering::AcqRel);
    }

    /// Whether the socket with this cookie has asked a name server, so that answers come by loopback.
    #[must_use]
    pub fn is_asking(&self, cookie: u64) -> bool {
        self.word.load(Ordering::Acquire) & IS_ASKING != 0
            && self.cookie.load(Ordering::Acquire) == cookie
    }

    /// What has been sent of the length before a question (RFC 1035 §4.2.2), as [`Row::keep_prefix`] kept it.
    #[must_use]
    pub fn prefix(&self) -> Prefix {
        let bits = self.word.load(Ordering::Acquire) >> PREFIX_SHIFT;
        let [_, _, _, _, _, len, high, low] = bits.to_be_bytes();
        Prefix {
            octets: [high, low],
            len: usize::from(len & 3).min(2),
        }
    }

    /// Keeps it until the next call that sends.
    pub fn keep_prefix(&self, prefix: Prefix) {
        let [high, low] = prefix.octets;
        let len = u8::try_from(prefix.len.min(2)).unwrap_or(0);
        let bits = u64::from_be_bytes([0, 0, 0, 0, 0, len, high, low]) << PREFIX_SHIFT;
        let keep = |word| Some((word & !PREFIX_MASK) | bits);
        let _before = self
            .word
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, keep);
    }

    /// A handshake begins: whatever the row said of an earlier socket is gone.
    pub fn begin(&self, cookie: u64, connection: Connection, handshake: u16, is_swapped: bool) {
        self.word.store(0, Ordering::Release);
        self.cookie.store(cookie, Ordering::Release);
        for (word, value) in self.asked.iter().zip(pack(connection.asked)) {
            word.store(value, Ordering::Release);
        }
        let family = if connection.family == Family::V6 {
            IS_V6
        } else {
            0
        };
        let swapped = if is_swapped { IS_SWAPPED } else { 0 };
        let handshake = u64::from(handshake) << HANDSHAKE_SHIFT;
        self.word
            .store(IS_KNOWN | family | swapped | handshake, Ordering::Release);
    }

    /// Which thread (gettid(2)) has begun the handshake.
    pub fn begun_by(&self, thread: u64) {
        self.thread.store(thread, Ordering::Relaxed);
    }

    /// Whether this thread has begun it.
    #[must_use]
    pub fn is_begun_by(&self, thread: u64) -> bool {
        self.thread.load(Ordering::Relaxed) == thread
    }

    /// Nothing is known any more, except that the socket has been swapped or has asked, which lasts.
    pub fn clear(&self) {
        let word = self.word.load(Ordering::Acquire);
        self.word
            .store(word & (IS_SWAPPED | IS_V6 | IS_ASKING), Ordering::Release);
    }

    /// Whether the socket with this cookie is AF_INET6 to the kernel and AF_INET to the application.
    #[must_use]
    pub fn is_swapped(&self, cookie: u64) -> bool {
        self.word.load(Ordering::Acquire) & IS_SWAPPED != 0
            && self.cookie.load(Ordering::Acquire) == cookie
    }

    /// epoll_ctl(2) adds or modifies it in a set; false if there is no room for a further set.
    #[must_use]
    pub fn registered(&self, new: Registration) -> bool {
        let words = || self.registrations.iter();
        let of_set =
            words().find(|words| Registration::load(words).is_some_and(|r| r.set == new.set));
        let free = || words().find(|words| Registration::load(words).is_none());
        let Some([head, data]) = of_set.or_else(free) else {
            return false;
        };
        data.store(new.data, Ordering::Release);
        let set = u64::from(new.set.unsigned_abs()).saturating_add(1);
        head.store((set << 32) | u64::from(new.events), Ordering::Release);
        true
    }

    /// epoll_ctl(2) removed it from a set.
    pub fn unregistered(&self, set: i32) {
        for words in &self.registrations {
            if Registration::load(words).is_some_and(|registration| registration.set == set) {
                words[0].store(0, Ordering::Release);
            }
        }
    }

    /// The sets that have it.
    pub fn registrations(&self) -> impl Iterator<Item = Registration> + '_ {
        self.registrations.iter().filter_map(Registration::load)
    }

    fn copy(&self, from: &Self) {
        self.word.store(0, Ordering::Release);
        // A duplicate is in no epoll set.
        for [head, _] in &self.registrations {
            head.store(0, Ordering::Release);
        }
        self.become_alike(from);
    }

    fn become_alike(&self, from: &Self) {
        let load = |word: &AtomicU64| word.load(Ordering::Acquire);
        self.word.store(0, Ordering::Release);
        self.cookie.store(load(&from.cookie), Ordering::Release);
        self.thread.store(load(&from.thread), Ordering::Release);
        for (to, from) in self.asked.iter().zip(&from.asked) {
            to.store(load(from), Ordering::Release);
        }
        self.word.store(load(&from.word), Ordering::Release);
    }
}

impl Registration {
    /// EPOLLONESHOT, EPOLLET, EPOLLWAKEUP and EPOLLEXCLUSIVE (epoll_ctl(2)), which are no events.
    const FLAGS: u32 = 0xf000_0000;

    /// Whether it is a one-shot that has fired: the kernel leaves the flags alone.
    #[must_use]
    pub const fn is_spent(&self) -> bool {
        self.events & !Self::FLAGS == 0
    }

    fn load(words: &[AtomicU64; 2]) -> Option<Self> {
        let [head, data] = words.each_ref().map(|word| word.load(Ordering::Acquire));
        let set = i32::try_from((head >> 32).checked_sub(1)?).ok()?;
        Some(Self {
            set,
            events: u32::try_from(head & u64::from(u32::MAX)).ok()?,
            data,
        })
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
        row.begin(77, connection(asked), 5, false);
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
            assert_eq!(
                view,
                View {
                    connection: connection(asked),
                    handshake: 5
                }
            );
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
    fn a_socket_that_has_asked_is_known_to_wait_for_answers() {
        let row = begun("192.0.2.53:53");
        row.asks(77);
        assert!(row.is_asking(77) && row.view(77).is_some());
        row.clear();
        assert!(row.is_asking(77) && row.view(77).is_none());
        row.asks(78);
        assert!(row.is_asking(78) && !row.is_asking(77));
        assert!(row.view(78).is_none() && !row.is_swapped(78));
    }

    #[test]
    fn the_length_of_a_question_may_be_sent_before_it() {
        let row = begun("192.0.2.53:53");
        row.asks(77);
        for (octets, len) in [([0, 0], 0), ([0xff, 0], 1), ([0xff, 0xff], 2), ([0, 29], 2)] {
            row.keep_prefix(Prefix { octets, len });
            assert_eq!(row.prefix(), Prefix { octets, len });
            assert_eq!(row.view(77).map(|view| view.handshake), Some(5));
            assert!(row.is_asking(77));
        }
        row.begin(78, connection("192.0.2.53:53"), ANSWERED, false);
        assert_eq!(row.prefix(), Prefix::default());
    }

    #[test]
    fn a_duplicate_knows_what_its_original_knows() {
        let rows: &'static [Row] = Vec::leak((0..4).map(|_| Row::default()).collect());
        let sockets = Sockets::new(rows);
        let connection = connection("192.0.2.1:80");
        rows[1].begin(9, connection, 5, true);
        assert!(rows[1].registered(Registration {
            set: 0,
            events: 1,
            data: 2
        }));
        sockets.duplicated(1, 3);
        sockets.duplicated(1, 99);
        assert_eq!(
            rows[3].view(9),
            Some(View {
                connection,
                handshake: 5
            })
        );
        assert_eq!(rows[3].registrations().count(), 0);
        rows[3].clear();
        assert_eq!(rows[3].view(9), None);
        assert!(rows[3].is_swapped(9), "the swap lasts");
        assert!(rows[1].view(9).is_some());
    }

    #[test]
    fn registrations_are_kept_by_set() {
        let row = Row::default();
        let of = |set, events| Registration {
            set,
            events,
            data: u64::MAX,
        };
        assert!(row.registered(of(0, 1)) && row.registered(of(7, u32::MAX)));
        assert!(row.registered(of(0, 4)));
        assert!(row.registrations().eq([of(0, 4), of(7, u32::MAX)]));
        assert!(row.registered(of(8, 1)) && !row.registered(of(9, 1)));
        row.unregistered(0);
        assert!(row.registrations().eq([of(7, u32::MAX), of(8, 1)]));
        assert!(of(1, 0x4000_0000).is_spent() && !of(1, 0x4000_0010).is_spent());
    }
}
