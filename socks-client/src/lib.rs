//! What the *Socks Lib* of RFC 3089 §2 decides: plain values in, decisions out.
//!
//! Nothing here makes a system call, reads the environment or the clock, or takes a lock; the
//! shells of `libsocks6.so` fetch the facts and carry the verdicts out. After [`Config`] has been
//! built nothing here allocates either, so that every decision may be taken in a signal handler.
#![forbid(unsafe_code)]

mod candidates;
mod config;
mod connect;
mod direct_names;
mod errno;
mod handshakes;
mod hosts;
mod literal;
mod negotiate;
mod pending;
mod resolve;
mod rules;
mod servers;
mod sockets;
mod twins;

pub use candidates::{Candidate, Candidates, DEAD_TIME, SILENCE_LIMIT};
pub use config::{
    Config, ConfigError, Families, Gateway, GatewayHost, Log, LogLevel, LogTarget, Login, Resolve,
    Secret, TablePlace, Variables,
};
pub use connect::{Kind, Relay, Route, SocketFacts, decide, is_local, reached, relay_to};
pub use direct_names::DirectNames;
pub use errno::{Eai, Errno, HostErrno};
pub use handshakes::{Handshake, Handshakes, Stage, Standing};
pub use hosts::{HostFamilies, Hosts};
pub use literal::{Literal, literal};
pub use negotiate::{Clock, HANDSHAKE_LIMIT, Patience};
pub use pending::Pending;
pub use resolve::{
    Asked, Facts, Plan, Question, Reverse, is_host_name, plan, plan_message, plan_reverse,
};
pub use rules::{Action, Place, Protocol, Rule, Rules};
pub use servers::Servers;
pub use sockets::{ANSWERED, HELD, Prefix, Registration, Row, Sockets, View};
pub use twins::Twins;
