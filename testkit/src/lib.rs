//! What the system tests stand on: namespaces without a route, servers to reach, programs to watch, peers that misbehave.
//! What is promised and proved is in `tests`; nothing here ships.
//!
//! Everything panics with the reason: that is the message of the test that asked for it. Every wait has a bound.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::missing_panics_doc,
    reason = "a tool of the tests: a panic is the failing test's message"
)]

mod artefacts;
mod distance;
mod dns;
mod fleet;
mod gateway;
mod git;
mod netns;
mod origin;
mod peer;
mod process;
mod skip;
mod socks;
mod ssh;
mod topology;
mod victim;
mod wait;

pub use artefacts::{
    Artefacts, artefacts, c_program, c_program_with, panicking_shim, repository_root, scratch,
};
pub use distance::Distance;
pub use dns::{DnsServer, Zone};
pub use fleet::Fleet;
pub use gateway::{Gateway, GatewayOptions};
pub use git::{git_daemon, repository};
pub use netns::Namespace;
pub use origin::{Origin, PAYLOAD_OCTETS, payload, sha256};
pub use peer::{Act, Peer};
pub use process::Service;
pub use skip::{has_tool, may_have_namespaces, skipped};
pub use socks::{StrangerGateway, danted, microsocks, ssh_dynamic};
pub use ssh::Sshd;
pub use topology::{Families, Family, HOLE, Links, NOWHERE, SERVER, Topology};
pub use victim::{Ending, Outcome, RunningVictim, Shim, Victim};
pub use wait::until;
