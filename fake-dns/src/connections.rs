//! Rows for connections, so that a socket inherited over exec or received over SCM_RIGHTS goes on answering
//! `getpeername` with what its application asked for.
//!
//! A set of eight rows for each hash of a cookie; the oldest row of a set makes room. A row is several words that
//! change, so unlike a name's it can be read half-written: its check sum tells. Losing a row costs an answer, never
//! gives a wrong one.

use core::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use crate::error::TableError;
use crate::key::Key;
use crate::pool::Family;
use crate::table::Memory;

/// What is remembered of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connection {
    /// The address as the application gave it to `connect`, with flow and scope of an IPv6 one.
    pub asked: SocketAddr,
    /// The family of the application's own socket.
    pub family: Family,
}

/// In all. Sixteen thousand connections later, a socket that was passed on shows its gateway as peer.
pub(crate) const ROWS: u32 = 16384;
const WAYS: u32 = 8;
const SETS: u32 = ROWS / WAYS;

/// One connection, in a cache line of its own.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub(crate) struct Row {
    /// When it was written, as a number that only grows; 0 = never.
    age: AtomicU64,
    /// SO_COOKIE; 0 = no connection.
    cookie: AtomicU64,
    words: [AtomicU64; 4],
    check: AtomicU64,
}

pub(crate) fn remember<M: Memory>(
    memory: &M,
    key: &Key,
    cookie: u64,
    connection: &Connection,
) -> Result<(), TableError> {
    // The kernel gives no such cookie, and an empty row has it.
    if cookie == 0 {
        return Ok(());
    }
    let age = memory
        .counters()?
        .ages
        .0
        .fetch_add(1, Relaxed)
        .wrapping_add(1);
    let row = claim(memory, key, cookie, age)?;
    let words = encode(connection);
    row.cookie.store(cookie, Relaxed);
    for (to, from) in row.words.iter().zip(words) {
        to.store(from, Relaxed);
    }
    row.check.store(check_sum(key, cookie, words), Release);
    Ok(())
}

pub(crate) fn recall<M: Memory>(memory: &M, key: &Key, cookie: u64) -> Option<Connection> {
    set(key, cookie).find_map(|index| memory.connection(index).ok()?.read(key, cookie))
}

pub(crate) fn forget<M: Memory>(memory: &M, key: &Key, cookie: u64) {
    if cookie == 0 {
        return;
    }
    for row in set(key, cookie).filter_map(|index| memory.connection(index).ok()) {
        let age = row.age.load(Acquire);
        if row
            .cookie
            .compare_exchange(cookie, 0, AcqRel, Relaxed)
            .is_ok()
        {
            // The first to be taken again; unless somebody has taken it already.
            let _taken = row.age.compare_exchange(age, 0, AcqRel, Relaxed);
        }
    }
}

/// Takes the cookie's own row, or else the oldest of its set, by making it the youngest.
fn claim<'m, M: Memory>(
    memory: &'m M,
    key: &Key,
    cookie: u64,
    age: u64,
) -> Result<&'m Row, TableError> {
    let mut best: Option<(&Row, u64)> = None;
    // Another try only if another process has taken the row first: it will not choose the same one again.
    for _try in 0..WAYS {
        best = None;
        for index in set(key, cookie) {
            let row = memory.connection(index)?;
            let seen = row.age.load(Acquire);
            if row.cookie.load(Acquire) == cookie {
                best = Some((row, seen));
                break;
            }
            if best.is_none_or(|(_, oldest)| seen < oldest) {
                best = Some((row, seen));
            }
        }
        if let Some((row, seen)) = best
            && row.age.compare_exchange(seen, age, AcqRel, Relaxed).is_ok()
        {
            break;
        }
    }
    // After so many lost races, two writers in one row: neither's check sum will agree, and both are forgotten.
    best.map(|(row, _)| row).ok_or(TableError::NoSpace)
}

fn set(key: &Key, cookie: u64) -> impl Iterator<Item = u32> {
    let set = key.hash(&cookie.to_ne_bytes()) & u64::from(SETS - 1);
    let first = u32::try_from(set).unwrap_or_default().wrapping_mul(WAYS);
    (0..WAYS).map(move |way| first | way)
}

impl Row {
    fn read(&self, key: &Key, cookie: u64) -> Option<Connection> {
        // Most rows are of other connections: one load, and no hash, for these.
        if cookie == 0 || self.cookie.load(Acquire) != cookie {
            return None;
        }
        let check = self.check.load(Acquire);
        let words = self.words.each_ref().map(|word| word.load(Relaxed));
        (check == check_sum(key, cookie, words)).then(|| decode(words))?
    }
}

fn check_sum(key: &Key, cookie: u64, [a, b, c, d]: [u64; 4]) -> u64 {
    let mut octets = [0; 40];
    let words = [cookie, a, b, c, d].map(u64::to_ne_bytes);
    for (to, from) in octets.iter_mut().zip(words.iter().flatten()) {
        *to = *from;
    }
    key.hash(&octets)
}

/// Address; port, the two families and flow; scope.
fn encode(connection: &Connection) -> [u64; 4] {
    let (address, flow, scope) = match connection.asked {
        SocketAddr::V4(v4) => (u128::from(v4.ip().to_bits()), 0, 0),
        SocketAddr::V6(v6) => (v6.ip().to_bits(), v6.flowinfo(), v6.scope_id()),
    };
    let [p, q] = connection.asked.port().to_ne_bytes();
    let [r, s, t, u] = u32::to_ne_bytes(flow);
    let asked = family_octet(Family::of(connection.asked.ip()));
    let middle = [p, q, asked, family_octet(connection.family), r, s, t, u];
    let half = |bits: u128| u64::try_from(bits & u128::from(u64::MAX)).unwrap_or_default();
    [
        half(address >> 64),
        half(address),
        u64::from_ne_bytes(middle),
        u64::from(scope),
    ]
}

/// None for words that `encode` never gives: the row may come from anywhere.
fn decode([high, low, middle, scope]: [u64; 4]) -> Option<Connection> {
    let address = (u128::from(high) << 64) | u128::from(low);
    let [p, q, asked, family, r, s, t, u] = middle.to_ne_bytes();
    let port = u16::from_ne_bytes([p, q]);
    let asked = match family_from(asked)? {
        Family::V4 => {
            let ip = Ipv4Addr::from_bits(u32::try_from(address).ok()?);
            SocketAddrV4::new(ip, port).into()
        }
        Family::V6 => {
            let flow = u32::from_ne_bytes([r, s, t, u]);
            let ip = Ipv6Addr::from_bits(address);
            SocketAddrV6::new(ip, port, flow, u32::try_from(scope).ok()?).into()
        }
    };
    Some(Connection {
        asked,
        family: family_from(family)?,
    })
}

fn family_octet(family: Family) -> u8 {
    match family {
        Family::V4 => 4,
        Family::V6 => 6,
    }
}

fn family_from(octet: u8) -> Option<Family> {
    match octet {
        4 => Some(Family::V4),
        6 => Some(Family::V6),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::arrays::Arrays;

    fn key() -> Key {
        Key::from_bytes(*b"sixteen  octets.")
    }

    fn connection(port: u16) -> Connection {
        let ip = Ipv4Addr::new(198, 18, 0, 1);
        Connection {
            asked: SocketAddrV4::new(ip, port).into(),
            family: Family::V4,
        }
    }

    fn connections() -> impl Strategy<Value = Connection> {
        let v4 = (any::<Ipv4Addr>(), any::<u16>())
            .prop_map(|(ip, port)| SocketAddrV4::new(ip, port).into());
        let v6 = (any::<Ipv6Addr>(), any::<u16>(), any::<u32>(), any::<u32>())
            .prop_map(|(ip, port, flow, scope)| SocketAddrV6::new(ip, port, flow, scope).into());
        let family = prop_oneof![Just(Family::V4), Just(Family::V6)];
        (prop_oneof![v4, v6], family).prop_map(|(asked, family)| Connection { asked, family })
    }

    proptest! {
        #[test]
        fn what_is_remembered_is_recalled_and_forgotten(cookie in 1..u64::MAX, row in connections()) {
            let table = Arrays::new(4);
            prop_assert_eq!(recall(&table, &key(), cookie), None);
            remember(&table, &key(), cookie, &row).expect("room");
            prop_assert_eq!(recall(&table, &key(), cookie), Some(row));
            prop_assert_eq!(recall(&table, &key().derive(b"boot"), cookie), None);
            forget(&table, &key(), cookie);
            prop_assert_eq!(recall(&table, &key(), cookie), None);
        }

        #[test]
        fn no_words_make_decode_panic(words in any::<[u64; 4]>()) {
            let _either = decode(words);
        }
    }

    #[test]
    fn a_row_with_any_bit_changed_is_no_row() {
        let table = Arrays::new(4);
        remember(&table, &key(), 7, &connection(80)).expect("room");
        let row = set(&key(), 7)
            .filter_map(|index| table.connection(index).ok())
            .find(|row| row.cookie.load(Relaxed) == 7)
            .expect("remembered");
        for word in row.words.iter().chain([&row.check, &row.cookie]) {
            for bit in 0..64 {
                word.fetch_xor(1 << bit, Relaxed);
                assert_eq!(recall(&table, &key(), 7), None);
                word.fetch_xor(1 << bit, Relaxed);
            }
        }
        assert_eq!(recall(&table, &key(), 7), Some(connection(80)));
    }

    #[test]
    fn the_oldest_of_a_set_makes_room_and_a_forgotten_one_before_it() {
        let table = Arrays::new(4);
        let of_one_set: Vec<u64> = (1..)
            .filter(|cookie| set(&key(), *cookie).eq(set(&key(), 1)))
            .take(10)
            .collect();
        let known = |cookie: &u64| recall(&table, &key(), *cookie).is_some();
        for cookie in &of_one_set[..8] {
            remember(&table, &key(), *cookie, &connection(80)).expect("room");
        }
        assert!(of_one_set[..8].iter().all(known));

        forget(&table, &key(), of_one_set[3]);
        remember(&table, &key(), of_one_set[8], &connection(80)).expect("room");
        assert!(known(&of_one_set[0]) && !known(&of_one_set[3]) && known(&of_one_set[8]));

        // Remembered again, a connection is young again and has one row, not two.
        remember(&table, &key(), of_one_set[0], &connection(81)).expect("room");
        remember(&table, &key(), of_one_set[9], &connection(80)).expect("room");
        assert_eq!(recall(&table, &key(), of_one_set[0]), Some(connection(81)));
        assert!(!known(&of_one_set[1]) && known(&of_one_set[2]) && known(&of_one_set[9]));
    }

    #[test]
    fn as_many_connections_as_a_busy_program_has_are_all_known() {
        let table = Arrays::new(4);
        for cookie in 1..=4096 {
            remember(&table, &key(), cookie, &connection(80)).expect("room");
        }
        let known = (1..=4096)
            .filter(|cookie| recall(&table, &key(), *cookie).is_some())
            .count();
        assert!(known > 4000, "{known} of 4096");
    }

    #[test]
    fn cookie_0_is_nobody_s() {
        let table = Arrays::new(4);
        remember(&table, &key(), 0, &connection(80)).expect("ignored");
        forget(&table, &key(), 0);
        assert_eq!(recall(&table, &key(), 0), None);
    }

    /// Writers that take the row from each other: what a reader gets is somebody's whole row or nothing.
    #[test]
    fn a_reader_never_sees_half_a_row() {
        let table = Arrays::new(4);
        let write = |writer: u16| {
            for i in 0..20_000u16 {
                let row = connection(writer * 20_000 + i);
                remember(&table, &key(), 1 + u64::from(i % 2), &row).expect("room");
                if i % 17 == 0 {
                    forget(&table, &key(), 1);
                }
            }
        };
        let running = AtomicU64::new(3);
        std::thread::scope(|scope| {
            for writer in 0..3 {
                let (write, running) = (&write, &running);
                scope.spawn(move || {
                    write(writer);
                    running.fetch_sub(1, Relaxed);
                });
            }
            scope.spawn(|| {
                let mut seen = 0;
                while running.load(Relaxed) > 0 {
                    if let Some(row) = recall(&table, &key(), 1) {
                        assert_eq!(row, connection(row.asked.port()));
                        seen += 1;
                    }
                }
                assert!(seen > 0);
            });
        });
    }
}
