//! Where libsocks6.so is, and the LD_PRELOAD that names it.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use crate::beside;
use crate::elf::Image;
use crate::error::{LaunchError, words};

pub(crate) const NAME: &str = "libsocks6.so";
/// A build folder, `--prefix`, others' lib folders.
const PLACES: [&str; 4] = ["", "../lib", "../lib/ARCH-linux-gnu", "../lib64"];

/// The shim's file: absolute, of the right kind, and expressible in LD_PRELOAD.
#[derive(Debug, Clone)]
pub(crate) struct Library(PathBuf);

impl Library {
    /// The file named by `named` (SOCKS6_LIB or the configuration), else the one that was installed
    /// with this launcher.
    ///
    /// The loader only warns of a library that it cannot load, and runs the program without it; so
    /// what can be wrong with the file is looked for here.
    ///
    /// # Errors
    /// [`LaunchError::Library`].
    pub(crate) fn find(named: Option<&Path>) -> Result<Self, LaunchError> {
        let path = match named {
            Some(named) => named.to_owned(),
            None => beside::find(NAME, &PLACES).map_err(|error| {
                LaunchError::Library(format!("{error}; SOCKS6_LIB=/PATH/{NAME} says where it is"))
            })?,
        };
        let error = |what: String| LaunchError::Library(format!("{}: {what}", path.display()));
        let absolute = path.canonicalize().map_err(|cause| error(words(&cause)))?;
        let file = File::open(&absolute).map_err(|cause| error(words(&cause)))?;
        let library = Image::read(file).map_err(error)?;
        let own = Image::own().map_err(LaunchError::Library)?;
        if !library.is_shared_object || !library.is_of_kind(&own) {
            return Err(error("not a shared library for this system".into()));
        }
        // Both separate names in LD_PRELOAD, and nothing quotes them (ld.so(8)).
        if absolute
            .as_os_str()
            .as_bytes()
            .iter()
            .any(|octet| b" :".contains(octet))
        {
            return Err(error(
                "LD_PRELOAD cannot name a path with a space or a colon; install it elsewhere"
                    .into(),
            ));
        }
        Ok(Self(absolute))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// LD_PRELOAD with the shim in the first place, before what is there already.
    pub(crate) fn preload(&self, present: Option<&OsStr>) -> OsString {
        let mut value = self.0.clone().into_os_string();
        for other in names(present).filter(|name| *name != self.0.as_os_str().as_bytes()) {
            value.push(":");
            value.push(OsStr::from_bytes(other));
        }
        value
    }
}

/// The libraries that an LD_PRELOAD names.
pub(crate) fn names(preload: Option<&OsStr>) -> impl Iterator<Item = &[u8]> {
    let text = preload.unwrap_or_default().as_bytes();
    text.split(|octet| b" :".contains(octet))
        .filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests;
