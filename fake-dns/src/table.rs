//! The mapping table: names and fake addresses, shared by every process of one user.

use core::net::IpAddr;
use std::path::{Path, PathBuf};

use crate::connections::Connection;
use crate::error::TableError;
use crate::name::Name;
use crate::pool::{Family, Pool, Ranges};

/// The mapping table of RFC 3089 §3.
///
/// Opening takes heap and system calls. Everything after that is async-signal-safe: no heap, no lock, no libc call,
/// errno untouched; and goes on working in a child after fork.
#[derive(Debug)]
pub struct Table {
    pool: Pool,
}

impl Table {
    /// Attaches to the table in the file at `path`, or makes it.
    ///
    /// # Errors
    /// [`TableError::Foreign`] if there is a file that is not a table of this user for these ranges; it is left as it
    /// is. [`TableError::NoSpace`] on a full disk, [`TableError::Io`] for anything else.
    pub fn open(path: &Path, ranges: &Ranges) -> Result<Self, TableError> {
        todo!("{path:?} {ranges:?}")
    }

    /// Opens the table of this user at the first of [`default_paths`] whose folder can be had, making the folder if
    /// need be.
    ///
    /// # Errors
    /// As [`Table::open`], or what was wrong with the last of the folders.
    pub fn open_default(
        xdg_runtime_dir: Option<&Path>,
        ranges: &Ranges,
    ) -> Result<(Self, PathBuf), TableError> {
        todo!("{xdg_runtime_dir:?} {ranges:?}")
    }

    /// A table in memory that only this process and its future forks share.
    ///
    /// # Errors
    /// [`TableError::Io`] if the kernel gives no memory or no random key.
    pub fn private(ranges: &Ranges) -> Result<Self, TableError> {
        todo!("{ranges:?}")
    }

    /// Which addresses are fake.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// The slot of a name: its own for as long as the file lives, whoever asks.
    ///
    /// # Errors
    /// [`TableError::Name`], [`TableError::WindowFull`], [`TableError::NoSpace`].
    pub fn register(&self, name: &[u8]) -> Result<u32, TableError> {
        todo!("{name:?}")
    }

    /// The fake address of a name in one family.
    ///
    /// # Errors
    /// As [`Table::register`].
    pub fn fake(&self, name: &[u8], family: Family) -> Result<IpAddr, TableError> {
        Ok(self.pool.address(self.register(name)?, family))
    }

    /// The name behind a fake address; none if the address is not fake or nobody has registered it.
    pub fn lookup(&self, address: IpAddr) -> Option<Name> {
        self.name(self.pool.slot_of(address)?)
    }

    /// The name in a slot.
    pub fn name(&self, slot: u32) -> Option<Name> {
        todo!("{slot}")
    }

    /// Remembers a connection by its SO_COOKIE.
    ///
    /// # Errors
    /// [`TableError::NoSpace`].
    pub fn remember(&self, cookie: u64, row: Connection) -> Result<(), TableError> {
        todo!("{cookie} {row:?}")
    }

    /// What was remembered under this cookie, unless newer connections have taken its place.
    pub fn recall(&self, cookie: u64) -> Option<Connection> {
        todo!("{cookie}")
    }

    /// Forgets the connection.
    pub fn forget(&self, cookie: u64) {
        todo!("{cookie}")
    }

    /// Names in use. One that was registered by a process killed at that very moment may be missing from the count.
    pub fn len(&self) -> u32 {
        todo!()
    }

    /// Whether no name is in use.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Slots for names: one less than the pool has, since slot 0 never has a name.
    pub fn capacity(&self) -> u32 {
        self.pool.slots().saturating_sub(1)
    }
}

/// Where the table of a user is looked for when the configuration names no path, best first: in `$XDG_RUNTIME_DIR`,
/// else where that is by convention, else in the folders that are there on every host.
pub fn default_paths(uid: u32, xdg_runtime_dir: Option<&Path>) -> Vec<PathBuf> {
    let of_user = [
        PathBuf::from(format!("/run/user/{uid}/socks6/table")),
        PathBuf::from(format!("/dev/shm/socks6-{uid}/table")),
        PathBuf::from(format!("/tmp/socks6-{uid}/table")),
    ];
    // A relative path would be another file in each working directory.
    let xdg = xdg_runtime_dir
        .filter(|dir| dir.is_absolute())
        .map(|dir| dir.join("socks6/table"));
    xdg.into_iter().chain(of_user).collect()
}
