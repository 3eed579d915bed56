//! The log: as text and as JSON, in a file that is moved away, and where it cannot be written.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::binary::{BINARY, Binary};
use crate::harness::{
    assert_end, connect, destination, echo, read, read_reply, request, request_by_name, until,
};
use crate::reloading::{ConfigFile, SERVED};

/// A folder for a log, deleted with this value.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("socks6-gateway-{}-{name}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn path(&self, file: &str) -> String {
        self.0.join(file).to_str().unwrap().to_owned()
    }

    fn text(&self, file: &str) -> String {
        fs::read_to_string(self.0.join(file)).unwrap_or_default()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

/// A relay over which `hello` has gone there and back.
fn hello(gateway: SocketAddr, to: SocketAddr) -> SocketAddr {
    let mut client = connect(gateway);
    client.write_all(&request(to)).unwrap();
    assert_eq!(read_reply(&mut client), 0x00);
    client.write_all(b"hello").unwrap();
    read(&mut client, 5);
    client.local_addr().unwrap()
}

fn record(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

#[test]
fn a_relay_is_one_record_of_json() {
    let gateway = Binary::start(&["--log-format", "json"]);
    let to = echo();
    let client = hello(gateway.address(), to);
    gateway.wait_for_log("\n");
    let mut record = record(&gateway.log());
    let fields = record.as_object_mut().unwrap();
    for varying in ["timestamp", "ms", "dial_ms"] {
        assert!(fields.remove(varying).is_some(), "{varying}");
    }
    let expected = json!({
        "level": "INFO", "message": "relay", "client": client.to_string(), "socks": "5", "cmd": "CONNECT", "atyp": "01",
        "destination": to.to_string(), "address": to.to_string(), "family": "v4", "rep": "00",
        "to_destination": 5, "to_client": 5, "end": "orderly",
    });
    assert_eq!(record, expected);
}

#[test]
fn what_a_client_says_stays_within_its_field_of_json() {
    let gateway = Binary::start(&["--log-format", "json"]);
    let mut client = connect(gateway.address());
    let name = "a\",\"end\":\"forged\"}\n{\"level\":\"INFO\"\u{1b}[2J\\";
    client.write_all(&request_by_name(name, 80)).unwrap();
    read_reply(&mut client);
    gateway.wait_for_log("\n");
    let log = gateway.log();
    assert_eq!(log.lines().count(), 1, "{log}");
    let record = record(&log);
    assert_eq!(record["end"], "unknown-name");
    assert_eq!(
        record["destination"],
        r#"a","end":"forged"}\x0a{"level":"INFO"\x1b[2J\x5c:80"#
    );
}

/// logrotate(8) moves the file away and sends SIGHUP, whether or not somebody has broken the configuration meanwhile.
#[test]
fn a_log_file_that_was_moved_away_is_begun_anew() {
    let folder = Folder::new("rotated");
    let text = format!("{SERVED}[log]\nfile = \"{}\"\n", folder.path("log"));
    let file = ConfigFile::new("rotated.toml", &text);
    let gateway = Binary::start(&["--config", file.path()]);
    let to = echo();
    for (round, text) in [
        (1, text.clone()),
        (2, format!("{text}level = \"loud\"\n")),
        (3, text),
    ] {
        let before = hello(gateway.address(), to).to_string();
        until("the line", || folder.text("log").contains(&before));
        let moved = format!("log.{round}");
        fs::rename(folder.path("log"), folder.path(&moved)).unwrap();
        fs::write(file.path(), text).unwrap();
        gateway.signal(Signal::HUP);
        until("a new file", || !folder.text("log").is_empty());
        let after = hello(gateway.address(), to).to_string();
        until("the line", || folder.text("log").contains(&after));
        assert!(!folder.text(&moved).contains(&after));
    }
    assert!(folder.text("log.3").contains("level = \"loud\""));
    assert_eq!(gateway.log(), "", "nothing on standard error");
}

#[test]
fn level_and_format_follow_a_reload_and_flags_win() {
    let with = |log: &str| format!("{SERVED}[log]\n{log}");
    let file = ConfigFile::new("levels.toml", &with("level = \"warn\"\n"));
    let gateway = Binary::start(&["--config", file.path()]);
    let to = echo();
    // Refused, and closed once its line would be there.
    let mut client = connect(gateway.address());
    client
        .write_all(&request("224.0.0.1:80".parse().unwrap()))
        .unwrap();
    assert_eq!(read_reply(&mut client), 0x02);
    assert_end(&mut client);
    let unseen = client.local_addr().unwrap().to_string();
    file.reload(&gateway, &with("format = \"json\"\n"), "\"reloaded\"");
    assert!(!gateway.log().contains(&unseen), "{}", gateway.log());
    let seen = hello(gateway.address(), to).to_string();
    gateway.wait_for_log(&format!("\"client\":\"{seen}\""));

    let flags = ["--config", file.path(), "--log-format", "text"];
    let gateway = Binary::start(&flags);
    let seen = hello(gateway.address(), to).to_string();
    gateway.wait_for_log(&format!(" client={seen} "));
}

#[test]
fn a_log_file_that_cannot_be_had_is_a_reload_that_changes_nothing() {
    let file = ConfigFile::new("unwritable.toml", SERVED);
    let gateway = Binary::start(&["--config", file.path()]);
    let unwritable = format!("{SERVED}[log]\nfile = \"/no/such/folder/log\"\n");
    file.reload(&gateway, &unwritable, "nothing has changed");
    assert!(gateway.log().contains("/no/such/folder/log"));
    let seen = hello(gateway.address(), echo()).to_string();
    gateway.wait_for_log(&seen);
}

#[test]
fn a_full_disk_disturbs_no_relay() {
    let gateway = Binary::start(&["--log-file", "/dev/full"]);
    let to = echo();
    for _ in 0..3 {
        hello(gateway.address(), to);
    }
    assert_eq!(gateway.log(), "");
}

/// A reader of standard error that has stopped to read, such as a journal that hangs: lines are lost, relays are not.
#[test]
fn a_log_that_nobody_reads_holds_no_relay_up() {
    let mut child = Command::new(BINARY)
        .args(["--listen", "127.0.0.1:0", "--max-relays", "2"])
        .args(["--allow-destination", "127.0.0.0/8"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    stdout.read_line(&mut line).unwrap();
    let address = line.trim().strip_prefix("listening on ").unwrap();
    let address = address.parse().unwrap();
    let to = destination(|stream: TcpStream| drop(stream));
    // A pipe holds 64 KiB, and a line is some 300 octets.
    for _ in 0..600 {
        let mut client = connect(address);
        client.write_all(&request(to)).unwrap();
        assert_eq!(read_reply(&mut client), 0x00);
    }
    child.kill().unwrap();
    child.wait().unwrap();
}
