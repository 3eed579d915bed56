use super::*;

fn rules(lines: &[&str]) -> Rules {
    Rules(
        lines
            .iter()
            .map(|line| Rule::parse(line).unwrap())
            .collect(),
    )
}

/// `tcp www.example:80`, `udp 192.0.2.1:53`, `raw 192.0.2.1:0`.
fn action(rules: &Rules, to: &str) -> Option<Action> {
    let (protocol, to) = to.split_once(' ').unwrap();
    let (host, port) = to.rsplit_once(':').unwrap();
    let address = host.trim_matches(['[', ']']).parse().ok();
    rules.action(&Place {
        name: address.is_none().then_some(host.as_bytes()),
        address,
        port: port.parse().unwrap(),
        protocol: match protocol {
            "tcp" => Some(Protocol::Tcp),
            "udp" => Some(Protocol::Udp),
            _ => None,
        },
    })
}

const DIRECT: Option<Action> = Some(Action::Direct);
const RELAY: Option<Action> = Some(Action::Relay);
const REJECT: Option<Action> = Some(Action::Reject);

#[test]
fn the_first_rule_that_matches_decides() {
    let rules = rules(&[
        "reject *.ads.corp.example",
        "reject .corp.example 25",
        "direct .corp.example",
        "relay 10.9.0.0/16 tcp",
        "direct 10.0.0.0/8",
        "direct 2001:db8::/32 8000-8999",
        "reject * 6881-6889 udp",
    ]);
    for (to, expected) in [
        ("tcp x.ads.corp.example:80", REJECT),
        ("tcp ads.corp.example:80", DIRECT),
        ("tcp mail.corp.example:25", REJECT),
        ("tcp mail.corp.example:26", DIRECT),
        ("udp Corp.EXAMPLE:443", DIRECT),
        ("tcp notcorp.example:80", None),
        ("tcp 10.9.1.1:80", RELAY),
        ("udp 10.9.1.1:80", DIRECT),
        ("tcp [::ffff:10.1.1.1]:80", DIRECT),
        ("raw 10.1.1.1:0", DIRECT),
        ("tcp 11.0.0.0:80", None),
        ("tcp [2001:db8:ffff::1]:8000", DIRECT),
        ("tcp [2001:db8:ffff::1]:9000", None),
        ("raw [2001:db8:ffff::1]:8000", None),
        ("udp www.example:6885", REJECT),
        ("udp 192.0.2.1:6889", REJECT),
        ("tcp 192.0.2.1:6889", None),
    ] {
        assert_eq!(action(&rules, to), expected, "{to}");
    }
}

/// The test suites: "`direct` for loopback turned off".
#[test]
fn loopback_is_ruled_by_its_addresses_alone() {
    let any = rules(&["relay *"]);
    assert_eq!(action(&any, "tcp 127.0.0.1:80"), None);
    assert_eq!(action(&any, "tcp [fe80::1]:80"), None);
    assert_eq!(action(&any, "tcp 192.0.2.1:80"), RELAY);
    let named = rules(&["relay 127.0.0.0/8 tcp", "relay ::1 tcp"]);
    for (to, expected) in [
        ("tcp 127.9.9.9:80", RELAY),
        ("tcp [::1]:80", RELAY),
        ("tcp [::ffff:127.0.0.1]:80", RELAY),
        ("udp 127.0.0.1:80", None),
    ] {
        assert_eq!(action(&named, to), expected, "{to}");
    }
}

/// An address that libc has looked up for a name goes by both.
#[test]
fn an_address_with_a_name_goes_by_either() {
    let rules = rules(&[
        "reject 10.0.0.13",
        "direct .corp.example 22",
        "direct 10.8.0.0/16",
    ]);
    let of = |address: &str, port| {
        rules.action(&Place {
            name: Some(b"host.corp.example"),
            address: address.parse().ok(),
            port,
            protocol: Some(Protocol::Tcp),
        })
    };
    assert_eq!(of("10.0.0.13", 22), REJECT);
    assert_eq!(of("10.0.0.14", 22), DIRECT);
    assert_eq!(of("10.0.0.14", 80), None);
    assert_eq!(of("10.8.0.14", 80), DIRECT);
}

/// At look-up the port is not known: what may be direct needs its real addresses.
#[test]
fn names_are_looked_up_by_the_first_rule_that_may_be_direct() {
    let rules = rules(&[
        "reject .corp.example 25",
        "direct .corp.example 22",
        "reject .corp.example",
        "reject *.bad.example",
        "relay www.example",
        "direct 192.0.2.0/24",
    ]);
    let of = |name: &str| rules.of_name(name.as_bytes()).map(Rule::action);
    assert_eq!(of("host.corp.example"), DIRECT);
    assert_eq!(of("x.bad.example"), REJECT);
    assert_eq!(of("www.example"), RELAY);
    assert_eq!(of("other.example"), None);
    assert!(rules.is_direct("192.0.2.7".parse().unwrap()));
    assert!(!rules.is_direct("192.0.3.7".parse().unwrap()));
}

#[test]
fn patterns_match_as_documented() {
    for (pattern, name, expected) in [
        ("www.example", "WWW.Example", true),
        ("www.example", "a.www.example", false),
        (".example", "example", true),
        (".example", "a.b.example", true),
        (".example", "anexample", false),
        ("*.example", "example", false),
        ("*.example", "a.b.example", true),
        ("*example", "anexample", true),
        ("db-*.example", "db-1.x.example", true),
        ("db-*.example", "db-.example", true),
        ("*a*b*", "xaxxbx", true),
        ("*a*b*", "xbxxax", false),
        (".db*.example", "x.db1.example", true),
        (".db*.example", "db1.example", true),
        ("*", "", true),
    ] {
        assert_eq!(
            matches(pattern.as_bytes(), name.as_bytes()),
            expected,
            "{pattern} {name}"
        );
    }
    let (pattern, name) = ("*a".repeat(120), "a".repeat(110) + "b");
    assert!(
        !matches(pattern.as_bytes(), name.as_bytes()),
        "and in no time"
    );
}

/// As curl and Go read it.
#[test]
fn no_proxy_lists_are_read_as_users_know_them() {
    for (text, shown) in [
        ("", ""),
        ("*", "direct *"),
        ("corp.example, .lan", "direct .corp.example|direct .lan"),
        (
            "*.corp.example localhost",
            "direct .corp.example|direct .localhost",
        ),
        (
            "10.0.0.0/8,192.0.2.1",
            "direct 10.0.0.0/8|direct 192.0.2.1/32",
        ),
        ("::1,[2001:db8::1]", "direct ::1/128|direct 2001:db8::1/128"),
        (
            "host.example:8080,[::1]:22,192.0.2.1:80",
            "direct .host.example 8080|direct ::1/128 22|direct 192.0.2.1/32 80",
        ),
    ] {
        let rules = Rule::parse_no_proxy(text).map(Result::unwrap);
        let lines: Vec<_> = rules.map(|rule| rule.to_string()).collect();
        assert_eq!(lines.join("|"), shown, "{text}");
    }
    for text in ["a b:x", "10.0.0", "<local>", "*:80"] {
        assert!(
            Rule::parse_no_proxy(text).any(|rule| rule.is_err()),
            "{text}"
        );
    }
}

#[test]
fn what_is_shown_is_read_again_as_the_same() {
    for line in [
        "direct .corp.example 22 tcp",
        "relay 127.0.0.0/8 tcp",
        "reject ::/0 1-1023 udp",
        "direct *",
    ] {
        let rule = Rule::parse(line).unwrap();
        assert_eq!(rule.to_string(), line);
    }
    let mapped = Rule::parse("direct ::ffff:10.0.0.0/104").unwrap();
    assert_eq!(mapped, Rule::parse("direct 10.0.0.0/8").unwrap());
}

#[test]
fn nonsense_is_refused() {
    for line in [
        "",
        "direct",
        "allow *",
        "direct 10.0.0.0/33",
        "direct ::/129",
        "direct 10.0.0",
        "direct a..b",
        "direct a..",
        "direct *.",
        "direct caf\u{e9}.example",
        "direct x 80 81",
        "direct x tcp udp",
        "direct x 81-80",
        "direct x 65536",
        "direct * 443",
        "direct * udp",
    ] {
        assert!(Rule::parse(line).is_err(), "{line}");
    }
}
