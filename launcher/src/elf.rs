//! What an ELF file says about whether LD_PRELOAD reaches the process made of it.
//! Which file that is, and what to do about it, is `program`'s and `run`'s.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use object::read::elf::{FileHeader, ProgramHeader as _};
use object::read::{ReadCache, ReadRef as _};
use object::{Endianness, elf};
use rustix::fs::StatVfsMountFlags;
use rustix::process::{getgid, getuid};

/// EI_CLASS of e_ident.
const CLASS_OFFSET: u64 = 4;
/// The longest PT_INTERP taken: the kernel's own limit.
const INTERPRETER_OCTETS: u64 = 4096;
/// The Go linker writes its build id into a note of a few hundred octets.
const NOTES_OCTETS: u64 = 64 * 1024;
/// Type of the note of owner `Go` that holds the build id.
const GO_BUILD_ID: elf::NoteType = elf::NoteType(4);

/// Why the shim cannot get into a program.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Obstacle {
    #[error("statically linked, so LD_PRELOAD does not reach it")]
    Static,
    #[error("a Go program, which makes its system calls itself, past libsocks6.so")]
    Go,
    #[error("set-user-ID or set-group-ID, and the loader ignores LD_PRELOAD there")]
    SetId,
    #[error("has file capabilities, and the loader ignores LD_PRELOAD there")]
    Capabilities,
    #[error("a {0}-bit program, and libsocks6.so is not")]
    Class(u8),
    #[error("made for another kind of processor (ELF machine {0})")]
    Machine(u16),
    #[error("loaded by {}, not by glibc, which libsocks6.so needs", .0.display())]
    Loader(PathBuf),
    #[error("cannot be looked into ({0}), so it is not known whether LD_PRELOAD reaches it")]
    Unknown(String),
}

impl Obstacle {
    /// What else the user can do.
    pub(crate) const fn alternative(&self) -> &'static str {
        match self {
            Self::Static | Self::Class(_) | Self::Machine(_) | Self::Loader(_) => {
                "Use a build that is linked dynamically against this system's glibc, or the \
                 program's own SOCKS setting"
            }
            Self::Go => {
                "Use its own SOCKS setting: most Go programs read ALL_PROXY=socks5://HOST:PORT"
            }
            Self::SetId => {
                "What it starts can be run under the shim, as in sudo socks6 run -- COMMAND"
            }
            Self::Capabilities => "Run it as root, or a copy of it without them",
            Self::Unknown(_) => "Use a copy that you may read",
        }
    }
}

/// What of an ELF file matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Image {
    pub(crate) is_64: bool,
    is_little_endian: bool,
    machine: u16,
    /// Has an entry point, as opposed to a library without one.
    pub(crate) is_shared_object: bool,
    interpreter: Option<PathBuf>,
    is_go: bool,
}

impl Image {
    /// Reads the headers of a file that begins as an ELF file does.
    ///
    /// # Errors
    /// In words, what is wrong with the file.
    pub(crate) fn read(file: impl Read + Seek) -> Result<Self, String> {
        let data = ReadCache::new(file);
        let parsed = match (&data).read_bytes_at(CLASS_OFFSET, 1) {
            Ok([class]) if elf::FileClass(*class) == elf::ELFCLASS64 => {
                Self::parse::<elf::FileHeader64<Endianness>>(&data)
            }
            _ => Self::parse::<elf::FileHeader32<Endianness>>(&data),
        };
        parsed.map_err(|error| error.to_string())
    }

    /// The launcher itself: of the one kind that runs on this system, as the shim is.
    ///
    /// # Errors
    /// If /proc is not mounted.
    pub(crate) fn own() -> Result<Self, String> {
        let own = File::open("/proc/self/exe").map_err(|error| format!("/proc/self/exe: {error}"));
        Self::read(own?)
    }

    fn parse<Header: FileHeader<Endian = Endianness>>(
        data: &ReadCache<impl Read + Seek>,
    ) -> object::read::Result<Self> {
        let header = Header::parse(data)?;
        let endian = header.endian()?;
        let mut interpreter = None;
        let mut is_go = false;
        for segment in header.program_headers(endian, data)? {
            let (_, len_octets) = segment.file_range(endian);
            match segment.p_type(endian) {
                elf::PT_INTERP if len_octets <= INTERPRETER_OCTETS => {
                    interpreter = segment.interpreter(endian, data)?;
                }
                elf::PT_NOTE if len_octets <= NOTES_OCTETS => {
                    // Other tools' notes may be malformed; a Go build id comes first or not at all.
                    let notes = segment.notes(endian, data)?.into_iter().flatten();
                    is_go |= notes
                        .map_while(Result::ok)
                        .any(|note| note.name() == b"Go" && note.n_type(endian) == GO_BUILD_ID);
                }
                _ => {}
            }
        }
        Ok(Self {
            is_64: header.is_class_64(),
            is_little_endian: header.is_little_endian(),
            machine: header.e_machine(endian).0,
            is_shared_object: header.e_type(endian) == elf::ET_DYN,
            interpreter: interpreter.map(|path| OsStr::from_bytes(path).into()),
            is_go,
        })
    }

    /// Whether both run on the same processor in the same mode.
    pub(crate) fn is_of_kind(&self, other: &Self) -> bool {
        (self.is_64, self.is_little_endian, self.machine)
            == (other.is_64, other.is_little_endian, other.machine)
    }

    /// What keeps the shim, which is of the same kind as `own`, out of this program.
    pub(crate) fn obstacle(&self, own: &Self) -> Option<Obstacle> {
        if self.machine != own.machine || self.is_little_endian != own.is_little_endian {
            // i386 has a number of its own, but what its users know is that it is 32-bit.
            return Some(match (self.is_64, elf::Machine(self.machine)) {
                (false, elf::EM_386 | elf::EM_ARM) => Obstacle::Class(32),
                _ => Obstacle::Machine(self.machine),
            });
        }
        if self.is_64 != own.is_64 {
            return Some(Obstacle::Class(if self.is_64 { 64 } else { 32 }));
        }
        if self.is_go {
            return Some(Obstacle::Go);
        }
        let Some(loader) = &self.interpreter else {
            return Some(Obstacle::Static);
        };
        // ld-linux-x86-64.so.2, ld-linux-aarch64.so.1, ld64.so.2, also in another folder (Nix).
        let name = loader.file_name().unwrap_or_default().as_bytes();
        let is_glibc = [&b"ld-linux"[..], b"ld64.so", b"ld.so"]
            .iter()
            .any(|p| name.starts_with(p));
        (!is_glibc).then(|| Obstacle::Loader(loader.clone()))
    }
}

/// What of the file's mode and attributes makes the loader ignore LD_PRELOAD: those that give a
/// process more rights than its parent has.
///
/// # Errors
/// If the file is not there.
pub(crate) fn privilege(path: &Path) -> io::Result<Option<Obstacle>> {
    let status = path.metadata()?;
    let is_ignored = rustix::thread::no_new_privs()?
        || rustix::fs::statvfs(path)?
            .f_flag
            .contains(StatVfsMountFlags::NOSUID);
    if is_ignored {
        return Ok(None);
    }
    let file = (status.mode(), status.uid(), status.gid());
    if sets_id(file, (getuid().as_raw(), getgid().as_raw())) {
        return Ok(Some(Obstacle::SetId));
    }
    // Root has every capability, and gains none.
    let mut none = [0_u8; 0];
    let has_capabilities = !getuid().is_root()
        && rustix::fs::getxattr(path, "security.capability", &mut none).is_ok_and(|len| len > 0);
    Ok(has_capabilities.then_some(Obstacle::Capabilities))
}

/// Whether a file of this mode, user and group changes these of a process.
const fn sets_id(
    (mode, file_user, file_group): (u32, u32, u32),
    (user, group): (u32, u32),
) -> bool {
    const SET_USER_ID: u32 = 0o4000;
    /// Without the right to execute for the group, the bit means mandatory locking.
    const SET_GROUP_ID: u32 = 0o2010;

    mode & SET_USER_ID != 0 && file_user != user
        || mode & SET_GROUP_ID == SET_GROUP_ID && file_group != group
}

#[cfg(test)]
mod tests;
