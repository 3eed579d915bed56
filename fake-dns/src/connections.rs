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
