//! The configuration file, and a gateway that reads it again.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;

use rustix::process::Signal;

use crate::binary::{BINARY, Binary};
use crate::harness::{connect, echo, nobody, read, read_reply, request, until};

/// A configuration file that can be written anew, deleted with this value.
pub(crate) struct ConfigFile(PathBuf);

impl ConfigFile {
    pub(crate) fn new(name: &str, text: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("socks6-gateway-{}-{name}", std::process::id()));
        fs::write(&path, text).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }

    pub(crate) fn reload(&self, gateway: &Binary, text: &str, said: &str) {
        let seen = gateway.log().len();
        fs::write(&self.0, text).unwrap();
        gateway.signal(Signal::HUP);
        until(said, || gateway.log()[seen..].contains(said));
    }
}

impl Drop for ConfigFile {
    fn drop(&mut self) {
        fs::remove_file(&self.0).ok();
    }
}

fn relay(gateway: &Binary, destination: std::net::SocketAddr) -> TcpStream {
    let mut client = connect(gateway.address());
    client.write_all(&request(destination)).unwrap();
    assert_eq!(read_reply(&mut client), 0x00);
    client
}

fn is_cut_off(gateway: &Binary) -> bool {
    let mut client = connect(gateway.address());
    client.read(&mut [0]).map_err(|error| error.kind()) == Err(ErrorKind::ConnectionReset)
}

pub(crate) const SERVED: &str = "listen = [\"127.0.0.1:0\"]\nallow-clients = [\"127.0.0.0/8\"]\n";

#[test]
fn a_reload_is_all_or_nothing_and_running_relays_go_on() {
    let file = ConfigFile::new("rules.toml", SERVED);
    let gateway = Binary::start(&["--config", file.path()]);
    let destination = echo();
    let mut running = relay(&gateway, destination);

    let broken = "listen = [\"127.0.0.1:0\"]\nallow-clients = [\"192.0.2.0/33\"]\n";
    file.reload(&gateway, broken, "nothing has changed");
    assert!(
        gateway.log().contains("line 2, column 17"),
        "{}",
        gateway.log()
    );
    drop(relay(&gateway, destination));

    let others = SERVED.replace("127.0.0.0/8", "192.0.2.0/24");
    file.reload(&gateway, &others, "INFO reloaded");
    assert!(is_cut_off(&gateway));
    running.write_all(b"still here").unwrap();
    assert_eq!(read(&mut running, 10), b"still here");

    file.reload(&gateway, SERVED, "INFO reloaded");
    drop(relay(&gateway, destination));
}

#[test]
fn a_reload_opens_and_closes_listeners() {
    let further = nobody();
    let file = ConfigFile::new("listeners.toml", SERVED);
    let gateway = Binary::start(&["--config", file.path()]);
    let destination = echo();
    let mut running = relay(&gateway, destination);

    let both = SERVED.replace(
        "\"127.0.0.1:0\"",
        &format!("\"127.0.0.1:0\", \"{further}\""),
    );
    file.reload(&gateway, &both, "INFO reloaded");
    drop(connect(further));
    drop(relay(&gateway, destination));

    let taken = both.replace("127.0.0.1:0", &destination.to_string());
    file.reload(&gateway, &taken, "nothing has changed");
    drop(relay(&gateway, destination));

    let one = SERVED.replace("127.0.0.1:0", &further.to_string());
    file.reload(&gateway, &one, "INFO reloaded");
    let refused = TcpStream::connect(gateway.address()).unwrap_err().kind();
    assert_eq!(refused, ErrorKind::ConnectionRefused);
    running.write_all(b"still here").unwrap();
    assert_eq!(read(&mut running, 10), b"still here");
}

pub(crate) fn run(arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(BINARY).args(arguments).output().unwrap();
    let text = |octets| String::from_utf8(octets).unwrap();
    let status = output.status.code().unwrap();
    (status, text(output.stdout), text(output.stderr))
}

#[test]
fn check_says_where_it_is_wrong() {
    let good = ConfigFile::new("good.toml", SERVED);
    assert_eq!(
        run(&["--config", good.path(), "--check"]),
        (0, String::new(), String::new())
    );
    let bad = ConfigFile::new("bad.toml", "[limits]\nidle = \"soon\"\n");
    let (status, stdout, stderr) = run(&["--config", bad.path(), "--check"]);
    assert_eq!((status, stdout.as_str()), (2, ""));
    let words = [
        bad.path(),
        "line 2, column 8",
        "idle = \"soon\"",
        "not a time",
    ];
    assert!(words.iter().all(|word| stderr.contains(word)), "{stderr}");
    // What makes sense word by word may still serve the whole world.
    let open = ConfigFile::new("open.toml", "listen = [\"[::]:1080\"]\n");
    let (status, _, stderr) = run(&["--config", open.path(), "--check"]);
    assert!(
        status == 2 && stderr.contains("--open-relay-for-anyone"),
        "{stderr}"
    );
}

/// Flags replace what the file says; what is printed is a file that says the same.
#[test]
fn what_is_in_force_is_printed_as_a_file() {
    let file = ConfigFile::new("printed.toml", "[limits]\nidle = \"1h\"\ndial = \"5s\"\n");
    let line = [
        "--config",
        file.path(),
        "--dial-timeout",
        "7s",
        "--print-config",
    ];
    let (status, printed, stderr) = run(&line);
    assert_eq!((status, stderr.as_str()), (0, ""));
    for line in ["idle = \"1h\"", "dial = \"7s\"", "handshake = \"10s\""] {
        assert!(printed.contains(line), "{printed}");
    }
    let again = ConfigFile::new("again.toml", &printed);
    assert_eq!(
        run(&["--config", again.path(), "--print-config"]).1,
        printed
    );
}
