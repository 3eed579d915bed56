//! The private gateway itself: started, awaited, and ended with the run.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitCode, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, getppid, kill_process, set_parent_process_death_signal};

use super::{let_go, outlive_signals, own_program};
use crate::args::{BoundArgs, KeepArgs};
use crate::beside;
use crate::error::{LaunchError, words};
use crate::say::say;

const GATEWAY: &str = "socks6-gateway";
/// A build folder or /usr/bin, or where an installation puts daemons.
const PLACES: [&str; 3] = ["", "../sbin", "../libexec/socks6"];
/// What the gateway reads user and password from.
pub(super) const LOGINS: &str = "logins";
const LOG: &str = "gateway.log";
/// A gateway that needs longer to listen on loopback will not.
const START_LIMIT: Duration = Duration::from_secs(10);
/// Nobody is left to use what it still relays.
const DRAIN_LIMIT: Duration = Duration::from_secs(3);
const TICK: Duration = Duration::from_millis(20);

/// # Errors
/// [`LaunchError::PrivateGateway`].
pub(super) fn gateway_beside() -> Result<PathBuf, LaunchError> {
    beside::find(GATEWAY, &PLACES).map_err(|error| {
        let why = format!("{GATEWAY} is {error}; --gateway HOST:PORT names another gateway");
        LaunchError::PrivateGateway(why)
    })
}

/// Starts keeper and gateway. They end when the other end of `life` is closed.
///
/// # Errors
/// [`LaunchError::PrivateGateway`], with what the gateway said.
pub(super) fn start(
    program: &Path,
    folder: &Path,
    life: OwnedFd,
) -> Result<SocketAddr, LaunchError> {
    let failed = |error: io::Error| LaunchError::PrivateGateway(words(&error));
    let mut keeper = own_program("keep")
        .arg(program)
        .arg(folder)
        .stdin(life)
        .stdout(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let mut said = String::new();
    if let Some(stdout) = &mut keeper.stdout {
        stdout.read_to_string(&mut said).map_err(failed)?;
    }
    said.parse()
        .map_err(|_not_an_address| LaunchError::PrivateGateway(said))
}

/// The keeper: says the gateway's address on stdout, or in words why there is none; then waits.
///
/// # Errors
/// None.
pub(crate) fn keep(args: &KeepArgs) -> Result<ExitCode, LaunchError> {
    outlive_signals();
    let started = spawn(args).and_then(|mut gateway| match await_address(&mut gateway) {
        Some(address) => Ok((gateway, address)),
        None => {
            end(&mut gateway);
            let log = fs::read_to_string(args.folder.join(LOG)).unwrap_or_default();
            let last = log
                .lines()
                .next_back()
                .unwrap_or("it said nothing")
                .to_owned();
            Err(io::Error::other(last))
        }
    });
    let words = match &started {
        Ok((_, address)) => address.to_string(),
        Err(error) => words(error),
    };
    let said = io::stdout()
        .write_all(words.as_bytes())
        .and_then(|()| io::stdout().flush());
    if let (Ok((mut gateway, _)), Ok(())) = (started, said) {
        let_go();
        await_end();
        end(&mut gateway);
    }
    // A run that leaves its folder behind costs a few octets until the next boot.
    let _removed = fs::remove_dir_all(&args.folder);
    Ok(ExitCode::SUCCESS)
}

fn spawn(args: &KeepArgs) -> io::Result<Child> {
    let log = File::create(args.folder.join(LOG))?;
    own_program("bound")
        .arg(rustix::process::getpid().as_raw_nonzero().to_string())
        .arg("--")
        .arg(&args.gateway)
        .args([
            "--listen",
            "127.0.0.1:0",
            "--log",
            "warn",
            // Whoever else is on this host would otherwise lock its programs out by failing on purpose.
            "--failed-logins",
            "0",
            "--password-file",
        ])
        .arg(args.folder.join(LOGINS))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .current_dir("/")
        .spawn()
}

/// The gateway's first line on stdout: `listening on ADDR:PORT`.
fn await_address(gateway: &mut Child) -> Option<SocketAddr> {
    let stdout = gateway.stdout.take()?;
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || read_address(stdout, &sender));
    receiver.recv_timeout(START_LIMIT).ok()
}

/// Reads on to the end: a pipe that nobody reads would stop the gateway, or kill it.
fn read_address(stdout: ChildStdout, found: &mpsc::Sender<SocketAddr>) {
    for line in BufReader::new(stdout).lines().map_while(Result::ok) {
        if let Some(address) = line
            .strip_prefix("listening on ")
            .and_then(|at| at.parse().ok())
        {
            let _is_awaited = found.send(address);
        }
    }
}

/// Until the pipe closes. Nothing is ever written to it.
fn await_end() {
    let _octets = io::copy(&mut io::stdin(), &mut io::sink());
}

fn end(gateway: &mut Child) {
    let pid = i32::try_from(gateway.id()).ok().and_then(Pid::from_raw);
    let asked = pid.map(|pid| kill_process(pid, Signal::TERM));
    let deadline = Instant::now().checked_add(DRAIN_LIMIT);
    while asked.is_some() && deadline.is_some_and(|deadline| Instant::now() < deadline) {
        if !matches!(gateway.try_wait(), Ok(None)) {
            return;
        }
        thread::sleep(TICK);
    }
    let _killed = gateway.kill();
    let _reaped = gateway.wait();
}

/// Becomes a program that the kernel ends when the process ends that started it.
///
/// # Errors
/// If the program cannot be executed.
pub(crate) fn bound(args: &BoundArgs) -> Result<ExitCode, LaunchError> {
    set_parent_process_death_signal(Some(Signal::TERM))
        .map_err(|errno| LaunchError::system("prctl")(errno.into()))?;
    // It could have ended before the line above.
    if getppid().map(Pid::as_raw_nonzero).map(i32::from) != Some(args.parent) {
        return Ok(ExitCode::SUCCESS);
    }
    let mut words = args.program.iter();
    let path = words.next().map(PathBuf::from).unwrap_or_default();
    let error = Command::new(&path).args(words).exec();
    say(format_args!("{}: {error}", path.display()));
    Err(LaunchError::of_exec(path, error))
}
