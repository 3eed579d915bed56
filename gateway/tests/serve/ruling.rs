//! `[[rule]]`: who reaches what, as clients see it.

use std::io::Write;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::binary::Binary;
use crate::harness::{
    assert_reset, connect, destination, echo, read, read_reply, request, request_by_name,
};
use crate::reloading::{ConfigFile, run};

const LISTEN: &str = "listen = [\"127.0.0.1:0\"]\n";

fn rep(gateway: &Binary, request: &[u8]) -> u8 {
    let mut client = connect(gateway.address());
    client.write_all(request).unwrap();
    read_reply(&mut client)
}

#[test]
fn a_denial_is_rep_02_and_the_log_says_which_rule() {
    let to = echo();
    let text = format!(
        "{LISTEN}[[rule]]\naction = \"deny\"\nports = [\"9\"]\n\
         [[rule]]\nname = \"house\"\naction = \"deny\"\nnames = [\".house.example\"]\n\
         [[rule]]\naction = \"allow\"\ndestinations = [\"127.0.0.1\"]\n"
    );
    let file = ConfigFile::new("denials.toml", &text);
    let gateway = Binary::start(&["--config", file.path()]);
    let no_port = SocketAddr::new(to.ip(), 9);
    for (request, expected, said) in [
        (request(to), 0x00, "rule=3 rep=00"),
        (
            request_by_name("localhost", to.port()),
            0x00,
            "destination=localhost",
        ),
        (request(no_port), 0x02, "rule=1 rep=02"),
        // Nobody is asked about this name.
        (
            request_by_name("a.House.example.", 80),
            0x02,
            "end=denied-by-rule error=denied by rule house",
        ),
        (
            request("127.0.0.2:80".parse().unwrap()),
            0x02,
            "error=no rule allows it",
        ),
        // The default denials stay in force whatever a rule allows.
        (
            request("169.254.169.254:80".parse().unwrap()),
            0x02,
            "cloud metadata",
        ),
    ] {
        assert_eq!(rep(&gateway, &request), expected, "{said}");
        gateway.wait_for_log(said);
    }
}

/// Both addresses of the name are judged; the one that is left is dialled.
#[test]
fn a_name_leads_only_to_those_of_its_addresses_that_a_rule_allows() {
    let to = echo();
    let deny = |net: &str| {
        let destinations = format!("[[rule]]\naction = \"deny\"\ndestinations = [{net}]\n");
        format!("{LISTEN}{destinations}[[rule]]\naction = \"allow\"\nnames = [\"localhost\"]\n")
    };
    let file = ConfigFile::new("pairs.toml", &deny("\"::1\""));
    let gateway = Binary::start(&["--config", file.path(), "--allow-destination", "::1"]);
    assert_eq!(
        rep(&gateway, &request_by_name("localhost", to.port())),
        0x00
    );
    assert_eq!(
        rep(&gateway, &request(to)),
        0x02,
        "no rule allows the address by itself"
    );
    file.reload(&gateway, &deny("\"::1\", \"127.0.0.0/8\""), "INFO reloaded");
    assert_eq!(
        rep(&gateway, &request_by_name("localhost", to.port())),
        0x02
    );
}

#[test]
fn users_and_groups_have_rules_of_their_own() {
    let to = destination(drop);
    let users = ConfigFile::new("ruled-users", "alice:a\nbob:b\ncarol:c\n");
    let text = format!(
        "{LISTEN}password-file = \"{}\"\n[groups]\nstaff = [\"bob\"]\n\
         [[rule]]\naction = \"allow\"\nusers = [\"alice\"]\nports = [\"{}\"]\n\
         [[rule]]\naction = \"allow\"\ngroups = [\"staff\"]\n",
        users.path(),
        to.port()
    );
    let file = ConfigFile::new("users.toml", &text);
    let gateway = Binary::start(&["--config", file.path()]);
    for (login, is_allowed) in [("alice:a", true), ("bob:b", true), ("carol:c", false)] {
        let proxy = format!("socks5h://{login}@{}", gateway.address());
        let curl = Command::new("curl")
            .args(["-sS", "--max-time", "10", "--proxy", &proxy])
            .arg(format!("telnet://{to}"))
            .stdin(Stdio::null())
            .status()
            .unwrap();
        let expected = if is_allowed { 0 } else { 97 }; // CURLE_PROXY
        assert_eq!(curl.code(), Some(expected), "{login}");
    }
    gateway.wait_for_log(" user=carol ");
}

#[test]
fn a_relay_lasts_as_long_as_its_rule_lets_it() {
    let text = format!("{LISTEN}[[rule]]\naction = \"allow\"\ntotal = \"300ms\"\n");
    let file = ConfigFile::new("total.toml", &text);
    let gateway = Binary::start(&["--config", file.path()]);
    let start = Instant::now();
    let mut client = connect(gateway.address());
    client.write_all(&request(echo())).unwrap();
    assert_eq!(read_reply(&mut client), 0x00);
    client.write_all(b"busy").unwrap();
    assert_eq!(read(&mut client, 4), b"busy");
    assert_reset(&mut client);
    assert!(start.elapsed().as_millis() >= 300);
    gateway.wait_for_log(" end=total-limit");
}

/// Before anything is served, and by `--check` too.
#[test]
fn rules_that_make_no_sense_are_told_with_their_line() {
    for (text, word) in [
        (
            "\n[[rule]]\naction = \"allow\"\ngroups = [\"x\"]\n",
            "line 2: there is no group",
        ),
        (
            "[[rule]]\naction = \"allow\"\nclients = []\n",
            "line 3, column 11",
        ),
        (
            "[[rule]]\naction = \"deny\"\nlisteners = [\"192.0.2.1:1080\"]\n",
            "rule 1: 192.0.2.1:1080 is no listener",
        ),
        (
            "[[rule]]\naction = \"deny\"\nusers = [\"x\"]\n",
            "nobody is asked for a password",
        ),
    ] {
        let file = ConfigFile::new("senseless.toml", text);
        let (status, _, stderr) = run(&["--config", file.path(), "--check"]);
        assert!(status == 2 && stderr.contains(word), "{text}: {stderr}");
    }
}

#[test]
fn rules_are_printed_as_they_were_written() {
    let text = "[groups]\nstaff = [\"bob\"]\n\n[[rule]]\nname = \"x\"\naction = \"allow\"\nclients = [\"192.0.2.0/24\"]\n\
                listeners = [\"127.0.0.1:1080\"]\ncommands = [\"resolve-ptr\"]\nnames = [\".example\"]\n\
                destinations = [\"10.0.0.0/8\"]\nports = [\"80\", \"8000-8999\"]\ntotal = \"1h\"\n\
                source-v4 = \"192.0.2.1\"\nsource-v6 = \"2001:db8::1\"\ninterface = \"eth0\"\nmark = 7\nprefer = \"v6\"\n\n[nat64]\nprefix = \"64:ff9b::/96\"\n";
    let file = ConfigFile::new("printed-rules.toml", text);
    let (status, printed, stderr) = run(&["--config", file.path(), "--print-config"]);
    assert_eq!((status, stderr.as_str()), (0, ""));
    for table in text.split("\n\n") {
        assert!(printed.contains(table), "{printed}");
    }
    let again = ConfigFile::new("printed-again.toml", &printed);
    assert_eq!(
        run(&["--config", again.path(), "--print-config"]).1,
        printed
    );
}
