//! A run with a private gateway on a terminal, where signals go to the whole foreground.

use std::fs::File;
use std::io::{Read, Write as _};
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::installation::{Installation, await_that, is_running};

struct Terminal {
    keyboard: File,
    screen: Arc<Mutex<String>>,
    process: Child,
}

impl Terminal {
    /// A shell with job control on a terminal of its own.
    fn open(here: &Installation) -> Self {
        let master =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let path = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        let side = || File::options().read(true).write(true).open(&path).unwrap();
        let mut command = Command::new("setsid");
        here.prepare(&mut command);
        command.args(["--ctty", "--wait", "bash", "--norc", "--noprofile", "-i"]);
        command.env("PS1", "").env("TERM", "dumb");
        let process = command
            .stdin(side())
            .stdout(side())
            .stderr(side())
            .spawn()
            .unwrap();

        let keyboard = File::from(master);
        let screen = Arc::new(Mutex::new(String::new()));
        let (reader, shown) = (keyboard.try_clone().unwrap(), Arc::clone(&screen));
        thread::spawn(move || show(reader, &shown));
        Self {
            keyboard,
            screen,
            process,
        }
    }

    fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    fn await_text(&self, text: &str) {
        await_that(&format!("{text:?} on the screen"), || {
            self.screen.lock().unwrap().contains(text)
        });
    }

    fn number_after(&self, text: &str) -> i32 {
        let screen = self.screen.lock().unwrap();
        let (_, rest) = screen.split_once(text).unwrap();
        rest.split('.').next().unwrap().parse().unwrap()
    }

    fn count(&self, text: &str) -> usize {
        self.screen.lock().unwrap().matches(text).count()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("on the screen:\n{}", self.screen.lock().unwrap());
        }
        // Closing the last descriptor of the terminal would hang up, but a thread reads on.
        drop(self.keyboard.write_all(b"\x03\nexit\n\x04"));
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

fn show(mut reader: impl Read, screen: &Mutex<String>) {
    let mut octets = [0; 1024];
    while let Ok(len @ 1..) = reader.read(&mut octets) {
        screen
            .lock()
            .unwrap()
            .push_str(&String::from_utf8_lossy(&octets[..len]));
    }
}

/// A shell would take two signals for one if they come close together.
const COUNTING: &str = r#"
#include <signal.h>
#include <stdio.h>
#include <unistd.h>
static void caught(int s) { (void)s; if (write(1, "caught\n", 7)) return; }
int main(void) {
    signal(SIGINT, caught);
    printf("started by %d.\n", (int)getppid());
    fflush(stdout);
    for (;;) pause();
}
"#;

#[test]
fn control_c_reaches_the_command_once() {
    let here = Installation::with_gateway("control-c");
    let counting = here.c_program("counting", COUNTING, &[]);
    let mut terminal = Terminal::open(&here);
    terminal.press(&format!(
        "{} run {}\n",
        here.program().display(),
        counting.display()
    ));
    terminal.await_text(".\r\n");
    // What is passed on goes through the supervisor. Held back, it cannot come together with the
    // terminal's own, and two that come together are one.
    let supervisor = Pid::from_raw(terminal.number_after("started by ")).unwrap();
    kill_process(supervisor, Signal::STOP).unwrap();
    terminal.press("\x03");
    terminal.await_text("caught");
    kill_process(supervisor, Signal::CONT).unwrap();
    thread::sleep(Duration::from_millis(300));
    assert_eq!(terminal.count("caught"), 1);
    assert!(is_running(here.pid(0)), "it reached the gateway");
    terminal.press("\x1c"); // Ctrl-\, which the program leaves at its default
    terminal.await_text("Quit");
}

#[test]
fn control_z_stops_the_job_and_fg_goes_on_with_it() {
    let here = Installation::with_gateway("control-z");
    let mut terminal = Terminal::open(&here);
    terminal.press(&format!(
        "{} run sh -c 'read line; echo read $line'\n",
        here.program().display()
    ));
    terminal.await_text("this run has a private one");
    await_that("the gateway's start", || here.has("pids"));
    thread::sleep(Duration::from_millis(200));
    terminal.press("\x1a");
    terminal.await_text("Stopped");
    terminal.press("echo between; fg\n");
    terminal.await_text("between\r\n");
    thread::sleep(Duration::from_millis(200));
    terminal.press("words\n");
    terminal.await_text("read words");
    terminal.press("echo status $?\n");
    terminal.await_text("status 0");
}
