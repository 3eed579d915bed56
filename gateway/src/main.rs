//! `socks6-gateway`: parse, validate, run, exit code.

use std::fs::File;
use std::io::{self, Write};
use std::panic;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use gateway::{
    Args, ArgsError, Config, Gateway, StartError, Task, raise_descriptor_limit, share_one_heap,
};
use tracing::level_filters::LevelFilter;

fn main() -> ExitCode {
    let args = Args::parse(); // prints and exits with 2 by itself
    let (text, code) = match prepare(&args) {
        Err(error @ ArgsError::Passwd(_)) => (error.to_string(), 1),
        Err(error) => (error.to_string(), 2),
        Ok(None) => return ExitCode::SUCCESS,
        Ok(Some(config)) => match run(config, args) {
            Err(error) => (error.to_string(), 1),
            Ok(()) => return ExitCode::SUCCESS,
        },
    };
    // There is nobody left to be told that this fails.
    writeln!(io::stderr(), "socks6-gateway: {}", text.trim_end()).ok();
    ExitCode::from(code)
}

/// `None` if there is nothing more to do.
fn prepare(args: &Args) -> Result<Option<Config>, ArgsError> {
    match args.task() {
        Task::Run => {
            start_log(args.log_level(), args.open_log_file()?);
            args.config().map(Some)
        }
        Task::Passwd => {
            args.passwd()?;
            Ok(None)
        }
        Task::Check => args.config().map(|_config| None),
        Task::PrintConfig => {
            let text = args.in_force()?;
            // Whoever reads it may have seen enough.
            io::stdout().write_all(text.as_bytes()).ok();
            Ok(None)
        }
    }
}

fn run(config: Config, args: Args) -> Result<(), StartError> {
    raise_descriptor_limit();
    share_one_heap();
    let mut gateway = Gateway::bind(config)?;
    gateway.reload_with(move || args.config().map_err(|error| error.to_string()));
    gateway
        .shutdown()
        .on_signals()
        .map_err(StartError::Signals)?;
    let mut stdout = io::stdout().lock();
    for address in gateway.local_addrs() {
        // A gateway works as well for somebody who has closed its standard output.
        writeln!(stdout, "listening on {address}").ok();
    }
    stdout.flush().ok();
    drop(stdout);
    gateway.run()
}

fn start_log(level: LevelFilter, file: Option<File>) {
    let log = tracing_subscriber::fmt()
        // A log that cannot be written to is no reason to end, and there is nowhere to say so.
        .log_internal_errors(false)
        .with_max_level(level)
        .with_target(false)
        .with_ansi(false);
    match file {
        Some(file) => log.with_writer(Arc::new(file)).init(),
        None => log.with_writer(io::stderr).init(),
    }
    // One line for a panic too, where the other lines are.
    panic::set_hook(Box::new(|panic| {
        let at = panic.location().map(tracing::field::display);
        tracing::error!(at, "panic: {}", panic.payload_as_str().unwrap_or("no text"));
    }));
}
