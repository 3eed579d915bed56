//! A launcher that is itself started within a run: `socks6 shell`, and there `socks6 run`.

use std::env;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{self, Command};

use crate::library;

/// The process that has been here before: the outer shim's own exec hook may put it back.
pub(crate) const MARK: &str = "SOCKS6_LAUNCHER";

/// Gets this process out of the shim of an outer run, by executing the launcher anew without it:
/// the gateway's name must not become a fake address, nor the gateway be looked for behind another
/// one. Returns where that is not necessary, or not possible.
pub(crate) fn leave() {
    let preload = env::var_os("LD_PRELOAD");
    let is_shim = |name: &&[u8]| {
        let file = Path::new(OsStr::from_bytes(name)).file_name();
        file == Some(OsStr::new(library::NAME))
    };
    let own = process::id().to_string();
    if !library::names(preload.as_deref()).any(|name| is_shim(&name))
        || env::var_os(MARK).is_some_and(|mark| mark == own.as_str())
    {
        return;
    }
    let others: Vec<&[u8]> = library::names(preload.as_deref())
        .filter(|name| !is_shim(name))
        .collect();
    let mut arguments = env::args_os();
    let mut launcher = Command::new("/proc/self/exe");
    launcher
        .arg0(arguments.next().unwrap_or_else(|| "socks6".into()))
        .args(arguments)
        .env("LD_PRELOAD", OsStr::from_bytes(&others.join(&b':')))
        .env(MARK, own);
    let _failed = launcher.exec();
}
