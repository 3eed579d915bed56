//! The gateway as its clients meet it: octets over loopback, in-process or as the binary.
//! Every wait is bounded, every port the kernel's choice.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "a test's helpers fail by panicking, like the tests themselves"
)]

mod balancers;
mod binary;
mod certificates;
mod chaining;
mod confined;
mod crowding;
mod dialling;
mod documented;
mod early;
mod exhausted;
mod handshake;
mod harness;
mod limits;
mod logging;
mod lookup;
mod managed;
mod naming;
mod quotas;
mod relaying;
mod reloading;
mod ruling;
mod stopping;
mod strangers;
mod tls;
mod tls_peers;
mod upgrading;
mod users;
mod watching;
