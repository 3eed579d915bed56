//! The operator's `[[rule]]` tables: (client, listener, user, command, name, port), and then each address → how it may be
//! reached, or why not. Pure: no socket, no resolver, no clock.
//!
//! The first rule that matches decides, and what none matches is denied; without any rule everything is allowed. What the
//! policy denies by default no rule lifts.
//!
//! A rule with `destinations` is about addresses, and is passed over as long as there is only a name. So a name is judged
//! twice: before it is resolved, by the first rule without `destinations`, which may deny it and spare the resolver; and
//! then in a pair with every address that it has, by all rules in order. A pair is dialled if the first rule that matches
//! *it* allows it: no name, whatever its name server says of it, leads to an address that a rule denies.

pub(crate) mod words;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use socks_wire::{Cmd, Fqdn};

use crate::outgoing::Outgoing;
use crate::policy::Forms;
use crate::resolve::Family;
use crate::rules::words::{AnyOf, Command, Names, Ports};
use crate::shares::Holder;
use crate::text::{Cidr, Endpoint, Rate, Span};
use crate::upstream::Upstream;

/// One `[[rule]]`. All conditions that it has must hold.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Rule {
    /// Where it stands in the file, beginning with 1.
    #[serde(skip)]
    number: usize,
    name: Option<String>,
    action: Action,

    clients: Option<AnyOf<Cidr>>,
    listeners: Option<AnyOf<Endpoint>>,
    users: Option<AnyOf<String>>,
    groups: Option<AnyOf<String>>,
    commands: Option<AnyOf<Command>>,
    names: Option<AnyOf<Names>>,
    destinations: Option<AnyOf<Cidr>>,
    ports: Option<AnyOf<Ports>>,

    /// Which upstreams may be asked for the destination, in this order.
    via: Option<AnyOf<String>>,
    /// From the reply on, the relay may last so long.
    total: Option<Span>,
    /// At a time, of all clients together.
    relays: Option<NonZeroUsize>,
    /// For all of these relays together.
    bandwidth: Option<Rate>,
    source_v4: Option<Ipv4Addr>,
    source_v6: Option<Ipv6Addr>,
    interface: Option<String>,
    mark: Option<u32>,
    prefer: Option<Family>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Action {
    Allow,
    Deny,
}

/// `[groups]`: a name, and the users who are in it.
pub(crate) type Groups = BTreeMap<String, Vec<String>>;

/// The rules, in order, and the groups that they speak of.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    groups: Groups,
    rules: Vec<Rule>,
    upstreams: Vec<Arc<Upstream>>,
}

/// What a client asks for, as far as it is known before an address is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) client: IpAddr,
    /// As it was configured.
    pub(crate) listener: SocketAddr,
    /// As the log has it.
    pub(crate) user: Option<&'a str>,
    pub(crate) cmd: Cmd,
    /// `None` if the client has sent an address, or the text of one.
    pub(crate) name: Option<&'a Fqdn>,
    pub(crate) port: u16,
    /// Through how many gateways it has come.
    pub(crate) hops: u8,
}

/// Which rule denies something: its name, or its number; `None` if no rule allows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeniedBy(pub(crate) Option<String>);

impl Rules {
    pub(crate) fn new(groups: Groups, rules: impl IntoIterator<Item = Rule>) -> Self {
        let numbered = (1..)
            .zip(rules)
            .map(|(number, rule)| Rule { number, ..rule });
        Self {
            groups,
            rules: numbered.collect(),
            upstreams: Vec::new(),
        }
    }

    pub(crate) fn with_upstreams(self, upstreams: Vec<Arc<Upstream>>) -> Self {
        Self { upstreams, ..self }
    }

    /// Those of a rule's `via`, in its order.
    pub(crate) fn upstreams(&self, rule: &Rule) -> Vec<&Upstream> {
        let named = |name: &String| self.upstreams.iter().find(|it| it.name == *name);
        let via = rule.via.iter().flat_map(AnyOf::iter);
        via.filter_map(named).map(Arc::as_ref).collect()
    }

    /// Before a name is resolved. It is not, if there is a rule that sends it to an upstream as it is.
    pub(crate) fn judge_name(&self, asked: &Asked<'_>) -> Result<Option<&Rule>, DeniedBy> {
        let mut asked_for = self.rules.iter().filter(|rule| self.matches(rule, asked));
        let decides =
            asked_for.find(|rule| rule.action == Action::Allow || rule.destinations.is_none());
        match decides {
            Some(rule) => Ok(Some(rule.verdict()?).filter(|it| it.sends_on_what_was_sent())),
            None if self.rules.is_empty() => Ok(None),
            None => Err(DeniedBy(None)),
        }
    }

    /// Whether this address may be connected to; the rule that says so has options for it.
    pub(crate) fn judge_address(
        &self,
        asked: &Asked<'_>,
        address: Forms,
    ) -> Result<Option<&Rule>, DeniedBy> {
        let mut rules = self.rules.iter();
        match rules.find(|rule| self.matches(rule, asked) && rule.concerns(address)) {
            Some(rule) => rule.verdict().map(Some),
            None if self.rules.is_empty() => Ok(None),
            None => Err(DeniedBy(None)),
        }
    }

    /// All conditions but `destinations`.
    fn matches(&self, rule: &Rule, asked: &Asked<'_>) -> bool {
        let is_user = |user: &String| asked.user == Some(logged(user.as_bytes()).as_str());
        let has_user = |group: &String| {
            self.groups
                .get(group)
                .is_some_and(|it| it.iter().any(is_user))
        };
        holds(rule.clients.as_ref(), |Cidr(net)| {
            net.contains(&asked.client)
        }) && holds(rule.listeners.as_ref(), |Endpoint(it)| {
            *it == asked.listener
        }) && holds(rule.users.as_ref(), is_user)
            && holds(rule.groups.as_ref(), has_user)
            && holds(rule.commands.as_ref(), |command| command.is(asked.cmd))
            && holds(rule.ports.as_ref(), |ports| ports.contain(asked.port))
            && holds(rule.names.as_ref(), |names| {
                asked
                    .name
                    .is_some_and(|name| names.contain(name.as_bytes()))
            })
    }

    /// What is wrong with a rule's relation to the other tables of its file.
    pub(crate) fn check(&self, rule: &Rule, upstreams: &[&str]) -> Result<(), String> {
        let mut via = rule.via.iter().flat_map(AnyOf::iter);
        if let Some(unknown) = via.find(|name| !upstreams.contains(&name.as_str())) {
            return Err(format!("there is no [[upstream]] \"{unknown}\""));
        }
        let mut groups = rule.groups.iter().flat_map(AnyOf::iter);
        if let Some(unknown) = groups.find(|group| !self.groups.contains_key(*group)) {
            return Err(format!("there is no group \"{unknown}\" in [groups]"));
        }
        rule.check()
    }

    /// What would never match, and so would deny nothing, says what it is.
    pub(crate) fn check_against(
        &self,
        listen: impl Fn(SocketAddr) -> bool,
        has_users: bool,
    ) -> Result<(), String> {
        for rule in &self.rules {
            let mut listeners = rule.listeners.iter().flat_map(AnyOf::iter);
            if let Some(Endpoint(it)) = listeners.find(|it| !listen(it.0)) {
                return Err(format!("rule {}: {it} is no listener", rule.label()));
            }
            if !has_users && (rule.users.is_some() || rule.groups.is_some()) {
                return Err(format!(
                    "rule {} is about users, and nobody is asked for a password",
                    rule.label()
                ));
            }
        }
        Ok(())
    }
}

impl Rule {
    /// Its name or, without one, its number.
    pub(crate) fn label(&self) -> String {
        self.name.clone().unwrap_or_else(|| self.number.to_string())
    }

    /// How long a relay may last.
    pub(crate) fn total(&self) -> Option<Duration> {
        self.total.map(|Span(time)| time)
    }

    /// Whoever counts what its relays take, if any of that is limited. Rules of one name are counted together.
    pub(crate) fn holder(&self) -> Option<Holder> {
        let is_limited = self.relays.is_some() || self.bandwidth.is_some();
        is_limited.then(|| Holder::Rule(self.label()))
    }

    /// How many relays there may be at a time.
    pub(crate) fn relays(&self) -> Option<usize> {
        self.relays.map(NonZeroUsize::get)
    }

    /// Octets a second for all of them together.
    pub(crate) fn bandwidth(&self) -> Option<u64> {
        self.bandwidth.map(|Rate(octets)| octets)
    }

    /// How what it allows is dialled, the way to an upstream too.
    pub(crate) fn outgoing(&self) -> Outgoing<'_> {
        Outgoing {
            source_v4: self.source_v4,
            source_v6: self.source_v6,
            interface: self.interface.as_deref(),
            mark: self.mark,
        }
    }

    /// Which family is tried first.
    pub(crate) fn prefer(&self) -> Option<Family> {
        self.prefer
    }

    pub(crate) fn has_upstreams(&self) -> bool {
        self.via.is_some()
    }

    /// To an upstream goes the name or the address that the client has sent. A rule with `destinations` has judged an
    /// address and sends that one: of a name the upstream could make another.
    pub(crate) fn sends_on_what_was_sent(&self) -> bool {
        self.has_upstreams() && self.destinations.is_none()
    }

    fn verdict(&self) -> Result<&Self, DeniedBy> {
        match self.action {
            Action::Allow => Ok(self),
            Action::Deny => Err(DeniedBy(Some(self.label()))),
        }
    }

    /// A v4 range of a rule that denies covers the v6 addresses that lead there too; of one that allows it does not.
    fn concerns(&self, address: Forms) -> bool {
        holds(self.destinations.as_ref(), |Cidr(net)| match self.action {
            Action::Allow => net.contains(&address.address),
            Action::Deny => address.all().any(|form| net.contains(&form)),
        })
    }

    /// What is wrong with it by itself.
    fn check(&self) -> Result<(), String> {
        let is_word =
            |name: &String| !name.is_empty() && name.bytes().all(|it| it.is_ascii_graphic());
        if !self.name.as_ref().is_none_or(is_word) {
            return Err("name: one word of ASCII, for the log".to_owned());
        }
        if self.total.is_some_and(|Span(time)| time.is_zero()) {
            return Err("total must be longer than 0".to_owned());
        }
        if self
            .interface
            .as_ref()
            .is_some_and(|it| !(1..=15).contains(&it.len()))
        {
            return Err("interface: a name of 1 to 15 octets".to_owned());
        }
        let has_options = self.total.is_some()
            || self.holder().is_some()
            || self.via.is_some()
            || self.prefer.is_some()
            || self.outgoing() != Outgoing::default();
        if self.action == Action::Deny && has_options {
            return Err("a rule that denies says nothing of how".to_owned());
        }
        Ok(())
    }
}

/// A condition that is not there holds.
fn holds<T>(condition: Option<&AnyOf<T>>, is: impl Fn(&T) -> bool) -> bool {
    condition.is_none_or(|any| any.iter().any(is))
}

/// A user's name as the log has it, where a blank would begin the next field. No two names are the same there.
pub(crate) fn logged(user: &[u8]) -> String {
    user.escape_ascii().to_string().replace(' ', "\\x20")
}

#[cfg(test)]
mod tests;
