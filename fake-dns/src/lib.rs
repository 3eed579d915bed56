//! The mapping table of RFC 3089 §3: names and fake addresses, shared by every process of one user.
//!
//! A program that asks for a name's address is given one that no real host has; when it connects there, the address
//! leads back to the name, in this process or in another one:
//! ```
//! use fake_dns::{Family, Ranges, Table};
//!
//! # fn main() -> Result<(), fake_dns::TableError> {
//! # let folder = std::env::temp_dir().join(format!("fake-dns-example-{}", std::process::id()));
//! # std::fs::create_dir(&folder).unwrap();
//! # let path = folder.join("table");
//! let resolver = Table::open(&path, &Ranges::default())?;
//! let fake = resolver.fake(b"www.example.com", Family::V4)?;
//! assert!(resolver.pool().contains(fake)); // 198.18.0.0/15
//!
//! let connector = Table::open(&path, &Ranges::default())?;
//! let name = connector.lookup(fake).expect("registered above");
//! assert_eq!(name.as_bytes(), b"www.example.com");
//! # std::fs::remove_dir_all(&folder).unwrap();
//! # Ok(())
//! # }
//! ```
//! The table is a sparse file of slots and records, without a lock: a name is written in private and published by one
//! compare-exchange, so that a process may be killed at any moment and leaves nothing to repair. What comes out of the
//! file is checked as if it had come from the network.
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
pub mod dns;
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
