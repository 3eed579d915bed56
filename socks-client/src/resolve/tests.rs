use super::*;
use crate::Families;

fn question(name: &str, asked: Asked) -> Question<'_> {
    Question {
        name: name.as_bytes(),
        asked,
        is_getaddrinfo: true,
        is_numeric_only: false,
        is_v4_mapped: false,
        is_addrconfig: false,
        is_verified: false,
    }
}

fn planned(question: &Question<'_>) -> Plan {
    plan(question, &Facts::default(), &Config::default(), || {
        (true, true)
    })
}

const V4: Asked = Asked::Only(Family::V4);
const V6: Asked = Asked::Only(Family::V6);
const FAKE_V4: Plan = Plan::Fake {
    v6: false,
    v4: true,
};
const FAKE_V6: Plan = Plan::Fake {
    v6: true,
    v4: false,
};
const FAKE_BOTH: Plan = Plan::Fake { v6: true, v4: true };

/// RFC 3089 §3: the fake address is of the family that the application asked for.
#[test]
fn a_name_gets_a_fake_of_the_family_that_was_asked_for() {
    for name in [
        "www.example",
        "www.example.",
        "WWW.Example",
        "a",
        "x_y.example",
        "_x.example",
        "1a.example",
    ] {
        assert_eq!(planned(&question(name, V4)), FAKE_V4, "{name}");
        assert_eq!(planned(&question(name, V6)), FAKE_V6, "{name}");
        assert_eq!(planned(&question(name, Asked::Any)), FAKE_BOTH, "{name}");
    }
}

#[test]
fn literals_are_libcs_business() {
    for (name, asked) in [
        ("192.0.2.1", Asked::Any),
        ("192.0.2.1", V4),
        ("2001:db8::1", V6),
        ("127.1", Asked::Any),
        ("::ffff:192.0.2.1", V4),
        ("::1", V4),
        ("127.0.0.1", V6),
        ("fe80::1%lo", V4),
    ] {
        assert_eq!(planned(&question(name, asked)), Plan::Pass, "{name}");
    }
    let mapped = Question {
        is_v4_mapped: true,
        ..question("192.0.2.1", V6)
    };
    assert_eq!(planned(&mapped), Plan::Pass);
    let hex = Question {
        is_getaddrinfo: false,
        ..question("0x7f.1", V4)
    };
    assert_eq!(planned(&hex), Plan::Fail(Eai::NONAME));
}

/// DESIGN §2: a v4 program can be given a v6 literal, and the reverse.
#[test]
fn a_literal_of_the_other_family_gets_a_fake() {
    assert_eq!(planned(&question("2001:db8::1", V4)), FAKE_V4);
    assert_eq!(planned(&question("192.0.2.1", V6)), FAKE_V6);
    let numeric = Question {
        is_numeric_only: true,
        ..question("2001:db8::1", V4)
    };
    assert_eq!(planned(&numeric), Plan::Pass);
}

#[test]
fn names_in_the_hosts_file_never_reach_dns() {
    let address = Ipv4Addr::new(192, 0, 2, 7);
    let ask = |question: &Question<'_>, has_v4: bool, has_v6| {
        let facts = Facts {
            in_hosts: HostFamilies {
                v4: has_v4.then_some(address),
                has_v6,
            },
            is_own_name: false,
        };
        plan(question, &facts, &Config::default(), || (true, true))
    };
    let any = question("printer", Asked::Any);
    assert_eq!(ask(&any, true, true), Plan::Pass);
    assert_eq!(ask(&any, true, false), Plan::PassAs(Family::V4));
    assert_eq!(ask(&any, false, true), Plan::PassAs(Family::V6));
    assert_eq!(ask(&question("printer", V4), true, false), Plan::Pass);
    let v6 = question("printer", V6);
    assert_eq!(ask(&v6, true, false), Plan::Fail(Eai::NONAME));
    let mapped = Question {
        is_v4_mapped: true,
        ..v6
    };
    assert_eq!(ask(&mapped, true, false), Plan::Mapped(address));
    assert_eq!(ask(&mapped, true, true), Plan::Pass);
}

/// RFC 6761 §6.4.
#[test]
fn nothing_is_below_invalid() {
    for name in ["invalid", "www.INVALID."] {
        assert_eq!(planned(&question(name, V4)), Plan::Fail(Eai::NONAME));
    }
    assert_eq!(planned(&question("invalid.example", V4)), FAKE_V4);
}

/// RFC 6761 §6.3.
#[test]
fn localhost_and_the_own_name_stay_at_home() {
    for name in ["localhost", "LOCALHOST.", "db.localhost"] {
        let plan = planned(&question(name, V4));
        assert_eq!(
            plan,
            Plan::Loopback {
                v6: false,
                v4: true
            },
            "{name}"
        );
    }
    assert_eq!(planned(&question("notlocalhost", V4)), FAKE_V4);
    let own = Facts {
        in_hosts: HostFamilies::default(),
        is_own_name: true,
    };
    let plan = plan(
        &question("me", Asked::Any),
        &own,
        &Config::default(),
        || (true, true),
    );
    assert_eq!(plan, Plan::Loopback { v6: true, v4: true });
}

#[test]
fn what_cannot_be_a_name_fails_without_asking_anybody() {
    let long_label = format!("{}.example", "a".repeat(64));
    let long_name = ["a"; 128].join(".");
    for name in [
        "",
        ".",
        "a..b",
        "a b",
        "-a.example",
        "caf\u{e9}.example",
        "[::1]",
        "a\tb",
        "1.2.3.4.",
        "999.1.1.1",
        "1.2.3.4.5",
        &long_label,
        &long_name,
    ] {
        assert_eq!(
            planned(&question(name, V4)),
            Plan::Fail(Eai::NONAME),
            "{name}"
        );
    }
}

#[test]
fn a_message_is_answered_as_a_look_up_is() {
    let ask = |name: &str, family, families| {
        let config = Config {
            families,
            ..Config::default()
        };
        plan_message(name.as_bytes(), family, name == "me", &config)
    };
    let (v4, v6) = (Family::V4, Family::V6);
    assert_eq!(ask("www.example", v4, Families::Both), FAKE_V4);
    assert_eq!(ask("www.example", v6, Families::Both), FAKE_V6);
    let none = Plan::Fake {
        v6: false,
        v4: false,
    };
    assert_eq!(ask("www.example", v6, Families::V4), none);
    assert_eq!(ask("www.example", v4, Families::V6), none);
    for own in ["me", "localhost", "db.localhost"] {
        let loopback = Plan::Loopback {
            v6: true,
            v4: false,
        };
        assert_eq!(ask(own, v6, Families::Both), loopback, "{own}");
    }
    for never in ["192.0.2.1", "a b", ""] {
        let plan = ask(never, v4, Families::Both);
        assert!(matches!(plan, Plan::Fail(_)), "{never}");
    }
}

/// RFC 3493 §6.1, less what would defeat the mechanism.
#[test]
fn addrconfig_counts_for_unspec_alone() {
    let ask = |asked, own| {
        let question = Question {
            is_addrconfig: true,
            ..question("a.example", asked)
        };
        plan(&question, &Facts::default(), &Config::default(), || own)
    };
    assert_eq!(ask(Asked::Any, (true, false)), FAKE_V4);
    assert_eq!(ask(Asked::Any, (false, true)), FAKE_V6);
    assert_eq!(ask(Asked::Any, (true, true)), FAKE_BOTH);
    assert_eq!(ask(Asked::Any, (false, false)), FAKE_BOTH);
    assert_eq!(ask(V4, (false, true)), FAKE_V4);
}

/// DESIGN §2: a dead name is seen at look-up. What needs no gateway is not asked about.
#[test]
fn names_are_verified_where_that_is_configured() {
    let mut config = Config {
        resolve: Resolve::Verify,
        ..Config::default()
    };
    config
        .rules
        .push(Rule::parse("reject .ads.example").unwrap());
    let ask = |question: &Question<'_>| plan(question, &Facts::default(), &config, || (true, true));
    let www = question("www.example", V4);
    assert_eq!(ask(&www), Plan::Verify);
    let verified = Question {
        is_verified: true,
        ..www
    };
    assert_eq!(ask(&verified), FAKE_V4);
    assert_eq!(ask(&question("2001:db8::1", V4)), FAKE_V4);
    assert_eq!(ask(&question("192.0.2.1", V4)), Plan::Pass);
    assert_eq!(ask(&question("a..b", V4)), Plan::Fail(Eai::NONAME));
    assert_eq!(ask(&question("x.ads.example", V4)), Plan::Reject);

    let reverse =
        |address: &str, is_fake| plan_reverse(address.parse().unwrap(), is_fake, false, &config);
    assert_eq!(reverse("192.0.2.1", false), Reverse::Verify);
    assert_eq!(reverse("198.18.0.7", true), Reverse::Table);
    assert_eq!(reverse("127.0.0.7", false), Reverse::Unknown);
}

/// "Names ruled direct go to libc"; a rule about names goes before the hosts file, `*` behind it.
#[test]
fn rules_decide_who_looks_a_name_up() {
    let mut config = Config::default();
    for line in ["direct .corp.example", "reject *.ads.example", "reject *"] {
        config.rules.push(Rule::parse(line).unwrap());
    }
    let ask = |name, in_hosts| {
        let facts = Facts {
            in_hosts,
            is_own_name: false,
        };
        plan(&question(name, V4), &facts, &config, || (true, true))
    };
    let nowhere = HostFamilies::default();
    let in_hosts = HostFamilies {
        v4: Some(Ipv4Addr::new(192, 0, 2, 7)),
        has_v6: false,
    };
    let direct = Plan::Direct { is_by_name: true };
    assert_eq!(ask("Host.Corp.example.", nowhere), direct);
    assert_eq!(ask("host.corp.example", in_hosts), direct);
    assert_eq!(ask("x.ads.example", in_hosts), Plan::Reject);
    assert_eq!(ask("printer", in_hosts), Plan::Pass);
    assert_eq!(ask("www.example", nowhere), Plan::Reject);
    let loopback = Plan::Loopback {
        v6: false,
        v4: true,
    };
    assert_eq!(ask("localhost", nowhere), loopback);
}

#[test]
fn a_bad_configuration_fails_every_look_up_that_would_need_a_gateway() {
    let broken = Config {
        is_broken: true,
        ..Config::default()
    };
    let ask = |name| {
        plan(&question(name, V4), &Facts::default(), &broken, || {
            (true, true)
        })
    };
    assert_eq!(ask("a.example"), Plan::Fail(Eai::FAIL));
    assert_eq!(
        ask("localhost"),
        Plan::Loopback {
            v6: false,
            v4: true
        }
    );
    assert_eq!(ask("192.0.2.1"), Plan::Pass);
}
