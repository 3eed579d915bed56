//! The gate round every verdict: errno kept, panic contained, the child of vfork recognised.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::start::{self, Start};
use crate::state::State;
use crate::sys::{cancel, errno};

/// Runs `decide` on the shim's state.
///
/// `starting` is the answer while this thread is still building the state (libc's own look-up of the
/// gateway's name may come through here); `broken` the one after a panic, and when no state could be
/// built: it fails the call wherever passing it could leak (docs/hooks.md, "After a panic").
///
/// pthread_cancel cannot unwind through `catch_unwind`: it is disabled in here, where nothing waits, and
/// libc's own functions, which do, are called outside.
pub(crate) fn enter<T>(starting: T, broken: T, decide: impl FnOnce(&'static State) -> T) -> T {
    let saved = errno::get();
    let cancel_state = cancel::disable();
    let verdict = catch_unwind(AssertUnwindSafe(|| {
        #[cfg(feature = "panic-on-purpose")]
        crate::on_purpose::panic_if_told();
        match start::state() {
            Start::Ready(state) => Some(decide(state)),
            Start::Starting => Some(starting),
            Start::Failed => None,
        }
    }));
    errno::set(saved);
    cancel::restore(cancel_state);
    verdict.ok().flatten().unwrap_or(broken)
}
