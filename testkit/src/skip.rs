//! A test that cannot run here says so: it fails in CI and is counted as skipped elsewhere.

use std::env::{var, var_os};
use std::fs::OpenOptions;
use std::io::{Write as _, stderr};
use std::path::Path;
use std::sync::OnceLock;
use std::thread;

use crate::netns::{self, IP};

/// Notes that the calling test cannot run, and why.
///
/// libtest has no word for this, so the test goes on to return as if it had passed; the line on stderr (past libtest's
/// capture) and a line in the file named by `SOCKS6_SKIPPED` let `scripts/test` count it for what it is.
/// With `CI` set it panics: a test that CI does not run proves nothing.
pub fn skipped(why: &str) {
    let current = thread::current();
    let test = current.name().unwrap_or("a test");
    let in_ci = var("CI").is_ok_and(|ci| !ci.is_empty());
    assert!(!in_ci, "{test} cannot run in CI: {why}");
    drop(writeln!(stderr(), "skipped: {test}: {why}"));
    if let Some(list) = var_os("SOCKS6_SKIPPED") {
        let mut list = OpenOptions::new()
            .append(true)
            .create(true)
            .open(list)
            .unwrap();
        writeln!(list, "{test}").unwrap();
    }
}

/// Whether this process may make network namespaces; notes the test as skipped where it may not.
#[must_use]
pub fn may_have_namespaces() -> bool {
    static TRIED: OnceLock<Result<(), String>> = OnceLock::new();
    if !has_tool(IP) {
        return false;
    }
    // Being root is not enough inside a container.
    match TRIED.get_or_init(netns::attempt) {
        Ok(()) => true,
        Err(why) => {
            skipped(&format!("no network namespaces: {why}"));
            false
        }
    }
}

/// Whether a program of the system is there, by absolute path; notes the test as skipped where it is not.
#[must_use]
pub fn has_tool(path: &str) -> bool {
    Path::new(path).exists() || {
        skipped(&format!("{path} is not installed"));
        false
    }
}
