//! The configuration file: TOML of the operator's words. What is missing has its default, what is not known is an error,
//! and an error has its line and column. Flags replace what the file says. Whether it makes sense is [`Config`]'s to say.
//!
//! [`Config`]: crate::Config

use std::fs;
use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use toml::Spanned;

use crate::config::Settings;
use crate::confine::Process;
use crate::log::{LogFormat, LogSettings};
use crate::metrics::MetricsSettings;
use crate::nat64::{Nat64, Nat64Table};
use crate::quotas::Quotas;
use crate::rules::{Groups, Rule, Rules};
use crate::text::{Cidr, Endpoint, Level, PrefixV6, Rate, Span};
use crate::tls::{ClientTable, ServerTable};
use crate::upstream::UpstreamTable;

/// All of the file.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct File {
    pub(crate) listen: Vec<Endpoint>,
    pub(crate) allow_clients: Vec<Cidr>,
    pub(crate) allow_destinations: Vec<Cidr>,
    pub(crate) proxy_protocol_from: Vec<Cidr>,
    pub(crate) password_file: Option<PathBuf>,
    pub(crate) open_relay_for_anyone: bool,
    pub(crate) limits: Limits,
    pub(crate) groups: Groups,
    pub(crate) rule: Vec<Spanned<Rule>>,
    pub(crate) upstream: Vec<Spanned<UpstreamTable>>,
    pub(crate) nat64: Option<Nat64Table>,
    pub(crate) tls: Option<ServerTable>,
    pub(crate) log: Log,
    pub(crate) metrics: Metrics,
    pub(crate) process: ProcessSection,
}

/// `[limits]`
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct Limits {
    pub(crate) relays: Option<usize>,
    pub(crate) handshake: Option<Span>,
    pub(crate) dial: Option<Span>,
    pub(crate) idle: Option<Span>,
    pub(crate) drain: Option<Span>,
    pub(crate) upgrade: Option<Span>,
    pub(crate) client_prefix_v6: Option<PrefixV6>,
    pub(crate) relays_per_client: Option<NonZeroUsize>,
    pub(crate) relays_per_user: Option<NonZeroUsize>,
    pub(crate) total: Option<Span>,
    pub(crate) bandwidth_per_client: Option<Rate>,
    pub(crate) bandwidth_per_user: Option<Rate>,
    pub(crate) failed_logins: Option<u32>,
    pub(crate) failed_logins_within: Option<Span>,
}

/// `[process]`
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct ProcessSection {
    pub(crate) user: Option<String>,
    pub(crate) sandbox: Option<bool>,
    pub(crate) core_dumps: bool,
}

/// `[log]`
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct Log {
    pub(crate) level: Option<Level>,
    pub(crate) file: Option<PathBuf>,
    pub(crate) format: Option<LogFormat>,
}

/// `[metrics]`
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct Metrics {
    pub(crate) listen: Option<Endpoint>,
    pub(crate) allow_clients: Vec<Cidr>,
}

/// Why a configuration file is of no use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// It cannot be read.
    #[error("cannot read {0}: {1}")]
    Unreadable(PathBuf, io::Error),
    /// It is no TOML, or says something that is not known here: with line, column and the line itself.
    #[error("{0}: {1}")]
    Wrong(PathBuf, Box<toml::de::Error>),
    /// A table of it makes no sense beside the others.
    #[error("{path}: line {line}: {why}")]
    Senseless {
        /// The file.
        path: PathBuf,
        /// Where the table begins.
        line: usize,
        /// What is wrong with it.
        why: String,
    },
}

impl File {
    /// Reads a file. Paths in it are relative to its folder.
    pub(crate) fn read(path: &Path) -> Result<Self, FileError> {
        let text = fs::read_to_string(path)
            .map_err(|error| FileError::Unreadable(path.to_owned(), error))?;
        let mut file = Self::parse(path, &text)?;
        let folder = path.parent().unwrap_or_else(|| Path::new(""));
        file.password_file = file.password_file.map(|path| folder.join(path));
        for upstream in file.upstream.iter_mut().map(Spanned::get_mut) {
            upstream.password_file = upstream.password_file.take().map(|path| folder.join(path));
            upstream.tls = upstream.tls.take().map(|tls| tls.within(folder));
        }
        file.tls = file.tls.map(|tls| tls.within(folder));
        file.log.file = file.log.file.map(|path| folder.join(path));
        Ok(file)
    }

    /// What the text says. Its file is named where it is wrong.
    pub(crate) fn parse(path: &Path, text: &str) -> Result<Self, FileError> {
        let file: Self = toml::from_str(text)
            .map_err(|error| FileError::Wrong(path.to_owned(), Box::new(error)))?;
        file.check().map_err(|(at, why)| FileError::Senseless {
            path: path.to_owned(),
            line: line_of(text, at),
            why,
        })?;
        Ok(file)
    }

    /// What is wrong with a table, and the octet at which it begins.
    pub(crate) fn check(&self) -> Result<(), (usize, String)> {
        let mut upstreams = Vec::new();
        for upstream in &self.upstream {
            let (at, table) = (upstream.span().start, upstream.get_ref());
            table.check().map_err(|why| (at, why.to_owned()))?;
            if upstreams.contains(&table.name.as_str()) {
                return Err((at, format!("there are two upstreams \"{}\"", table.name)));
            }
            upstreams.push(&table.name);
        }
        let rules = self.rules();
        for rule in &self.rule {
            rules
                .check(rule.get_ref(), &upstreams)
                .map_err(|why| (rule.span().start, why))?;
        }
        Ok(())
    }

    /// All that passwords are read from.
    pub(crate) fn password_files(&self) -> impl Iterator<Item = &Path> {
        let upstreams = self.upstream.iter().map(Spanned::get_ref);
        let of_upstreams = upstreams.filter_map(|it| it.password_file.as_deref());
        self.password_file
            .as_deref()
            .into_iter()
            .chain(of_upstreams)
    }

    /// All that has to do with certificates.
    pub(crate) fn tls_files(&self) -> impl Iterator<Item = &Path> {
        let upstreams = self.upstream.iter().map(Spanned::get_ref);
        let of_upstreams = upstreams.filter_map(|it| it.tls.as_ref());
        let own = self.tls.iter().flat_map(ServerTable::files);
        own.chain(of_upstreams.flat_map(ClientTable::files))
    }

    pub(crate) fn rules(&self) -> Rules {
        let rules = self.rule.iter().map(|rule| rule.get_ref().clone());
        Rules::new(self.groups.clone(), rules)
    }

    /// The settings, with what is missing at its default; users are read from their own file.
    pub(crate) fn settings(&self) -> Settings {
        let default = Settings::default();
        let limits = &self.limits;
        let nets = |list: &[Cidr]| list.iter().map(|&Cidr(net)| net).collect();
        let of = |span: Option<Span>, default| span.map_or(default, |Span(time)| time);
        Settings {
            listen: self
                .listen
                .iter()
                .map(|&Endpoint(address)| address)
                .collect(),
            allow_clients: nets(&self.allow_clients),
            allow_destinations: nets(&self.allow_destinations),
            proxy_protocol_from: nets(&self.proxy_protocol_from),
            rules: self.rules(),
            nat64: Nat64::new(self.nat64.map(|it| it.prefix)),
            open_relay_for_anyone: self.open_relay_for_anyone,
            max_relays: limits.relays,
            handshake_timeout: of(limits.handshake, default.handshake_timeout),
            dial_timeout: of(limits.dial, default.dial_timeout),
            idle_timeout: limits.idle.map(|Span(time)| time),
            drain_timeout: of(limits.drain, default.drain_timeout),
            quotas: self.limits.quotas(),
            upgrade_timeout: limits.upgrade.map(|Span(time)| time),
            log: self.log.settings(),
            metrics: self.metrics.settings(),
            process: Process {
                user: self.process.user.clone(),
                sandbox: self.process.sandbox.unwrap_or(default.process.sandbox),
                core_dumps: self.process.core_dumps,
                ..default.process
            },
            ..default
        }
    }

    /// What is in force, as a file that says all of it: `--print-config`.
    pub(crate) fn in_force(mut self) -> Self {
        let settings = self.settings();
        let limits = &mut self.limits;
        limits.handshake = Some(Span(settings.handshake_timeout));
        limits.dial = Some(Span(settings.dial_timeout));
        limits.drain = Some(Span(settings.drain_timeout));
        limits.client_prefix_v6 = Some(PrefixV6(settings.quotas.client_prefix_v6));
        limits.failed_logins = Some(settings.quotas.failed_logins);
        limits.failed_logins_within = Some(Span(settings.quotas.failed_logins_within));
        self.log.level = Some(Level(settings.log.level));
        self.log.format = Some(settings.log.format);
        self.process.sandbox = Some(settings.process.sandbox);
        self
    }
}

impl Metrics {
    fn settings(&self) -> MetricsSettings {
        MetricsSettings {
            listen: self.listen.map(|Endpoint(address)| address),
            allow_clients: self.allow_clients.iter().map(|&Cidr(net)| net).collect(),
        }
    }
}

impl Limits {
    fn quotas(&self) -> Quotas {
        let default = Quotas::default();
        Quotas {
            client_prefix_v6: self
                .client_prefix_v6
                .map_or(default.client_prefix_v6, |PrefixV6(bits)| bits),
            relays_per_client: self.relays_per_client.map(NonZeroUsize::get),
            relays_per_user: self.relays_per_user.map(NonZeroUsize::get),
            total: self.total.map(|Span(time)| time),
            bandwidth_per_client: self.bandwidth_per_client.map(|Rate(octets)| octets),
            bandwidth_per_user: self.bandwidth_per_user.map(|Rate(octets)| octets),
            failed_logins: self.failed_logins.unwrap_or(default.failed_logins),
            failed_logins_within: self
                .failed_logins_within
                .map_or(default.failed_logins_within, |Span(time)| time),
        }
    }
}

impl Log {
    pub(crate) fn settings(&self) -> LogSettings {
        let default = LogSettings::default();
        LogSettings {
            level: self.level.map_or(default.level, |Level(level)| level),
            file: self.file.clone(),
            format: self.format.unwrap_or(default.format),
        }
    }
}

fn line_of(text: &str, at: usize) -> usize {
    let before = text.get(..at).unwrap_or_default();
    before.matches('\n').count().saturating_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_is_the_default() {
        let file: File = toml::from_str("").unwrap();
        assert_eq!(
            format!("{:?}", file.settings()),
            format!("{:?}", Settings::default())
        );
    }

    #[test]
    fn what_is_in_force_can_be_read_again() {
        let text = "listen = [\"[::]:1080\"]\nallow-clients = [\"192.0.2.7\"]\n[limits]\nidle = \"90s\"\nbandwidth-per-user = \"2048KiB\"\nrelays-per-user = 7\n";
        let file = toml::from_str::<File>(text).unwrap().in_force();
        let printed = toml::to_string(&file).unwrap();
        for line in [
            "allow-clients = [\"192.0.2.7/32\"]",
            "idle = \"90s\"",
            "dial = \"127s\"",
            "drain = \"30s\"",
            "client-prefix-v6 = 64",
            "relays-per-user = 7",
            "bandwidth-per-user = \"2MiB\"",
            "failed-logins = 10",
            "failed-logins-within = \"1m\"",
            "level = \"info\"",
            "format = \"text\"",
        ] {
            assert!(printed.contains(line), "{printed}");
        }
        let again = toml::to_string(&toml::from_str::<File>(&printed).unwrap().in_force());
        assert_eq!(again.unwrap(), printed);
    }

    #[test]
    fn an_error_has_its_line_and_column() {
        for (text, at, word) in [
            ("listen = [\"::1\"]", "line 1, column 10", "numeric address"),
            (
                "[limits]\nidle = \"soon\"",
                "line 2, column 8",
                "not a time",
            ),
            ("\nlisten-on = []", "line 2, column 1", "unknown field"),
            (
                "allow-clients = [\"192.0.2.0/33\"]",
                "line 1, column 17",
                "not an address or a range",
            ),
            ("[limits]\nrelays = -1", "line 2, column 10", "-1"),
            (
                "[limits]\nclient-prefix-v6 = 0",
                "line 2, column 20",
                "1 to 128",
            ),
            ("[log]\nlevel = \"loud\"", "line 2, column 9", "not a level"),
            ("[log]\nformat = \"xml\"", "line 2, column 10", "`text`"),
        ] {
            let error = toml::from_str::<File>(text).unwrap_err().to_string();
            assert!(
                error.contains(at) && error.contains(word),
                "{text}: {error}"
            );
        }
    }
}
