//! `socks6-gateway passwd FILE USER`: the password file, a user at a time. Other lines stay as they are, octet by octet,
//! and whoever reads the file meanwhile sees all of the old one or all of the new one.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, BufRead, IsTerminal, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::thread;

use clap::Args as Arguments;
use rustix::fs::{FlockOperation, flock};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use signal_hook::consts::TERM_SIGNALS;
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;
use zeroize::Zeroizing;

use crate::hash::{Hash, Unhashed};
use crate::users::{is_name, split};

/// Set a user's password in a password file: it is hashed with Argon2id.
///
/// It is read from the terminal, twice, or from standard input with --stdin. The file is made if there is none, for its
/// owner alone, and replaced at once. A running gateway takes it with SIGHUP.
#[derive(Debug, Arguments)]
pub(crate) struct Passwd {
    /// The password file.
    file: PathBuf,

    /// The user's name.
    user: String,

    /// Read the password from the first line of standard input.
    #[arg(long, conflicts_with = "delete")]
    stdin: bool,

    /// Take the user out of the file.
    #[arg(long)]
    delete: bool,
}

/// Why a password file is as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PasswdError {
    /// No line can begin with it.
    #[error(
        "a user name takes 1 to 255 octets, without a colon or a line's end, and does not begin with #"
    )]
    Name,
    /// RFC 1929 has no room for it.
    #[error("a password takes 1 to 255 octets")]
    Password,
    /// It was mistyped once.
    #[error("the passwords are not the same")]
    Mistyped,
    /// Nobody is there to be asked.
    #[error("standard input is no terminal: say --stdin to have the password read from it")]
    NoTerminal,
    /// The password cannot be read.
    #[error("cannot read the password: {0}")]
    Unread(io::Error),
    /// There is no such user to be deleted.
    #[error("{0} is not in {1}")]
    Nobody(String, PathBuf),
    /// The password file cannot be read or replaced.
    #[error("{0}: {1}")]
    File(PathBuf, io::Error),
    /// There is no memory for it.
    #[error("no memory for the hash of a password")]
    Unhashed,
}

impl From<Unhashed> for PasswdError {
    fn from(_: Unhashed) -> Self {
        Self::Unhashed
    }
}

impl Passwd {
    /// Does it.
    pub(crate) fn run(&self) -> Result<(), PasswdError> {
        let name = self.user.as_bytes();
        let is_line = name.iter().all(|octet| !b":\r\n".contains(octet)) && !name.starts_with(b"#");
        if !is_name(name) || !is_line {
            return Err(PasswdError::Name);
        }
        let password = match (self.delete, self.stdin) {
            (true, _) => None,
            (_, true) => Some(read_line()?),
            _ => Some(ask_twice()?),
        };
        let line = match password {
            Some(password) if is_name(&password) => {
                let hash = Hash::of(&password)?.text();
                Some(Zeroizing::new(
                    [name, b":", hash.as_bytes(), b"\n"].concat(),
                ))
            }
            Some(_) => return Err(PasswdError::Password),
            None => None,
        };
        let failed = |error| PasswdError::File(self.file.clone(), error);
        // A link stays one: it is its target that is replaced.
        let file = fs::canonicalize(&self.file).unwrap_or_else(|_new| self.file.clone());
        let _lock = lock_folder(&file).map_err(failed)?;
        let old = match fs::read(&file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && !self.delete => Vec::new(),
            read => read.map_err(failed)?,
        };
        let old = Zeroizing::new(old);
        let (new, was_there) = with_line(&old, name, line.as_ref().map_or(b"", |line| line));
        if self.delete && !was_there {
            return Err(PasswdError::Nobody(self.user.clone(), self.file.clone()));
        }
        replace(&file, &new).map_err(failed)
    }
}

/// The file with this line where the user's stood, or at its end; and whether the user was there.
pub(crate) fn with_line(old: &[u8], name: &[u8], line: &[u8]) -> (Zeroizing<Vec<u8>>, bool) {
    // As much as it can be, so that no copy is left behind by a vector that grows.
    let room = old.len().saturating_add(line.len()).saturating_add(1);
    let mut new = Zeroizing::new(Vec::with_capacity(room));
    let mut was_there = false;
    for known in old.split_inclusive(|octet| *octet == b'\n') {
        if !known.starts_with(b"#") && split(known).is_some_and(|(user, _)| user == name) {
            if !was_there {
                new.extend_from_slice(line);
            }
            was_there = true;
        } else {
            new.extend_from_slice(known);
        }
    }
    if !was_there {
        if new.last().is_some_and(|octet| *octet != b'\n') {
            new.push(b'\n');
        }
        new.extend_from_slice(line);
    }
    (new, was_there)
}

fn folder(file: &Path) -> &Path {
    match file.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

/// Two at a time would each keep the other's user out. The file itself is replaced, so its lock is nobody's.
fn lock_folder(file: &Path) -> io::Result<File> {
    let folder = File::open(folder(file))?;
    flock(&folder, FlockOperation::LockExclusive)?;
    Ok(folder)
}

/// Another file in its place, with its owner and mode; a new one is its owner's alone.
fn replace(file: &Path, text: &[u8]) -> io::Result<()> {
    let name = file.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let beside = [b".".as_slice(), name.as_bytes(), b".new"].concat();
    let beside = folder(file).join(OsString::from(std::ffi::OsStr::from_bytes(&beside)));
    // Whoever was killed here held the lock, which is ours now.
    fs::remove_file(&beside).or_else(|error| match error.kind() {
        io::ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    })?;
    let mut new = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&beside)?;
    let written = (|| {
        if let Ok(old) = fs::metadata(file) {
            let own = new.metadata()?;
            if (own.uid(), own.gid()) != (old.uid(), old.gid()) {
                fchown(&new, Some(old.uid()), Some(old.gid()))?;
            }
            new.set_permissions(Permissions::from_mode(old.mode() & 0o777))?;
        }
        new.write_all(text)?;
        new.sync_all()?;
        fs::rename(&beside, file)?;
        File::open(folder(file))?.sync_all()
    })();
    if written.is_err() {
        fs::remove_file(&beside).ok();
    }
    written
}

fn ask_twice() -> Result<Zeroizing<Vec<u8>>, PasswdError> {
    if !io::stdin().is_terminal() {
        return Err(PasswdError::NoTerminal);
    }
    let hidden = Hidden::new().map_err(PasswdError::Unread)?;
    let ask = |words: &str| {
        let mut stderr = io::stderr();
        // A terminal that shows nothing can still be typed on.
        write!(stderr, "{words}").ok();
        let line = read_line();
        writeln!(stderr).ok();
        line
    };
    let passwords = [ask("New password: ")?, ask("Once more: ")?];
    drop(hidden);
    let [password, again] = passwords;
    if password != again {
        return Err(PasswdError::Mistyped);
    }
    Ok(password)
}

/// The next line of standard input.
fn read_line() -> Result<Zeroizing<Vec<u8>>, PasswdError> {
    let mut line = Zeroizing::new(Vec::with_capacity(1024));
    io::stdin()
        .lock()
        .read_until(b'\n', &mut line)
        .map_err(PasswdError::Unread)?;
    while line.last().is_some_and(|octet| b"\r\n".contains(octet)) {
        line.pop();
    }
    Ok(line)
}

/// A terminal that does not show what is typed, until this is dropped or a signal ends the process.
struct Hidden(Termios);

impl Hidden {
    fn new() -> io::Result<Self> {
        let shown = tcgetattr(io::stdin())?;
        let mut signals = Signals::new(TERM_SIGNALS)?;
        thread::spawn({
            let hidden = Self(shown.clone());
            move || {
                if let Some(signal) = signals.forever().next() {
                    drop(hidden);
                    emulate_default_handler(signal).ok();
                }
            }
        });
        let mut modes = shown.clone();
        modes.local_modes.remove(LocalModes::ECHO);
        tcsetattr(io::stdin(), OptionalActions::Flush, &modes)?;
        Ok(Self(shown))
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        // A terminal that is gone shows nothing anyway.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_changes_and_no_other() {
        let old = b"# staff\nalice:x\r\n\n#bob:off\nbob:y:z";
        let changed = |name: &[u8], line: &[u8]| {
            let (new, was_there) = with_line(old, name, line);
            (String::from_utf8(new.to_vec()).unwrap(), was_there)
        };
        let rows = [
            (
                "alice",
                "alice:new\n",
                "# staff\nalice:new\n\n#bob:off\nbob:y:z",
                true,
            ),
            (
                "bob",
                "bob:new\n",
                "# staff\nalice:x\r\n\n#bob:off\nbob:new\n",
                true,
            ),
            (
                "carol",
                "carol:1\n",
                "# staff\nalice:x\r\n\n#bob:off\nbob:y:z\ncarol:1\n",
                false,
            ),
            ("bob", "", "# staff\nalice:x\r\n\n#bob:off\n", true),
        ];
        for (name, line, new, was_there) in rows {
            let expected = (new.to_owned(), was_there);
            assert_eq!(changed(name.as_bytes(), line.as_bytes()), expected);
        }
    }
}
