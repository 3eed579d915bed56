//! The mapping table of RFC 3089 §3: names and fake addresses, shared by every process of one user.
#![cfg_attr(
    test,
    allow(
        clippy::arithmetic_side_effects,
        clippy::cast_possible_truncation,
        reason = "in a test, an overflow is a failure of the test"
    )
)]

#[cfg(test)]
mod arrays;
mod connections;
mod error;
mod key;
mod layout;
mod name;
mod pool;
mod record;
mod shared;
mod slot;
mod sys;
mod table;

pub use connections::Connection;
pub use error::{Foreign, TableError};
pub use name::Name;
pub use pool::{Family, Ipv4Range, Ipv6Range, MAX_SLOTS, Pool, RangeError, Ranges};
pub use shared::{Table, default_paths};
