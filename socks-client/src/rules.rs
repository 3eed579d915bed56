//! Which destinations are reached directly, through the gateway, or not at all: the first rule that
//! matches decides (DESIGN §2, "Rules and leaks").

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::ops::RangeInclusive;

use crate::is_local;

/// The rules, in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rules(Vec<Rule>);

/// `ACTION TARGET [PORT[-PORT]] [tcp|udp]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    action: Action,
    target: Target,
    ports: Option<RangeInclusive<u16>>,
    protocol: Option<Protocol>,
}

/// What a rule does with its destinations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Left to libc and the kernel.
    Direct,
    /// Through the gateway.
    Relay,
    /// Refused.
    Reject,
}

/// What a socket speaks, for rules that name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Stream sockets.
    Tcp,
    /// Datagram sockets.
    Udp,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Target {
    /// `*`: all but what is local.
    Any,
    /// A name, in lower case; `*` is any octets, a first dot stands for the name and all below it.
    Name(String),
    /// An address, or a network of them. v4-mapped ones are v4.
    Net { base: IpAddr, prefix: u8 },
}

/// A destination, as far as it is known: a fake address has a name alone, a literal an address alone,
/// and an address that libc has looked up for a name has both.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The name, in any case and without a dot at its end.
    pub name: Option<&'a [u8]>,
    /// The address, v4-mapped or not.
    pub address: Option<IpAddr>,
    /// Its port.
    pub port: u16,
    /// `None` for raw sockets, which rules with a port or a protocol do not concern.
    pub protocol: Option<Protocol>,
}

impl Rules {
    /// Puts these in front of the others.
    pub fn precede(&mut self, rules: Vec<Rule>) {
        self.0.splice(0..0, rules);
    }

    /// Adds one behind the others.
    pub fn push(&mut self, rule: Rule) {
        self.0.push(rule);
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Rule> {
        self.0.iter()
    }

    /// What the first rule for this destination says.
    #[must_use]
    pub fn action(&self, place: &Place<'_>) -> Option<Action> {
        let rule = self.0.iter().find(|rule| rule.covers(place))?;
        Some(rule.action)
    }

    /// The rule by which a name is looked up, when its port is not known yet. If it may be ruled
    /// direct, its real addresses have to be known; if it may be ruled otherwise, later is early enough.
    #[must_use]
    pub fn of_name(&self, name: &[u8]) -> Option<&Rule> {
        let is_decisive = |rule: &&Rule| !rule.is_conditional() || rule.action == Action::Direct;
        self.0
            .iter()
            .filter(|rule| rule.target.has_name(name))
            .find(is_decisive)
    }

    /// Whether this address is ruled direct, whatever the port.
    #[must_use]
    pub fn is_direct(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let mut rules = self
            .0
            .iter()
            .filter(|rule| rule.target.has_address(address));
        rules
            .next()
            .is_some_and(|rule| rule.action == Action::Direct && !rule.is_conditional())
    }

    /// Whether a name is ruled direct by its name.
    #[must_use]
    pub fn has_direct_name(&self) -> bool {
        let is_one = |rule: &Rule| rule.action == Action::Direct && rule.is_by_name();
        self.0.iter().any(is_one)
    }
}

impl Rule {
    /// Reads one.
    ///
    /// # Errors
    /// In words, what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut words = text.split_whitespace();
        let action = match words.next() {
            Some("direct") => Action::Direct,
            Some("relay") => Action::Relay,
            Some("reject") => Action::Reject,
            _ => return Err("a rule begins with direct, relay or reject".into()),
        };
        let target = words
            .next()
            .ok_or("a rule needs a name, a network or * behind its first word")?;
        let mut rule = Self {
            action,
            target: Target::parse(target)?,
            ports: None,
            protocol: None,
        };
        for word in words {
            match word {
                "tcp" if rule.protocol.is_none() => rule.protocol = Some(Protocol::Tcp),
                "udp" if rule.protocol.is_none() => rule.protocol = Some(Protocol::Udp),
                _ if rule.ports.is_none() => rule.ports = Some(parse_ports(word)?),
                _ => return Err(format!("`{word}` is one word too many")),
            }
        }
        rule.checked()
    }

    /// Reads a list as `NO_PROXY` has it: names with all below them, addresses, networks, `*`, each with
    /// `:PORT` if only that is meant, separated by commas or blanks.
    ///
    /// # Errors
    /// In words, for an entry that is none of these.
    pub fn parse_no_proxy(text: &str) -> impl Iterator<Item = Result<Self, String>> {
        text.split(|c: char| c == ',' || c.is_whitespace())
            .filter(|entry| !entry.is_empty())
            .map(Self::of_no_proxy)
    }

    fn of_no_proxy(entry: &str) -> Result<Self, String> {
        // An IPv6 address has a port only in brackets.
        let is_bare_v6 = entry.matches(':').count() > 1 && !entry.contains("]:");
        let (place, ports) = match entry.rsplit_once(':') {
            Some((place, port)) if !is_bare_v6 => (place, Some(parse_ports(port)?)),
            _ => (entry, None),
        };
        let target = match Target::parse(place)? {
            Target::Name(name) if !name.starts_with('.') => {
                Target::Name(format!(".{}", name.strip_prefix("*.").unwrap_or(&name)))
            }
            target => target,
        };
        Self {
            action: Action::Direct,
            target,
            ports,
            protocol: None,
        }
        .checked()
    }

    fn checked(self) -> Result<Self, String> {
        if self.action == Action::Direct && self.target == Target::Any && self.is_conditional() {
            // The port is not known at look-up: every name would be told to the name server.
            let instead = "rule names direct, or 0.0.0.0/0 and ::/0";
            return Err(format!(
                "`direct *` takes no port and no protocol: {instead}"
            ));
        }
        Ok(self)
    }

    /// What it does.
    #[must_use]
    pub const fn action(&self) -> Action {
        self.action
    }

    /// Whether it is about names of a certain form.
    #[must_use]
    pub const fn is_by_name(&self) -> bool {
        matches!(self.target, Target::Name(_))
    }

    const fn is_conditional(&self) -> bool {
        self.ports.is_some() || self.protocol.is_some()
    }

    fn covers(&self, place: &Place<'_>) -> bool {
        let is_port = match &self.ports {
            Some(ports) => place.protocol.is_some() && ports.contains(&place.port),
            None => true,
        };
        let is_target = || {
            place.name.is_some_and(|name| self.target.has_name(name))
                || place
                    .address
                    .is_some_and(|address| self.target.has_address(address.to_canonical()))
        };
        is_port && (self.protocol.is_none() || self.protocol == place.protocol) && is_target()
    }
}

impl Target {
    fn parse(text: &str) -> Result<Self, String> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let (place, prefix) = match text.split_once('/') {
            Some((place, prefix)) => (place, Some(prefix)),
            None => (text, None),
        };
        let bare = place
            .strip_prefix('[')
            .and_then(|place| place.strip_suffix(']'))
            .unwrap_or(place);
        if let Ok(base) = bare.parse::<IpAddr>() {
            let most = if base.is_ipv4() { 32 } else { 128 };
            let prefix = match prefix {
                Some(prefix) => prefix.parse().ok().filter(|&prefix| prefix <= most),
                None => Some(most),
            };
            let prefix = prefix.ok_or_else(|| format!("`{text}` has no prefix of 0 to {most}"))?;
            return Ok(Self::net(base, prefix));
        }
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let is_allowed =
            |o: u8| o.is_ascii_alphanumeric() || matches!(o, b'-' | b'_' | b'.' | b'*');
        // What has digits and dots alone is an address that went wrong.
        let has_letter = name.bytes().any(|o| !o.is_ascii_digit() && o != b'.');
        // `*.` is no name, and written as `*` it would be addresses too.
        let is_name = has_letter && !name.contains("..") && !name.ends_with('.') && name != "*";
        if !name.bytes().all(is_allowed) || !is_name {
            return Err(format!(
                "`{text}` is not a name, an address, a network or *"
            ));
        }
        Ok(Self::Name(name))
    }

    /// A v4-mapped network is the v4 network.
    fn net(base: IpAddr, prefix: u8) -> Self {
        match (base.to_canonical(), prefix.checked_sub(96)) {
            (v4 @ IpAddr::V4(_), Some(prefix)) if base.is_ipv6() => Self::Net { base: v4, prefix },
            _ => Self::Net { base, prefix },
        }
    }

    fn has_name(&self, name: &[u8]) -> bool {
        match self {
            Self::Any => true,
            Self::Name(pattern) => matches(pattern.as_bytes(), name),
            Self::Net { .. } => false,
        }
    }

    fn has_address(&self, address: IpAddr) -> bool {
        match *self {
            // Loopback and the link are relayed or refused by a rule that names them.
            Self::Any => !is_local(address),
            Self::Name(_) => false,
            Self::Net { base, prefix } => match (base, address) {
                (IpAddr::V4(base), IpAddr::V4(address)) => {
                    let apart = base.to_bits() ^ address.to_bits();
                    apart.leading_zeros() >= u32::from(prefix)
                }
                (IpAddr::V6(base), IpAddr::V6(address)) => is_within(base, prefix, address),
                _ => false,
            },
        }
    }
}

fn is_within(base: Ipv6Addr, prefix: u8, address: Ipv6Addr) -> bool {
    let apart = base.to_bits() ^ address.to_bits();
    apart.leading_zeros() >= u32::from(prefix)
}

fn parse_ports(text: &str) -> Result<RangeInclusive<u16>, String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (first.parse(), last.parse()) {
        (Ok(first), Ok(last)) if first <= last => Ok(first..=last),
        _ => Err(format!("`{text}` is not a port, FIRST-LAST, tcp or udp")),
    }
}

/// Whether `name` is of the form of `pattern`, which is in lower case.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let Some(rest) = pattern.strip_prefix(b".") else {
        return glob(pattern, name);
    };
    let mut below = (0..name.len()).filter(|&at| name.get(at) == Some(&b'.'));
    glob(rest, name) || below.any(|at| glob(pattern, name.get(at..).unwrap_or_default()))
}

/// `*` is any octets, dots too. Goes back to the last `*` alone, so the time is the product of the
/// lengths at most.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0_usize, 0_usize);
    let mut star = None;
    loop {
        match (pattern.get(p), text.get(t)) {
            (Some(b'*'), _) => {
                star = Some((p, t));
                p = p.saturating_add(1);
            }
            (Some(one), Some(other)) if *one == other.to_ascii_lowercase() => {
                (p, t) = (p.saturating_add(1), t.saturating_add(1));
            }
            (None, None) => return true,
            // The last star takes one octet more.
            (_, Some(_)) => match star {
                Some((at, taken)) => {
                    star = Some((at, taken.saturating_add(1)));
                    (p, t) = (at.saturating_add(1), taken.saturating_add(1));
                }
                None => return false,
            },
            (Some(_), None) => return false,
        }
    }
}

/// As [`Rule::parse`] reads it.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.action {
            Action::Direct => "direct ",
            Action::Relay => "relay ",
            Action::Reject => "reject ",
        })?;
        match &self.target {
            Target::Any => f.write_str("*")?,
            Target::Name(pattern) => f.write_str(pattern)?,
            Target::Net { base, prefix } => write!(f, "{base}/{prefix}")?,
        }
        match &self.ports {
            Some(ports) if ports.start() == ports.end() => write!(f, " {}", ports.start())?,
            Some(ports) => write!(f, " {}-{}", ports.start(), ports.end())?,
            None => {}
        }
        match self.protocol {
            Some(Protocol::Tcp) => f.write_str(" tcp"),
            Some(Protocol::Udp) => f.write_str(" udp"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
