//! `socks6`: runs programs under libsocks6.so. The command is this library with a `main`, so that what is in it can be
//! reached from outside: `fuzzing` is.

#![forbid(unsafe_code)]

mod args;
mod audit;
mod beside;
mod check;
mod elf;
mod error;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod import;
mod job;
mod library;
mod outer;
mod private;
mod probe;
mod program;
mod run;
mod runtime_dir;
mod say;
mod settings;
mod strict;
mod table;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Args, Command};
use crate::error::FAILED;

/// The command, from its arguments to its exit status.
#[must_use]
pub fn main() -> ExitCode {
    outer::leave();
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            // A failure to print has nowhere to be told.
            drop(error.print());
            return if error.use_stderr() {
                FAILED.into()
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    // For ps and top, where it would be `exe` after an exec of /proc/self/exe.
    let _named = rustix::thread::set_name(c"socks6");
    let result = match args.command {
        Command::Run(args) => run::run(&args),
        Command::Shell(args) => run::shell(&args),
        Command::Check(args) => check::check(&args),
        Command::Audit(args) => audit::audit(&args),
        Command::Import(args) => import::import(&args),
        Command::Table(args) => table::table(&args),
        Command::Supervise(args) => private::supervise(args),
        Command::Keep(args) => private::keep(&args),
        Command::Bound(args) => private::bound(&args),
    };
    result.unwrap_or_else(|error| {
        say::say(&error);
        error.exit_code().into()
    })
}
