//! The table among processes: fork, exec, kill -9, full disks, hostile files.
//!
//! A test that wants another *program* runs this binary again, as `helper` below with a role; one that wants a copy of
//! itself forks.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::exit,
    reason = "tests: a failure is what these would be"
)]

mod foreign;
mod full;
mod killed;
mod scribbled;
mod sharing;
mod support;

/// Not a test: what the other processes of the tests run. Without a role it does nothing.
#[test]
fn helper() {
    match support::role().as_deref() {
        None => {}
        Some("register") => sharing::register_as_told(),
        Some("fill-disk") => full::fill_the_disk(),
        Some("old-kernel") => full::live_without_populate(),
        Some("open") => foreign::open_as_told(),
        Some(other) => panic!("no such role: {other}"),
    }
}
