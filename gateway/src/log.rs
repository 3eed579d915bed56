//! Where the log goes, how much of it, and in which form: `[log]`. Written by whoever has something to say, and never
//! waited for: a line that cannot be written at once is lost and counted, since a relay's thread must not hang on it.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::panic;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{SendFlags, send};
use serde::{Deserialize, Serialize};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, reload};

/// What an operator can say of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSettings {
    /// Nothing above it is logged; a line for each relay is `INFO`.
    pub level: LevelFilter,
    /// `None` for standard error.
    pub file: Option<PathBuf>,
    /// How a line looks.
    pub format: LogFormat,
}

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// Fields as `name=value`.
    #[default]
    Text,
    /// A JSON object.
    Json,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self {
            level: LevelFilter::INFO,
            file: None,
            format: LogFormat::default(),
        }
    }
}

/// The log file cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot open the log file {path}: {error}", path = .0.display(), error = .1)]
pub struct LogError(PathBuf, io::Error);

/// The log of this process.
pub struct Log {
    settings: Mutex<LogSettings>,
    output: reload::Handle<Output, Registry>,
}

/// Level, form and file at once, so that they change at once.
type Output = Box<dyn Layer<Registry> + Send + Sync>;

/// A log that could be written to, and is not yet.
pub(crate) struct Opened(LogSettings, Output);

impl Log {
    /// From now on this process logs; a panic too is a line where the other lines are. Once in a process.
    ///
    /// # Errors
    /// If the file cannot be opened for appending.
    pub fn start(settings: &LogSettings) -> Result<Self, LogError> {
        let Opened(settings, output) = open(settings)?;
        let (output, handle) = reload::Layer::new(output);
        // Fails if somebody else has set a log up: theirs is as good.
        tracing_subscriber::registry().with(output).try_init().ok();
        panic::set_hook(Box::new(|panic| {
            let at = panic.location().map(tracing::field::display);
            tracing::error!(at, "panic: {}", panic.payload_as_str().unwrap_or("no text"));
        }));
        Ok(Self {
            settings: Mutex::new(settings),
            output: handle,
        })
    }

    /// Where it goes, if it is a file.
    #[must_use]
    pub fn file(&self) -> Option<PathBuf> {
        self.settings.lock().file.clone()
    }

    /// What can go wrong with a new log, before anything has changed.
    pub(crate) fn open(&self, settings: &LogSettings) -> Result<Opened, LogError> {
        open(settings)
    }

    pub(crate) fn switch(&self, Opened(settings, output): Opened) {
        *self.settings.lock() = settings;
        // Fails only if the subscriber is gone, and then there is nothing to log with.
        self.output.reload(output).ok();
    }

    /// The file that its name stands for now: logrotate(8) has moved the old one away.
    pub(crate) fn reopen(&self) {
        let settings = self.settings.lock().clone();
        match open(&settings) {
            Ok(opened) => self.switch(opened),
            Err(error) => tracing::error!("{error}: logging goes on where it went"),
        }
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.settings.lock().fmt(f)
    }
}

fn open(settings: &LogSettings) -> Result<Opened, LogError> {
    let sink = match &settings.file {
        None => Sink::new(Target::Stderr(io::stderr())),
        Some(path) => {
            // Names of users and destinations are nobody else's business.
            let file = OpenOptions::new()
                .create(true)
                .append(true)
                .mode(0o640)
                .open(path);
            let file = file.map_err(|error| LogError(path.clone(), error))?;
            Sink::new(Target::File(file))
        }
    };
    let lines = tracing_subscriber::fmt::layer()
        // It goes to standard error, whatever that may be.
        .log_internal_errors(false)
        .with_target(false)
        .with_ansi(false)
        .with_writer(move || sink.clone());
    let output = match settings.format {
        LogFormat::Text => settings.level.and_then(lines).boxed(),
        LogFormat::Json => {
            let lines = lines
                .json()
                .flatten_event(true)
                .with_current_span(false)
                .with_span_list(false);
            settings.level.and_then(lines).boxed()
        }
    };
    Ok(Opened(settings.clone(), output))
}

/// Lines that could not be written since this process began.
pub(crate) fn lines_lost() -> u64 {
    LINES_LOST.load(Ordering::Relaxed)
}

static LINES_LOST: AtomicU64 = AtomicU64::new(0);

enum Target {
    Stderr(io::Stderr),
    File(fs::File),
}

impl AsFd for Target {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Stderr(stderr) => stderr.as_fd(),
            Self::File(file) => file.as_fd(),
        }
    }
}

/// Takes whole lines and never waits for a reader.
#[derive(Clone)]
struct Sink(Arc<Mutex<State>>);

struct State {
    target: Target,
    /// The last line was written in part: a disk that is full takes what fits.
    is_torn: bool,
}

impl Sink {
    fn new(target: Target) -> Self {
        let state = State {
            target,
            is_torn: false,
        };
        Self(Arc::new(Mutex::new(state)))
    }
}

impl Write for Sink {
    /// A line, as tracing-subscriber hands it over.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut state = self.0.lock();
        if state.is_torn && write_now(&state.target, b"\n").is_ok() {
            state.is_torn = false;
        }
        let written = write_now(&state.target, line);
        if written != Ok(line.len()) {
            state.is_torn |= written.is_ok_and(|octets| octets > 0);
            LINES_LOST.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Without waiting: standard error may be a pipe, a socket or a terminal whose reader has stopped to read.
/// One thread at a time comes here, so that what poll has found room for is not taken by another one.
fn write_now(target: &Target, octets: &[u8]) -> Result<usize, Errno> {
    match send(target, octets, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
        Err(Errno::NOTSOCK) => {}
        sent => return sent,
    }
    let mut fds = [PollFd::new(target, PollFlags::OUT)];
    if poll(&mut fds, Some(&Timespec::default()))? == 0 {
        return Err(Errno::AGAIN);
    }
    rustix::io::write(target, octets)
}
