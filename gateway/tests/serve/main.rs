//! The gateway as its clients meet it: octets over loopback, in-process or as the binary.
//! Every wait is bounded, every port the kernel's choice.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test's helpers fail by panicking, like the tests themselves"
)]

mod balancers;
mod binary;
mod chaining;
mod confined;
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
mod quotas;
mod relaying;
mod reloading;
mod ruling;
mod stopping;
mod strangers;
mod upgrading;
mod users;
mod watching;
