//! Everything that keeps a command from being run, and the exit status that says so.

use std::io;
use std::path::PathBuf;

use crate::elf::Obstacle;

/// The launcher failed or refused; the command was not run. As of env(1), nohup(1), timeout(1).
pub(crate) const FAILED: u8 = 125;
const NOT_EXECUTABLE: u8 = 126;
const NOT_FOUND: u8 = 127;

#[derive(Debug, thiserror::Error)]
pub(crate) enum LaunchError {
    /// The user's: a setting, and where it stands.
    #[error("{place}: {what}")]
    Setting { place: String, what: String },

    /// The user's: a file that was named.
    #[error("{}: {}", path.display(), words(cause))]
    File { path: PathBuf, cause: io::Error },

    #[error("no gateway is configured, and {0}")]
    NoGateway(&'static str),

    #[error("an audit needs strace(1), which is not found")]
    NoTracer,

    #[error("--strict: {0}")]
    Strict(String),

    #[error("{}: {obstacle}. {}; --unprotected runs it with its connections going direct",
        path.display(), obstacle.alternative())]
    OutOfReach { path: PathBuf, obstacle: Obstacle },

    #[error("{}: not found", .0.display())]
    NotFound(PathBuf),

    #[error("{}: the interpreter or loader that it names is not found", .0.display())]
    NoInterpreter(PathBuf),

    #[error("{}: {}", path.display(), words(cause))]
    NotExecutable { path: PathBuf, cause: io::Error },

    /// The installation's.
    #[error("libsocks6.so: {0}")]
    Library(String),

    /// The system's.
    #[error("{doing}: {}", words(cause))]
    System {
        doing: &'static str,
        cause: io::Error,
    },

    #[error("the supervisor of this run has gone, and with it what the command's end was")]
    Supervisor,

    #[error("the private gateway did not start: {0}")]
    PrivateGateway(String),
}

impl LaunchError {
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::NotFound(_) | Self::NoInterpreter(_) => NOT_FOUND,
            Self::NotExecutable { .. } => NOT_EXECUTABLE,
            Self::Setting { .. }
            | Self::File { .. }
            | Self::NoGateway(_)
            | Self::NoTracer
            | Self::Strict(_)
            | Self::OutOfReach { .. }
            | Self::Library(_)
            | Self::System { .. }
            | Self::Supervisor
            | Self::PrivateGateway(_) => FAILED,
        }
    }

    /// What execve(2) gave.
    pub(crate) fn of_exec(path: PathBuf, cause: io::Error) -> Self {
        match cause.kind() {
            io::ErrorKind::NotFound if path.exists() => Self::NoInterpreter(path),
            io::ErrorKind::NotFound => Self::NotFound(path),
            _ => Self::NotExecutable { path, cause },
        }
    }

    /// To be given to `map_err`.
    pub(crate) fn system(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |cause| Self::System { doing, cause }
    }

    /// To be given to `map_err`.
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |cause| Self::File { path, cause }
    }
}

/// Without the number that std adds, as other programs say it.
pub(crate) fn words(cause: &io::Error) -> String {
    let text = cause.to_string();
    match text.split_once(" (os error ") {
        Some((words, _number)) => words.to_owned(),
        None => text,
    }
}
