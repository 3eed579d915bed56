//! `socks6 audit`: a run of a command, and then what it did: names and connections as the shim's log has
//! them, and beside them the kernel's view, by strace(1), which shows what went past the shim.

mod seen;
mod trace;

use std::fs;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, ExitCode, ExitStatus};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::signal::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::SignalsInfo;
use signal_hook::iterator::exfiltrator::WithOrigin;

use crate::args::RunArgs;
use crate::error::LaunchError;
use crate::job::Job;
use crate::private::{catch, die_of, pass_on};
use crate::run::prepare;
use crate::runtime_dir::{RuntimeDir, write_secret};
use crate::say::say;
use crate::settings::Settings;
use crate::strict;

use seen::Seen;

const TRACER: &str = "strace";
/// Every system call that names a destination; of what is sent nothing is kept.
const TRACE: [&str; 9] = [
    "--follow-forks",
    "--quiet=all",
    "--decode-pids=comm",
    "--seccomp-bpf",
    "--trace=connect,sendto,sendmsg,sendmmsg",
    "--signal=none",
    "--string-limit=0",
    "--interruptible=never",
    "--output",
];

/// Runs the command under the shim and strace, waits for the last of its processes, and says on stderr
/// what they did. Ends as the command does.
///
/// # Errors
/// Whatever keeps it from being run.
pub(crate) fn audit(args: &RunArgs) -> Result<ExitCode, LaunchError> {
    let mut settings = Settings::of_run(&args.how)?;
    if settings.config.gateways.is_empty() {
        return Err(LaunchError::NoGateway("an audit starts none of its own"));
    }
    let job = prepare(&args.how, &settings, &args.command)?;
    if settings.is_strict {
        strict::without_io_uring()?;
    }
    // What is to end this process ends the command first: the folder has to go, and it has a password in it.
    let signals = catch(&[SIGHUP, SIGINT, SIGQUIT, SIGTERM])?;
    let folder = RuntimeDir::open()?.run_folder()?;
    let ran = run(&job, &mut settings, &folder, signals);
    // Whatever came of it.
    let _removed = fs::remove_dir_all(&folder);
    let (status, seen) = ran?;
    for line in seen.lines() {
        say(line);
    }
    Ok(match (status.code(), status.signal()) {
        (Some(code), _) => u8::try_from(code).map_or(ExitCode::FAILURE, ExitCode::from),
        (None, Some(signal)) => die_of(signal),
        (None, None) => ExitCode::FAILURE,
    })
}

fn run(
    job: &Job,
    settings: &mut Settings,
    folder: &Path,
    signals: SignalsInfo<WithOrigin>,
) -> Result<(ExitStatus, Seen), LaunchError> {
    let [log, trace, flat] = ["log", "trace", "shim.conf"].map(|name| folder.join(name));
    settings.log_everything_to(&log);
    write_secret(&flat, &settings.flat()?).map_err(LaunchError::file(&flat))?;
    let mut tracer = tracer(&job.command(&flat), &trace)
        .spawn()
        .map_err(|cause| match cause.kind() {
            io::ErrorKind::NotFound => LaunchError::NoTracer,
            _ => LaunchError::of_exec(TRACER.into(), cause),
        })?;
    let (id, is_over) = (tracer.id(), signals.handle());
    thread::spawn(move || pass_on(signals, |signal| send_to_child_of(id, signal)));
    let status = tracer.wait().map_err(LaunchError::system("strace"))?;
    is_over.close();
    let seen = Seen::new(&settings.config, &read(&log)?, &read(&trace)?);
    Ok((status, seen))
}

/// strace blocks signals for itself; its one child is the command.
fn send_to_child_of(tracer: u32, signal: i32) {
    let children = fs::read_to_string(format!("/proc/{tracer}/task/{tracer}/children"));
    let child = children.unwrap_or_default();
    let child = child.trim().parse().ok().and_then(Pid::from_raw);
    if let (Some(child), Some(signal)) = (child, Signal::from_named_raw(signal)) {
        let _sent = kill_process(child, signal);
    }
}

/// The command under strace. What the shim needs is for the command alone.
fn tracer(command: &Command, trace: &Path) -> Command {
    let mut tracer = Command::new(TRACER);
    tracer.args(TRACE).arg(trace);
    for (name, value) in command.get_envs() {
        let mut word = name.to_owned();
        if let Some(value) = value {
            word.push("=");
            word.push(value);
        }
        tracer.arg("--env").arg(word);
    }
    tracer
        .arg("--")
        .arg(command.get_program())
        .args(command.get_args());
    tracer
}

/// What is not there says nothing: a command that names nobody writes nothing.
fn read(path: &Path) -> Result<String, LaunchError> {
    match fs::read(path) {
        Ok(octets) => Ok(String::from_utf8_lossy(&octets).into_owned()),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(cause) => Err(LaunchError::file(path)(cause)),
    }
}
