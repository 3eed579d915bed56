use super::*;
use crate::file::File;

/// What one line of a table asks for; what it says nothing of is as in `default`.
struct Question {
    client: &'static str,
    listener: &'static str,
    user: Option<&'static str>,
    cmd: Cmd,
    name: Option<&'static str>,
    port: u16,
}

impl Default for Question {
    fn default() -> Self {
        Self {
            client: "192.0.2.7",
            listener: "192.0.2.1:1080",
            user: None,
            cmd: Cmd::CONNECT,
            name: None,
            port: 443,
        }
    }
}

impl Question {
    fn ask<T>(&self, ask: impl FnOnce(&Asked<'_>) -> T) -> T {
        let name = self.name.map(|name| Fqdn::new(name.as_bytes()).unwrap());
        ask(&Asked {
            client: self.client.parse().unwrap(),
            listener: self.listener.parse().unwrap(),
            user: self.user,
            cmd: self.cmd,
            name: name.as_ref(),
            port: self.port,
            hops: 0,
        })
    }
}

fn rules(text: &str) -> Rules {
    let file: File = toml::from_str(text).unwrap();
    file.check().unwrap();
    file.rules()
}

fn forms(text: &str) -> Forms {
    Forms::of(text.parse().unwrap(), || None)
}

/// `Ok` with the label of the rule that allows, or `Err` with that of the one that denies; "-" for none.
fn address(rules: &Rules, question: &Question, address: &str) -> Result<String, String> {
    let or_none = |label: Option<String>| label.unwrap_or_else(|| "-".to_owned());
    question.ask(|asked| match rules.judge_address(asked, forms(address)) {
        Ok(rule) => Ok(or_none(rule.map(Rule::label))),
        Err(DeniedBy(label)) => Err(or_none(label)),
    })
}

fn name(rules: &Rules, name: &'static str) -> Result<(), DeniedBy> {
    let question = Question {
        name: Some(name),
        ..Question::default()
    };
    question.ask(|asked| rules.judge_name(asked).map(|via| assert!(via.is_none())))
}

fn allowed(label: &str) -> Result<String, String> {
    Ok(label.to_owned())
}

fn denied(label: &str) -> Result<String, String> {
    Err(label.to_owned())
}

#[test]
fn without_rules_everything_is_allowed_and_with_rules_what_none_matches_is_denied() {
    let question = Question::default();
    assert_eq!(address(&rules(""), &question, "203.0.113.1"), allowed("-"));
    assert_eq!(name(&rules(""), "www.example"), Ok(()));
    let some = rules("[[rule]]\naction = \"allow\"\nports = [\"80\"]\n");
    assert_eq!(address(&some, &question, "203.0.113.1"), denied("-"));
    assert_eq!(name(&some, "www.example"), Err(DeniedBy(None)));
}

#[test]
fn the_first_rule_that_matches_decides() {
    let ordered = rules(
        "[[rule]]\naction = \"deny\"\ndestinations = [\"203.0.113.0/25\"]\n\
         [[rule]]\nname = \"net\"\naction = \"allow\"\ndestinations = [\"203.0.113.0/24\"]\n\
         [[rule]]\naction = \"deny\"\n",
    );
    let question = Question::default();
    for (to, expected) in [
        ("203.0.113.1", denied("1")),
        ("203.0.113.200", allowed("net")),
        ("198.51.100.1", denied("3")),
        ("2001:db8::1", denied("3")),
    ] {
        assert_eq!(address(&ordered, &question, to), expected, "{to}");
    }
}

#[test]
fn each_condition_holds_or_not_and_all_of_a_rule_must() {
    let question = Question::default;
    for (condition, yes, no) in [
        (
            "clients = [\"192.0.2.0/28\", \"2001:db8::/32\"]",
            question(),
            Question {
                client: "192.0.2.16",
                ..question()
            },
        ),
        (
            "clients = [\"2001:db8::/32\"]",
            Question {
                client: "2001:db8::7",
                ..question()
            },
            question(),
        ),
        (
            "listeners = [\"192.0.2.1:1080\"]",
            question(),
            Question {
                listener: "[::]:1080",
                ..question()
            },
        ),
        (
            "users = [\"alice\"]",
            Question {
                user: Some("alice"),
                ..question()
            },
            Question {
                user: Some("Alice"),
                ..question()
            },
        ),
        (
            "users = [\"alice\"]",
            Question {
                user: Some("alice"),
                ..question()
            },
            question(),
        ),
        (
            "users = [\"al ice\"]",
            Question {
                user: Some("al\\x20ice"),
                ..question()
            },
            Question {
                user: Some("al ice"),
                ..question()
            },
        ),
        (
            "groups = [\"ops\", \"staff\"]",
            Question {
                user: Some("bob"),
                ..question()
            },
            Question {
                user: Some("carol"),
                ..question()
            },
        ),
        (
            "commands = [\"resolve\", \"connect\"]",
            question(),
            Question {
                cmd: Cmd::RESOLVE_PTR,
                ..question()
            },
        ),
        (
            "commands = [\"resolve-ptr\"]",
            Question {
                cmd: Cmd::RESOLVE_PTR,
                ..question()
            },
            Question {
                cmd: Cmd::RESOLVE,
                ..question()
            },
        ),
        (
            "names = [\".example.com\"]",
            Question {
                name: Some("WWW.example.COM."),
                ..question()
            },
            Question {
                name: Some("www.example.org"),
                ..question()
            },
        ),
        // Who sends an address has sent no name, whatever name the address has.
        (
            "names = [\"*\"]",
            Question {
                name: Some("x"),
                ..question()
            },
            question(),
        ),
        (
            "ports = [\"80\", \"400-500\"]",
            question(),
            Question {
                port: 81,
                ..question()
            },
        ),
        (
            "ports = [\"443\"]\nusers = [\"alice\"]",
            Question {
                user: Some("alice"),
                ..question()
            },
            Question {
                user: Some("alice"),
                port: 80,
                ..question()
            },
        ),
    ] {
        let groups = "[groups]\nstaff = [\"alice\", \"bob\"]\nops = []\n";
        let one = rules(&format!(
            "{groups}[[rule]]\naction = \"allow\"\n{condition}\n"
        ));
        assert_eq!(
            address(&one, &yes, "203.0.113.1"),
            allowed("1"),
            "{condition}"
        );
        assert_eq!(
            address(&one, &no, "203.0.113.1"),
            denied("-"),
            "{condition}"
        );
    }
}

/// A rule about addresses is passed over as long as there is only a name: what it denies may be one of several addresses.
#[test]
fn a_name_is_denied_before_it_is_resolved_only_if_no_address_could_save_it() {
    let by_address = "[[rule]]\naction = \"deny\"\ndestinations = [\"10.0.0.0/8\"]\n";
    let allowing = "[[rule]]\naction = \"allow\"\ndestinations = [\"203.0.113.0/24\"]\n";
    let by_name = "[[rule]]\naction = \"deny\"\nnames = [\".example\"]\n";
    let rest = "[[rule]]\naction = \"allow\"\n";
    let by = |label: &str| Err(DeniedBy(Some(label.to_owned())));
    for (text, expected) in [
        (format!("{by_address}{rest}"), Ok(())),
        (format!("{by_address}{by_name}{rest}"), by("2")),
        (format!("{allowing}{by_name}{rest}"), Ok(())),
        (format!("{by_name}{allowing}{rest}"), by("1")),
        (by_address.to_owned(), Err(DeniedBy(None))),
        (allowing.to_owned(), Ok(())),
    ] {
        assert_eq!(name(&rules(&text), "www.example"), expected, "{text}");
    }
}

/// DNS rebinding: the pair of a good name and a bad address is judged by the address too.
#[test]
fn a_name_that_is_allowed_does_not_lead_to_an_address_that_is_denied_before_it() {
    let both = rules(
        "[[rule]]\naction = \"deny\"\ndestinations = [\"10.0.0.0/8\"]\n\
         [[rule]]\naction = \"allow\"\nnames = [\".example\"]\n\
         [[rule]]\naction = \"allow\"\ndestinations = [\"203.0.113.0/24\"]\nnames = [\"*.test\"]\n",
    );
    let of = |name| Question {
        name: Some(name),
        ..Question::default()
    };
    for (name, to, expected) in [
        ("www.example", "203.0.113.1", allowed("2")),
        ("www.example", "2001:db8::1", allowed("2")),
        ("www.example", "10.1.2.3", denied("1")),
        ("a.test", "203.0.113.1", allowed("3")),
        ("a.test", "203.0.114.1", denied("-")),
        ("other", "203.0.113.1", denied("-")),
    ] {
        assert_eq!(address(&both, &of(name), to), expected, "{name} {to}");
    }
}

/// A packet for one of these may end up at the v4 address in it.
#[test]
fn a_denied_v4_range_covers_the_v6_addresses_that_lead_there_and_an_allowed_one_does_not() {
    let deny = rules(
        "[[rule]]\naction = \"deny\"\ndestinations = [\"10.0.0.0/8\"]\n[[rule]]\naction = \"allow\"\n",
    );
    let allow = rules("[[rule]]\naction = \"allow\"\ndestinations = [\"10.0.0.0/8\"]\n");
    let question = Question::default();
    for form in [
        "::10.1.2.3",
        "::ffff:0:10.1.2.3",
        "64:ff9b::10.1.2.3",
        "64:ff9b:1::10.1.2.3",
        "2002:a01:203::1",
    ] {
        assert_eq!(address(&deny, &question, form), denied("1"), "{form}");
        assert_eq!(address(&allow, &question, form), denied("-"), "{form}");
    }
    assert_eq!(
        address(&deny, &question, "64:ff9b::192.0.2.1"),
        allowed("2")
    );
    assert_eq!(address(&allow, &question, "10.1.2.3"), allowed("1"));
    // As an operator may write it.
    let mapped = rules("[[rule]]\naction = \"deny\"\ndestinations = [\"::ffff:10.0.0.0/104\"]\n");
    assert_eq!(address(&mapped, &question, "10.1.2.3"), denied("1"));
}

#[test]
fn what_makes_no_sense_is_refused_with_its_place() {
    for (text, words) in [
        (
            "[[rule]]\naction = \"permit\"",
            ["line 2, column 10", "permit"],
        ),
        (
            "[[rule]]\nname = \"x\"",
            ["line 1, column 1", "missing field `action`"],
        ),
        (
            "[[rule]]\naction = \"allow\"\nclients = []",
            ["line 3, column 11", "an empty list"],
        ),
        (
            "[[rule]]\naction = \"allow\"\nport = [\"1\"]",
            ["line 3, column 1", "unknown field"],
        ),
        (
            "[[rule]]\naction = \"allow\"\nports = [\"x\"]",
            ["line 3, column 9", "not a port"],
        ),
        (
            "[[rule]]\naction = \"allow\"\nnames = [\"a b\"]",
            ["line 3, column 9", "not a name"],
        ),
        (
            "[[rule]]\naction = \"allow\"\ndestinations = [\"10/8\"]",
            ["line 3, column 16", "not an address or a range"],
        ),
    ] {
        let error = toml::from_str::<File>(text).unwrap_err().to_string();
        assert!(
            words.iter().all(|word| error.contains(word)),
            "{text}: {error}"
        );
    }
    let first = "[[rule]]\naction = \"allow\"\n\n";
    for (second, word) in [
        (
            "action = \"allow\"\ngroups = [\"nobody\"]",
            "no group \"nobody\"",
        ),
        ("action = \"allow\"\nname = \"a b\"", "one word"),
        ("action = \"allow\"\ntotal = \"0s\"", "longer than 0"),
        ("action = \"deny\"\nsource-v4 = \"192.0.2.1\"", "denies"),
        ("action = \"allow\"\ninterface = \"\"", "1 to 15"),
        ("action = \"deny\"\ntotal = \"1h\"", "denies"),
    ] {
        let text = format!("{first}[[rule]]\n{second}");
        let (at, why) = toml::from_str::<File>(&text).unwrap().check().unwrap_err();
        assert!(why.contains(word), "{text}: {why}");
        assert_eq!(at, first.len(), "{text}: the second table");
    }
}

#[test]
fn what_would_never_match_is_refused() {
    let listening = rules("[[rule]]\naction = \"deny\"\nlisteners = [\"192.0.2.1:1080\"]");
    assert_eq!(listening.check_against(|_| true, false), Ok(()));
    let error = listening.check_against(|_| false, true).unwrap_err();
    assert_eq!(error, "rule 1: 192.0.2.1:1080 is no listener");
    let personal = rules("[[rule]]\nname = \"x\"\naction = \"deny\"\nusers = [\"alice\"]");
    assert_eq!(personal.check_against(|_| true, true), Ok(()));
    let error = personal.check_against(|_| true, false).unwrap_err();
    assert!(error.starts_with("rule x is about users"), "{error}");
}

/// What the addresses of such a name are is the upstream's to find.
#[test]
fn a_name_goes_on_as_it_is_if_a_rule_without_destinations_says_so() {
    let upstream = "[[upstream]]\nname = \"up\"\naddress = \"192.0.2.9:1080\"\n";
    let via = "[[rule]]\naction = \"allow\"\nvia = [\"up\"]\n";
    let deny = "[[rule]]\naction = \"deny\"\ndestinations = [\"10.0.0.0/8\"]\n";
    let allow = "[[rule]]\naction = \"allow\"\ndestinations = [\"203.0.113.0/24\"]\n";
    let judged =
        "[[rule]]\naction = \"allow\"\ndestinations = [\"198.51.100.0/24\"]\nvia = [\"up\"]\n";
    let question = Question {
        name: Some("www.example"),
        ..Question::default()
    };
    for (text, goes_on) in [
        (format!("{upstream}{via}"), true),
        (format!("{upstream}{deny}{via}"), true),
        (format!("{upstream}{allow}{via}"), false),
        (format!("{upstream}{judged}{via}"), false),
        (allow.to_owned(), false),
    ] {
        let rules = rules(&text);
        let via = question.ask(|asked| rules.judge_name(asked).unwrap().is_some());
        assert_eq!(via, goes_on, "{text}");
    }
    let all = rules(&format!("{upstream}{deny}{judged}{via}"));
    for (to, sent) in [
        ("10.0.0.1", None),
        ("198.51.100.1", Some(false)),
        ("192.0.2.1", Some(true)),
    ] {
        let rule = question.ask(|asked| all.judge_address(asked, forms(to)).ok().flatten());
        assert_eq!(rule.map(Rule::sends_on_what_was_sent), sent, "{to}");
    }
}
