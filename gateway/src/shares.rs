//! What each client, each user and each rule with a limit has of the gateway at the moment: how many relays, and how much
//! of its bandwidth it has used up. Touched when a relay begins and when it ends.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use ipnet::IpNet;
use parking_lot::Mutex;

use crate::pace::Bucket;

/// Whoever has a share.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Holder {
    Client(IpNet),
    User(String),
    /// By the name that the log has for it, so that what it has goes on after a reload.
    Rule(String),
}

#[derive(Debug, Default)]
pub(crate) struct Shares(Mutex<HashMap<Holder, Share>>);

#[derive(Debug, Default)]
struct Share {
    relays: usize,
    bucket: Arc<Bucket>,
}

/// One relay of a holder, until this is dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    shares: Arc<Shares>,
    holder: Holder,
    bucket: Arc<Bucket>,
}

impl Shares {
    /// `None` if the holder has `most` already. Never waits.
    pub(crate) fn take(self: &Arc<Self>, holder: Holder, most: Option<usize>) -> Option<Seat> {
        let mut shares = self.0.lock();
        // Room for more is made only where none is left that is free: seldom, and for all at once.
        if shares.len() == shares.capacity() {
            let now = Instant::now();
            shares.retain(|_, share| share.relays > 0 || share.bucket.is_in_debt(now));
        }
        let share = shares.entry(holder.clone()).or_default();
        if most.is_some_and(|most| share.relays >= most) {
            return None;
        }
        share.relays = share.relays.saturating_add(1);
        Some(Seat {
            shares: Arc::clone(self),
            holder,
            bucket: Arc::clone(&share.bucket),
        })
    }
}

impl Seat {
    pub(crate) fn bucket(&self) -> &Bucket {
        &self.bucket
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut shares = self.shares.0.lock();
        let Some(share) = shares.get_mut(&self.holder) else {
            return;
        };
        share.relays = share.relays.saturating_sub(1);
        // Debts are kept: to connect anew must not pay.
        if share.relays == 0 && !share.bucket.is_in_debt(Instant::now()) {
            shares.remove(&self.holder);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::pace::Meter;

    fn user(name: &str) -> Holder {
        Holder::User(name.to_owned())
    }

    #[test]
    fn a_holder_has_as_many_seats_as_it_may_and_no_other_holder_minds() {
        let shares = Arc::new(Shares::default());
        let first = shares.take(user("a"), Some(2)).unwrap();
        let _second = shares.take(user("a"), Some(2)).unwrap();
        assert!(shares.take(user("a"), Some(2)).is_none());
        assert!(shares.take(user("b"), Some(2)).is_some());
        drop(first);
        assert!(shares.take(user("a"), Some(2)).is_some());
    }

    #[test]
    fn nothing_is_left_of_those_who_are_gone_but_their_debts() {
        let shares = Arc::new(Shares::default());
        let debtor = shares.take(user("debtor"), None).unwrap();
        let now = Instant::now();
        Meter::new([Some((debtor.bucket(), 1))]).charge(60, now);
        drop(debtor);
        for number in 0..1000 {
            drop(shares.take(user(&number.to_string()), None));
        }
        assert_eq!(shares.0.lock().len(), 1);
        let again = shares.take(user("debtor"), None).unwrap();
        let ready = Meter::new([Some((again.bucket(), 1))]).ready_at().unwrap();
        assert!(ready > now + Duration::from_secs(50));
    }
}
