//! What has to be true of whatever comes: a target takes any octets and panics where it is not. `cargo test` runs each of
//! them on its corpus and on what chance makes of that; `scripts/fuzz` lets libFuzzer look for more, guided by coverage.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a target's way of saying that something is wrong"
)]

mod dns;
mod table;
mod wire;
mod words;

/// A name, which its folder under `corpus/` has too, and what is run.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// What it is called.
    pub name: &'static str,
    /// Panics if something is wrong.
    pub run: fn(&[u8]),
}

/// All of them.
pub const TARGETS: [Target; 14] = [
    target("wire-server", wire::server),
    target("wire-client", wire::client),
    target("wire-messages", wire::messages),
    target("gateway-handshake", gateway::fuzzing::handshake),
    target("gateway-proxy", gateway::fuzzing::proxy),
    target("gateway-config", gateway::fuzzing::config),
    target("gateway-values", gateway::fuzzing::value),
    target("gateway-passwords", gateway::fuzzing::passwords),
    target("names", words::names),
    target("shim-config", launcher::fuzzing::flat),
    target("launcher-config", launcher::fuzzing::settings),
    target("launcher-import", launcher::fuzzing::foreign),
    target("dns", dns::answer),
    target("table", table::attach),
];

const fn target(name: &'static str, run: fn(&[u8])) -> Target {
    Target { name, run }
}

/// The target of this name.
#[must_use]
pub fn find(name: &str) -> Option<Target> {
    TARGETS.into_iter().find(|target| target.name == name)
}
