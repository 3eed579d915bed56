//! Creates, attaches to and maps the table's file; this crate's only unsafe code and only system calls.
//!
//! All calls are raw ones by way of rustix: libc's names may be hooked by the very library that this runs in, so
//! neither `std::fs` nor the close of a standard `OwnedFd` will do.
#![expect(
    unsafe_code,
    reason = "maps a file that other processes write, as atomics"
)]

use core::ffi::{CStr, c_void};
use core::mem::ManuallyDrop;
use core::ptr::{self, NonNull};
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, FallocateFlags, FileType, Mode, OFlags, RenameFlags, Stat};
use rustix::io::{Errno, retry_on_intr};
use rustix::mm::{Advice, MapFlags, ProtFlags};
use rustix::process::Resource;
use rustix::rand::GetRandomFlags;

use crate::connections;
use crate::error::{Foreign, TableError};
use crate::key::Key;
use crate::layout::{self, Counters, HEADER_OCTETS, Layout};
use crate::pool::Pool;
use crate::record::Record;
use crate::slot::Slot;

/// Attaches to the table at `path`, making it first if nothing is there.
pub(crate) fn open(path: &Path, pool: &Pool) -> Result<(Mapping, Key), TableError> {
    let path = c_string(path)?;
    // Each turn, somebody else has made or removed the file since we looked. That cannot go on for long.
    for _turn in 0..16 {
        match open_file(&path, OFlags::RDWR) {
            Ok(file) => match attach(&file, pool) {
                // Removed between these two calls.
                Err(TableError::Foreign {
                    why: Foreign::Links(0),
                }) => {}
                done => return done,
            },
            Err(Errno::NOENT) => {}
            Err(Errno::LOOP | Errno::ISDIR | Errno::NXIO) => return Err(Foreign::Kind.into()),
            Err(other) => return Err(other.into()),
        }
        match create(&path, pool) {
            Ok(()) | Err(TableError::Io(Errno::EXIST)) => {}
            Err(error) => return Err(error),
        }
    }
    Err(Errno::EXIST.into())
}

/// Checks all that can be checked of a file, and maps it.
fn attach(file: &File, pool: &Pool) -> Result<(Mapping, Key), TableError> {
    let stat = rustix::fs::fstat(file)?;
    check_stat(&stat)?;

    let expected = Layout::new(pool).size();
    let found = u64::try_from(stat.st_size).unwrap_or(0);
    let wrong_size = Foreign::Size {
        found,
        expected: expected as u64,
    };
    let mut header = [0; HEADER_OCTETS];
    if retry_on_intr(|| rustix::io::pread(file, &mut header[..], 0))? != HEADER_OCTETS {
        return Err(wrong_size.into());
    }
    // The header first: that other ranges make another size is better called by its name.
    let key = layout::check(&header, pool)?;
    if found != expected as u64 {
        return Err(wrong_size.into());
    }
    Ok((Mapping::of_file(file, expected)?, key))
}

fn check_stat(stat: &Stat) -> Result<(), Foreign> {
    let mode = stat.st_mode & 0o7777;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        Err(Foreign::Kind)
    } else if stat.st_uid != user() {
        Err(Foreign::Owner(stat.st_uid))
    } else if mode != 0o600 {
        Err(Foreign::Mode(mode))
    } else if stat.st_nlink != 1 {
        #[allow(clippy::useless_conversion, reason = "u32 on some architectures")]
        Err(Foreign::Links(u64::from(stat.st_nlink)))
    } else {
        Ok(())
    }
}

/// Makes a whole table under another name, then gives it its own: whoever is killed on the way leaves at most a stray
/// file, never a half table under the true name. `EXIST` if somebody else was faster.
fn create(path: &CStr, pool: &Pool) -> Result<(), TableError> {
    let size = Layout::new(pool).size() as u64;
    // Past this limit the kernel does not only refuse, it sends SIGXFSZ.
    if rustix::process::getrlimit(Resource::Fsize)
        .current
        .is_some_and(|limit| limit < size)
    {
        return Err(Errno::FBIG.into());
    }
    let nonce = u64::from_ne_bytes(random()?);
    let new = CString::new([path.to_bytes(), format!(".{nonce:016x}.new").as_bytes()].concat())
        .map_err(|_no_nul_in_it| Errno::INVAL)?;
    let file = open_file(&new, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL)?;
    let done = fill(&file, size, pool).and_then(|()| {
        rustix::fs::renameat_with(CWD, &*new, CWD, path, RenameFlags::NOREPLACE)?;
        Ok(())
    });
    if done.is_err() {
        let _already_gone = rustix::fs::unlinkat(CWD, &*new, AtFlags::empty());
    }
    done
}

fn fill(file: &File, size: u64, pool: &Pool) -> Result<(), TableError> {
    // The umask, which is the application's, may have taken bits away.
    rustix::fs::fchmod(file, Mode::RUSR | Mode::WUSR)?;
    rustix::fs::ftruncate(file, size)?;
    let header = layout::header(pool, &random_key()?);
    // By write, which says ENOSPC; a store into the mapping would be SIGBUS.
    if retry_on_intr(|| rustix::io::pwrite(file, &header, 0))? != HEADER_OCTETS {
        return Err(TableError::NoSpace);
    }
    Ok(())
}

/// Makes the folder, closed to others; one that is there already must be so.
pub(crate) fn make_private_folder(path: &Path) -> Result<(), TableError> {
    // Nobody else may move what is ours: its parent is ours alone to write, or as /tmp is. With sudo,
    // $XDG_RUNTIME_DIR may be another user's: a folder of root's there would shut that user out.
    let parent = path.parent().ok_or(Foreign::Folder)?;
    let stat = rustix::fs::stat(&*c_string(parent)?)?;
    let is_ours = stat.st_uid == user() && stat.st_mode & 0o022 == 0;
    let is_sticky = stat.st_mode & 0o1000 != 0;
    if !is_ours && !is_sticky {
        return Err(Foreign::Folder.into());
    }
    let path = c_string(path)?;
    match rustix::fs::mkdirat(CWD, &*path, Mode::RWXU) {
        Ok(()) => rustix::fs::chmodat(CWD, &*path, Mode::RWXU, AtFlags::empty())?,
        Err(Errno::EXIST) => {}
        Err(other) => return Err(other.into()),
    }
    let stat = rustix::fs::statat(CWD, &*path, AtFlags::SYMLINK_NOFOLLOW)?;
    let is_folder = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    if is_folder && stat.st_uid == user() && stat.st_mode & 0o077 == 0 {
        Ok(())
    } else {
        Err(Foreign::Folder.into())
    }
}

/// Whose files we make, and so whose files we trust.
pub(crate) fn user() -> u32 {
    rustix::process::geteuid().as_raw()
}

pub(crate) fn random_key() -> Result<Key, TableError> {
    Ok(Key::from_bytes(random()?))
}

fn random<const N: usize>() -> Result<[u8; N], TableError> {
    let mut octets = [0; N];
    // Never waits, not even early in a boot; kernels before 5.6 know only the other flag for that.
    let mut flags = GetRandomFlags::INSECURE;
    loop {
        match rustix::rand::getrandom(&mut octets[..], flags) {
            Ok(len) if len == N => return Ok(octets),
            Ok(_) | Err(Errno::INTR) => {}
            Err(Errno::INVAL) if flags != GetRandomFlags::NONBLOCK => {
                flags = GetRandomFlags::NONBLOCK;
            }
            Err(other) => return Err(other.into()),
        }
    }
}

/// What tells one boot from another; the same in all containers of a host. Empty where /proc is missing: such a
/// process has connections of its own only.
pub(crate) fn boot_id() -> [u8; 36] {
    let mut id = [0; 36];
    if let Ok(file) = open_file(c"/proc/sys/kernel/random/boot_id", OFlags::RDONLY) {
        let _as_if_missing = rustix::io::read(&file, &mut id[..]);
    }
    id
}

fn c_string(path: &Path) -> Result<CString, Errno> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_nul_in_path| Errno::INVAL)
}

/// NONBLOCK and NOCTTY for whatever else may lie there: a pipe without a writer, a terminal.
fn open_file(path: &CStr, flags: OFlags) -> Result<File, Errno> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let fd = retry_on_intr(|| rustix::fs::openat(CWD, path, flags, Mode::RUSR | Mode::WUSR))?;
    Ok(File(ManuallyDrop::new(fd)))
}

/// A descriptor that is closed by system call, where `OwnedFd` would call libc's `close`, which may be a hook.
struct File(ManuallyDrop<OwnedFd>);

impl AsFd for File {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        // SAFETY: `ManuallyDrop` keeps `OwnedFd` from closing it, so this is the one close, and nothing uses it after.
        unsafe { rustix::io::close(self.0.as_raw_fd()) };
    }
}

/// Types that shared memory can be seen as.
///
/// # Safety
/// Made of atomic integers only, with every pattern of bits valid: other processes write them at any time.
pub(crate) unsafe trait Shared {}

// SAFETY: one AtomicU64, transparent.
unsafe impl Shared for Slot {}
// SAFETY: an AtomicU32 and AtomicU64s, repr(C).
unsafe impl Shared for Record {}
// SAFETY: AtomicU64s, repr(C).
unsafe impl Shared for connections::Row {}
// SAFETY: AtomicU64s in lines of repr(C).
unsafe impl Shared for Counters {}

/// The table in memory: MAP_SHARED, so that fork changes nothing.
///
/// The file has holes, and the first access to one, a read included, takes a page of the file system: on a full one
/// that is SIGBUS. So nothing is handed out before the kernel has said that its page is there.
#[derive(Debug)]
pub(crate) struct Mapping {
    start: NonNull<u8>,
    len: usize,
    page_bits: u32,
    /// A bit for each page that is known to be there. It belongs to the process: a child of fork has a copy, which is
    /// as true, since a page that was there once stays.
    present: Box<[AtomicU64]>,
    /// The kernel is older than MADV_POPULATE_WRITE (5.14), and all pages were made when the table was opened.
    is_whole: bool,
}

// SAFETY: the memory belongs to no thread, and all that is given out of it is atomic (`Shared`).
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Memory that only this process and its forks know of.
    pub(crate) fn private(len: usize) -> Result<Self, TableError> {
        // SAFETY: a new mapping, where the kernel likes; nothing refers to it yet.
        let start = unsafe { rustix::mm::mmap_anonymous(ptr::null_mut(), len, PROTECTION, FLAGS)? };
        let mut mapping = Self::new(start, len)?;
        // An older kernel has no way to ask for pages of such memory. There is no file system to be full, either.
        mapping.is_whole = !mapping.can_populate()?;
        Ok(mapping)
    }

    fn of_file(file: &File, len: usize) -> Result<Self, TableError> {
        // SAFETY: a new mapping, where the kernel likes; nothing refers to it yet.
        let start = unsafe { rustix::mm::mmap(ptr::null_mut(), len, PROTECTION, FLAGS, file, 0)? };
        let mut mapping = Self::new(start, len)?;
        if !mapping.can_populate()? {
            rustix::fs::fallocate(file, FallocateFlags::empty(), 0, len as u64)?;
            mapping.is_whole = true;
        }
        Ok(mapping)
    }

    fn new(start: *mut c_void, len: usize) -> Result<Self, TableError> {
        let start = NonNull::new(start.cast()).ok_or(Errno::NOMEM)?;
        let page_bits = rustix::param::page_size().trailing_zeros();
        let words = (len >> page_bits).checked_shr(u64::BITS.trailing_zeros());
        let present = (0..=words.unwrap_or(0))
            .map(|_| AtomicU64::new(0))
            .collect();
        let mapping = Self {
            start,
            len,
            page_bits,
            present,
            is_whole: false,
        };
        // A core dump would otherwise make every page of it present, to dump it.
        let _only_larger = mapping.advise(0, len, Advice::LinuxDontDump);
        Ok(mapping)
    }

    fn can_populate(&self) -> Result<bool, TableError> {
        match self.make_present(0) {
            Err(TableError::Io(Errno::INVAL)) => Ok(false),
            made => made.map(|()| true),
        }
    }

    /// The part of the table at this offset, with its pages made present.
    pub(crate) fn at<T: Shared>(&self, offset: usize) -> Result<&T, TableError> {
        let last = offset.saturating_add(size_of::<T>()).saturating_sub(1);
        if last >= self.len || !offset.is_multiple_of(align_of::<T>()) {
            return Err(Errno::FAULT.into());
        }
        for page in offset >> self.page_bits..=last >> self.page_bits {
            self.make_present(page)?;
        }
        // SAFETY: in bounds and aligned, as checked above (a mapping starts at a page), and mapped for as long as
        // `self` lives. `Shared` says that any content will do and that it may change meanwhile.
        Ok(unsafe { self.start.byte_add(offset).cast().as_ref() })
    }

    /// Once for each page and process, so that all further accesses cost one load.
    fn make_present(&self, page: usize) -> Result<(), TableError> {
        let bit = 1u64.wrapping_shl(u32::try_from(page % 64).unwrap_or_default());
        let word = self.present.get(page / 64).ok_or(Errno::FAULT)?;
        if self.is_whole || word.load(Relaxed) & bit != 0 {
            return Ok(());
        }
        let at = page << self.page_bits;
        let populate = || self.advise(at, 1 << self.page_bits, Advice::LinuxPopulateWrite);
        match retry_on_intr(populate) {
            Ok(()) => {
                word.fetch_or(bit, Relaxed);
                Ok(())
            }
            // FAULT is what the kernel makes of a SIGBUS to be.
            Err(Errno::FAULT | Errno::NOMEM) => Err(TableError::NoSpace),
            Err(other) => Err(other.into()),
        }
    }

    fn advise(&self, at: usize, len: usize, advice: Advice) -> Result<(), Errno> {
        // SAFETY: at most the mapping's own pages, and neither advice takes content away.
        unsafe { rustix::mm::madvise(self.start.byte_add(at).as_ptr().cast(), len, advice) }
    }
}

const PROTECTION: ProtFlags = ProtFlags::READ.union(ProtFlags::WRITE);
/// NORESERVE: most of it is never used.
const FLAGS: MapFlags = MapFlags::SHARED.union(MapFlags::NORESERVE);

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: whatever `at` gave out has borrowed `self`, so nothing refers to the memory any more.
        let _cannot_fail = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::path::PathBuf;

    use super::*;

    /// A folder of ours, with one for the test in it, as $XDG_RUNTIME_DIR would be.
    fn runtime_dir(purpose: &str) -> PathBuf {
        let name = format!("fake-dns-{purpose}-{}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        fs::create_dir(&dir).expect("a new folder");
        dir
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("there").permissions().mode() & 0o777
    }

    #[test]
    fn a_folder_is_made_for_its_user_alone_and_used_again() {
        let dir = runtime_dir("made");
        let folder = dir.join("socks6");
        for _time in 0..2 {
            assert_eq!(make_private_folder(&folder), Ok(()));
            assert_eq!(mode(&folder), 0o700);
        }
        fs::remove_dir_all(dir).expect("ours");
    }

    #[test]
    fn a_folder_that_others_have_a_hand_in_is_refused_as_it_is() {
        let dir = runtime_dir("refused");
        let refused = Err(TableError::Foreign {
            why: Foreign::Folder,
        });
        let [open, link, file] = ["open", "link", "file"].map(|name| dir.join(name));
        fs::create_dir(&open).expect("new");
        fs::set_permissions(&open, Permissions::from_mode(0o755)).expect("ours");
        symlink(&dir, &link).expect("new");
        fs::write(&file, b"").expect("new");
        for folder in [&open, &link, &file] {
            assert_eq!(make_private_folder(folder), refused, "{folder:?}");
        }
        assert_eq!(mode(&open), 0o755);
        assert_eq!(make_private_folder(Path::new("/")), refused);
        fs::set_permissions(&dir, Permissions::from_mode(0o770)).expect("ours");
        assert_eq!(
            make_private_folder(&dir.join("new")),
            refused,
            "others may write beside it"
        );
        fs::set_permissions(&dir, Permissions::from_mode(0o700)).expect("ours");
        let missing = make_private_folder(&dir.join("missing/socks6"));
        assert_eq!(missing, Err(TableError::Io(Errno::NOENT)));
        fs::remove_dir_all(dir).expect("ours");
    }

    /// Root with $XDG_RUNTIME_DIR of another user, as `sudo -E` makes it.
    #[test]
    fn no_folder_is_made_in_a_folder_of_another_user() {
        let dir = runtime_dir("foreign");
        if std::os::unix::fs::chown(&dir, Some(12345), None).is_err() {
            return testkit::skipped("only root can give a folder away");
        }
        let folder = dir.join("socks6");
        assert_eq!(make_private_folder(&folder), Err(Foreign::Folder.into()));
        // Where others cannot move what is not theirs, it is as safe as in /tmp.
        fs::set_permissions(&dir, Permissions::from_mode(0o1777)).expect("root may");
        assert_eq!(make_private_folder(&folder), Ok(()));
        fs::remove_dir_all(dir).expect("root may");
    }

    #[test]
    fn two_boots_and_two_keys_differ() {
        assert_eq!(boot_id(), boot_id());
        assert_ne!(boot_id(), [0; 36]);
        assert!(random_key().expect("random") != random_key().expect("random"));
    }

    #[test]
    fn nothing_outside_of_the_mapping_is_given_out() {
        let mapping = Mapping::private(10_000).expect("memory");
        assert!(mapping.at::<Slot>(10_000 - 8).is_ok());
        for outside in [10_000 - 7, 10_000, 4, usize::MAX - 7, usize::MAX] {
            assert_eq!(
                mapping.at::<Slot>(outside).err(),
                Some(Errno::FAULT.into()),
                "{outside}"
            );
        }
    }

    #[test]
    fn a_record_over_the_border_of_two_pages_has_both() {
        let mapping = Mapping::private(1 << 20).expect("memory");
        let page = 1 << mapping.page_bits;
        let present = |page: usize| {
            mapping.is_whole || mapping.present[page / 64].load(Relaxed) >> (page % 64) & 1 == 1
        };
        assert!(mapping.is_whole || !present(9) && !present(10));
        mapping.at::<Record>(10 * page - 8).expect("in bounds");
        assert!(present(9) && present(10));
        assert!(mapping.is_whole || !present(11));
    }
}
