//! From the command that was typed to the files that the kernel will execute: PATH, `#!` lines.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::Access;

use crate::elf::{self, Image, Obstacle};
use crate::error::{LaunchError, words};

/// What the kernel takes of a `#!` line, and how many scripts may interpret one another.
const SCRIPT_LINE_OCTETS: u64 = 256;
const SCRIPT_DEPTH: u8 = 5;
/// Of confstr(_CS_PATH), for a user without PATH.
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// A program to execute.
#[derive(Debug)]
pub(crate) struct Program {
    /// The file that was meant.
    pub(crate) path: PathBuf,
    /// A text without `#!` is sh's, as execvp(3) has it.
    pub(crate) is_plain_text: bool,
}

/// How a file is executed.
enum Form {
    Elf(File),
    Script {
        interpreter: PathBuf,
        argument: Option<OsString>,
    },
    Text,
}

impl Program {
    /// Finds a command as execvp(3) does.
    ///
    /// # Errors
    /// [`LaunchError::NotFound`] and [`LaunchError::NotExecutable`].
    pub(crate) fn find(command: &OsStr) -> Result<Self, LaunchError> {
        let path = find(command, env::var_os("PATH"))?;
        let is_plain_text = matches!(Form::of(&path), Ok(Form::Text));
        Ok(Self {
            path,
            is_plain_text,
        })
    }

    /// What keeps the shim out of this program, and in which file: its own, or that of the
    /// interpreter that runs it. What it starts in turn is not known here.
    pub(crate) fn obstacle(&self) -> Option<(PathBuf, Obstacle)> {
        let own = match Image::own() {
            Ok(own) => own,
            Err(error) => return Some((self.path.clone(), Obstacle::Unknown(error))),
        };
        let mut path = self.path.clone();
        for _ in 0..SCRIPT_DEPTH {
            let found = match Form::of(&path) {
                Ok(Form::Elf(file)) => match (elf::privilege(&path), Image::read(file)) {
                    (Ok(Some(obstacle)), _) => Some(obstacle),
                    (Ok(None), Ok(image)) => image.obstacle(&own),
                    (Ok(None), Err(error)) => Some(Obstacle::Unknown(error)),
                    (Err(error), _) => Some(Obstacle::Unknown(words(&error))),
                },
                Ok(Form::Script {
                    interpreter,
                    argument,
                }) => {
                    path = behind_env(&interpreter, argument.as_deref()).unwrap_or(interpreter);
                    continue;
                }
                Ok(Form::Text) => {
                    path = "/bin/sh".into();
                    continue;
                }
                Err(error) => Some(Obstacle::Unknown(words(&error))),
            };
            return found.map(|obstacle| (path, obstacle));
        }
        None // The kernel will refuse it with ELOOP.
    }
}

impl Form {
    fn of(path: &Path) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let mut start = Vec::new();
        Read::by_ref(&mut file)
            .take(SCRIPT_LINE_OCTETS)
            .read_to_end(&mut start)?;
        if start.starts_with(&object::elf::ELFMAG) {
            return Ok(Self::Elf(file));
        }
        let Some(line) = start.strip_prefix(b"#!") else {
            return Ok(Self::Text);
        };
        let line = line
            .split(|&octet| octet == b'\n')
            .next()
            .unwrap_or_default()
            .trim_ascii();
        let end = line.iter().position(|octet| matches!(octet, b' ' | b'\t'));
        let (interpreter, argument) = line.split_at(end.unwrap_or(line.len()));
        let argument = Some(argument.trim_ascii()).filter(|argument| !argument.is_empty());
        Ok(Self::Script {
            interpreter: OsStr::from_bytes(interpreter).into(),
            argument: argument.map(|argument| OsStr::from_bytes(argument).into()),
        })
    }
}

/// `#!/usr/bin/env python3` and `#!/usr/bin/env -S python3 -u`: what counts is python3.
fn behind_env(interpreter: &Path, argument: Option<&OsStr>) -> Option<PathBuf> {
    if interpreter.file_name()? != "env" {
        return None;
    }
    let argument = argument?.as_bytes();
    let words = argument
        .strip_prefix(b"-S")
        .unwrap_or(argument)
        .split(u8::is_ascii_whitespace);
    let command = words
        .filter(|word| !word.is_empty() && !word.starts_with(b"-") && !word.contains(&b'='))
        .map(OsStr::from_bytes)
        .next()?;
    find(command, env::var_os("PATH")).ok()
}

fn find(command: &OsStr, path: Option<OsString>) -> Result<PathBuf, LaunchError> {
    if command.as_bytes().contains(&b'/') {
        let path = PathBuf::from(command);
        return match executable(&path) {
            Ok(()) => Ok(path),
            Err(cause) => Err(LaunchError::of_exec(path, cause)),
        };
    }
    if command.is_empty() {
        return Err(LaunchError::NotFound(PathBuf::new()));
    }
    let mut refusal = None;
    for folder in env::split_paths(&path.unwrap_or_else(|| DEFAULT_PATH.into())) {
        // An empty element is the working directory; joined, it would be the bare name.
        let folder = if folder.as_os_str().is_empty() {
            PathBuf::from(".")
        } else {
            folder
        };
        let candidate = folder.join(command);
        match executable(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(cause) if cause.kind() == io::ErrorKind::PermissionDenied => {
                refusal = Some(LaunchError::NotExecutable {
                    path: candidate,
                    cause,
                });
            }
            Err(_) => {}
        }
    }
    Err(refusal.unwrap_or_else(|| LaunchError::NotFound(command.into())))
}

fn executable(path: &Path) -> io::Result<()> {
    if path.metadata()?.is_dir() {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    Ok(rustix::fs::access(path, Access::EXEC_OK)?)
}

#[cfg(test)]
mod tests;
