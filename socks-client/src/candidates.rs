//! Which of the gateways' addresses a connection tries next. One that has failed is dead for a while:
//! it is passed over as long as another is alive.

use core::sync::atomic::{AtomicU64, Ordering};
use std::net::SocketAddr;

use fake_dns::Family;

use crate::Clock;

/// How long a dead one is passed over, in milliseconds.
pub const DEAD_TIME: u64 = 30_000;
/// How long one may be silent, to the TCP connect or to the greeting, while another is left to be tried,
/// in milliseconds. A destination may take its time; a gateway answers at once.
pub const SILENCE_LIMIT: u64 = 7_001;
/// A handshake keeps its candidate in eight bits.
const MOST: usize = 255;

/// One address of a gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Where it is.
    pub address: SocketAddr,
    /// Index in [`Config::gateways`](crate::Config::gateways).
    pub gateway: usize,
}

/// All addresses of all gateways, and what this process knows of their health.
#[derive(Debug)]
pub struct Candidates {
    all: Vec<(Candidate, AtomicU64)>,
}

impl Candidates {
    /// In the order of the gateways; at most 255.
    #[must_use]
    pub fn new(all: Vec<Candidate>) -> Self {
        let alive = |candidate| (candidate, AtomicU64::new(0));
        Self {
            all: all.into_iter().take(MOST).map(alive).collect(),
        }
    }

    /// The one of this index.
    #[must_use]
    pub fn get(&self, index: u8) -> Option<Candidate> {
        self.all
            .get(usize::from(index))
            .map(|(candidate, _)| *candidate)
    }

    /// Whether there is more than one.
    #[must_use]
    pub fn is_choice(&self) -> bool {
        self.all.len() > 1
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = Candidate> {
        self.all.iter().map(|(candidate, _)| *candidate)
    }

    /// The one to be tried next by a connection that began at `began`, from a socket of `family`: the
    /// first that is alive, else the first that was dead already when the connection began. None of those
    /// that have failed since; nor `except`.
    #[must_use]
    pub fn next(&self, family: Family, began: Clock, now: Clock, except: Option<u8>) -> Option<u8> {
        let death = |index: &u8| {
            self.all
                .get(usize::from(*index))
                .map_or(0, |c| c.1.load(Ordering::Relaxed))
        };
        let is_alive = |index: &u8| match death(index) {
            0 => true,
            died => now.0.saturating_sub(died) >= DEAD_TIME,
        };
        let others = || self.in_order(family).filter(|&index| Some(index) != except);
        others()
            .find(is_alive)
            .or_else(|| others().find(|index| death(index) <= began.0))
    }

    /// It could not be reached, was silent, talked nonsense or would not have us.
    pub fn failed(&self, index: u8, began: Clock, now: Clock) {
        if let Some((_, death)) = self.all.get(usize::from(index)) {
            // Later than the connection's beginning, so that it is not tried again for that; nor for
            // another one that begins in this millisecond.
            let died = now.0.max(began.0.saturating_add(1));
            death.store(died, Ordering::Relaxed);
        }
    }

    /// It has done its work.
    pub fn works(&self, index: u8) {
        if let Some((_, death)) = self.all.get(usize::from(index))
            && death.load(Ordering::Relaxed) != 0
        {
            death.store(0, Ordering::Relaxed);
        }
    }

    /// Gateway by gateway, and of each the addresses of the socket's own family first, since the others
    /// need a v4-mapped address or another socket.
    fn in_order(&self, family: Family) -> impl Iterator<Item = u8> {
        let last = self
            .all
            .last()
            .map_or(0, |(candidate, _)| candidate.gateway);
        let of = move |gateway, is_own| {
            (0_u8..)
                .zip(&self.all)
                .filter_map(move |(index, (candidate, _))| {
                    let is_this = candidate.gateway == gateway
                        && (Family::of(candidate.address.ip()) == family) == is_own;
                    is_this.then_some(index)
                })
        };
        (0..=last).flat_map(move |gateway| of(gateway, true).chain(of(gateway, false)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two gateways, the first with an address of each family.
    fn candidates() -> Candidates {
        let of = |address: &str, gateway| Candidate {
            address: address.parse().unwrap(),
            gateway,
        };
        Candidates::new(vec![
            of("192.0.2.1:1080", 0),
            of("[2001:db8::1]:1080", 0),
            of("192.0.2.2:1080", 1),
        ])
    }

    fn order(candidates: &Candidates, family: Family, began: u64) -> Vec<u8> {
        let mut tried = Vec::new();
        while let Some(index) = candidates.next(family, Clock(began), Clock(began), None) {
            tried.push(index);
            candidates.failed(index, Clock(began), Clock(began));
        }
        tried
    }

    #[test]
    fn gateways_are_tried_in_order_and_each_address_once() {
        assert_eq!(order(&candidates(), Family::V4, 100), [0, 1, 2]);
        assert_eq!(order(&candidates(), Family::V6, 100), [1, 0, 2]);
        assert_eq!(order(&Candidates::new(Vec::new()), Family::V4, 100), []);
    }

    #[test]
    fn a_dead_one_is_passed_over_for_a_while_and_tried_last() {
        let all = candidates();
        let at = |now| all.next(Family::V4, Clock(now), Clock(now), None);
        all.failed(0, Clock(100), Clock(200));
        assert_eq!(at(300), Some(1));
        assert_eq!(at(200 + DEAD_TIME), Some(0));
        all.failed(1, Clock(100), Clock(200));
        all.failed(2, Clock(100), Clock(250));
        assert_eq!(at(300), Some(0), "all are dead: in order again");
        assert_eq!(order(&all, Family::V4, 300), [0, 1, 2]);
        all.works(2);
        assert_eq!(at(400), Some(2));
        let began = Clock(400);
        assert_eq!(all.next(Family::V4, began, began, Some(2)), Some(0));
    }

    /// Another thread's failure counts for a connection that is under way.
    #[test]
    fn what_has_failed_since_the_beginning_is_not_tried_again() {
        let all = candidates();
        for index in 0..3 {
            all.failed(index, Clock(100), Clock(900));
        }
        assert_eq!(all.next(Family::V4, Clock(500), Clock(1_000), None), None);
    }
}
