//! The binary: what it says, what it writes to its log, how it exits.

use std::env;
use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{self, Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{PATIENCE, connect, echo, nobody, read, read_reply, request, until};

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_socks6-gateway");

/// A running socks6-gateway, killed with this value.
pub(crate) struct Binary {
    child: Child,
    listeners: Vec<SocketAddr>,
    log: Arc<Mutex<String>>,
}

impl Binary {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::start_by("exec \"$@\"", BINARY, arguments)
    }

    /// By a shell script that ends with `exec … "$@"`, after it has lowered a limit, say.
    pub(crate) fn start_by(script: &str, binary: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh", binary]);
        Self::start_command(command, arguments)
    }

    /// By a command that takes these arguments besides its own, and becomes the gateway.
    pub(crate) fn start_command(mut command: Command, arguments: &[&str]) -> Self {
        if !arguments.contains(&"--listen") && !arguments.contains(&"--config") {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        command
            .args(["--allow-destination", "127.0.0.0/8"])
            .args(arguments);
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let expected = arguments
            .iter()
            .filter(|it| **it == "--listen")
            .count()
            .max(1);
        let listeners = BufReader::new(child.stdout.take().unwrap())
            .lines()
            .take(expected)
            .map(|line| {
                line.unwrap()
                    .strip_prefix("listening on ")
                    .unwrap()
                    .parse()
                    .unwrap()
            })
            .collect();
        let log = Arc::new(Mutex::new(String::new()));
        let mut stderr = child.stderr.take().unwrap();
        thread::spawn({
            let log = Arc::clone(&log);
            move || {
                let mut octets = [0; 4096];
                while let Ok(received) = stderr.read(&mut octets)
                    && received > 0
                {
                    log.lock()
                        .unwrap()
                        .push_str(&String::from_utf8_lossy(&octets[..received]));
                }
            }
        });
        Self {
            child,
            listeners,
            log,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.listeners[0]
    }

    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    pub(crate) fn wait_for_log(&self, text: &str) {
        until(text, || self.log().contains(text));
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    pub(crate) fn descriptors(&self) -> usize {
        self.count("fd")
    }

    pub(crate) fn threads(&self) -> usize {
        self.count("task")
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    fn count(&self, what: &str) -> usize {
        fs::read_dir(format!("/proc/{}/{what}", self.child.id()))
            .unwrap()
            .count()
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub(crate) fn exit_status(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(start.elapsed() < PATIENCE, "it does not exit");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Binary {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A folder for a test's files, deleted with this value.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = format!("socks6-gateway-{}-{name}-{number}", process::id());
        let path = env::temp_dir().join(folder);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.0.join(file)
    }

    /// Writes a file, and says where it is.
    pub(crate) fn write(&self, file: &str, text: &str) -> String {
        let path = self.path(file);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

/// Exit code and standard error of a gateway that does not get as far as running.
fn fails(arguments: &[&str]) -> (i32, String) {
    let output = Command::new(BINARY).args(arguments).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    (output.status.code().unwrap(), text)
}

#[test]
fn each_listener_is_announced_and_can_be_reached() {
    let gateway = Binary::start(&["--listen", "127.0.0.1:0", "--listen", "[::1]:0"]);
    assert_eq!(gateway.listeners.len(), 2);
    for listener in &gateway.listeners {
        let mut client = connect(*listener);
        client.write_all(&request(echo())).unwrap();
        assert_eq!(read_reply(&mut client), 0x00);
    }
}

#[test]
fn a_relay_is_one_line_in_the_log() {
    let gateway = Binary::start(&[]);
    let to = echo();
    let mut client = connect(gateway.address());
    let port = to.port().to_be_bytes();
    let by_name = [
        &[0x05, 0x01, 0x00, 0x05, 0x01, 0x00, 0x03, 0x09],
        b"localhost".as_slice(),
        &port,
    ];
    client.write_all(&by_name.concat()).unwrap();
    assert_eq!(read_reply(&mut client), 0x00);
    client.write_all(b"hello").unwrap();
    read(&mut client, 5);
    let own = client.local_addr().unwrap();
    drop(client);

    gateway.wait_for_log(" end=");
    let log = gateway.log();
    let line = log.lines().next().unwrap();
    for field in [
        format!(" client={own} "),
        " socks=5 cmd=CONNECT atyp=03 ".to_owned(),
        format!(" destination=localhost:{} ", to.port()),
        format!(" address={to} family=v4 rep=00 to_destination=5 to_client=5 "),
        " ms=".to_owned(),
        " end=orderly".to_owned(),
    ] {
        assert!(line.contains(&field), "{field:?} is not in {line:?}");
    }
    assert_eq!(log.lines().count(), 1, "{log}");
}

#[test]
fn a_relay_that_failed_is_one_line_in_the_log_with_its_reason() {
    let gateway = Binary::start(&[]);
    for (to, expected) in [
        (nobody().to_string(), "rep=05"),
        (
            "198.18.0.7:80".to_owned(),
            "this client's Socks Lib is misconfigured",
        ),
    ] {
        let mut client = connect(gateway.address());
        client.write_all(&request(to.parse().unwrap())).unwrap();
        read_reply(&mut client);
        gateway.wait_for_log(&format!(" destination={to} "));
        let log = gateway.log();
        let lines: Vec<_> = log.lines().filter(|line| line.contains(&to)).collect();
        assert_eq!(lines.len(), 1, "{log}");
        assert!(
            lines[0].contains(expected) && lines[0].contains(" error="),
            "{log}"
        );
    }
}

#[test]
fn names_and_users_cannot_forge_a_line_of_the_log() {
    let gateway = Binary::start(&[]);
    let mut client = connect(gateway.address());
    let name = b"a b\nclient=1.2.3.4\x1b[2J";
    let head = [0x05, 0x01, 0x00, 0x05, 0x01, 0x00, 0x03, name.len() as u8];
    client
        .write_all(&[head.as_slice(), name, &[0, 80]].concat())
        .unwrap();
    read_reply(&mut client);
    gateway.wait_for_log(" end=");
    let log = gateway.log();
    assert_eq!(log.lines().count(), 1, "{log}");
    assert!(
        log.contains(r"destination=a\x20b\x0aclient=1.2.3.4\x1b[2J:80 "),
        "{log}"
    );
    drop(gateway);

    let file = PasswordFile::new("users", "alice:s3cret");
    let gateway = Binary::start(&["--password-file", file.path()]);
    let mut client = connect(gateway.address());
    let user = b"a rep=00\n";
    let head = [0x05, 0x01, 0x02, 0x01, user.len() as u8];
    client
        .write_all(&[head.as_slice(), user, &[1, b'x']].concat())
        .unwrap();
    gateway.wait_for_log(" end=");
    let log = gateway.log();
    let lines = log.lines().filter(|line| !line.contains("in plain"));
    assert!(
        log.contains(r" user=a\x20rep=00\n ") && lines.count() == 1,
        "{log}"
    );
}

/// A file with this value's lifetime.
pub(crate) struct PasswordFile(PathBuf);

impl PasswordFile {
    pub(crate) fn new(name: &str, text: &str) -> Self {
        let path = env::temp_dir().join(format!("socks6-gateway-{}-{name}", process::id()));
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for PasswordFile {
    fn drop(&mut self) {
        fs::remove_file(&self.0).ok();
    }
}

#[test]
fn passwords_come_from_a_file_of_users_or_from_one_users_own() {
    let users = PasswordFile::new("all", "a:x\nalice:s3cret\n");
    let own = PasswordFile::new("own", "s3cret\n");
    let all = ["--password-file", users.path()];
    let single = ["--user", "alice", "--password-file", own.path()];
    for arguments in [&all[..], &single[..]] {
        let gateway = Binary::start(arguments);
        let mut client = connect(gateway.address());
        client
            .write_all(b"\x05\x01\x02\x01\x05alice\x06s3cret")
            .unwrap();
        assert_eq!(
            read(&mut client, 4),
            [0x05, 0x02, 0x01, 0x00],
            "{arguments:?}"
        );
        if arguments == all {
            gateway.wait_for_log("passwords in plain: socks6-gateway passwd");
        }
        let log = gateway.log();
        let warnings = usize::from(arguments == all);
        // A file that only we can read is nothing more to complain of.
        assert_eq!(log.matches(" WARN ").count(), warnings, "{log}");
    }
}

#[test]
fn wrong_arguments_are_2_and_what_cannot_be_is_1() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let cases: [(&[&str], i32, &str); 5] = [
        (&["--listen", "nonsense"], 2, "numeric address"),
        (&["--listen", "0.0.0.0:0"], 2, "--open-relay-for-anyone"),
        (&["--password-file", "/no/such/file"], 2, "/no/such/file"),
        (
            &["--log-file", "/no/such/folder/log"],
            2,
            "/no/such/folder/log",
        ),
        (&["--listen", &taken], 1, "cannot listen on"),
    ];
    for (arguments, code, word) in cases {
        let (exit, text) = fails(arguments);
        assert_eq!(exit, code, "{arguments:?}: {text}");
        assert!(text.contains(word), "{arguments:?}: {text}");
        if arguments[1] != "nonsense" {
            assert_eq!(text.lines().count(), 1, "one line: {text}"); // clap takes a few
        }
    }
}

#[test]
fn help_has_examples() {
    let output = Command::new(BINARY).arg("--help").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success() && text.contains("--allow-client 2001:db8::/32"),
        "{text}"
    );
}

#[test]
fn a_log_that_nobody_reads_any_more_ends_nothing() {
    let mut command = Command::new(BINARY);
    command.args([
        "--listen",
        "127.0.0.1:0",
        "--allow-destination",
        "127.0.0.0/8",
    ]);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stderr.take());
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let address = line
        .trim()
        .strip_prefix("listening on ")
        .unwrap()
        .parse()
        .unwrap();
    let to = echo();
    for _ in 0..3 {
        let mut client = connect(address);
        client.write_all(&request(to)).unwrap();
        assert_eq!(read_reply(&mut client), 0x00);
    }
    child.kill().unwrap();
    child.wait().unwrap();
}
