use super::*;

fn gateway(text: &str) -> Result<Gateway, String> {
    Gateway::parse(text)
}

#[test]
fn gateways_are_read_in_every_promised_form() {
    for (text, shown) in [
        ("192.0.2.1:1080", "192.0.2.1:1080"),
        ("[2001:db8::1]:1081", "[2001:db8::1]:1081"),
        ("gw.example:1080", "gw.example:1080"),
        ("192.0.2.1", "192.0.2.1:1080"),
        ("2001:db8::1", "[2001:db8::1]:1080"),
        ("[2001:db8::1]", "[2001:db8::1]:1080"),
        ("gw.example", "gw.example:1080"),
        ("socks5://gw.example:1080", "gw.example:1080"),
        ("socks5h://gw.example:1080/", "gw.example:1080"),
        ("socks5://u:p@[2001:db8::1]:1080", "[2001:db8::1]:1080"),
    ] {
        assert_eq!(gateway(text).unwrap().to_string(), shown, "{text}");
        for (option, is_pipelined) in [("", false), ("?pipelined", true)] {
            let read = gateway(&format!("{text}{option}")).unwrap();
            assert_eq!(read.to_string(), shown, "{text}{option}");
            assert_eq!(read.is_pipelined, is_pipelined, "{text}{option}");
        }
    }
}

#[test]
fn credentials_in_a_url_are_percent_decoded() {
    let login = gateway("socks5://al%40ice:p%3Aw:x@gw.example:1")
        .unwrap()
        .login
        .unwrap();
    assert_eq!(login.user, b"al@ice");
    assert_eq!(login.password.0, b"p:w:x");
}

#[test]
fn nonsense_is_refused_without_repeating_a_secret() {
    for text in [
        "",
        ":1080",
        "gw:",
        "gw:0",
        "gw:65536",
        "gw:10:80",
        "http://gw:1080",
        "a b:1",
        "u:hunter2@gw:1080",
        "socks5://u@gw:1080",
        "socks5://:hunter2@gw:1",
        "socks5://u:%zz@gw:1",
        "[2001:db8::1:1080",
        "192.0.2.1:0",
        "192.0.2.1?pipeline",
        "socks5://u:p@gw?",
    ] {
        let error = gateway(text).unwrap_err();
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[test]
fn the_flat_file_is_read_and_the_variables_win() {
    let file = "# a comment\n\ngateway 192.0.2.1:1080\nuser alice\npassword  se cret\n\
                table private\nrange-v4 240.0.0.0/4\nfamilies v4\nresolve verify\nlog info,file:/tmp/x\n";
    let config = Config::build(Some(file), &Variables::default()).unwrap();
    assert_eq!(config.gateways[0].to_string(), "192.0.2.1:1080");
    assert_eq!(
        config.gateways[0].login.as_ref().unwrap().password.0,
        b"se cret"
    );
    assert_eq!(config.table, TablePlace::Private);
    assert_eq!(config.families, Families::V4);
    assert_eq!(config.resolve, Resolve::Verify);
    let variables = Variables {
        gateway: Some("gw.example:1,[2001:db8::1]:2".into()),
        user: Some("bob".into()),
        password_file: Some("/run/secret".into()),
        log: Some("debug".into()),
        ..Variables::default()
    };
    let mut config = Config::build(Some(file), &variables).unwrap();
    assert_eq!(config.gateways.len(), 2);
    assert_eq!(
        config.log,
        Some(Log {
            level: LogLevel::Debug,
            target: LogTarget::Stderr
        })
    );
    assert_eq!(
        config.password_file.as_deref(),
        Some("/run/secret".as_ref())
    );
    config.set_password(b"from file\r\nsecond line\n").unwrap();
    for gateway in &config.gateways {
        let login = gateway.login.as_ref().unwrap();
        assert_eq!(
            (&login.user[..], &login.password.0[..]),
            (&b"bob"[..], &b"from file"[..])
        );
    }
}

#[test]
fn errors_name_their_place() {
    for (file, message) in [
        ("gateway", "line 1: expected `key value`"),
        ("\ncolour red", "line 2: unknown key `colour`"),
        ("table a\ntable b", "line 2: table is given twice"),
        ("gateway x:y", "line 1: `x:y` is not host:port or [v6]:port"),
        ("user alice", "line 1: a user needs a password (RFC 1929)"),
        ("password x", "line 1: a password needs a user (RFC 1929)"),
        ("log loud", "line 1: expected error, warn, info or debug"),
        (
            "table here",
            "line 1: expected an absolute path, or `private`",
        ),
        ("families v5", "line 1: expected v4, v6 or both"),
        ("resolve later", "line 1: expected connect or verify"),
        ("sticky yes", "line 1: expected true or false"),
        (
            "rule direct x\nrule permit y",
            "line 2: a rule begins with direct, relay or reject",
        ),
    ] {
        let error = Config::build(Some(file), &Variables::default()).unwrap_err();
        assert_eq!(error.to_string(), message);
    }
}

/// Variables win over the file: theirs come first.
#[test]
fn rules_keep_their_order_and_the_variable_comes_first() {
    let file = "rule reject .lan 25\nrule relay .lan\n";
    let variables = Variables {
        no_proxy: Some("printer.lan".into()),
        ..Variables::default()
    };
    let config = Config::build(Some(file), &variables).unwrap();
    let lines: Vec<_> = config.rules.iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        ["direct .printer.lan", "reject .lan 25", "relay .lan"]
    );
    let wrong = Variables {
        no_proxy: Some("a,b c:d".into()),
        ..Variables::default()
    };
    let error = Config::build(None, &wrong).unwrap_err();
    assert_eq!(error.place, "SOCKS6_NO_PROXY");
}

#[test]
fn a_secret_shows_in_no_debug_output() {
    let config = Config {
        gateways: Gateway::parse_list("socks5://alice:hunter2@gw:1").unwrap(),
        ..Config::default()
    };
    assert!(!format!("{config:?}").contains("hunter2"));
    assert!(!format!("{config:?}").contains("104, 117"));
}
