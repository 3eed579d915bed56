//! Names and the patterns that operators and users write for them.

use socks_client::{Action, Place, Rule, Rules};

/// `PATTERN\nNAME`: the gateway's rules, the Socks Lib's and the definition itself agree on whether the pattern has the
/// name; and a rule of the Socks Lib is written as it is read.
pub(crate) fn names(input: &[u8]) {
    let Some(end) = input.iter().position(|octet| *octet == b'\n') else {
        return;
    };
    let (pattern, name) = (&input[..end], &input[end + 1..]);
    // A name has at most 255 octets, and time is the product of both.
    if pattern.len() > 64 || name.is_empty() || name.len() > 255 {
        return;
    }
    let Ok(pattern) = str::from_utf8(pattern) else {
        return;
    };
    let rule = Rule::parse(&format!("reject {pattern}"));
    if let Ok(rule) = &rule {
        assert_eq!(Rule::parse(&rule.to_string()).as_ref(), Ok(rule), "{rule}");
    }
    let Some(gateway) = gateway::fuzzing::names_contain(pattern, name) else {
        return;
    };
    let lower = pattern.strip_suffix('.').unwrap_or(pattern).to_lowercase();
    let plain = name.strip_suffix(b".").unwrap_or(name);
    let is_it = |pattern: &[u8], name: &[u8]| is_match(pattern, &name.to_ascii_lowercase());
    let by_definition = match lower.as_bytes().strip_prefix(b".") {
        None => is_it(lower.as_bytes(), plain),
        Some(itself) => {
            is_it(itself, plain)
                || (0..plain.len())
                    .filter(|at| plain[*at] == b'.')
                    .any(|at| is_it(lower.as_bytes(), &plain[at..]))
        }
    };
    assert_eq!(gateway, by_definition, "the gateway's rules");

    // To the shim a name comes without the dot at its end.
    let Some(rule) = rule.ok().filter(Rule::is_by_name) else {
        return;
    };
    let mut rules = Rules::default();
    rules.push(rule);
    let place = Place {
        name: Some(plain),
        address: None,
        port: 80,
        protocol: None,
    };
    let is_rejected = rules.action(&place) == Some(Action::Reject);
    assert_eq!(is_rejected, by_definition, "the rules of the Socks Lib");
}

/// Whether `name` is `pattern` with something in place of each star: octet by octet, all that may still fit.
fn is_match(pattern: &[u8], name: &[u8]) -> bool {
    let star = |fits: &mut Vec<bool>| {
        for (at, octet) in pattern.iter().enumerate() {
            fits[at + 1] |= *octet == b'*' && fits[at];
        }
    };
    let mut fits = vec![false; pattern.len() + 1];
    fits[0] = true;
    star(&mut fits);
    for octet in name {
        let mut next = vec![false; pattern.len() + 1];
        for (at, wanted) in pattern.iter().enumerate() {
            next[at + 1] = fits[at] && wanted == octet && *wanted != b'*';
            next[at] |= fits[at] && *wanted == b'*';
        }
        star(&mut next);
        fits = next;
    }
    fits[pattern.len()]
}
