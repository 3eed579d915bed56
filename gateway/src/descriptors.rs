//! The descriptors that this process may have, in pairs: a client takes one for its own socket and its destination's, a pipe
//! one for its two ends. A pipe makes a relay quicker, so clients come first: while one waits for its pair, no relay takes a
//! pipe, and those that have one give it up as soon as it is empty.
//!
//! Without this a client that has been accepted with the last descriptors would be told that its destination is not there.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::process::{Resource, getrlimit};

/// Left for what is neither: listeners, log, resolver, further attempts of a dial, those who watch.
const SPARE: u64 = 64;

#[derive(Debug)]
pub(crate) struct Descriptors {
    most: usize,
    taken: AtomicUsize,
    /// Clients that wait for a pair.
    waiting: AtomicUsize,
}

/// Two descriptors, given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Pair(Arc<Descriptors>);

/// A client waits, until this is dropped.
#[derive(Debug)]
pub(crate) struct Waiting<'d>(&'d Descriptors);

impl Default for Descriptors {
    /// As many as RLIMIT_NOFILE has room for.
    fn default() -> Self {
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        // Who has little is content with less to spare.
        let spare = SPARE.min(limit / 4);
        let pairs = limit.saturating_sub(spare) / 2;
        Self::new(usize::try_from(pairs).unwrap_or(usize::MAX).max(1))
    }
}

impl Descriptors {
    fn new(most: usize) -> Self {
        Self {
            most,
            taken: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
        }
    }

    /// How many clients there may be at most.
    pub(crate) fn most(&self) -> usize {
        self.most
    }

    pub(crate) fn for_client(self: &Arc<Self>) -> Option<Pair> {
        let more = |taken: usize| taken.checked_add(1).filter(|taken| *taken <= self.most);
        let taken = self
            .taken
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, more);
        taken.is_ok().then(|| Pair(Arc::clone(self)))
    }

    pub(crate) fn for_pipe(self: &Arc<Self>) -> Option<Pair> {
        if self.are_wanted() {
            return None;
        }
        self.for_client()
    }

    /// Whether a client waits for what pipes have.
    pub(crate) fn are_wanted(&self) -> bool {
        self.waiting.load(Ordering::Acquire) > 0
    }

    /// Whether all are taken.
    pub(crate) fn are_out(&self) -> bool {
        self.taken.load(Ordering::Acquire) >= self.most
    }

    pub(crate) fn wait(&self) -> Waiting<'_> {
        self.waiting.fetch_add(1, Ordering::AcqRel);
        Waiting(self)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_waits_comes_before_every_pipe() {
        let descriptors = Arc::new(Descriptors::new(2));
        let client = descriptors.for_client().unwrap();
        let pipe = descriptors.for_pipe().unwrap();
        assert!(descriptors.are_out());
        assert!(descriptors.for_client().is_none());
        assert!(descriptors.for_pipe().is_none());

        let waiting = descriptors.wait();
        drop(pipe);
        assert!(!descriptors.are_out());
        assert!(descriptors.for_pipe().is_none(), "somebody waits");
        let second = descriptors.for_client().unwrap();
        drop((waiting, client));
        assert!(descriptors.for_pipe().is_some(), "nobody waits");
        drop(second);
    }
}
