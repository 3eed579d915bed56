//! A run with a gateway of its own, for as long as any process of the run lives.
//!
//! Daemons leave everything behind that could bind them to us: their parent, session and process
//! group, and every descriptor. What they cannot leave is their descent: the orphans of a process
//! that is a *child subreaper* (prctl(2)) become its children. So:
//!
//! ```text
//! socks6 run           stands in for the command before its parent: signals down, status up
//! ├─ socks6 supervise  the subreaper: runs the command, waits until no descendant is left
//! │  └─ COMMAND
//! └─ socks6 keep       ends the gateway when the pipe closes that the supervisor holds
//!    └─ socks6-gateway
//! ```
//!
//! The first ends with the command; supervisor and keeper stay as long as a daemon does. Whichever is
//! killed, nothing is left over: the pipe closes with the supervisor, the gateway ends with the
//! keeper (PR_SET_PDEATHSIG), and the command is killed with the first, for which kill -9 was meant.

mod front;
mod keeper;
mod message;
mod supervisor;

pub(crate) use front::{catch, die_of, pass_on};
pub(crate) use keeper::{bound, keep};
pub(crate) use supervisor::supervise;

use std::env;
use std::fs::{self, File};
use std::io::pipe;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};
use std::sync::Arc;

use rustix::stdio::{dup2_stderr, dup2_stdout};
use signal_hook::consts::signal::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::flag;
use socks_client::{Gateway, GatewayHost, Login, Secret};

use crate::error::LaunchError;
use crate::job::Job;
use crate::runtime_dir::{RuntimeDir, random_hex, write_secret};
use crate::say::say;
use crate::settings::Settings;

/// Anybody on this host can connect to the gateway's port; the password keeps it to those of the run.
const USER: &str = "socks6";
const PASSWORD_OCTETS: u64 = 24;

/// # Errors
/// Whatever keeps gateway or command from being run.
pub(crate) fn run(
    job: &Job,
    mut settings: Settings,
    announce: impl FnOnce(&str),
) -> Result<ExitCode, LaunchError> {
    let program = keeper::gateway_beside()?;
    let folder = RuntimeDir::open()?.run_folder()?;
    let password = random_hex(PASSWORD_OCTETS).map_err(LaunchError::system("random octets"))?;
    write_secret(
        &folder.join(keeper::LOGINS),
        &format!("{USER}:{password}\n"),
    )
    .map_err(LaunchError::file(&folder))?;

    let (life, lifeline) = pipe().map_err(LaunchError::system("pipe"))?;
    let address = keeper::start(&program, &folder, life.into())?;

    let login = Login {
        user: USER.into(),
        password: Secret(password.into()),
    };
    let (host, port) = (GatewayHost::Ip(address.ip()), address.port());
    settings.config.gateways = vec![Gateway {
        host,
        port,
        login: Some(login),
        is_pipelined: true,
    }];
    settings.config.password_file = None;
    let flat = folder.join("shim.conf");
    write_secret(&flat, &settings.flat()?).map_err(LaunchError::file(&flat))?;

    say(format_args!(
        "no gateway is configured: this run has a private one on {address}"
    ));
    announce(&address.to_string());

    let signals = catch(&front::PASSED_ON)?;
    let (control, theirs) = UnixStream::pair().map_err(LaunchError::system("socket pair"))?;
    own_program("supervise")
        .arg("--config")
        .arg(&flat)
        .arg("--preload")
        .arg(&job.preload)
        .arg("--")
        .arg(&job.path)
        .arg(&job.arg0)
        .args(&job.arguments)
        .stdin(OwnedFd::from(theirs))
        .spawn()
        .map_err(LaunchError::system("supervisor"))?;
    front::wait(signals, &control, lifeline.into(), &job.path)
}

/// Makes nothing of what is sent to everybody when a service is to end: whoever takes care of the
/// others ends with the last of them. Children have their default actions.
fn outlive_signals() {
    for signal in not_ignored(&[SIGHUP, SIGINT, SIGQUIT, SIGTERM]) {
        let _registered = flag::register(signal, Arc::default());
    }
}

/// Those of the signals that this process does not ignore. The others stay as they are: a handler in
/// their place would become the default action in our children, and end what runs under nohup.
fn not_ignored(signals: &[i32]) -> Vec<i32> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or_default();
    let is_ignored = |signal: &i32| {
        let bit = u32::try_from(*signal)
            .ok()
            .and_then(|signal| signal.checked_sub(1));
        bit.and_then(|bit| 1_u64.checked_shl(bit))
            .is_some_and(|bit| mask & bit != 0)
    };
    signals
        .iter()
        .copied()
        .filter(|signal| !is_ignored(signal))
        .collect()
}

/// Lets go of stdout, stderr and the working folder: whoever waits for the last that has them open
/// waits for the command, not for us.
fn let_go() {
    if let Ok(null) = File::options().read(true).write(true).open("/dev/null") {
        let _redirected = dup2_stdout(&null);
        let _redirected = dup2_stderr(&null);
    }
    let _moved = env::set_current_dir("/");
}

/// This program in another of its parts, and out of the reach of the terminal's signals.
fn own_program(part: &str) -> Command {
    // Not by its path: the file may have been replaced by a newer one meanwhile.
    let mut command = Command::new("/proc/self/exe");
    command.arg0("socks6").arg(part).process_group(0);
    command
}
