//! Waiting for something to become true, never for ever.

use std::thread::sleep;
use std::time::{Duration, Instant};

/// Asks `ready` every few milliseconds until it gives a value.
///
/// Panics with `what` once `limit` has passed.
pub fn until<T>(limit: Duration, what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = ready() {
            return value;
        }
        assert!(start.elapsed() < limit, "{what}: not within {limit:?}");
        sleep(Duration::from_millis(5));
    }
}
