//! Whether a client may have what its user name and password are for, at a price that nobody can drive up: so many
//! failures of an address and no hash is computed for it, so many hashes at a time and the others wait, and a password
//! that was right once is known again without one.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::Hasher;
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use parking_lot::{Condvar, Mutex};
use rustix::rand::{GetRandomFlags, getrandom};
use siphasher::sip128::{Hasher128, SipHasher24};
use socks_wire::Credentials;

use crate::hash::{Hash, Unhashed};
use crate::users::Users;

/// Addresses whose failures are counted; above that the one that failed first is forgotten.
const MOST_ADDRESSES: usize = 8192;

/// Passwords that are known to be right; above that all are asked for their hash again.
const MOST_KNOWN: usize = 65_536;

/// How often an address may fail before it is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Patience {
    /// 0 for never.
    pub(crate) failures: u32,
    /// Counted from the first of them.
    pub(crate) within: Duration,
}

/// Why nobody looked whether the password is right. The client is told that it is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unjudged {
    #[error("too many wrong passwords from this address")]
    TooManyFailures,
    #[error("too many passwords to check at once")]
    Busy,
    #[error(transparent)]
    Unhashed(#[from] Unhashed),
}

/// Lives as long as the gateway, whatever the users are: what is remembered of a password is of no use with another
/// hash.
pub(crate) struct Logins {
    key: [u8; 16],
    most_hashing: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    hashing: usize,
    /// Keyed hashes of user, stored hash and right password.
    known: HashSet<[u8; 16]>,
    failed: HashMap<IpNet, Failed>,
}

struct Failed {
    times: u32,
    since: Instant,
}

impl Logins {
    pub(crate) fn new() -> Self {
        let mut key = [0; 16];
        // A kernel that has none yet does not wait here; a key that is guessed is of no use without our memory.
        let _ = getrandom(&mut key, GetRandomFlags::NONBLOCK);
        Self {
            key,
            // The relays have the other half.
            most_hashing: available_parallelism().map_or(1, |cores| cores.get().div_ceil(2)),
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// Whether this is the user's password. Waits for its turn until `deadline`.
    pub(crate) fn check(
        &self,
        users: &Users,
        credentials: &Credentials<'_>,
        from: IpNet,
        patience: Patience,
        deadline: Instant,
    ) -> Result<bool, Unjudged> {
        let is_right = match users.hash(credentials.user()) {
            // Before anything is compared: whoever guesses must not learn that a guess was right.
            None => {
                self.state.lock().may_try(from, patience)?;
                users.has_plain(credentials)
            }
            Some(hash) => {
                let name = self.name(credentials, hash);
                let turn = self.take_turn(&name, from, patience, deadline)?;
                let is_hashs = turn.is_none() || hash.is_of(credentials.password())?;
                // The hash that stands for an unknown user costs as much as one, and is nobody's.
                let is_right =
                    (is_hashs & users.has_hashed(credentials)) | users.has_plain(credentials);
                if is_right && turn.is_some() {
                    self.state.lock().remember(name);
                }
                is_right
            }
        };
        if !is_right {
            self.state.lock().failed(from, patience);
        }
        Ok(is_right)
    }

    /// Waits for the right to compute a hash; `None` if none has to be, since the password is known.
    fn take_turn(
        &self,
        name: &[u8; 16],
        from: IpNet,
        patience: Patience,
        deadline: Instant,
    ) -> Result<Option<Turn<'_>>, Unjudged> {
        let mut state = self.state.lock();
        loop {
            state.may_try(from, patience)?;
            if state.known.contains(name) {
                return Ok(None);
            }
            if state.hashing < self.most_hashing {
                state.hashing = state.hashing.saturating_add(1);
                return Ok(Some(Turn(self)));
            }
            if self.changed.wait_until(&mut state, deadline).timed_out() {
                return Err(Unjudged::Busy);
            }
        }
    }

    /// Under which a right password is remembered. Each part has its length, so that no two are written alike.
    fn name(&self, credentials: &Credentials<'_>, hash: &Hash) -> [u8; 16] {
        let mut hasher = SipHasher24::new_with_key(&self.key);
        let [salt, output] = hash.identity();
        for part in [credentials.user(), salt, output, credentials.password()] {
            hasher.write_usize(part.len());
            hasher.write(part);
        }
        hasher.finish128().as_bytes()
    }
}

/// The right to compute a hash.
struct Turn<'a>(&'a Logins);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.hashing = state.hashing.saturating_sub(1);
        drop(state);
        // All of them: those who wait with the same password need no turn any more.
        self.0.changed.notify_all();
    }
}

impl State {
    fn may_try(&mut self, from: IpNet, patience: Patience) -> Result<(), Unjudged> {
        let Some(failed) = self.failed.get(&from) else {
            return Ok(());
        };
        if failed.since.elapsed() >= patience.within {
            self.failed.remove(&from);
            return Ok(());
        }
        if patience.failures > 0 && failed.times >= patience.failures {
            return Err(Unjudged::TooManyFailures);
        }
        Ok(())
    }

    fn failed(&mut self, from: IpNet, patience: Patience) {
        if patience.failures == 0 {
            return;
        }
        if self.failed.len() >= MOST_ADDRESSES && !self.failed.contains_key(&from) {
            self.failed
                .retain(|_, failed| failed.since.elapsed() < patience.within);
        }
        if self.failed.len() >= MOST_ADDRESSES && !self.failed.contains_key(&from) {
            let first = self.failed.iter().min_by_key(|(_, failed)| failed.since);
            if let Some(first) = first.map(|(from, _)| *from) {
                self.failed.remove(&first);
            }
        }
        let since = Instant::now();
        let failed = self
            .failed
            .entry(from)
            .or_insert(Failed { times: 0, since });
        failed.times = failed.times.saturating_add(1);
    }

    fn remember(&mut self, name: [u8; 16]) {
        if self.known.len() >= MOST_KNOWN {
            self.known.clear();
        }
        self.known.insert(name);
    }
}

/// Says how many, never who or what.
impl fmt::Debug for Logins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.lock();
        f.debug_struct("Logins")
            .field("hashing", &state.hashing)
            .field("known", &state.known.len())
            .field("failed", &state.failed.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience {
        failures: 3,
        within: Duration::from_secs(600),
    };

    fn check(
        logins: &Logins,
        users: &Users,
        password: &[u8],
        from: &str,
    ) -> Result<bool, Unjudged> {
        let credentials = Credentials::new(b"alice", password).unwrap();
        let soon = Instant::now().checked_add(Duration::from_secs(10)).unwrap();
        logins.check(users, &credentials, from.parse().unwrap(), PATIENCE, soon)
    }

    fn hashed(password: &[u8]) -> Users {
        let hash = Hash::of(password).unwrap().text();
        Users::from_lines(format!("alice:{hash}").as_bytes()).unwrap()
    }

    #[test]
    fn a_right_password_is_known_again_until_it_is_changed() {
        let (logins, users) = (Logins::new(), hashed(b"s3cret"));
        for _ in 0..3 {
            assert_eq!(check(&logins, &users, b"s3cret", "192.0.2.1/32"), Ok(true));
        }
        assert_eq!(logins.state.lock().known.len(), 1);
        let changed = hashed(b"other");
        assert_eq!(
            check(&logins, &changed, b"s3cret", "192.0.2.1/32"),
            Ok(false)
        );
        assert_eq!(check(&logins, &changed, b"other", "192.0.2.1/32"), Ok(true));
    }

    #[test]
    fn an_address_that_failed_too_often_is_refused_even_what_is_known() {
        let logins = Logins::new();
        for users in [
            hashed(b"s3cret"),
            Users::from_lines(b"alice:s3cret").unwrap(),
        ] {
            *logins.state.lock() = State::default();
            let (bad, good) = ("192.0.2.1/32", "192.0.2.2/32");
            assert_eq!(check(&logins, &users, b"s3cret", bad), Ok(true));
            for _ in 0..3 {
                assert_eq!(check(&logins, &users, b"guess", bad), Ok(false));
            }
            let refused = Err(Unjudged::TooManyFailures);
            assert_eq!(check(&logins, &users, b"s3cret", bad), refused);
            assert_eq!(check(&logins, &users, b"s3cret", good), Ok(true));
        }
    }

    #[test]
    fn whoever_waits_for_a_turn_gives_up_at_the_deadline() {
        let (mut logins, users) = (Logins::new(), hashed(b"s3cret"));
        logins.most_hashing = 0;
        let credentials = Credentials::new(b"alice", b"s3cret").unwrap();
        let from = "192.0.2.1/32".parse().unwrap();
        let judged = logins.check(&users, &credentials, from, PATIENCE, Instant::now());
        assert_eq!(judged, Err(Unjudged::Busy));
    }

    #[test]
    fn a_crowd_of_addresses_takes_no_more_memory_than_is_set_aside() {
        let mut state = State::default();
        for number in 0..MOST_ADDRESSES + 100 {
            let ip = std::net::Ipv4Addr::from(u32::try_from(number).unwrap());
            state.failed(IpNet::from(std::net::IpAddr::V4(ip)), PATIENCE);
        }
        assert_eq!(state.failed.len(), MOST_ADDRESSES);
    }

    #[test]
    fn an_address_is_forgiven_when_its_time_is_over() {
        let mut state = State::default();
        let from = "192.0.2.1/32".parse().unwrap();
        let at_once = Patience {
            failures: 1,
            within: Duration::ZERO,
        };
        state.failed(from, at_once);
        assert_eq!(state.may_try(from, at_once), Ok(()));
        assert!(state.failed.is_empty());
    }
}
