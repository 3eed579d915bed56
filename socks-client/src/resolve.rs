//! A question about a name → a fake answer, libc's answer, or an error (RFC 3089 §3, DESIGN §2).

use std::net::{IpAddr, Ipv4Addr};

use fake_dns::Family;

use crate::{Action, Config, Eai, HostFamilies, Resolve, Rule, is_local, literal};

/// The address family that a look-up asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// `AF_UNSPEC`: any.
    Any,
    /// `AF_INET` or `AF_INET6`.
    Only(Family),
}

/// A look-up by name.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The host as the application gave it.
    pub name: &'a [u8],
    /// The family asked for.
    pub asked: Asked,
    /// Whether this is `getaddrinfo`; the `gethostby…` family reads fewer notations as addresses.
    pub is_getaddrinfo: bool,
    /// `AI_NUMERICHOST`: no name may be looked up.
    pub is_numeric_only: bool,
    /// `AI_V4MAPPED` with `AF_INET6`: libc itself answers a v4 literal with a v4-mapped address.
    pub is_v4_mapped: bool,
    /// `AI_ADDRCONFIG`: only families that the host itself has.
    pub is_addrconfig: bool,
    /// The gateway has been asked about the name, or need not be.
    pub is_verified: bool,
}

/// What the host says of itself and of the name in question.
#[derive(Debug, Clone, Copy, Default)]
pub struct Facts {
    /// What `/etc/hosts` has for the name.
    pub in_hosts: HostFamilies,
    /// Whether the name is the host's own, gethostname(2).
    pub is_own_name: bool,
}

/// How a look-up by name is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// By libc, which needs no DNS for this one.
    Pass,
    /// By libc, since a rule says so.
    Direct {
        /// Whether the rule is about the name, so that the addresses are to be noted.
        is_by_name: bool,
    },
    /// By libc, asked for this family alone: for the other it would ask DNS.
    PassAs(Family),
    /// With this address of `/etc/hosts`, v4-mapped: libc would ask DNS for a v6 address first.
    Mapped(Ipv4Addr),
    /// Not before the gateway has been asked whether there is such a name.
    Verify,
    /// With fake addresses of these families (v6 before v4, DESIGN §2).
    Fake {
        /// A v6 address.
        v6: bool,
        /// A v4 address.
        v4: bool,
    },
    /// With the loopback addresses of these families (RFC 6761 §6.3).
    Loopback {
        /// `::1`
        v6: bool,
        /// `127.0.0.1`
        v4: bool,
    },
    /// With the error of a name that does not exist: a rule rejects it.
    Reject,
    /// With this error, known without asking anybody.
    Fail(Eai),
}

/// How a look-up by address is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reverse {
    /// By libc: the address is in `/etc/hosts`, or ruled direct.
    Pass,
    /// From the mapping table: the address is a fake one.
    Table,
    /// By the gateway.
    Verify,
    /// There is no name for it: asking DNS would tell the network whom the application talks to.
    Unknown,
}

/// Longest name and label that DNS carries (RFC 1035 §2.3.4), in the notation with dots.
const NAME_OCTETS: usize = 253;
const LABEL_OCTETS: usize = 63;

/// Decides who answers `question`. `own_families` tells whether the host has v4 and v6 addresses
/// other than loopback, and is asked only if that matters.
#[must_use]
pub fn plan(
    question: &Question<'_>,
    facts: &Facts,
    config: &Config,
    own_families: impl FnOnce() -> (bool, bool),
) -> Plan {
    if let Some(plan) = plan_for_literal(question) {
        return plan;
    }
    if question.is_numeric_only {
        return Plan::Pass;
    }
    let name = question.name.strip_suffix(b".").unwrap_or(question.name);
    // A rule about names goes before the host's own names, a rule about everything behind them.
    let rule = config.rules.of_name(name);
    if let Some(plan) = rule
        .filter(|rule| rule.is_by_name())
        .and_then(plan_for_rule)
    {
        return plan;
    }
    if let Some(plan) = plan_for_hosts(question, facts.in_hosts) {
        return plan;
    }
    if !is_host_name(name) {
        // gethostbyname("") is NO_RECOVERY.
        let is_empty = question.name.is_empty() && !question.is_getaddrinfo;
        return Plan::Fail(if is_empty { Eai::FAIL } else { Eai::NONAME });
    }
    if has_last_label(name, b"localhost") {
        let (v6, v4) = wanted(question.asked);
        return Plan::Loopback { v6, v4 };
    }
    if has_last_label(name, b"invalid") {
        return Plan::Fail(Eai::NONAME);
    }
    if facts.in_hosts != HostFamilies::default() {
        // A name of this host's own file means nothing at the gateway.
        return Plan::Fail(Eai::NONAME);
    }
    if facts.is_own_name {
        let (v6, v4) = wanted(question.asked);
        return Plan::Loopback { v6, v4 };
    }
    if config.is_broken {
        return Plan::Fail(Eai::FAIL);
    }
    if let Some(plan) = rule.and_then(plan_for_rule) {
        return plan;
    }
    if config.resolve == Resolve::Verify && !question.is_verified {
        return Plan::Verify;
    }
    match question.asked {
        Asked::Only(family) => Plan::Fake {
            v6: family == Family::V6,
            v4: family == Family::V4,
        },
        Asked::Any => {
            let (mut v6, mut v4) = (config.families.v6(), config.families.v4());
            // RFC 3493 §6.1. An explicitly asked family is always answered, or the v4-only program
            // on a v6-only host would fail; so is every family on a host with loopback only.
            if question.is_addrconfig && v6 && v4 {
                let (own_v4, own_v6) = own_families();
                if own_v4 != own_v6 {
                    (v6, v4) = (own_v6, own_v4);
                }
            }
            Plan::Fake { v6, v4 }
        }
    }
}

/// Decides how a DNS message that asks for an address of `name` is answered: as `gethostbyname2` is, but for what a name
/// server does not know. /etc/hosts is the program's own to read, as a resolver of its own does.
#[must_use]
pub fn plan_message(name: &[u8], family: Family, is_own_name: bool, config: &Config) -> Plan {
    let question = Question {
        name,
        asked: Asked::Only(family),
        is_getaddrinfo: false,
        is_numeric_only: false,
        is_v4_mapped: false,
        is_addrconfig: false,
        // Nothing may wait here: the program does, for the datagram.
        is_verified: true,
    };
    let facts = Facts {
        is_own_name,
        ..Facts::default()
    };
    match plan(&question, &facts, config, || (true, true)) {
        // A literal.
        Plan::Pass | Plan::PassAs(_) | Plan::Mapped(_) => Plan::Fail(Eai::NONAME),
        // Who wants any family asks for both, one by one.
        Plan::Fake { v6, v4 } => Plan::Fake {
            v6: v6 && config.families.v6(),
            v4: v4 && config.families.v4(),
        },
        plan @ (Plan::Direct { .. }
        | Plan::Verify
        | Plan::Loopback { .. }
        | Plan::Reject
        | Plan::Fail(_)) => plan,
    }
}

/// Decides who answers a look-up of the name of `address`.
#[must_use]
pub fn plan_reverse(address: IpAddr, is_fake: bool, is_in_hosts: bool, config: &Config) -> Reverse {
    let is_any = address.to_canonical().is_unspecified();
    if is_fake && !is_any {
        Reverse::Table
    } else if is_in_hosts || config.rules.is_direct(address) {
        Reverse::Pass
    } else if config.resolve == Resolve::Verify && !config.is_broken && !is_local(address) {
        Reverse::Verify
    } else {
        Reverse::Unknown
    }
}

/// A rejected name is as if there were none: the program learns it at the first moment, and no
/// address is wasted on it.
fn plan_for_rule(rule: &Rule) -> Option<Plan> {
    match rule.action() {
        Action::Direct => Some(Plan::Direct {
            is_by_name: rule.is_by_name(),
        }),
        Action::Reject => Some(Plan::Reject),
        Action::Relay => None,
    }
}

fn wanted(asked: Asked) -> (bool, bool) {
    match asked {
        Asked::Any => (true, true),
        Asked::Only(family) => (family == Family::V6, family == Family::V4),
    }
}

/// A literal is libc's business, except one of the other family than asked for: that gets a fake, so
/// that a v4 program can be given a v6 literal.
fn plan_for_literal(question: &Question<'_>) -> Option<Plan> {
    let Some(literal) = literal(question.name) else {
        let is_dotted_digits = question
            .name
            .iter()
            .all(|o| o.is_ascii_digit() || *o == b'.');
        // "999.1.1.1" is neither an address nor a name that can exist, and neither is "1.2.3.4.".
        let is_nothing = is_dotted_digits && !question.name.is_empty();
        return is_nothing.then_some(Plan::Fail(Eai::NONAME));
    };
    if !question.is_getaddrinfo && !literal.is_plain {
        let is_dotted_digits = question
            .name
            .iter()
            .all(|o| o.is_ascii_digit() || *o == b'.');
        // gethostbyname("127.1") is an address to libc, gethostbyname("0x7f.1") a name, and none.
        return Some(if is_dotted_digits {
            Plan::Pass
        } else {
            Plan::Fail(Eai::NONAME)
        });
    }
    let Asked::Only(asked) = question.asked else {
        return Some(Plan::Pass);
    };
    let is_libcs = match (literal.address, asked) {
        (IpAddr::V4(_), Family::V4) | (IpAddr::V6(_), Family::V6) => true,
        (IpAddr::V4(_), Family::V6) => question.is_v4_mapped,
        (IpAddr::V6(v6), Family::V4) => v6.to_ipv4_mapped().is_some(),
    };
    if is_libcs || question.is_numeric_only || is_local(literal.address) {
        return Some(Plan::Pass);
    }
    Some(Plan::Fake {
        v6: asked == Family::V6,
        v4: asked == Family::V4,
    })
}

/// A name in `/etc/hosts` is libc's business, as far as the file has the family that is asked for.
fn plan_for_hosts(question: &Question<'_>, in_hosts: HostFamilies) -> Option<Plan> {
    match (question.asked, in_hosts.v4, in_hosts.has_v6) {
        (Asked::Any, Some(_), true)
        | (Asked::Only(Family::V4), Some(_), _)
        | (Asked::Only(Family::V6), _, true) => Some(Plan::Pass),
        (Asked::Any, Some(_), false) => Some(Plan::PassAs(Family::V4)),
        (Asked::Any, None, true) => Some(Plan::PassAs(Family::V6)),
        (Asked::Only(Family::V6), Some(v4), false) if question.is_v4_mapped => {
            Some(Plan::Mapped(v4))
        }
        (Asked::Any | Asked::Only(_), _, _) => None,
    }
}

/// RFC 6761: `localhost` and what ends in `.localhost` never leaves the host (§6.3), and there is nothing of the
/// name `invalid` or below it (§6.4).
fn has_last_label(name: &[u8], label: &[u8]) -> bool {
    let last = name.rsplit(|&octet| octet == b'.').next();
    last.unwrap_or_default().eq_ignore_ascii_case(label)
}

/// Whether the name of a host could look like this at all. What DNS cannot carry (RFC 1035 §2.3.4), or
/// what libc takes from no name server (`res_hnok`: letters, digits, `-`, `_` and dots, no `-` first),
/// has no address without the shim either.
#[must_use]
pub fn is_host_name(name: &[u8]) -> bool {
    let is_allowed = |octet: &u8| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_');
    !name.is_empty()
        && name.len() <= NAME_OCTETS
        && !name.starts_with(b"-")
        && name.split(|&octet| octet == b'.').all(|label| {
            !label.is_empty() && label.len() <= LABEL_OCTETS && label.iter().all(is_allowed)
        })
}

#[cfg(test)]
mod tests;
