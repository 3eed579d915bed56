//! What the system promises, on real programs in network namespaces; a module per promise.
//!
//! No test touches the host's own network. One that cannot run here says `skipped`, and fails in CI.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "these are tests"
)]

mod bad_gateways;
mod chains;
mod clients;
mod dns;
mod errors;
mod failover;
mod families;
mod four_cases;
mod launcher;
mod names;
mod outgoing;
mod panics;
mod processes;
mod roundtrip;
mod rules;
mod scale_out;
mod signals;
mod storm;
mod strangers;
mod table;
mod tools;
mod verify;
