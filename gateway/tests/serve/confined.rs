//! What the binary gives up once it listens.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::thread;

use rustix::process::{Pid, Signal, geteuid};

use crate::binary::{BINARY, Binary, Folder};
use crate::harness::{connect, echo, read_reply, request_by_name, until};
use crate::managed::is_served;
use crate::upgrading::Line;
use crate::users::{CHEAP, login};
use crate::watching::curl;

const LISTEN: &str = "listen = [\"127.0.0.1:0\"]\n";

fn reload(gateway: &Binary) -> String {
    let seen = gateway.log().len();
    let said = || gateway.log()[seen..].to_owned();
    gateway.signal(Signal::HUP);
    until("reloaded", || said().contains("reloaded"));
    said()
}

#[test]
fn only_what_is_needed_again_is_in_reach() {
    let (here, elsewhere) = (Folder::new("here"), Folder::new("elsewhere"));
    let users = elsewhere.write("users", "alice:s3cret\n");
    let with_users = format!("password-file = \"{users}\"\n{LISTEN}");
    for (process, is_in_reach) in [("", false), ("[process]\nsandbox = false\n", true)] {
        let file = here.write("gateway.toml", &format!("{LISTEN}{process}"));
        let gateway = Binary::start(&["--config", &file]);
        here.write("gateway.toml", &format!("{with_users}{process}"));
        let said = reload(&gateway);
        assert_eq!(said.contains("INFO reloaded"), is_in_reach, "{said}");
        assert_eq!(said.contains("Permission denied"), !is_in_reach, "{said}");
    }
    // From the start on it is, and so is an upstream's.
    let third = Folder::new("third");
    let password = third.write("users", "s3cret\n");
    let upstream = format!(
        "[[upstream]]\nname = \"hq\"\naddress = \"192.0.2.1:1080\"\nuser = \"gw\"\npassword-file = \"{password}\"\n"
    );
    let text = format!("{with_users}{upstream}");
    let gateway = Binary::start(&["--config", &here.write("gateway.toml", &text)]);
    for folder in [&here, &elsewhere, &third] {
        for name in ["gateway.toml", "users"] {
            // As editors and package managers do it.
            if let Ok(text) = fs::read_to_string(folder.path(name)) {
                fs::rename(folder.write("new", &text), folder.path(name)).unwrap();
            }
        }
    }
    assert!(reload(&gateway).contains("INFO reloaded"));
}

/// `--config <(…)` of a shell: what can be read once is read once.
#[test]
fn a_configuration_may_come_from_a_pipe() {
    let folder = Folder::new("pipe");
    let pipe = folder.path("pipe");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, 0o600.into()).unwrap();
    let writer = thread::spawn({
        let pipe = pipe.clone();
        move || fs::write(pipe, LISTEN).unwrap()
    });
    // It must not wait for a second writer for ever, and neither must this test.
    let timeout = ["-k", "1", "5", BINARY, "--config", pipe.to_str().unwrap()];
    let mut child = Command::new("timeout")
        .args(timeout)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert!(line.starts_with("listening on "), "{line:?}");
    let timeout = Pid::from_child(&child);
    rustix::process::kill_process(timeout, Signal::TERM).unwrap();
    child.wait().unwrap();
    writer.join().unwrap();
}

/// Everything else here, and all that starts the binary, is done behind the filter.
#[test]
fn system_calls_are_filtered_once_however_many_successors_there_are() {
    let filters = |pid| status(pid, "Seccomp_filters:")[0].parse::<u32>().unwrap();
    let own = filters(rustix::process::getpid());
    let folder = Folder::new("calls");
    for (process, more) in [("", 2), ("[process]\nsandbox = false\n", 0)] {
        let file = folder.write("gateway.toml", &format!("{LISTEN}{process}"));
        let gateway = Binary::start(&["--config", &file]);
        let mut line = Line::new(&gateway);
        line.upgrade();
        line.upgrade();
        is_served(gateway.address());
        for pid in [gateway.pid(), line.last()] {
            assert_eq!(filters(pid), own + more, "{process}");
            // 2 is SECCOMP_MODE_FILTER.
            let mode = status(pid, "Seccomp:");
            assert_eq!(mode, [if own + more > 0 { "2" } else { "0" }]);
        }
    }
}

/// By a successor that tries.
#[test]
fn a_system_call_that_is_denied_fails() {
    let folder = Folder::new("denied");
    let (binary, unshare) = (folder.path("gateway"), folder.path("unshare"));
    symlink(BINARY, &binary).unwrap();
    fs::copy("/usr/bin/unshare", &unshare).unwrap();
    let gateway = Binary::start_command(Command::new(&binary), &[]);
    fs::remove_file(&binary).unwrap();
    // Its interpreter and it: of what is in reach both can be started.
    folder.write("gateway", &format!("#!{} --user\n", unshare.display()));
    fs::set_permissions(&binary, PermissionsExt::from_mode(0o755)).unwrap();
    gateway.signal(Signal::USR2);
    gateway.wait_for_log("unshare failed: Function not implemented");
    gateway.wait_for_log("not upgraded, and nothing has changed: ");
    is_served(gateway.address());
}

/// The resolver reads its files when it is asked, and loads modules.
#[test]
fn names_are_found_in_the_sandbox() {
    let gateway = Binary::start(&["--log", "debug"]);
    let mut client = connect(gateway.address());
    client
        .write_all(&request_by_name("localhost", echo().port()))
        .unwrap();
    assert_eq!(read_reply(&mut client), 0x00);
    gateway.wait_for_log("in a sandbox");
}

#[test]
fn the_log_is_made_anew_by_a_successor() {
    let folder = Folder::new("rotated");
    let log = folder.path("gateway.log");
    let gateway = Binary::start(&["--log-file", log.to_str().unwrap()]);
    is_served(gateway.address());
    fs::rename(&log, folder.path("gateway.log.1")).unwrap();
    gateway.signal(Signal::USR2);
    until("a new log", || log.exists());
    let old = || fs::read_to_string(folder.path("gateway.log.1")).unwrap();
    until("upgraded", || old().contains("upgraded successor="));
    let said = old();
    let (_, rest) = said.split_once("upgraded successor=").unwrap();
    let pid = Pid::from_raw(rest.lines().next().unwrap().parse().unwrap()).unwrap();
    rustix::process::kill_process(pid, Signal::KILL).unwrap();
}

/// A line of /proc/PID/status, without its blanks.
fn status(pid: Pid, field: &str) -> Vec<String> {
    let status = fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(field))
        .unwrap();
    line.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn it_is_somebody_else_s_once_it_listens() {
    if !geteuid().is_root() {
        testkit::skipped("only root can become somebody else");
        return;
    }
    let folder = Folder::new("user");
    let log = folder.path("gateway.log");
    let port = privileged(800);
    let text = format!("listen = [\"{port}\"]\n[process]\nuser = \"nobody\"\n");
    let file = folder.write("gateway.toml", &text);
    let gateway = Binary::start(&["--config", &file]);
    let mut line = Line::new(&gateway);
    line.upgrade();
    line.upgrade();
    is_served(port);
    rustix::process::kill_process(line.last(), Signal::HUP).unwrap();
    gateway.wait_for_log("INFO reloaded");
    for pid in [gateway.pid(), line.last()] {
        assert_eq!(status(pid, "Uid:"), ["65534"; 4]);
        assert_eq!(status(pid, "Gid:"), ["65534"; 4]);
        assert_eq!(status(pid, "Groups:"), ["65534"]);
        assert_eq!(status(pid, "CapEff:"), ["0000000000000000"]);
        assert_eq!(status(pid, "NoNewPrivs:"), ["1"]);
    }
    drop(line);

    let own = format!("{LISTEN}[process]\nuser = \"nobody\"\n");
    let file = folder.write("own.toml", &own);
    let _gateway = Binary::start(&["--config", &file, "--log-file", log.to_str().unwrap()]);
    assert_eq!(fs::metadata(&log).unwrap().uid(), 65534);
}

/// A free port from here on that nobody but root may bind.
fn privileged(first: u16) -> SocketAddr {
    let mut ports = (first..1024).map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
    ports.find(|it| TcpListener::bind(it).is_ok()).unwrap()
}

/// The log, who watches and who logs in have all that they need, after a reload and in a successor too.
#[test]
fn nothing_of_it_is_missed() {
    if !geteuid().is_root() {
        testkit::skipped("only root can become somebody else");
        return;
    }
    let (folder, watched) = (Folder::new("missed"), privileged(600));
    let (log, old) = (folder.path("gateway.log"), folder.path("gateway.log.1"));
    let text = format!(
        "{LISTEN}password-file = \"users\"\n[log]\nfile = \"gateway.log\"\n[process]\nuser = \"nobody\"\n\
         [metrics]\nlisten = \"{watched}\"\n"
    );
    let file = folder.write("gateway.toml", &text);
    folder.write("users", CHEAP);
    chown(folder.path("."), Some(65534), Some(65534)).unwrap();
    let gateway = Binary::start(&["--config", &file]);
    let said = || fs::read_to_string(&log).unwrap_or_default();
    let goes_on = |accepted: u32| {
        let mut client = connect(gateway.address());
        assert_eq!(login(&mut client, "alice", "s3cret"), 0x00);
        let row = format!("\nsocks6_clients_accepted_total {accepted}\n");
        let figures = || curl(watched, "/metrics", &[]);
        until("it is counted", || figures().contains(&row));
        assert!(figures().contains("\nprocess_open_fds "), "{}", figures());
    };
    goes_on(1);

    fs::rename(&log, &old).unwrap();
    gateway.signal(Signal::HUP);
    until("reloaded", || said().contains("INFO reloaded"));
    assert_eq!(fs::metadata(&log).unwrap().uid(), 65534);

    gateway.signal(Signal::USR2);
    until("upgraded", || said().contains("upgraded successor="));
    let successor = said();
    let (_, successor) = successor.split_once("upgraded successor=").unwrap();
    let successor = successor.lines().next().unwrap().parse().unwrap();
    let successor = Pid::from_raw(successor).unwrap();
    // Threads of the old one may wait for clients a little longer.
    until("the old one is gone", || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", gateway.pid().as_raw_nonzero()));
        stat.map_or(true, |stat| stat.contains(") Z "))
    });
    goes_on(1);
    rustix::process::kill_process(successor, Signal::KILL).unwrap();
}

#[test]
fn an_unknown_user_is_an_error() {
    let folder = Folder::new("unknown");
    let file = folder.write(
        "gateway.toml",
        &format!("{LISTEN}[process]\nuser = \"no-such-user\"\n"),
    );
    let output = Command::new(BINARY)
        .args(["--config", &file])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        text.contains("cannot become user no-such-user: no such user"),
        "{text}"
    );
}

#[test]
fn a_crash_writes_no_memory_to_a_file() {
    let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    // Where dumps are written to the working folder it can be seen that there would be one.
    let rows = [("false", false), ("true", !pattern.starts_with(['/', '|']))];
    for (core_dumps, is_dumped) in rows {
        let folder = Folder::new("core");
        let text = format!("{LISTEN}[process]\nsandbox = false\ncore-dumps = {core_dumps}\n");
        let file = folder.write("gateway.toml", &text);
        let here = folder.path("");
        let script = format!("cd {} && ulimit -c unlimited; exec \"$@\"", here.display());
        let mut gateway = Binary::start_by(&script, BINARY, &["--config", &file]);
        gateway.signal(Signal::ABORT);
        let status = gateway.exit_status();
        assert!(!is_dumped || status.core_dumped(), "{core_dumps}: {status}");
        assert!(
            core_dumps == "true" || !status.core_dumped(),
            "{core_dumps}: {status}"
        );
    }
}
