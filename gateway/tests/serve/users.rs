//! Users with hashed passwords: how their file is made, what it costs to ask about one, and who asks too often.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use gateway::Users;
use rustix::process::Signal;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::binary::{BINARY, Binary, PasswordFile};
use crate::harness::{Running, connect, connect_from, destination, read, until};

/// Of "s3cret", at 64 MiB and four passes: some tenths of a second.
const EXPENSIVE: &str =
    "alice:$argon2id$v=19$m=65536,t=4,p=1$c29tZXNhbHQ$BRQjdr3QEKOZl0oszyRZLSYCj9107Av9gyf5rjXNqHU";

/// As EXPENSIVE, at 64 KiB and one pass.
pub(crate) const CHEAP: &str =
    "alice:$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHQ$6Crvd0pUWwUX9JdfBSpZ7dOnM78DdrdhAOj1hvHMiF8";

pub(crate) fn login(client: &mut TcpStream, user: &str, password: &str) -> u8 {
    let (user_len, password_len) = (user.len() as u8, password.len() as u8);
    client
        .write_all(
            &[
                &[0x05, 0x01, 0x02, 0x01, user_len], // VER NMETHODS METHODS VER ULEN
                user.as_bytes(),
                &[password_len],
                password.as_bytes(),
            ]
            .concat(),
        )
        .unwrap();
    assert_eq!(read(client, 3), [0x05, 0x02, 0x01]);
    read(client, 1)[0] // STATUS
}

fn passwd(arguments: &[&str], password: &str) -> Output {
    let mut child = Command::new(BINARY)
        .arg("passwd")
        .args(arguments)
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    writeln!(stdin, "{password}").ok();
    drop(stdin);
    child.wait_with_output().unwrap()
}

fn set(file: &PasswordFile, user: &str, password: &str) {
    let output = passwd(&[file.path(), user, "--stdin"], password);
    assert!(output.status.success(), "{output:?}");
    assert_eq!((output.stdout, output.stderr), (vec![], vec![]));
}

/// A web page, through the gateway, with a client that is not ours.
fn curl(gateway: &Binary, web: SocketAddr, login: &str) -> Option<i32> {
    Command::new("curl")
        .args(["-s", "-m", "10", "-o", "/dev/null", "--proxy-user", login])
        .args(["--socks5-hostname", &gateway.address().to_string()])
        .arg(format!("http://{web}/"))
        .status()
        .unwrap()
        .code()
}

fn web() -> SocketAddr {
    destination(|mut client| {
        let mut request = [0; 1024];
        if client.read(&mut request).unwrap() > 0 {
            client
                .write_all(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok")
                .unwrap();
        }
    })
}

/// curl(1), EXIT CODES 97: PROXY HANDSHAKE ERROR.
#[test]
fn a_file_made_by_passwd_lets_its_users_in_and_a_changed_one_counts_after_sighup() {
    let file = PasswordFile::new("made", "# staff\n");
    fs::remove_file(file.path()).unwrap();
    set(&file, "alice", "first");
    let mode = fs::metadata(file.path()).unwrap().mode();
    assert_eq!(mode & 0o777, 0o600, "a new file is its owner's alone");
    set(&file, "bob", "b:b");
    let text = fs::read_to_string(file.path()).unwrap();
    assert!(
        !text.contains("first") && text.matches(":$argon2id$v=19$").count() == 2,
        "{text}"
    );

    let gateway = Binary::start(&["--password-file", file.path()]);
    let web = web();
    assert_eq!(curl(&gateway, web, "alice:first"), Some(0));
    assert_eq!(curl(&gateway, web, "bob:b:b"), Some(0));
    assert_eq!(curl(&gateway, web, "alice:b:b"), Some(97));
    assert!(
        !gateway.log().contains("passwords in plain"),
        "{}",
        gateway.log()
    );

    set(&file, "alice", "second");
    assert!(
        passwd(&[file.path(), "bob", "--delete"], "")
            .status
            .success()
    );
    gateway.signal(Signal::HUP);
    gateway.wait_for_log("reloaded");
    assert_eq!(curl(&gateway, web, "alice:second"), Some(0));
    assert_eq!(curl(&gateway, web, "alice:first"), Some(97));
    assert_eq!(curl(&gateway, web, "bob:b:b"), Some(97));
    for secret in ["first", "second", "b:b", "argon2"] {
        assert!(!gateway.log().contains(secret), "{}", gateway.log());
    }
}

#[test]
fn passwd_replaces_the_file_and_keeps_what_it_is() {
    let file = PasswordFile::new("kept", "# staff\nalice:plain\r\nbob:$other\n");
    fs::set_permissions(file.path(), fs::Permissions::from_mode(0o640)).unwrap();
    let link = format!("{}-link", file.path());
    symlink(file.path(), &link).unwrap();
    let before = fs::metadata(file.path()).unwrap();
    let output = passwd(&[&link, "alice", "--stdin"], "s3cret");
    assert!(output.status.success(), "{output:?}");
    let is_link = fs::symlink_metadata(&link).unwrap().is_symlink();
    fs::remove_file(&link).unwrap();
    assert!(is_link);
    let after = fs::metadata(file.path()).unwrap();
    assert_eq!(after.mode(), before.mode());
    assert_ne!(after.ino(), before.ino(), "another file in its place");
    let text = fs::read_to_string(file.path()).unwrap();
    assert!(text.starts_with("# staff\nalice:$argon2id$"), "{text}");
    assert!(text.ends_with("\nbob:$other\n"), "{text}");

    for (arguments, password, said) in [
        (["nobody", "--delete"], "", "nobody is not in"),
        (["a:b", "--stdin"], "x", "a user name takes"),
        (["alice", "--stdin"], "", "a password takes"),
    ] {
        let output = passwd(&[[file.path()].as_slice(), &arguments].concat(), password);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains(said), "{stderr}");
    }
    let output = passwd(&[file.path(), "alice"], "x");
    assert!(String::from_utf8_lossy(&output.stderr).contains("--stdin"));
    assert_eq!(fs::read_to_string(file.path()).unwrap(), text);
}

#[test]
fn several_passwd_at_once_lose_nobody() {
    let file = PasswordFile::new("crowd", "");
    thread::scope(|scope| {
        for number in 0..8 {
            let file = &file;
            scope.spawn(move || set(file, &format!("user{number}"), "x"));
        }
    });
    assert_eq!(fs::read_to_string(file.path()).unwrap().lines().count(), 8);
}

#[test]
fn a_terminal_is_asked_twice_and_shows_neither() {
    let file = PasswordFile::new("typed", "");
    for (again, is_taken) in [("t1ped", true), ("typo", false)] {
        let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&terminal).unwrap();
        unlockpt(&terminal).unwrap();
        let other = ptsname(&terminal, vec![]).unwrap();
        let other = File::options()
            .read(true)
            .write(true)
            .open(other.to_str().unwrap());
        let other = other.unwrap();
        let mut child = Command::new(BINARY)
            .args(["passwd", file.path(), "alice"])
            .stdin(other.try_clone().unwrap())
            .stderr(other)
            .spawn()
            .unwrap();
        let mut terminal = File::from(terminal);
        let mut shown = String::new();
        let mut wait_for = |words: &str, terminal: &mut File| {
            while !shown.contains(words) {
                let mut octets = [0; 256];
                let some = terminal.read(&mut octets).unwrap();
                shown.push_str(&String::from_utf8_lossy(&octets[..some]));
            }
        };
        wait_for("New password: ", &mut terminal);
        terminal.write_all(b"t1ped\n").unwrap();
        wait_for("Once more: ", &mut terminal);
        terminal.write_all(format!("{again}\n").as_bytes()).unwrap();
        if !is_taken {
            wait_for("not the same", &mut terminal);
        }
        assert_eq!(child.wait().unwrap().success(), is_taken);
        assert!(
            !shown.contains("t1ped") && !shown.contains("typo"),
            "{shown}"
        );
    }
    let users = Users::from_lines(&fs::read(file.path()).unwrap()).unwrap();
    let gateway = Running::with(|it| it.users = users);
    assert_eq!(login(&mut gateway.connect(), "alice", "t1ped"), 0x00);
}

/// A user who connects a thousand times a second would otherwise have the gateway do nothing but hash.
#[test]
fn a_password_that_was_right_costs_nothing_the_next_time() {
    let users = Users::from_lines(EXPENSIVE.as_bytes()).unwrap();
    let gateway = Running::with(|it| it.users = users);
    let start = Instant::now();
    assert_eq!(login(&mut gateway.connect(), "alice", "s3cret"), 0x00);
    let hash = start.elapsed();
    let start = Instant::now();
    for _ in 0..200 {
        assert_eq!(login(&mut gateway.connect(), "alice", "s3cret"), 0x00);
    }
    assert!(
        start.elapsed() < hash * 50,
        "{:?} after {hash:?}",
        start.elapsed()
    );
    assert_eq!(login(&mut gateway.connect(), "alice", "s3creT"), 0x01);
}

/// All at once, and before there is anything to be known again.
#[test]
fn a_crowd_with_the_same_password_waits_for_one_hash() {
    let users = Users::from_lines(EXPENSIVE.as_bytes()).unwrap();
    let gateway = Running::with(|it| it.users = users);
    let start = Instant::now();
    thread::scope(|scope| {
        for _ in 0..100 {
            scope.spawn(|| assert_eq!(login(&mut gateway.connect(), "alice", "s3cret"), 0x00));
        }
    });
    let crowd = start.elapsed();
    let start = Instant::now();
    assert_eq!(login(&mut gateway.connect(), "alice", "wrong"), 0x01);
    let hash = start.elapsed();
    assert!(crowd < hash * 50, "{crowd:?}, and one takes {hash:?}");
}

#[test]
fn an_unknown_user_takes_as_long_as_a_wrong_password() {
    let users = [EXPENSIVE, "bob:plain"].join("\n");
    let users = Users::from_lines(users.as_bytes()).unwrap();
    let gateway = Running::with(|it| {
        it.users = users;
        it.quotas.failed_logins = 100;
    });
    let fastest = |user: &str| {
        let times = (0..3).map(|_| {
            let start = Instant::now();
            assert_eq!(login(&mut gateway.connect(), user, "wrong"), 0x01);
            start.elapsed()
        });
        times.min().unwrap()
    };
    let wrong = fastest("alice");
    assert!(wrong > Duration::from_millis(20), "{wrong:?} is no hash");
    for user in ["nobody", "bob"] {
        let unknown = fastest(user);
        assert!(unknown * 4 > wrong, "{user}: {unknown:?}, alice: {wrong:?}");
    }
    assert_eq!(login(&mut gateway.connect(), "bob", "plain"), 0x00);
}

#[test]
fn an_address_with_too_many_wrong_passwords_is_refused_for_a_while_and_others_are_not() {
    let config = PasswordFile::new("attempts.toml", "");
    let users = PasswordFile::new("attempts", &format!("{CHEAP}\nbob:b"));
    let text = format!(
        "listen = [\"127.0.0.1:0\"]\npassword-file = \"{}\"\n[limits]\nfailed-logins = 3\nfailed-logins-within = \"3s\"\n",
        users.path()
    );
    fs::write(config.path(), text).unwrap();
    let gateway = Binary::start(&["--config", config.path()]);
    for user in ["alice", "bob", "nobody"] {
        assert_eq!(login(&mut connect(gateway.address()), user, "guess"), 0x01);
    }
    assert_eq!(login(&mut connect(gateway.address()), "bob", "b"), 0x01);
    gateway.wait_for_log("too-many-wrong-passwords");
    let mut neighbour = connect_from("127.0.0.2:0", gateway.address());
    assert_eq!(login(&mut neighbour, "bob", "b"), 0x00);
    until("forgiven", || {
        thread::sleep(Duration::from_millis(100));
        login(&mut connect(gateway.address()), "bob", "b") == 0x00
    });
}
