//! What a service manager is told by sd_notify(3): datagrams of lines to the socket that NOTIFY_SOCKET names. Without
//! one nobody is told anything.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// A manager that does not read its socket is not worth more of the main thread's time.
const PATIENCE: Duration = Duration::from_secs(1);

/// Whoever started this process and wants to hear how it fares.
#[derive(Debug, Default)]
pub struct Manager {
    socket: Option<UnixDatagram>,
    /// Half of what it waits for a sign of life, and when the last one was given.
    watchdog: Option<(Duration, Instant)>,
}

impl Manager {
    /// systemd, or whoever else has set NOTIFY_SOCKET and WATCHDOG_USEC.
    #[must_use]
    pub fn from_environment() -> Self {
        let Some(name) = env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return Self::default();
        };
        let socket = connect(&name).inspect_err(|error| {
            tracing::warn!(socket = %name.display(), %error, "cannot notify the service manager");
        });
        let number = |name| env::var(name).ok()?.parse::<u64>().ok();
        // Without WATCHDOG_PID it is for every process of the service (sd_watchdog_enabled(3)).
        let is_ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(process::id()));
        let watchdog = number("WATCHDOG_USEC").filter(|interval| is_ours && *interval > 0);
        let half = |interval| Duration::from_micros(interval).div_f32(2.0);
        Self {
            watchdog: watchdog
                .filter(|_| socket.is_ok())
                .map(|interval| (half(interval), Instant::now())),
            socket: socket.ok(),
        }
    }

    /// Serving, after a start or after [`Self::reloading`].
    pub(crate) fn ready(&self, status: &str) {
        self.tell(&["READY=1", &format!("STATUS={status}")]);
    }

    pub(crate) fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let now = Duration::try_from(now).unwrap_or_default().as_micros();
        let since = format!("MONOTONIC_USEC={now}");
        self.tell(&["RELOADING=1", &since, "STATUS=reloading"]);
    }

    pub(crate) fn stopping(&self) {
        self.tell(&["STOPPING=1", "STATUS=draining"]);
    }
    /// Another process is the service from now on, and the only one to be listened to.
    pub(crate) fn replaced_by(&mut self, pid: u32) {
        self.tell(&[&format!("MAINPID={pid}")]);
        *self = Self::default();
    }

    /// The caller is alive, and says so if it is due. Gives when it will be due again.
    pub(crate) fn alive(&mut self, status: impl FnOnce() -> String) -> Option<Instant> {
        let (every, last) = self.watchdog?;
        let due = last.checked_add(every)?;
        let now = Instant::now();
        if now < due {
            return Some(due);
        }
        self.watchdog = Some((every, now));
        self.tell(&["WATCHDOG=1", &format!("STATUS={}", status())]);
        now.checked_add(every)
    }

    fn tell(&self, lines: &[&str]) {
        let Some(socket) = &self.socket else { return };
        // A line break in a text would begin the next assignment.
        let lines: Vec<_> = lines.iter().map(|line| line.replace('\n', " ")).collect();
        if let Err(error) = socket.send(lines.join("\n").as_bytes()) {
            tracing::debug!(%error, "the service manager was not notified");
        }
    }
}

fn connect(name: &OsStr) -> io::Result<UnixDatagram> {
    let address = match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        [b'/', ..] => SocketAddr::from_pathname(name)?,
        _ => return Err(io::ErrorKind::Unsupported.into()),
    };
    let socket = UnixDatagram::unbound()?;
    // Connected, it is there whatever becomes of the file system that this process sees.
    socket.connect_addr(&address)?;
    socket.set_write_timeout(Some(PATIENCE))?;
    Ok(socket)
}
