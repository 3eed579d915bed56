//! `socks6-gateway`: parse, validate, run, exit code.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use gateway::{Args, ArgsError, Config, Gateway, Log, StartError, Task, raise_descriptor_limit};

fn main() -> ExitCode {
    let args = Args::parse(); // prints and exits with 2 by itself
    let (text, code) = match prepare(&args) {
        Err(error) => (error.to_string(), 2),
        Ok(None) => return ExitCode::SUCCESS,
        Ok(Some((config, log))) => match run(config, log, args) {
            Err(error) => (error.to_string(), 1),
            Ok(()) => return ExitCode::SUCCESS,
        },
    };
    // There is nobody left to be told that this fails.
    writeln!(io::stderr(), "socks6-gateway: {}", text.trim_end()).ok();
    ExitCode::from(code)
}

/// `None` if there is nothing more to do.
fn prepare(args: &Args) -> Result<Option<(Config, Log)>, ArgsError> {
    match args.task() {
        Task::Run => {
            // First: there may be something to be said of the rest.
            let log = Log::start(&args.log()?)?;
            Ok(Some((args.config()?, log)))
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

fn run(config: Config, log: Log, args: Args) -> Result<(), StartError> {
    raise_descriptor_limit();
    let mut gateway = Gateway::bind(config)?;
    gateway.log_with(log);
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
    if let Some(address) = gateway.status_addr() {
        writeln!(stdout, "status on http://{address}/").ok();
    }
    stdout.flush().ok();
    drop(stdout);
    gateway.run()
}
