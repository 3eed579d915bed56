//! The subreaper: the command's parent, and in the end the parent of all that is left of the run.

use std::io::{IoSliceMut, Read as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{ExitCode, Stdio};
use std::thread;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, WaitStatus, getpgid, getpid, getppid, pidfd_open,
    pidfd_send_signal, set_child_subreaper, wait,
};

use super::message::Report;
use super::{let_go, outlive_signals};
use crate::args::SuperviseArgs;
use crate::error::LaunchError;
use crate::job::Job;

/// Runs the command and reports on it; returns when no descendant of the run is left.
///
/// stdin is the control socket; the command's own stdin comes through it, and after that the pipe
/// whose end is the end of the gateway.
///
/// # Errors
/// If the supervisor cannot do its work; what is wrong with the command is reported instead.
pub(crate) fn supervise(args: SuperviseArgs) -> Result<ExitCode, LaunchError> {
    let system = |doing| move |errno: rustix::io::Errno| LaunchError::system(doing)(errno.into());
    let control = std::io::stdin()
        .as_fd()
        .try_clone_to_owned()
        .map(UnixStream::from);
    let control = control.map_err(LaunchError::system("control socket"))?;
    let [stdin, _lifeline] = receive(&control)?;
    set_child_subreaper(Some(getpid())).map_err(system("prctl"))?;

    let job = Job {
        path: args.path,
        arg0: args.arg0,
        arguments: args.arguments,
        preload: args.preload,
        without: Vec::new(),
    };
    outlive_signals();
    let mut command = job.command(&args.config);
    // In the process group of the one that stands in for it, and so in the terminal's foreground
    // and the shell's job.
    if let Ok(group) = getpgid(getppid()) {
        command.process_group(group.as_raw_nonzero().into());
    }
    let child = match command.stdin(Stdio::from(stdin)).spawn() {
        Ok(child) => child,
        Err(error) => {
            let errno = error.raw_os_error().unwrap_or_default();
            return told(Report::Failed(errno).send(&control));
        }
    };
    drop(command); // It holds the stdin.
    let_go();
    let _told = Report::Started.send(&control);

    let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) else {
        return Ok(ExitCode::FAILURE);
    };
    // Opened before anybody can have reaped it: the number stays its own.
    let process = pidfd_open(pid, PidfdFlags::empty()).map_err(system("pidfd"))?;
    let orders = control
        .try_clone()
        .map_err(LaunchError::system("control socket"))?;
    thread::spawn(move || obey(&orders, &process));
    attend(pid, &control)
}

/// Reaps until there is nothing left to reap. Orphans have become children of this process before
/// their parent can be waited for, so between the last and "no child" nobody is missed.
fn attend(command: Pid, control: &UnixStream) -> Result<ExitCode, LaunchError> {
    loop {
        let (pid, status) = match wait(WaitOptions::UNTRACED) {
            Ok(Some(found)) => found,
            Ok(None) | Err(rustix::io::Errno::INTR) => continue,
            Err(_no_child) => return Ok(ExitCode::SUCCESS),
        };
        if let Some(report) = (pid == command).then(|| report(status)).flatten() {
            // Whoever would have wanted to know may be gone; the descendants still count.
            let _told = report.send(control);
        }
    }
}

fn report(status: WaitStatus) -> Option<Report> {
    if status.stopped() {
        return Some(Report::Stopped);
    }
    let exited = status.exit_status().map(Report::Exited);
    exited.or_else(|| status.terminating_signal().map(Report::Killed))
}

/// Passes signals on until the other side is gone. If that was before the command's end, it was
/// killed without a chance to pass it on.
fn obey(mut orders: &UnixStream, process: &OwnedFd) {
    let mut order = [0; 1];
    while let Ok(1) = orders.read(&mut order) {
        if let Some(signal) = Signal::from_named_raw(order[0].into()) {
            let _sent = pidfd_send_signal(process, signal);
        }
    }
    let _sent = pidfd_send_signal(process, Signal::KILL);
}

fn told(sent: std::io::Result<()>) -> Result<ExitCode, LaunchError> {
    sent.map_err(LaunchError::system("control socket"))?;
    Ok(ExitCode::SUCCESS)
}

/// The two descriptors that [`super::front`] sends first.
fn receive(control: &UnixStream) -> Result<[OwnedFd; 2], LaunchError> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut octet = [0];
    let octets = &mut [IoSliceMut::new(&mut octet)];
    recvmsg(control, octets, &mut ancillary, RecvFlags::CMSG_CLOEXEC)
        .map_err(|errno| LaunchError::system("control socket")(errno.into()))?;
    let rights = ancillary.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    let descriptors: Vec<OwnedFd> = rights.flatten().collect();
    descriptors.try_into().map_err(|_fewer| {
        LaunchError::system("control socket")(std::io::ErrorKind::UnexpectedEof.into())
    })
}
