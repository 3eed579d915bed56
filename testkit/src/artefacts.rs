//! What the tests run: the three binaries, built afresh, and the C victims; and where their by-products go.

use std::collections::HashMap;
use std::env::{current_exe, var_os};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock, PoisonError};

/// The binaries under test.
#[derive(Debug)]
pub struct Artefacts {
    /// libsocks6.so
    pub shim: PathBuf,
    /// socks6-gateway
    pub gateway: PathBuf,
    /// socks6
    pub launcher: PathBuf,
}

/// The release build of the binaries. The first call of a process builds them, as `cargo test` never builds a cdylib for a
/// package that does not link it; `scripts/test`, having just built them, names their folder in `SOCKS6_ARTEFACTS` instead.
pub fn artefacts() -> &'static Artefacts {
    static BUILT: OnceLock<Artefacts> = OnceLock::new();
    BUILT.get_or_init(|| {
        let folder = var_os("SOCKS6_ARTEFACTS").map_or_else(build, PathBuf::from);
        let found = |name| {
            let path = folder.join(name);
            assert!(path.exists(), "{} was not built", path.display());
            path
        };
        Artefacts {
            shim: found("libsocks6.so"),
            gateway: found("socks6-gateway"),
            launcher: found("socks6"),
        }
    })
}

fn build() -> PathBuf {
    let packages = ["-p", "socks-lib", "-p", "socks6-gateway", "-p", "socks6"];
    cargo_build(&[&["--release"], &packages[..]].concat(), &target_dir());
    target_dir().join("release")
}

/// A libsocks6.so that panics when the program says so, in a folder of its own: what ships cannot. `scripts/test` builds it
/// beforehand, as it does the rest.
pub fn panicking_shim() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let folder = target_dir().join("panics");
        let shim = folder.join("debug/libsocks6.so");
        if var_os("SOCKS6_ARTEFACTS").is_none() || !shim.exists() {
            let package = ["-p", "socks-lib", "--features", "panic-on-purpose"];
            cargo_build(&package, &folder);
        }
        shim
    })
}

fn cargo_build(options: &[&str], folder: &Path) {
    let cargo = var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let done = Command::new(cargo)
        .current_dir(repository_root())
        .arg("build")
        .args(options)
        .arg("--target-dir")
        .arg(folder)
        .output()
        .expect("cargo");
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
}

/// The root of the repository.
#[must_use]
pub fn repository_root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Cargo's target folder: this program is PROFILE/deps/NAME, or PROFILE/NAME, in it.
fn target_dir() -> PathBuf {
    let this = current_exe().unwrap();
    let profile = this
        .ancestors()
        .skip(1)
        .find(|folder| !folder.ends_with("deps"))
        .unwrap();
    profile.parent().unwrap().to_owned()
}

/// A folder for what is worth keeping between runs (payloads, compiled victims), inside cargo's target folder.
#[must_use]
pub fn scratch() -> PathBuf {
    let folder = target_dir().join("testkit");
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// Makes a file or folder of [`scratch`] once: `make` fills a path of its own, which then takes the name in one step, since
/// other test processes may be at it too.
pub(crate) fn made_once(name: &str, make: impl FnOnce(&Path)) -> PathBuf {
    static MAKING: Mutex<()> = Mutex::new(());
    let _one_at_a_time = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    let path = scratch().join(name);
    if !path.exists() {
        let mine = scratch().join(format!("{name}.{}", std::process::id()));
        make(&mine);
        if fs::rename(&mine, &path).is_err() {
            drop(fs::remove_dir_all(&mine)); // a folder that another process made meanwhile
        }
    }
    path
}

/// A C program of `examples/`, such as `victims/cancel`, compiled as distributions do it: optimised, and with the fortified
/// aliases.
#[must_use]
pub fn c_program(name: &str) -> PathBuf {
    c_program_with(name, &[])
}

/// The same with further options for the compiler.
#[must_use]
pub fn c_program_with(name: &str, options: &[&str]) -> PathBuf {
    static COMPILED: Mutex<Option<HashMap<String, PathBuf>>> = Mutex::new(None);
    let mut compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    compiled
        .get_or_insert_default()
        .entry(format!("{name}{}", options.concat().replace('=', "-")))
        .or_insert_with_key(|variant| compile(name, &scratch().join(variant), options))
        .clone()
}

fn compile(name: &str, program: &Path, options: &[&str]) -> PathBuf {
    let source = repository_root()
        .join("examples")
        .join(name)
        .with_extension("c");
    fs::create_dir_all(program.parent().unwrap()).unwrap();
    let mine = program.with_extension(std::process::id().to_string());
    let done = Command::new("/usr/bin/cc")
        .args([
            "-O2",
            "-D_FORTIFY_SOURCE=3",
            "-D_GNU_SOURCE",
            "-std=c11",
            "-pthread",
        ])
        .args(["-Wall", "-Wextra", "-Werror"])
        .args(options)
        .arg("-o")
        .arg(&mine)
        .arg(&source)
        .args(["-lresolv", "-lanl"])
        .output()
        .expect("cc");
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    fs::rename(&mine, program).unwrap();
    program.to_owned()
}
