//! Stands in for the command before its parent: passes signals down to it and its end up.

use std::fs::File;
use std::io::{self, IoSlice, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::thread;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustix::process::{Resource, Rlimit, Signal, getpid, kill_process, setrlimit};
use signal_hook::consts::signal as number;
use signal_hook::iterator::SignalsInfo;
use signal_hook::iterator::exfiltrator::WithOrigin;
use signal_hook::low_level::siginfo::{Cause, Origin};
use signal_hook::low_level::{emulate_default_handler, raise};

use super::message::Report;
use super::{let_go, not_ignored};
use crate::error::LaunchError;

/// Everything that is sent to a process to tell it something. KILL and STOP cannot be passed on;
/// the supervisor takes care of the one, and nobody sends the other but to this very process.
pub(super) const PASSED_ON: [i32; 13] = [
    number::SIGHUP,
    number::SIGINT,
    number::SIGQUIT,
    number::SIGUSR1,
    number::SIGUSR2,
    number::SIGALRM,
    number::SIGTERM,
    number::SIGCONT,
    number::SIGTSTP,
    number::SIGTTIN,
    number::SIGTTOU,
    number::SIGURG,
    number::SIGWINCH,
];

/// From here on these signals wait to be passed on.
///
/// # Errors
/// If no handler can be installed.
pub(crate) fn catch(signals: &[i32]) -> Result<SignalsInfo<WithOrigin>, LaunchError> {
    SignalsInfo::new(not_ignored(signals)).map_err(LaunchError::system("signals"))
}

/// Waits for the command's end and ends alike.
///
/// # Errors
/// If the command could not be executed, or the supervisor has gone.
pub(super) fn wait(
    signals: SignalsInfo<WithOrigin>,
    control: &UnixStream,
    lifeline: OwnedFd,
    path: &Path,
) -> Result<ExitCode, LaunchError> {
    let system = LaunchError::system;
    send(control, &lifeline).map_err(system("control socket"))?;
    drop(lifeline); // The supervisor's alone from now on.
    let orders = control.try_clone().map_err(system("control socket"))?;
    thread::spawn(move || {
        pass_on(signals, |signal| {
            if let Ok(octet) = u8::try_from(signal) {
                let _passed = (&orders).write_all(&[octet]);
            }
        });
    });
    loop {
        let Ok(report) = Report::receive(control) else {
            return Err(LaunchError::Supervisor);
        };
        match report {
            // With that there is nothing left to say.
            Report::Started => {
                let_go();
                let _redirected = File::open("/dev/null").map(rustix::stdio::dup2_stdin);
            }
            Report::Exited(status) => {
                return Ok(u8::try_from(status).map_or(ExitCode::FAILURE, ExitCode::from));
            }
            Report::Killed(signal) => return Ok(die_of(signal)),
            // So that the shell sees its job stop. It goes on with the SIGCONT that wakes both.
            Report::Stopped => {
                let _stopped = kill_process(getpid(), Signal::STOP);
            }
            Report::Failed(errno) => {
                let cause = io::Error::from_raw_os_error(errno);
                return Err(LaunchError::of_exec(path.to_owned(), cause));
            }
        }
    }
}

/// Gives on what the command would not get otherwise, until the signals are closed.
pub(crate) fn pass_on(mut signals: SignalsInfo<WithOrigin>, give: impl Fn(i32)) {
    for origin in signals.forever() {
        if concerns_us_alone(&origin) {
            give(origin.signal);
        }
    }
}

/// What the terminal sends, it sends to the whole foreground, the command included, and twice is
/// not the same as once: a second Ctrl-C means haste to many programs. A hang-up, though, goes to a
/// session's leader alone.
fn concerns_us_alone(origin: &Origin) -> bool {
    origin.cause != Cause::Kernel || origin.signal == number::SIGHUP
}

/// As the command died, so that our parent sees it.
pub(crate) fn die_of(signal: i32) -> ExitCode {
    // The command has left its core already.
    let _limited = setrlimit(
        Resource::Core,
        Rlimit {
            current: Some(0),
            maximum: Some(0),
        },
    );
    let _died = emulate_default_handler(signal);
    let _died = raise(signal);
    let code = u8::try_from(signal)
        .ok()
        .and_then(|signal| signal.checked_add(128));
    code.map_or(ExitCode::FAILURE, ExitCode::from)
}

/// The command's stdin, and the pipe that the keeper waits at.
fn send(control: &UnixStream, lifeline: &OwnedFd) -> io::Result<()> {
    let stdin = io::stdin();
    let descriptors = [stdin.as_fd(), lifeline.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
    sendmsg(
        control,
        &[IoSlice::new(&[0])],
        &mut ancillary,
        SendFlags::NOSIGNAL,
    )?;
    Ok(())
}
