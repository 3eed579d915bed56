//! `socks6-gateway`: parse, validate, run, exit code.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use gateway::{
    Again, Args, ArgsError, Config, Gateway, Inherited, Log, Manager, Needs, Report, StartError,
    Task, confine, raise_descriptor_limit, share_one_heap,
};

fn main() -> ExitCode {
    let mut args = Args::parse(); // prints and exits with 2 by itself
    let mut report = Report::default();
    let (text, code) = match prepare(&mut args, &mut report) {
        Err(error @ ArgsError::Passwd(_)) => (error.to_string(), 1),
        Err(error) => (error.to_string(), 2),
        Ok(None) => return ExitCode::SUCCESS,
        Ok(Some(start)) => match run(start, args) {
            Err(error) => (error.to_string(), 1),
            Ok(()) => return ExitCode::SUCCESS,
        },
    };
    report.failed(&text);
    // There is nobody left to be told that this fails.
    writeln!(io::stderr(), "socks6-gateway: {}", text.trim_end()).ok();
    ExitCode::from(code)
}

/// What a gateway is started with.
struct Start {
    config: Config,
    log: Log,
    inherited: Inherited,
    needs: Needs,
    again: Again,
}

/// `None` if there is nothing more to do.
fn prepare(args: &mut Args, report: &mut Report) -> Result<Option<Start>, ArgsError> {
    match args.task() {
        Task::Run => {
            // First of all, as long as no other descriptor can be mistaken for one of them.
            let inherited = Inherited::from_environment()?;
            *report = inherited.report();
            args.listen_too(inherited.addresses());
            let (config, log) = args.start()?;
            let again = Again::from_environment();
            let needs = Needs {
                log: log.file(),
                binary: again.binary().to_owned(),
            };
            Ok(Some(Start {
                config,
                log,
                inherited,
                needs,
                again,
            }))
        }
        Task::Passwd => {
            args.passwd()?;
            Ok(None)
        }
        Task::Check => args.config().map(|_config| None),
        Task::Print => {
            let text = args.printed()?;
            // Whoever reads it may have seen enough.
            io::stdout().write_all(text.as_bytes()).ok();
            Ok(None)
        }
    }
}

fn run(start: Start, args: Args) -> Result<(), StartError> {
    let Start {
        config,
        log,
        inherited,
        needs,
        mut again,
    } = start;
    raise_descriptor_limit();
    share_one_heap();
    let (process, was_in_sandbox) = (config.process().clone(), inherited.is_in_sandbox());
    let mut gateway = Gateway::adopt(config, inherited)?;
    // With the listeners bound, which may take privileges, and before the first thread.
    again.is_in_sandbox(confine(&process, &needs, was_in_sandbox)?);
    gateway.report_to(Manager::from_environment());
    gateway.upgrade_with(again);
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
