//! A run with a private gateway: what passes through, and when the gateway ends.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::installation::{
    Bounded as _, Installation, Running, await_that, is_running, read_all, state, stderr, stdout,
};

/// Says `ready PID PPID`, and goes on until it is told to end.
const WAITING: &str = "trap 'exit 9' TERM; echo ready $$ $PPID; while :; do sleep 0.02; done";

fn kill(pid: i32, signal: Signal) {
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}

/// Starts a script and gives the numbers of its first line.
fn start(here: &Installation, script: &str) -> (Running, Vec<i32>) {
    let mut sh = here.sh("run", script);
    let child = sh
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut run = Running(child);
    let mut line = String::new();
    BufReader::new(run.0.stdout.as_mut().unwrap())
        .read_line(&mut line)
        .unwrap();
    let numbers = line
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect();
    (run, numbers)
}

fn await_the_end(here: &Installation) {
    await_that("the gateway's end", || !is_running(here.pid(0)));
    await_that("the folder's removal", || here.run_folders() == 0);
}

#[test]
fn status_and_signal_and_standard_streams_pass_through() {
    let here = Installation::with_gateway("through");
    let output = here.sh("run", "echo out; exit 7").bounded();
    assert_eq!(output.status.code(), Some(7));
    assert_eq!(stdout(&output), "out\n");
    let said = stderr(&output);
    assert!(
        said.starts_with("socks6: no gateway is configured: "),
        "{said}"
    );
    assert!(
        said.ends_with("127.0.0.1:9\n") && said.lines().count() == 1,
        "{said}"
    );
    await_the_end(&here);

    for signal in [1, 2, 9, 11, 15, 34] {
        let status = here
            .sh("run", &format!("kill -{signal} $$"))
            .bounded()
            .status;
        assert_eq!(status.signal(), Some(signal));
    }
    let mut copy = here.sh("run", "cat");
    let text = fs::File::open("/proc/self/status").unwrap();
    let output = copy.stdin(text).bounded();
    assert!(stdout(&output).starts_with("Name:"));

    for (command, code) in [("no-such-command", 127), ("/", 126)] {
        assert_eq!(
            here.socks6("run").arg(command).bounded().status.code(),
            Some(code)
        );
    }
    // This one is only found out by executing it.
    let orphan = here.script("orphan", "#!/no/such/interpreter\n");
    let status = here
        .socks6("run --unprotected")
        .arg(orphan)
        .bounded()
        .status;
    assert_eq!(status.code(), Some(127));
    await_the_end(&here);
}

#[test]
fn the_gateway_outlives_the_command_for_a_daemon_that_has_left_everything() {
    let here = Installation::with_gateway("daemon");
    let root = here.root.display();
    let daemon = format!(
        "exec 0<&- 1>&- 2>&-; cd /; while [ ! -e {root}/stop ]; do sleep 0.02; done; \
         echo $SOCKS6_CONFIG > {root}/daemon"
    );
    // The session leader ends as well: nothing is left of the first generations.
    let script = format!("setsid sh -c '({daemon}) &' & wait; exit 3");
    // Comes to an end although daemon, supervisor and keeper live: nobody else holds the pipes.
    let output = here.sh("run", &script).bounded();
    assert_eq!(output.status.code(), Some(3));
    thread::sleep(Duration::from_millis(300));
    assert!(is_running(here.pid(0)));
    assert!(!here.has("ended"));

    fs::write(here.root.join("stop"), "").unwrap();
    await_the_end(&here);
    assert!(here.has("ended"), "it was not asked to end");
    assert!(here.read("daemon").contains("/run-"));
}

#[test]
fn an_orphans_end_is_not_the_commands() {
    let here = Installation::with_gateway("orphan");
    let (run, _) = start(&here, "echo; (sh -c 'exit 5' &); sleep 0.3; exit 3");
    assert_eq!(run.end().code(), Some(3));
}

#[test]
fn the_gateway_of_a_run_within_another_is_not_under_its_shim() {
    let here = Installation::with_gateway("inner");
    let inner = format!("unset SOCKS6_CONFIG; {} run true", here.program().display());
    assert!(
        here.sh("run --gateway 192.0.2.1", &inner)
            .bounded()
            .status
            .success()
    );
    assert_eq!(here.read("preload"), "\n");
}

#[test]
fn a_pipe_closes_when_the_command_closes_it() {
    let here = Installation::with_gateway("pipe");
    let script = "exec <&- >&- 2>&-; while :; do sleep 0.02; done";
    let mut sh = here.sh("run", script);
    let child = sh
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut run = Running(child.unwrap());
    assert_eq!(read_all(run.0.stdout.take().unwrap()), "");
    assert!(read_all(run.0.stderr.take().unwrap()).starts_with("socks6: no gateway"));
    let mut stdin = run.0.stdin.take().unwrap();
    await_that("the pipe's end", || stdin.write_all(b"x").is_err());
    assert!(is_running(run.pid()));
    kill(run.pid(), Signal::TERM);
    assert_eq!(run.end().signal(), Some(15));
    await_the_end(&here);
}

#[test]
fn signals_are_passed_on() {
    let here = Installation::with_gateway("signals");
    let (child, _) = start(&here, WAITING);
    kill(child.pid(), Signal::TERM);
    assert_eq!(child.end().code(), Some(9));

    let script = "trap 'echo got; exit 4' USR2; echo ready; while :; do sleep 0.02; done";
    let (mut child, _) = start(&here, script);
    kill(child.pid(), Signal::USR2);
    assert_eq!(read_all(child.0.stdout.take().unwrap()), "got\n");
    assert_eq!(child.end().code(), Some(4));
    await_the_end(&here);
}

#[test]
fn what_the_parent_ignores_the_command_ignores() {
    let here = Installation::with_gateway("ignored");
    let mut sh = std::process::Command::new("sh");
    here.prepare(&mut sh);
    let script = "trap '' HUP INT; \"$0\" run sh -c 'kill -HUP $$; kill -INT $$; echo alive'";
    let output = sh.args(["-c", script]).arg(here.program()).bounded();
    assert_eq!(stdout(&output), "alive\n");
}

#[test]
fn stopped_and_continued_as_one() {
    let here = Installation::with_gateway("stopped");
    let (child, command) = start(&here, "echo $$; kill -STOP $$; exit 6");
    await_that("the stop", || state(child.pid()) == Some('T'));
    assert_eq!(state(command[0]), Some('T'));
    kill(child.pid(), Signal::CONT);
    assert_eq!(child.end().code(), Some(6));

    let (child, command) = start(&here, WAITING);
    kill(child.pid(), Signal::TSTP);
    await_that("the stop", || state(child.pid()) == Some('T'));
    assert_eq!(state(command[0]), Some('T'));
    kill(child.pid(), Signal::CONT);
    kill(child.pid(), Signal::TERM);
    assert_eq!(child.end().code(), Some(9));
}

#[test]
fn whatever_is_killed_nothing_is_left_over() {
    let here = Installation::with_gateway("killed");
    // In place of the command: the command goes with it.
    let (child, numbers) = start(&here, WAITING);
    kill(child.pid(), Signal::KILL);
    assert_eq!(child.end().signal(), Some(9));
    await_that("the command's end", || !is_running(numbers[0]));
    await_the_end(&here);

    // The supervisor: without it nobody would know when to end.
    let (child, numbers) = start(&here, WAITING);
    kill(numbers[1], Signal::KILL);
    assert_eq!(child.end().code(), Some(125));
    await_the_end(&here);
    kill(numbers[0], Signal::KILL);

    // The keeper: the gateway goes with it, the command goes on.
    let (child, _) = start(&here, WAITING);
    kill(here.pid(1), Signal::KILL);
    await_that("the gateway's end", || !is_running(here.pid(0)));
    kill(child.pid(), Signal::TERM);
    assert_eq!(child.end().code(), Some(9));
    fs::remove_dir_all(here.root.join("run/socks6")).unwrap(); // which the keeper would have done
}

#[test]
fn who_tells_everybody_to_end_ends_the_command_first() {
    let here = Installation::with_gateway("everybody");
    let (child, numbers) = start(&here, WAITING);
    let (command, supervisor, keeper) = (numbers[0], numbers[1], here.pid(1));
    // As systemd does, in whatever order; the gateway then drains what is left.
    kill(supervisor, Signal::TERM);
    kill(keeper, Signal::TERM);
    thread::sleep(Duration::from_millis(200));
    assert!(is_running(supervisor) && is_running(keeper) && is_running(command));
    kill(command, Signal::TERM);
    assert_eq!(child.end().code(), Some(9));
    await_the_end(&here);
}

#[test]
fn a_gateway_that_does_not_start_is_told_and_nothing_runs() {
    let here = Installation::new("stillborn");
    let run = || here.sh("run", "echo ran").bounded();
    for (script, words) in [
        (None, "socks6-gateway is not in"),
        (
            Some("echo out of luck >&2; exit 1"),
            "did not start: out of luck",
        ),
        (Some("exit 0"), "it said nothing"),
    ] {
        if let Some(script) = script {
            here.gateway(script);
        }
        let output = run();
        assert_eq!(output.status.code(), Some(125));
        let said = stderr(&output);
        assert!(said.contains(words) && said.lines().count() == 1, "{said}");
        assert_eq!(stdout(&output), "");
        await_that("the folder's removal", || here.run_folders() == 0);
    }
}

#[test]
fn the_password_is_nowhere_but_in_files_of_this_user() {
    let here = Installation::with_gateway("password");
    let script = "echo ready; read line; cat $SOCKS6_CONFIG; stat -c %a $SOCKS6_CONFIG \
                  ${SOCKS6_CONFIG%/*} ${SOCKS6_CONFIG%/*}/logins";
    let mut run = here.sh("run", script);
    let child = run
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    await_that("the gateway's start", || here.has("pids"));
    let folder = fs::read_dir(here.root.join("run/socks6"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap();
    let logins = fs::read_to_string(folder.path().join("logins")).unwrap();
    let password = logins.trim().split_once(':').unwrap().1.to_owned();
    assert!(password.len() >= 32);
    for process in fs::read_dir("/proc").unwrap().map(Result::unwrap) {
        for file in ["cmdline", "environ"] {
            let text = fs::read(process.path().join(file)).unwrap_or_default();
            let is_there = text
                .windows(password.len())
                .any(|part| part == password.as_bytes());
            assert!(!is_there, "{}/{file}", process.path().display());
        }
    }
    let output = child.wait_with_output().unwrap();
    let said = stdout(&output);
    assert!(said.contains(&format!(
        "gateway socks5://socks6:{password}@127.0.0.1:9?pipelined\n"
    )));
    assert!(said.ends_with("600\n700\n600\n"), "{said}");
    assert!(here.read("arguments").starts_with("--listen 127.0.0.1:0 "));
    assert!(!stderr(&output).contains(&password));
}
