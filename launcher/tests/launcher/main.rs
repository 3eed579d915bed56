//! The `socks6` command as its user meets it, with a library that does nothing in the shim's place
//! and a shell script in the gateway's: whether the two work is not the launcher's business.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test ends where its expectations do"
)]

mod audit;
mod check;
mod installation;
mod private;
mod run;
mod terminal;
