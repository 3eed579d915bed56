//! A gateway that makes way for a new one, while clients come and go.

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::os::unix::net::SocketAddr as UnixAddr;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::binary::{BINARY, Binary, Folder};
use crate::harness::{
    assert_reset, connect, echo, nobody, pattern, read, read_reply, request, until,
};
use crate::managed::{Manager, is_served, passed};
use crate::watching::curl;

/// Successors are no children of the test's: the last one is ended with this value.
pub(crate) struct Line<'a> {
    gateway: &'a Binary,
    pids: Vec<Pid>,
}

impl<'a> Line<'a> {
    pub(crate) fn new(gateway: &'a Binary) -> Self {
        let pids = vec![gateway.pid()];
        Self { gateway, pids }
    }

    pub(crate) fn last(&self) -> Pid {
        *self.pids.last().unwrap()
    }

    /// Has the last one make way for another.
    pub(crate) fn upgrade(&mut self) {
        let seen = self.gateway.log().len();
        kill_process(self.last(), Signal::USR2).unwrap();
        let successor = || -> Option<Pid> {
            let log = self.gateway.log();
            let (_, rest) = log[seen..].split_once("upgraded successor=")?;
            Pid::from_raw(rest.split_once('\n')?.0.parse().ok()?)
        };
        until("upgraded", || successor().is_some());
        self.pids.push(successor().unwrap());
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        for pid in &self.pids[1..] {
            kill_process(*pid, Signal::KILL).ok();
        }
    }
}

/// A zombie counts as gone: it is up to this machine's process 1 when it is collected.
fn is_gone(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    stat.is_err() || stat.is_ok_and(|stat| stat.contains(") Z "))
}

fn relay(gateway: SocketAddr, destination: SocketAddr) -> TcpStream {
    let mut client = connect(gateway);
    client.write_all(&request(destination)).unwrap();
    assert_eq!(read_reply(&mut client), 0x00);
    client
}

/// Sends a pattern through the gateway to an echo, and asserts that it comes back as it was.
fn carry(gateway: SocketAddr, destination: SocketAddr, octets: usize, seed: usize) {
    let client = relay(gateway, destination);
    let sent = pattern(octets, seed as u64);
    let mut writer = client.try_clone().unwrap();
    let mut reader = client;
    thread::scope(|scope| {
        scope.spawn(|| writer.write_all(&sent).unwrap());
        assert!(read(&mut reader, sent.len()) == sent, "octets were changed");
    });
}

#[test]
fn upgrades_refuse_nobody_and_cut_nothing() {
    let upgrades =
        std::env::var("SOCKS6_GATEWAY_UPGRADES").map_or(20, |text| text.parse().unwrap());
    let mut gateway = Binary::start(&["--drain-timeout", "100ms"]);
    let (address, destination) = (gateway.address(), echo());
    let (is_over, carried) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        // Whatever happens, the clients are told that it is over.
        let over = Over(&is_over);
        for _ in 0..8 {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    let number = carried.fetch_add(1, Ordering::Relaxed);
                    carry(
                        address,
                        destination,
                        1 + number * 7919 % (256 << 10),
                        number,
                    );
                }
            });
        }
        // A relay that outlives them all, and is busy from time to time.
        let mut long = relay(address, destination);
        let mut line = Line::new(&gateway);
        for number in 0..upgrades {
            line.upgrade();
            let sent = pattern(100_000, number);
            thread::scope(|scope| {
                let mut writer = long.try_clone().unwrap();
                let sent = &sent;
                scope.spawn(move || writer.write_all(sent).unwrap());
                assert!(read(&mut long, sent.len()) == *sent, "octets were changed");
            });
        }
        drop(over);
        let (last, others) = line.pids.split_last().unwrap();
        until("those in between are gone", || {
            others[1..].iter().all(|pid| is_gone(*pid))
        });
        assert!(
            !is_gone(*last) && !is_gone(others[0]),
            "one serves, one has a relay"
        );
        drop(long);
        until("the first one has ended", || is_gone(others[0]));
    });
    assert_eq!(gateway.exit_status().code(), Some(0));
    let carried = carried.into_inner();
    assert!(carried > upgrades as usize, "{carried} relays");
    assert!(!gateway.log().contains("cutting off"), "{}", gateway.log());
    writeln!(std::io::stderr(), "{upgrades} upgrades, {carried} relays").unwrap();
}

struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_successor_that_cannot_start_changes_nothing() {
    let folder = Folder::new("upgrade");
    let good = "listen = [\"127.0.0.1:0\"]\n";
    let file = folder.write("gateway.toml", good);
    let binary = folder.path("gateway");
    symlink(BINARY, &binary).unwrap();
    let command = Command::new(&binary);
    let gateway = Binary::start_command(command, &["--config", &file]);
    let fails = |words: &str| {
        let seen = gateway.log().len();
        gateway.signal(Signal::USR2);
        let said = || gateway.log()[seen..].to_owned();
        until("not upgraded", || {
            said().contains("not upgraded, and nothing has changed: ")
        });
        assert!(said().contains(words), "{words} is not in {}", said());
        is_served(gateway.address());
    };
    folder.write(
        "gateway.toml",
        "listen = [\"127.0.0.1:0\"]\n[limits]\nidle = \"soon\"\n",
    );
    fails("line 3, column 8");
    let hold = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = hold.local_addr().unwrap();
    folder.write(
        "gateway.toml",
        &format!("listen = [\"127.0.0.1:0\", \"{taken}\"]\n"),
    );
    fails("cannot listen on");
    drop(hold);
    folder.write("gateway.toml", good);
    fs::remove_file(&binary).unwrap();
    fails("No such file");
    fs::copy("/bin/false", &binary).unwrap();
    fails("(exit status: 1)");

    fs::remove_file(&binary).unwrap();
    symlink(BINARY, &binary).unwrap();
    let mut line = Line::new(&gateway);
    line.upgrade();
    is_served(gateway.address());
}

#[test]
fn a_successor_has_the_new_configuration_and_the_old_relays_have_their_time() {
    let folder = Folder::new("upgraded");
    let (kept, dropped, added) = (nobody(), nobody(), nobody());
    let file = folder.write(
        "gateway.toml",
        &format!("listen = [\"{kept}\", \"{dropped}\"]\n"),
    );
    let gateway = Binary::start(&["--config", &file, "--drain-timeout", "50ms"]);
    let destination = echo();
    let mut client = relay(kept, destination);
    let text = format!("listen = [\"{added}\", \"{kept}\"]\n[limits]\nupgrade = \"200ms\"\n");
    folder.write("gateway.toml", &text);
    let mut line = Line::new(&gateway);
    line.upgrade();
    is_served(kept);
    is_served(added);
    // Threads of the old one may wait there for another two seconds.
    until("closed", || TcpStream::connect(dropped).is_err());
    thread::sleep(Duration::from_millis(100));
    client.write_all(b"hello").unwrap();
    assert_eq!(read(&mut client, 5), b"hello");
    drop(client);

    // The second one has been told how long.
    let mut client = relay(kept, destination);
    line.upgrade();
    assert_reset(&mut client);
    is_served(kept);
    kill_process(line.last(), Signal::TERM).unwrap();
    until("closed", || TcpStream::connect(kept).is_err());
}

/// One listener for those who watch, whichever process it is.
#[test]
fn a_successor_is_watched_where_its_predecessor_was() {
    let folder = Folder::new("watched");
    let (address, status) = (nobody(), nobody());
    let text = format!("listen = [\"{address}\"]\n[metrics]\nlisten = \"{status}\"\n");
    let file = folder.write("gateway.toml", &text);
    let gateway = Binary::start(&["--config", &file]);
    let destination = echo();
    let accepted = || {
        let text = curl(status, "/metrics", &["--fail"]);
        let row = "socks6_clients_accepted_total ";
        let line = text.lines().find_map(|line| line.strip_prefix(row));
        line.unwrap_or(&text).to_owned()
    };
    let first = relay(address, destination);
    until("the relay is seen", || accepted() == "1");
    let mut line = Line::new(&gateway);
    line.upgrade();
    // Not from time to time: the first one, which still has its relay, answers no more.
    for _ in 0..100 {
        assert_eq!(accepted(), "0");
    }
    assert!(curl(status, "/healthz", &[]).ends_with("serving\n"));
    line.upgrade();
    // Threads of the old one may wait there for another two seconds.
    until("clients are seen", || {
        is_served(address);
        accepted() != "0"
    });
    drop(first);
    until("the first one is gone", || is_gone(line.pids[0]));

    // Nobody holds on to what the last one was told to give up.
    folder.write("gateway.toml", &format!("listen = [\"{address}\"]\n"));
    line.upgrade();
    is_served(address);
    until("not watched", || TcpStream::connect(status).is_err());
}

#[test]
fn the_manager_is_told_who_serves_and_its_listener_goes_along() {
    let folder = Folder::new("mainpid");
    let path = folder.path("notify.socket");
    let manager = Manager::new(&UnixAddr::from_pathname(&path).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut command = passed(listener.try_clone().unwrap(), "$$");
    command.env("NOTIFY_SOCKET", &path);
    let own = address.to_string();
    let mut gateway = Binary::start_command(command, &["--listen", &own]);
    assert!(manager.next().starts_with("READY=1\n"));
    let mut line = Line::new(&gateway);
    line.upgrade();
    let last = line.last();
    assert!(manager.next().starts_with("READY=1\n"));
    assert_eq!(manager.next(), format!("MAINPID={}", last.as_raw_nonzero()));
    until("gone", || is_gone(line.pids[0]));
    is_served(address);

    kill_process(last, Signal::TERM).unwrap();
    // The first one has said no more.
    assert!(manager.next().starts_with("STOPPING=1\n"));
    until("gone", || is_gone(last));
    drop(line);
    assert_eq!(gateway.exit_status().code(), Some(0));
    // As if systemd were to start the next one.
    drop(connect(address));
}
