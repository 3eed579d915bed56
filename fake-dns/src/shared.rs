//! The table as its users see it: in a file of the user's, or in memory for one process and its forks.

use core::fmt;
use core::net::IpAddr;
use core::sync::atomic::Ordering::Relaxed;
use std::path::{Path, PathBuf};

use crate::connections::{self, Connection};
use crate::error::{Foreign, TableError};
use crate::key::Key;
use crate::layout::{Counters, Layout};
use crate::name::Name;
use crate::pool::{Family, Pool, Ranges};
use crate::record::Record;
use crate::slot::Slot;
use crate::sys::{self, Mapping};
use crate::table::{self, Memory};

/// The mapping table of RFC 3089 §3.
///
/// Opening takes heap and system calls. Everything after that is async-signal-safe: no heap, no lock, no libc call,
/// errno untouched; and goes on working in a child after fork.
pub struct Table {
    pool: Pool,
    key: Key,
    /// Cookies start anew with each boot, and a file may outlive one: its rows for connections do not.
    boot_key: Key,
    memory: Mapped,
}

impl Table {
    /// Attaches to the table in the file at `path`, or makes it.
    ///
    /// # Errors
    /// [`TableError::Foreign`] if there is a file that is not a table of this user for these ranges; it is left as it
    /// is. [`TableError::NoSpace`] on a full disk, [`TableError::Io`] for anything else.
    pub fn open(path: &Path, ranges: &Ranges) -> Result<Self, TableError> {
        let pool = Pool::new(ranges);
        let (mapping, key) = sys::open(path, &pool)?;
        Self::new(pool, key, mapping)
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
        let mut wrong = TableError::Foreign {
            why: Foreign::Folder,
        };
        for path in default_paths(sys::user(), xdg_runtime_dir) {
            match path.parent().map(sys::make_private_folder) {
                // Whatever happens in this folder is the answer. To look elsewhere would be to part with the
                // processes that have their table here.
                Some(Ok(())) => return Ok((Self::open(&path, ranges)?, path)),
                Some(Err(error)) => wrong = error,
                None => {}
            }
        }
        Err(wrong)
    }

    /// A table in memory that only this process and its future forks share.
    ///
    /// # Errors
    /// [`TableError::Io`] if the kernel gives no memory or no random key.
    pub fn private(ranges: &Ranges) -> Result<Self, TableError> {
        let pool = Pool::new(ranges);
        let key = sys::random_key()?;
        Self::new(pool, key, Mapping::private(Layout::new(&pool).size())?)
    }

    fn new(pool: Pool, key: Key, mapping: Mapping) -> Result<Self, TableError> {
        let memory = Mapped {
            mapping,
            layout: Layout::new(&pool),
        };
        memory.counters()?;
        Ok(Self {
            pool,
            key,
            boot_key: key.derive(&sys::boot_id()),
            memory,
        })
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
        table::register(&self.memory, &self.key, &Name::new(name)?)
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
        let mut name = Name::EMPTY;
        self.read_name(slot, &mut name).then_some(name)
    }

    /// Makes `name` the one in a slot; false if there is none. For those who have not the stack for a second one.
    #[must_use]
    pub fn read_name(&self, slot: u32, name: &mut Name) -> bool {
        table::name(&self.memory, &self.key, slot, name)
    }

    /// Remembers a connection by its SO_COOKIE.
    ///
    /// # Errors
    /// [`TableError::NoSpace`].
    pub fn remember(&self, cookie: u64, row: Connection) -> Result<(), TableError> {
        connections::remember(&self.memory, &self.boot_key, cookie, &row)
    }

    /// What was remembered under this cookie, unless newer connections have taken its place.
    ///
    /// Before Linux 5.10 a cookie belongs to a network namespace, and another namespace may have it, too.
    pub fn recall(&self, cookie: u64) -> Option<Connection> {
        connections::recall(&self.memory, &self.boot_key, cookie)
    }

    /// Forgets the connection.
    pub fn forget(&self, cookie: u64) {
        connections::forget(&self.memory, &self.boot_key, cookie);
    }

    /// Names in use. One that was registered by a process killed at that very moment may be missing from the count.
    pub fn len(&self) -> u32 {
        let names = self
            .memory
            .counters()
            .map(|counters| counters.names.0.load(Relaxed));
        u32::try_from(names.unwrap_or(0))
            .unwrap_or(u32::MAX)
            .min(self.capacity())
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

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table")
            .field("pool", &self.pool)
            .finish_non_exhaustive()
    }
}

/// The parts of a table in mapped memory.
struct Mapped {
    mapping: Mapping,
    layout: Layout,
}

impl Memory for Mapped {
    fn slots(&self) -> u32 {
        self.layout.slots()
    }

    fn slot(&self, index: u32) -> Result<&Slot, TableError> {
        self.mapping.at(self.layout.slot_at(index))
    }

    fn record(&self, index: u32) -> Result<Option<&Record>, TableError> {
        self.layout
            .record_at(index)
            .map(|at| self.mapping.at(at))
            .transpose()
    }

    fn connection(&self, index: u32) -> Result<&connections::Row, TableError> {
        self.mapping.at(self.layout.connection_at(index))
    }

    fn counters(&self) -> Result<&Counters, TableError> {
        self.mapping.at(Layout::counters_at())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_looked_for_where_the_user_s_files_of_this_boot_are() {
        let paths = |dir: Option<&str>| {
            let paths = default_paths(1000, dir.map(Path::new));
            paths
                .into_iter()
                .map(|path| path.display().to_string())
                .collect::<Vec<_>>()
        };
        let of_user = [
            "/run/user/1000/socks6/table",
            "/dev/shm/socks6-1000/table",
            "/tmp/socks6-1000/table",
        ];
        assert_eq!(paths(None), of_user);
        assert_eq!(paths(Some("relative")), of_user);
        assert_eq!(paths(Some("")), of_user);
        assert_eq!(paths(Some("/xdg"))[0], "/xdg/socks6/table");
        assert_eq!(paths(Some("/xdg"))[1..], of_user);
    }

    #[test]
    fn the_default_table_is_made_with_its_folder_and_found_again() {
        let dir = std::env::temp_dir().join(format!("fake-dns-default-{}", std::process::id()));
        std::fs::create_dir(&dir).expect("new");
        let ranges = Ranges::default();
        let (first, path) = Table::open_default(Some(&dir), &ranges).expect("a table");
        assert_eq!(path, dir.join("socks6/table"));
        let address = first.fake(b"a.example", Family::V4).expect("room");
        let (second, again) = Table::open_default(Some(&dir), &ranges).expect("a table");
        assert_eq!(again, path);
        assert!(
            second
                .lookup(address)
                .is_some_and(|name| name.as_bytes() == b"a.example")
        );
        // A file that is not ours is the answer, and no reason to look elsewhere.
        std::fs::write(&path, b"something else").expect("ours");
        let refused = Table::open_default(Some(&dir), &ranges);
        assert!(matches!(
            refused,
            Err(TableError::Foreign {
                why: Foreign::Size { .. }
            })
        ));
        std::fs::remove_dir_all(dir).expect("ours");
    }

    /// After a boot the kernel counts cookies from the start, and a file on a disk is still there.
    #[test]
    fn a_connection_is_remembered_under_a_key_of_this_boot() {
        let table = Table::private(&Ranges::default()).expect("memory");
        let row = Connection {
            asked: ([198, 18, 0, 1], 80).into(),
            family: Family::V4,
        };
        table.remember(7, row).expect("room");
        assert_eq!(table.recall(7), Some(row));
        assert_eq!(connections::recall(&table.memory, &table.key, 7), None);
    }
}
