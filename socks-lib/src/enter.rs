//! The gate round every verdict: errno kept, panic contained, the child of vfork recognised.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::start::{self, Start};
use crate::state::State;
use crate::sys::errno;

/// Runs `decide` on the shim's state.
///
/// `starting` is the answer while this thread is still building the state (libc's own look-up of the
/// gateway's name may come through here); `broken` the one after a panic, and when no state could be
/// built: it fails the call, never passes it, since passing could leak.
///
/// Nothing in here waits, so nothing in here is a cancellation point; libc's own functions are called
/// outside, because pthread_cancel cannot unwind through `catch_unwind`.
pub(crate) fn enter<T>(starting: T, broken: T, decide: impl FnOnce(&'static State) -> T) -> T {
    let saved = errno::get();
    let verdict = catch_unwind(AssertUnwindSafe(|| match start::state() {
        Start::Ready(state) => Some(decide(state)),
        Start::Starting => Some(starting),
        Start::Failed => None,
    }));
    errno::set(saved);
    verdict.ok().flatten().unwrap_or(broken)
}
