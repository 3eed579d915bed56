//! `socks6 audit`; what it finds is in the system tests.

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::ExitStatusExt as _;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};

use crate::installation::{Installation, Running, await_that, is_running};

/// docs/configuration.md: "What ends an audit ends the command": neither strace nor the gateway's password is left.
#[test]
fn nothing_is_left_of_an_audit_that_is_ended_by_a_signal() {
    let here = Installation::new("audit");
    for signal in [Signal::TERM, Signal::HUP] {
        let mut audit = here.sh(
            "audit --gateway socks5://u:pw@127.0.0.1:9 --",
            "echo $$ $PPID; exec sleep 60",
        );
        let audit = audit.stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut audit = Running(audit.unwrap());
        let mut line = String::new();
        let mut stdout = BufReader::new(audit.0.stdout.take().unwrap());
        stdout.read_line(&mut line).unwrap();
        let pids: Vec<i32> = line
            .split_whitespace()
            .map(|pid| pid.parse().unwrap())
            .collect();
        assert_eq!((pids.len(), here.run_folders()), (2, 1), "{line}");

        kill_process(Pid::from_raw(audit.pid()).unwrap(), signal).unwrap();
        await_that("the end of command and strace", || {
            pids.iter().all(|pid| !is_running(*pid))
        });
        assert_eq!(audit.end().signal(), Some(signal.as_raw()));
        assert_eq!(here.run_folders(), 0);
    }
}
