//! Panics in the gate, to order: tests/panics.rs builds this in, and nothing that ships has it.

use std::sync::atomic::{AtomicI32, Ordering};

/// Which passage through the gate panics: the n-th from now, once; below zero every one; at zero none. The program under
/// test finds it by dlsym(3), sets it, and sees by what is left whether there was a panic.
#[unsafe(no_mangle)]
static socks6_panics: AtomicI32 = AtomicI32::new(0);

#[expect(clippy::panic, reason = "what it is for")]
pub(crate) fn panic_if_told() {
    let count = |left: i32| (left != 0).then(|| left.saturating_sub(1));
    let told = socks6_panics.fetch_update(Ordering::Relaxed, Ordering::Relaxed, count);
    if told.is_ok_and(|left| left == 1 || left < 0) {
        panic!("on purpose");
    }
}
