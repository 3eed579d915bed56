//! The user's own folder for what lives no longer than the system is up: flat files for the shim
//! and what a private gateway needs. It is the folder of the mapping table too.

use std::env;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process;

use rustix::process::getuid;

use crate::error::LaunchError;

/// A folder that only this user can enter.
#[derive(Debug)]
pub(crate) struct RuntimeDir(PathBuf);

impl RuntimeDir {
    /// The first of the places that can be had, made if need be.
    ///
    /// # Errors
    /// What was wrong with the last of them.
    pub(crate) fn open() -> Result<Self, LaunchError> {
        let xdg = env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
        let mut last = io::ErrorKind::NotFound.into();
        let mut at = PathBuf::new();
        for table in fake_dns::default_paths(getuid().as_raw(), xdg.as_deref()) {
            let Some(folder) = table.parent() else {
                continue;
            };
            match own_folder(folder) {
                Ok(()) => return Ok(Self(folder.to_owned())),
                Err(cause) => (at, last) = (folder.to_owned(), cause),
            }
        }
        Err(LaunchError::File {
            path: at,
            cause: last,
        })
    }

    /// Puts a flat file in place and gives its path.
    ///
    /// It is named by what is in it, so that runs with the same settings share it, and it stays:
    /// a daemon may outlive every process that could remove it, and its children, too, read it at
    /// their start. What stays is one small file for each configuration used since the last boot.
    ///
    /// # Errors
    /// Full disk and the like.
    pub(crate) fn keep_config(&self, text: &str) -> Result<PathBuf, LaunchError> {
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        let path = self.0.join(format!("shim-{:016x}.conf", hasher.finish()));
        // Complete before it is visible: another run may be reading it at this moment.
        let draft = self.0.join(format!("shim.{}", process::id()));
        write_secret(&draft, text)
            .and_then(|()| fs::rename(&draft, &path))
            .map_err(LaunchError::file(&path))?;
        Ok(path)
    }

    /// A new folder for one run.
    ///
    /// # Errors
    /// Full disk and the like.
    pub(crate) fn run_folder(&self) -> Result<PathBuf, LaunchError> {
        let name = random_hex(8).map_err(LaunchError::system("random octets"))?;
        let path = self.0.join(format!("run-{name}"));
        DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(LaunchError::file(&path))?;
        Ok(path)
    }
}

/// Writes a new file that only this user can read.
///
/// # Errors
/// Those of open(2) and write(2).
pub(crate) fn write_secret(path: &Path, text: &str) -> io::Result<()> {
    // Left by a process of the same number that was killed between two lines.
    let _is_new = fs::remove_file(path);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text.as_bytes())
}

/// # Errors
/// If there is no /dev/urandom.
pub(crate) fn random_hex(octets: u64) -> io::Result<String> {
    let mut random = Vec::new();
    File::open("/dev/urandom")?
        .take(octets)
        .read_to_end(&mut random)?;
    Ok(random.iter().map(|octet| format!("{octet:02x}")).collect())
}

/// In /tmp anybody could have been there first; who owns the folder and bars it is safe from then on.
fn own_folder(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let status = fs::symlink_metadata(path)?;
    if !status.is_dir() || status.uid() != getuid().as_raw() || status.mode() & 0o077 != 0 {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "not a folder of this user alone",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
