//! What can go wrong with the table, by who is at fault.
//! Which errno or EAI code the application sees is `socks-client`'s business.

use rustix::io::Errno;

/// Why the table could not be opened, or a name not be registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TableError {
    /// Every slot at which this name may stand holds another name. Other names may still find room.
    #[error("no slot is left for this name: use a larger range, or a private table for each run")]
    WindowFull,
    /// The file system, or memory, has no room for one more page of the table.
    #[error("no space is left for the table")]
    NoSpace,
    /// There is a file, and it is not a table of ours: it is left as it is and not used.
    #[error("not a table of ours: {why}")]
    Foreign {
        /// What was found.
        why: Foreign,
    },
    /// Empty, longer than 255 octets, or with a NUL.
    #[error("a name has 1 to 255 octets and no NUL")]
    Name,
    /// The kernel said no.
    #[error("{0}")]
    Io(Errno),
}

/// What makes a file, or the folder that it is in, not ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Foreign {
    /// A symbolic link, a folder, a device, a pipe or a socket.
    #[error("not a regular file")]
    Kind,
    /// Of another user.
    #[error("its owner is user {0}")]
    Owner(u32),
    /// Others may read or write it.
    #[error("its mode is {0:04o}, expected 0600")]
    Mode(u32),
    /// It has a second name, so that somebody else may have chosen its content.
    #[error("it has {0} links, expected 1")]
    Links(u64),
    /// Cut short, or not a table at all.
    #[error("its size is {found} octets, expected {expected}")]
    Size {
        /// In octets.
        found: u64,
        /// In octets, from the ranges of the configuration.
        expected: u64,
    },
    /// The first eight octets are not a table's.
    #[error("its magic number is not a table's")]
    Magic,
    /// Another version of this software made it.
    #[error("its version is {0}")]
    Version(u32),
    /// Made for other ranges: the same slot would be another address.
    #[error("it was made for other ranges")]
    Ranges,
    /// The header's check sum is wrong.
    #[error("its header is damaged")]
    Header,
    /// The folder of the table is a symbolic link or no folder, is of another user or open to others, or lies where
    /// others could replace it.
    #[error("its folder is not a private folder of this user")]
    Folder,
}

impl From<Foreign> for TableError {
    fn from(why: Foreign) -> Self {
        Self::Foreign { why }
    }
}

impl From<Errno> for TableError {
    /// A full disk and a full quota are one thing to the application: later may be better.
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::NOSPC | Errno::DQUOT => Self::NoSpace,
            other => Self::Io(other),
        }
    }
}
