//! `socks6`.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    launcher::main()
}
