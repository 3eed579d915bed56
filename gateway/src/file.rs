//! The configuration file: TOML of the operator's words. What is missing has its default, what is not known is an error,
//! and an error has its line and column. Flags replace what the file says. Whether it makes sense is [`Config`]'s to say.
//!
//! [`Config`]: crate::Config

use std::fs;
use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::config::Settings;
use crate::quotas::Quotas;
use crate::text::{Cidr, Endpoint, PrefixV6, Rate, Span};

/// All of the file.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct File {
    pub(crate) listen: Vec<Endpoint>,
    pub(crate) allow_clients: Vec<Cidr>,
    pub(crate) allow_destinations: Vec<Cidr>,
    pub(crate) password_file: Option<PathBuf>,
    pub(crate) open_relay_for_anyone: bool,
    pub(crate) limits: Limits,
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
    pub(crate) client_prefix_v6: Option<PrefixV6>,
    pub(crate) relays_per_client: Option<NonZeroUsize>,
    pub(crate) relays_per_user: Option<NonZeroUsize>,
    pub(crate) total: Option<Span>,
    pub(crate) bandwidth_per_client: Option<Rate>,
    pub(crate) bandwidth_per_user: Option<Rate>,
    pub(crate) failed_logins: Option<u32>,
    pub(crate) failed_logins_within: Option<Span>,
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
}

impl File {
    /// Reads a file. Paths in it are relative to its folder.
    pub(crate) fn read(path: &Path) -> Result<Self, FileError> {
        let text = fs::read_to_string(path)
            .map_err(|error| FileError::Unreadable(path.to_owned(), error))?;
        let mut file: Self = toml::from_str(&text)
            .map_err(|error| FileError::Wrong(path.to_owned(), Box::new(error)))?;
        let folder = path.parent().unwrap_or_else(|| Path::new(""));
        file.password_file = file.password_file.map(|path| folder.join(path));
        Ok(file)
    }

    /// The settings, with what is missing at its default; users are read from their own file.
    pub(crate) fn settings(&self) -> Settings {
        let default = Settings::default();
        let limits = &self.limits;
        let of = |span: Option<Span>, default| span.map_or(default, |Span(time)| time);
        Settings {
            listen: self
                .listen
                .iter()
                .map(|&Endpoint(address)| address)
                .collect(),
            allow_clients: self.allow_clients.iter().map(|&Cidr(net)| net).collect(),
            allow_destinations: self
                .allow_destinations
                .iter()
                .map(|&Cidr(net)| net)
                .collect(),
            open_relay_for_anyone: self.open_relay_for_anyone,
            max_relays: limits.relays,
            handshake_timeout: of(limits.handshake, default.handshake_timeout),
            dial_timeout: of(limits.dial, default.dial_timeout),
            idle_timeout: limits.idle.map(|Span(time)| time),
            drain_timeout: of(limits.drain, default.drain_timeout),
            quotas: self.limits.quotas(),
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
        self
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
        ] {
            let error = toml::from_str::<File>(text).unwrap_err().to_string();
            assert!(
                error.contains(at) && error.contains(word),
                "{text}: {error}"
            );
        }
    }
}
