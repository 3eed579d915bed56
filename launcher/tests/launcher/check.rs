//! `socks6 check` and `socks6 table`.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::thread;

use crate::installation::{Bounded as _, Installation, stderr, stdout};

#[test]
fn all_is_well_without_a_gateway_and_that_is_said() {
    let here = Installation::new("check");
    let output = here.socks6("check true").bounded();
    let said = stdout(&output);
    assert!(output.status.success(), "{said}");
    let starts = [
        "system   ok ",
        "shim     ok ",
        "config   ok ",
        "gateway  -- ",
        "command  ok ",
    ];
    assert_eq!(said.lines().count(), starts.len(), "{said}");
    for (line, start) in said.lines().zip(starts) {
        assert!(line.starts_with(start), "{said}");
    }
}

#[test]
fn what_is_wrong_does_not_hide_what_is_wrong_behind_it() {
    let here = Installation::new("check-wrong");
    fs::write(here.library(), "not a library").unwrap();
    // Port 1 of loopback: nobody listens, and nobody is contacted.
    let output = here
        .socks6("check --gateway 127.0.0.1:1 no-such-command")
        .bounded();
    let said = stdout(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for line in [
        "shim     FAIL  libsocks6.so: ",
        "gateway  FAIL  127.0.0.1:1: Connection refused",
        "IPv4     --    not tried; --v4-target",
        "IPv6     --    not tried; --v6-target",
        "command  FAIL  no-such-command: not found",
    ] {
        assert!(said.contains(line), "{said}");
    }
}

#[test]
fn a_shim_that_the_loader_cannot_load_is_found_out() {
    let here = Installation::new("check-load");
    // The headers are those of a library; what follows is missing.
    let mut library = fs::read(here.library()).unwrap();
    library.truncate(4096);
    fs::write(here.library(), library).unwrap();
    let output = here.socks6("check").bounded();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stdout(&output).contains("shim     FAIL  "),
        "{}",
        stdout(&output)
    );
}

#[test]
fn the_table_is_named_with_what_is_in_it() {
    let here = Installation::new("table");
    let output = here.socks6("table").bounded();
    let place = here.root.join("run/socks6/table");
    assert_eq!(
        stdout(&output),
        format!("{}: 0 names of 131071\n", place.display())
    );
    let output = here.socks6("table --table private").bounded();
    assert!(stdout(&output).starts_with("private: "));
}

/// docs/configuration.md: `check` and `run` name the variable; what is no gateway stops neither of them.
#[test]
fn a_gateway_of_another_programs_variable_is_told_with_the_variable() {
    let here = Installation::new("check-foreign");
    let told = "from ALL_PROXY, but for what no_proxy names";
    let mut check = here.socks6("check");
    let output = check
        .env("ALL_PROXY", "socks5h://alice:secret@127.0.0.1:1")
        .env("no_proxy", "<local>,corp.example")
        .bounded();
    let line = format!("config   ok    no file, defaults; gateway {told}\n");
    assert!(stdout(&output).contains(&line), "{output:?}");

    let mut run = here.socks6("run -- true");
    let output = run
        .env("ALL_PROXY", "socks5h://alice:secret@127.0.0.1:1")
        .env("no_proxy", "corp.example")
        .bounded();
    assert!(output.status.success(), "{output:?}");
    let line = format!("socks6: gateway 127.0.0.1:1, {told}\n");
    assert_eq!(stderr(&output), line);

    let http = |words| {
        here.socks6(words)
            .env("ALL_PROXY", "http://127.0.0.1:1")
            .bounded()
    };
    let passed_over = "socks6: ALL_PROXY is no socks5:// proxy: passed over\n";
    let output = http("check true");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(stderr(&output), passed_over);
    let output = http("run --strict -- true");
    assert_eq!(output.status.code(), Some(125), "{output:?}");
    let output = http("table --table private");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(stderr(&output), "");
    // Nor is a name looked up.
    let gateway = format!("table --table private --gateway {}", "a".repeat(64));
    assert!(here.socks6(&gateway).bounded().status.success());
}

/// With `?pipelined` a login is all that is offered, and this gateway wants none: that is what is said of it.
#[test]
fn a_gateway_that_wants_no_login_is_not_said_to_want_another_order() {
    let here = Installation::new("check-login");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let gateway = listener.local_addr().unwrap();
    thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            let mut octets = [0; 512];
            let _len = client.read(&mut octets).unwrap();
            let methods = &octets[2..][..octets[1].into()];
            let method = if methods.contains(&0) { 0 } else { 0xFF };
            client.write_all(&[5, method]).unwrap();
            while client.read(&mut octets).is_ok_and(|len| len > 0) {}
        }
    });
    for (option, verdict) in [("", "--  "), ("?pipelined", "FAIL")] {
        let url = format!("check --gateway socks5://u:pw@{gateway}{option}");
        let said = stdout(&here.socks6(&url).bounded());
        let line = "asks for no password: leave out the login";
        assert!(
            said.contains(&format!("gateway  {verdict}  {gateway} {line}")),
            "{said}"
        );
        assert!(!said.contains("in one segment"), "{said}");
    }
}
