//! `socks6 run` and `socks6 shell`.

use std::env;
use std::ffi::OsString;
use std::process::ExitCode;

use crate::args::{HowArgs, RunArgs, ShellArgs};
use crate::elf::Obstacle;
use crate::error::LaunchError;
use crate::job::Job;
use crate::library::Library;
use crate::private;
use crate::program::Program;
use crate::runtime_dir::RuntimeDir;
use crate::say::say;
use crate::settings::{Settings, foreign};
use crate::strict;

/// Runs the command, in this process's place if a gateway is configured, so that nothing stands
/// between it and its parent; else beside a private gateway.
///
/// # Errors
/// Whatever keeps it from being run.
pub(crate) fn run(args: &RunArgs) -> Result<ExitCode, LaunchError> {
    launch(&args.how, &args.command, |_| {})
}

/// Runs the user's shell, and says so: nothing else would tell it from the one outside.
///
/// # Errors
/// As [`run`].
pub(crate) fn shell(args: &ShellArgs) -> Result<ExitCode, LaunchError> {
    let shell = env::var_os("SHELL").filter(|shell| !shell.is_empty());
    let shell = shell.unwrap_or_else(|| "/bin/sh".into());
    launch(&args.how, std::slice::from_ref(&shell), |gateway| {
        say(format_args!(
            "{} under the shim, gateway {gateway}; exit ends it",
            shell.display()
        ));
    })
}

fn launch(
    how: &HowArgs,
    command: &[OsString],
    announce: impl FnOnce(&str),
) -> Result<ExitCode, LaunchError> {
    let settings = Settings::of_run(how)?;
    let job = prepare(how, &settings, command)?;
    if !settings.config.gateways.is_empty() {
        let flat = RuntimeDir::open()?.keep_config(&settings.flat()?)?;
        announce(&settings.gateways_as_named.join(", "));
        if settings.is_strict {
            strict::without_io_uring()?;
        }
        return Err(job.execute(&flat));
    }
    if settings.is_strict {
        return Err(LaunchError::NoGateway(
            "--strict forbids to start a private one",
        ));
    }
    private::run(&job, settings, announce)
}

/// The command with all that makes it run under the shim.
///
/// # Errors
/// If it is not found, or out of reach; or if there is no shim.
pub(crate) fn prepare(
    how: &HowArgs,
    settings: &Settings,
    command: &[OsString],
) -> Result<Job, LaunchError> {
    let (command, arguments) = command.split_first().unzip();
    let command = command.map(OsString::as_os_str).unwrap_or_default();
    let program = Program::find(command)?;
    let library = Library::find(settings.library.as_deref())?;
    let present = env::var_os("LD_PRELOAD").unwrap_or_default();
    let mut preload = library.preload(Some(&present));
    if let Some((path, obstacle)) = program.obstacle() {
        if !how.unprotected || settings.is_strict {
            return Err(LaunchError::OutOfReach { path, obstacle });
        }
        // glibc's loader warns of a library that it cannot load; others end the program.
        let whose = if matches!(obstacle, Obstacle::Loader(_)) {
            preload = present;
            "its connections go direct, and those of what it starts"
        } else {
            "its connections go direct"
        };
        say(format_args!("{}: {obstacle}: {whose}", path.display()));
    }
    let mut job = Job::new(program, command, arguments.unwrap_or_default(), preload);
    if let Some(foreign) = &settings.foreign {
        job.without = foreign::GATEWAYS.to_vec();
        let gateways = settings.gateways_as_named.join(", ");
        say(format_args!("gateway {gateways}, {foreign}"));
    }
    Ok(job)
}
