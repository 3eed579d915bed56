//! Under a service manager: what it is told, and the listeners that it passes. The tests play systemd's part.

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixDatagram};
use std::process::{self, Command};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::binary::{BINARY, Binary, Folder};
use crate::harness::{PATIENCE, connect, echo, nobody, read, read_reply, request};

/// The manager's end of NOTIFY_SOCKET.
pub(crate) struct Manager(UnixDatagram);

impl Manager {
    pub(crate) fn new(address: &UnixAddr) -> Self {
        let socket = UnixDatagram::bind_addr(address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(socket)
    }

    pub(crate) fn next(&self) -> String {
        let mut octets = [0; 4096];
        let received = self.0.recv(&mut octets).unwrap();
        String::from_utf8(octets[..received].to_vec()).unwrap()
    }

    /// The next one that is more than a sign of life.
    fn next_word(&self) -> String {
        loop {
            let told = self.next();
            if !told.starts_with("WATCHDOG=1") {
                return told;
            }
        }
    }

    pub(crate) fn signs_of_life(&self, within: Duration) -> usize {
        let end = Instant::now().checked_add(within).unwrap();
        let mut octets = [0; 4096];
        let signs = std::iter::from_fn(|| {
            let left = end.saturating_duration_since(Instant::now());
            self.0
                .set_read_timeout(Some(left).filter(|left| !left.is_zero()))
                .ok()?;
            (!left.is_zero()).then_some(())?;
            let received = self.0.recv(&mut octets).ok()?;
            Some(octets[..received].starts_with(b"WATCHDOG=1\nSTATUS="))
        });
        let signs = signs.filter(|is_one| *is_one).count();
        self.0.set_read_timeout(Some(PATIENCE)).unwrap();
        signs
    }
}

fn gateway() -> Command {
    Command::new(BINARY)
}

#[test]
fn the_manager_is_told_each_turn_of_a_life() {
    let folder = Folder::new("notify");
    let path = folder.path("notify.socket");
    let name = format!("socks6-gateway-test-{}", process::id());
    let kinds = [
        (
            UnixAddr::from_pathname(&path).unwrap(),
            path.to_str().unwrap().to_owned(),
        ),
        (
            UnixAddr::from_abstract_name(&name).unwrap(),
            format!("@{name}"),
        ),
    ];
    for (address, name) in kinds {
        let manager = Manager::new(&address);
        let file = folder.write("gateway.toml", "listen = [\"127.0.0.1:0\"]\n");
        let mut command = gateway();
        command.env("NOTIFY_SOCKET", &name);
        let mut gateway = Binary::start_command(command, &["--config", &file]);
        assert_eq!(manager.next(), "READY=1\nSTATUS=serving");
        let mut client = connect(gateway.address());
        client.write_all(&request(echo())).unwrap();
        assert_eq!(read_reply(&mut client), 0x00);

        gateway.signal(Signal::HUP);
        let told = manager.next();
        let microseconds = told.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
        let microseconds = microseconds
            .split('\n')
            .next()
            .unwrap()
            .parse::<u64>()
            .unwrap();
        // CLOCK_MONOTONIC is what the system has been up, but for the time it was asleep.
        let uptime = fs::read_to_string("/proc/uptime").unwrap();
        let uptime = uptime.split('.').next().unwrap().parse::<u64>().unwrap();
        assert!(
            (uptime - 60..=uptime + 1).contains(&(microseconds / 1_000_000)),
            "{told}"
        );
        assert_eq!(manager.next(), "READY=1\nSTATUS=reloaded");

        folder.write("gateway.toml", "[limits]\nidle = \"soon\"\n");
        gateway.signal(Signal::HUP);
        assert!(manager.next().starts_with("RELOADING=1\n"));
        let told = manager.next();
        assert!(
            told.starts_with("READY=1\nSTATUS=not reloaded") && told.contains("not a time"),
            "{told}"
        );
        assert_eq!(told.lines().count(), 2, "{told}");

        gateway.signal(Signal::TERM);
        assert_eq!(manager.next(), "STOPPING=1\nSTATUS=draining");
        drop(client);
        assert_eq!(gateway.exit_status().code(), Some(0));
        fs::remove_file(&path).ok();
    }
}

#[test]
fn signs_of_life_come_from_the_main_thread_while_it_works() {
    let folder = Folder::new("watchdog");
    let path = folder.path("notify.socket");
    let manager = Manager::new(&UnixAddr::from_pathname(&path).unwrap());
    let file = folder.write("gateway.toml", "listen = [\"127.0.0.1:0\"]\n");
    let mut command = gateway();
    command
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "200000");
    let gateway = Binary::start_command(command, &["--config", &file]);
    assert!(manager.next().starts_with("READY=1\n"));
    let signs = manager.signs_of_life(Duration::from_secs(1));
    assert!(
        (6..=11).contains(&signs),
        "{signs} in a second, at half of 200 ms"
    );

    // A configuration that is a pipe without a writer holds whoever reads it.
    fs::remove_file(&file).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, &file, 0o600.into()).unwrap();
    gateway.signal(Signal::HUP);
    while !manager.next().starts_with("RELOADING=1\n") {}
    assert_eq!(manager.signs_of_life(Duration::from_millis(500)), 0);
    fs::write(&file, "listen = [\"127.0.0.1:0\"]\n").unwrap();
    assert!(manager.next_word().starts_with("READY=1\n"));
    assert!(manager.signs_of_life(Duration::from_millis(500)) > 2);
}

/// The units that are shipped, as systemd reads them; it complains of what it does not know.
#[test]
fn systemd_understands_the_units() {
    const ANALYZE: &str = "/usr/bin/systemd-analyze";
    if !testkit::has_tool(ANALYZE) {
        return;
    }
    let folder = Folder::new("units");
    let units = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../deploy/systemd/socks6-gateway"
    );
    let read = |kind| fs::read_to_string(format!("{units}.{kind}")).unwrap();
    let service = read("service").replace("/usr/local/bin/socks6-gateway", BINARY);
    let service = folder.write("socks6-gateway.service", &service);
    let socket = folder.write("socks6-gateway.socket", &read("socket"));
    let output = Command::new(ANALYZE)
        .args(["verify", "--man=no", &service, &socket])
        .output();
    let output = output.unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && text.is_empty(), "{text}");
}

/// WATCHDOG_PID says whose business it is.
#[test]
fn another_process_s_watchdog_is_left_alone() {
    let folder = Folder::new("other");
    let path = folder.path("notify.socket");
    let manager = Manager::new(&UnixAddr::from_pathname(&path).unwrap());
    let mut command = gateway();
    command
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "20000")
        .env("WATCHDOG_PID", "1");
    let _gateway = Binary::start_command(command, &[]);
    assert!(manager.next().starts_with("READY=1\n"));
    assert_eq!(manager.signs_of_life(Duration::from_millis(300)), 0);
}

/// With `socket` as descriptor 3, in systemd's way.
pub(crate) fn passed(socket: impl Into<OwnedFd>, pid: &str) -> Command {
    let mut command = Command::new("sh");
    let script =
        format!("exec 3<&0 0</dev/null; export LISTEN_FDS=1 LISTEN_PID={pid}; exec \"$@\"");
    command
        .args(["-c", &script, "sh", BINARY])
        .stdin(socket.into());
    command
}

pub(crate) fn is_served(address: SocketAddr) {
    let mut client = connect(address);
    client.write_all(&request(echo())).unwrap();
    assert_eq!(read_reply(&mut client), 0x00);
}

#[test]
fn a_passed_listener_is_served_and_outlives_the_gateway() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    // As systemd would not leave it, but others may.
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let own = address.to_string();
    let start = || {
        let socket = listener.try_clone().unwrap();
        Binary::start_command(passed(socket, "$$"), &["--listen", &own])
    };
    let mut gateway = start();
    assert_eq!(gateway.address(), address);
    is_served(address);
    gateway.signal(Signal::TERM);
    assert_eq!(gateway.exit_status().code(), Some(0));
    // Nobody is there, and nobody is refused.
    let mut early = connect(address);
    early.write_all(&request(echo())).unwrap();
    let _gateway = start();
    assert_eq!(read_reply(&mut early), 0x00);
    early.write_all(b"hello").unwrap();
    assert_eq!(read(&mut early, 5), b"hello");
}

#[test]
fn a_passed_listener_is_served_beside_the_configured_ones() {
    let folder = Folder::new("beside");
    let configured = nobody();
    let file = folder.write("gateway.toml", &format!("listen = [\"{configured}\"]\n"));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let gateway = Binary::start_command(passed(listener, "$$"), &["--config", &file]);
    is_served(configured);
    is_served(address);
    gateway.signal(Signal::HUP);
    gateway.wait_for_log("INFO reloaded");
    is_served(address);

    // The variables of another process say nothing to this one.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let gateway = Binary::start_command(passed(listener, "1"), &[]);
    is_served(gateway.address());
}

#[test]
fn what_is_passed_is_judged_like_what_is_configured() {
    let open = TcpListener::bind("0.0.0.0:0").unwrap();
    let connected = std::os::unix::net::UnixStream::pair().unwrap().0;
    let sockets: [(OwnedFd, &str); 2] = [
        (open.into(), "--open-relay-for-anyone"),
        (
            connected.into(),
            "descriptor 3 was passed by LISTEN_FDS and is not a listening TCP socket",
        ),
    ];
    for (socket, words) in sockets {
        let output = passed(socket, "$$").output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains(words), "{text}");
    }
}
