//! Where the other files of this installation are: the shim and the gateway.

use std::env;
use std::path::{Path, PathBuf};

/// The first file of this name that is in one of the places, which are relative to the folder of
/// the launcher; an empty one is that folder itself. `ARCH` in a place stands for the processor's
/// name, as in Debian's lib folders.
///
/// # Errors
/// In words, where it was looked for.
pub(crate) fn find(name: &str, places: &[&str]) -> Result<PathBuf, String> {
    let launcher = env::current_exe().map_err(|error| format!("/proc/self/exe: {error}"))?;
    let folder = launcher.parent().unwrap_or_else(|| Path::new("/"));
    let found = places
        .iter()
        .map(|place| {
            folder
                .join(place.replace("ARCH", env::consts::ARCH))
                .join(name)
        })
        .find(|path| path.exists());
    found.ok_or_else(|| {
        let places = places
            .iter()
            .filter(|place| !place.is_empty())
            .copied()
            .collect::<Vec<_>>();
        format!(
            "not in {}, nor in {} from there",
            folder.display(),
            places.join(", ")
        )
    })
}
