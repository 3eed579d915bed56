//! Text → [`Config`]. Reads no environment and opens no file: the shim and the launcher hand the
//! texts in. The variables win over the flat file (DESIGN §2, "Configuration").

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use fake_dns::Ranges;

use crate::{Rule, Rules};

/// RFC 1928 names no port below 1024; 1080 is the one registered for SOCKS.
const SOCKS_PORT: u16 = 1080;
/// RFC 1929 §2: ULEN and PLEN are one octet.
const LOGIN_OCTETS: usize = 255;

/// Everything that the shim runs on: validated, and never changed afterwards.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// The gateways, in order. Empty: nothing non-local can be reached.
    pub gateways: Vec<Gateway>,
    /// The file to read the password from, if it was named instead of given.
    pub password_file: Option<PathBuf>,
    /// Where the mapping table is.
    pub table: TablePlace,
    /// The fake ranges.
    pub ranges: Ranges,
    /// Which families a look-up for any family is answered with.
    pub families: Families,
    /// When the gateway is asked about a name.
    pub resolve: Resolve,
    /// Put the shim's variables back when a program cleans the environment of another.
    pub is_sticky: bool,
    /// What is reached directly, through a gateway, or not at all.
    pub rules: Rules,
    /// What is logged, and where.
    pub log: Option<Log>,
    /// The configuration is bad: fail closed.
    pub is_broken: bool,
}

/// A SOCKS5 server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gateway {
    /// Its address or host name.
    pub host: GatewayHost,
    /// Its port.
    pub port: u16,
    /// RFC 1929 credentials.
    pub login: Option<Login>,
    /// It takes greeting, credentials and request in one segment.
    pub is_pipelined: bool,
}

/// Where a gateway is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GatewayHost {
    /// By address.
    Ip(IpAddr),
    /// By host name: resolved by the launcher, or once in the shim's constructor.
    Name(String),
}

/// RFC 1929 credentials: 1 to 255 octets each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// UNAME
    pub user: Vec<u8>,
    /// PASSWD
    pub password: Secret,
}

/// Octets that no log and no debug output shows.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(pub Vec<u8>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// Where the mapping table is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum TablePlace {
    /// The first usable of the default places.
    #[default]
    Default,
    /// This file.
    Path(PathBuf),
    /// Anonymous memory, shared with children by fork alone.
    Private,
}

/// `families = v4 | v6 | both`: what a look-up for any family is answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Families {
    /// v4 fakes.
    V4,
    /// v6 fakes.
    V6,
    /// Both, v6 first.
    #[default]
    Both,
}

/// `resolve = connect | verify`: when the gateway is asked about a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Resolve {
    /// When it is connected to, and not before (RFC 3089 §3).
    #[default]
    Connect,
    /// At the look-up too, so that a name that does not exist is none.
    Verify,
}

impl Families {
    pub(crate) const fn v4(self) -> bool {
        !matches!(self, Self::V6)
    }

    pub(crate) const fn v6(self) -> bool {
        !matches!(self, Self::V4)
    }
}

/// What is logged, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// Lines of this level and above.
    pub level: LogLevel,
    /// Where they go.
    pub target: LogTarget,
}

/// How much a log line matters, most first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// What keeps the shim from its work.
    Error,
    /// What an operator should know: a dead gateway, a full table.
    Warn,
    /// One line a connection.
    Info,
    /// Look-ups and direct connections too.
    Debug,
}

/// Where log lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogTarget {
    /// A file, opened anew for each line, since programs close every descriptor they find.
    File(PathBuf),
    /// A descriptor that is the user's to keep open.
    Fd(i32),
    /// Descriptor 2.
    Stderr,
}

/// What is wrong with a configuration, and where: a variable's name, or a line of the flat file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {what}")]
pub struct ConfigError {
    /// The variable or `line N`.
    pub place: String,
    /// What is wrong, never with a secret in it.
    pub what: String,
}

/// The texts of the `SOCKS6_…` variables; `None` is an unset one.
#[derive(Debug, Clone, Default)]
pub struct Variables {
    /// `SOCKS6_GATEWAY`
    pub gateway: Option<String>,
    /// `SOCKS6_USER`
    pub user: Option<String>,
    /// `SOCKS6_PASSWORD`
    pub password: Option<Secret>,
    /// `SOCKS6_PASSWORD_FILE`
    pub password_file: Option<String>,
    /// `SOCKS6_TABLE`
    pub table: Option<String>,
    /// `SOCKS6_LOG`
    pub log: Option<String>,
    /// `SOCKS6_NO_PROXY`
    pub no_proxy: Option<String>,
}

/// The settings before they are put together: (place, text), the variable's or the file's.
#[derive(Default)]
struct Settings<'a> {
    gateway: Option<(String, &'a str)>,
    user: Option<(String, &'a str)>,
    password: Option<(String, &'a [u8])>,
    password_file: Option<(String, &'a str)>,
    table: Option<(String, &'a str)>,
    log: Option<(String, &'a str)>,
    range_v4: Option<(String, &'a str)>,
    range_v6: Option<(String, &'a str)>,
    families: Option<(String, &'a str)>,
    resolve: Option<(String, &'a str)>,
    sticky: Option<(String, &'a str)>,
    rules: Vec<(String, &'a str)>,
    no_proxy: Option<&'a str>,
}

impl Config {
    /// Puts the flat file's text and the variables together. The file has one `key value` a line;
    /// `#` begins a comment line.
    ///
    /// # Errors
    /// An unknown key, a key given twice, or a value that is not of its key's form.
    pub fn build(file: Option<&str>, variables: &Variables) -> Result<Self, ConfigError> {
        let mut settings = Settings::of_file(file.unwrap_or_default())?;
        settings.override_by(variables);
        settings.into_config()
    }

    /// A configuration that could not be read: everything non-local fails closed.
    #[must_use]
    pub fn broken(variables: &Variables) -> Self {
        let log = variables
            .log
            .as_deref()
            .and_then(|text| Log::parse(text).ok());
        Self {
            log,
            is_broken: true,
            ..Self::default()
        }
    }

    /// Gives the password of [`Config::password_file`] to the gateways that have a user without one.
    ///
    /// # Errors
    /// An empty password, or one over 255 octets.
    pub fn set_password(&mut self, text: &[u8]) -> Result<(), ConfigError> {
        let line = text
            .split(|&octet| octet == b'\n')
            .next()
            .unwrap_or_default();
        let password = line.strip_suffix(b"\r").unwrap_or(line);
        if !is_login_part(password) {
            return error("password file", "its first line must have 1 to 255 octets");
        }
        for login in self
            .gateways
            .iter_mut()
            .filter_map(|gateway| gateway.login.as_mut())
        {
            if login.password.0.is_empty() {
                login.password = Secret(password.to_vec());
            }
        }
        Ok(())
    }
}

impl<'a> Settings<'a> {
    fn of_file(text: &'a str) -> Result<Self, ConfigError> {
        let mut settings = Self::default();
        for (number, line) in (1..).zip(text.lines()) {
            let place = format!("line {number}");
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let Some((key, value)) = line.split_once(char::is_whitespace) else {
                return error(&place, "expected `key value`");
            };
            let value = value.trim_start();
            if key == "password" {
                if settings
                    .password
                    .replace((place.clone(), value.as_bytes()))
                    .is_some()
                {
                    return error(&place, "password is given twice");
                }
                continue;
            }
            if key == "rule" {
                settings.rules.push((place, value));
                continue;
            }
            let slot = match key {
                "gateway" => &mut settings.gateway,
                "user" => &mut settings.user,
                "password-file" => &mut settings.password_file,
                "table" => &mut settings.table,
                "log" => &mut settings.log,
                "range-v4" => &mut settings.range_v4,
                "range-v6" => &mut settings.range_v6,
                "families" => &mut settings.families,
                "resolve" => &mut settings.resolve,
                "sticky" => &mut settings.sticky,
                _ => return error(&place, &format!("unknown key `{key}`")),
            };
            if slot.replace((place.clone(), value)).is_some() {
                return error(&place, &format!("{key} is given twice"));
            }
        }
        Ok(settings)
    }

    fn override_by(&mut self, variables: &'a Variables) {
        let set = |slot: &mut Option<(String, &'a str)>, name: &str, text: &'a Option<String>| {
            if let Some(text) = text {
                *slot = Some((name.to_owned(), text));
            }
        };
        set(&mut self.gateway, "SOCKS6_GATEWAY", &variables.gateway);
        set(&mut self.user, "SOCKS6_USER", &variables.user);
        set(
            &mut self.password_file,
            "SOCKS6_PASSWORD_FILE",
            &variables.password_file,
        );
        set(&mut self.table, "SOCKS6_TABLE", &variables.table);
        set(&mut self.log, "SOCKS6_LOG", &variables.log);
        self.no_proxy = variables.no_proxy.as_deref();
        if let Some(password) = &variables.password {
            self.password = Some(("SOCKS6_PASSWORD".to_owned(), &password.0));
            self.password_file = None;
        } else if variables.password_file.is_some() {
            self.password = None;
        }
    }

    fn into_config(self) -> Result<Config, ConfigError> {
        let mut config = Config::default();
        if let Some((place, text)) = self.gateway {
            config.gateways = at(&place, Gateway::parse_list(text))?;
        }
        if let Some((place, user)) = self.user {
            if !is_login_part(user.as_bytes()) {
                return error(&place, "the user must have 1 to 255 octets");
            }
            let password = match (&self.password, &self.password_file) {
                (Some((place, password)), _) if !is_login_part(password) => {
                    return error(place, "the password must have 1 to 255 octets");
                }
                (Some((_, password)), _) => Secret(password.to_vec()),
                (None, Some(_)) => Secret::default(),
                (None, None) => return error(&place, "a user needs a password (RFC 1929)"),
            };
            let login = Login {
                user: user.as_bytes().to_vec(),
                password,
            };
            for gateway in &mut config.gateways {
                gateway.login.get_or_insert_with(|| login.clone());
            }
        } else if let Some((place, _)) = self.password {
            return error(&place, "a password needs a user (RFC 1929)");
        }
        config.password_file = self.password_file.map(|(_, path)| path.into());
        if let Some((place, text)) = self.table {
            config.table = match text {
                "private" => TablePlace::Private,
                path if path.starts_with('/') => TablePlace::Path(path.into()),
                _ => return error(&place, "expected an absolute path, or `private`"),
            };
        }
        if let Some((place, text)) = self.range_v4 {
            config.ranges.v4 = at(&place, text.parse().map_err(|e| format!("{e}")))?;
        }
        if let Some((place, text)) = self.range_v6 {
            config.ranges.v6 = at(&place, text.parse().map_err(|e| format!("{e}")))?;
        }
        if let Some((place, text)) = self.families {
            config.families = match text {
                "v4" => Families::V4,
                "v6" => Families::V6,
                "both" => Families::Both,
                _ => return error(&place, "expected v4, v6 or both"),
            };
        }
        if let Some((place, text)) = self.resolve {
            config.resolve = match text {
                "connect" => Resolve::Connect,
                "verify" => Resolve::Verify,
                _ => return error(&place, "expected connect or verify"),
            };
        }
        if let Some((place, text)) = self.sticky {
            config.is_sticky = match text {
                "true" => true,
                "false" => false,
                _ => return error(&place, "expected true or false"),
            };
        }
        for (place, text) in self.rules {
            config.rules.push(at(&place, Rule::parse(text))?);
        }
        if let Some(text) = self.no_proxy {
            let rules = at(
                "SOCKS6_NO_PROXY",
                Rule::parse_no_proxy(text).collect::<Result<_, _>>(),
            )?;
            config.rules.precede(rules);
        }
        if let Some((place, text)) = self.log {
            config.log = Some(at(&place, Log::parse(text))?);
        }
        Ok(config)
    }
}

impl Gateway {
    /// A list separated by commas, in order of preference.
    ///
    /// # Errors
    /// In words, the first gateway that is not of the form `host:port`, `[v6]:port` or
    /// `socks5://user:password@host:port`, each perhaps with `?pipelined` behind it.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, String> {
        text.split(',').map(|one| Self::parse(one.trim())).collect()
    }

    fn parse(text: &str) -> Result<Self, String> {
        let (text, is_url) = match text.split_once("://") {
            Some(("socks5" | "socks5h" | "socks", rest)) => (rest, true),
            Some((scheme, _)) => return Err(format!("`{scheme}://` is not a SOCKS5 gateway")),
            None => (text, false),
        };
        let (login, place) = match text.rsplit_once('@') {
            Some((login, place)) if is_url => (Some(Login::parse(login)?), place),
            // The text may hold a password: it is not repeated.
            Some(_) => {
                return Err("credentials need the form socks5://user:password@host:port".into());
            }
            None => (None, text),
        };
        let (place, is_pipelined) = match place.split_once('?') {
            None => (place, false),
            Some((place, "pipelined")) => (place, true),
            Some(_) => return Err("expected `pipelined` behind the `?`".into()),
        };
        let place = match place.strip_suffix('/') {
            Some(rest) if is_url => rest,
            _ => place,
        };
        let (host, port) = Self::parse_place(place)
            .ok_or_else(|| format!("`{place}` is not host:port or [v6]:port"))?;
        Ok(Self {
            host,
            port,
            login,
            is_pipelined,
        })
    }

    fn parse_place(place: &str) -> Option<(GatewayHost, u16)> {
        if let Ok(address) = place.parse::<SocketAddr>() {
            return (address.port() != 0).then(|| (GatewayHost::Ip(address.ip()), address.port()));
        }
        let bare = place
            .strip_prefix('[')
            .and_then(|p| p.strip_suffix(']'))
            .unwrap_or(place);
        if let Ok(address) = bare.parse::<IpAddr>() {
            return Some((GatewayHost::Ip(address), SOCKS_PORT));
        }
        let (name, port) = match place.split_once(':') {
            Some((name, port)) => (name, port.parse().ok().filter(|&port| port != 0)?),
            None => (place, SOCKS_PORT),
        };
        let is_name = !name.is_empty()
            && name.len() <= 253
            && name
                .bytes()
                .all(|o| o.is_ascii_alphanumeric() || matches!(o, b'-' | b'.' | b'_'));
        is_name.then(|| (GatewayHost::Name(name.to_owned()), port))
    }
}

/// `host:port` and no more.
impl fmt::Display for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            GatewayHost::Ip(ip) => SocketAddr::new(*ip, self.port).fmt(f),
            GatewayHost::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

impl Login {
    fn parse(text: &str) -> Result<Self, String> {
        let whole = text.split_once(':').and_then(|(user, password)| {
            let (user, password) = (percent_decoded(user)?, percent_decoded(password)?);
            (is_login_part(&user) && is_login_part(&password)).then_some(Self {
                user,
                password: Secret(password),
            })
        });
        whole
            .ok_or_else(|| "expected user:password of 1 to 255 octets each before the @".to_owned())
    }
}

impl Log {
    fn parse(text: &str) -> Result<Self, String> {
        let (level, target) = match text.split_once(',') {
            Some((level, target)) => (level, Some(target)),
            None => (text, None),
        };
        let level = match level {
            "error" => LogLevel::Error,
            "warn" => LogLevel::Warn,
            "info" => LogLevel::Info,
            "debug" => LogLevel::Debug,
            _ => return Err("expected error, warn, info or debug".into()),
        };
        let target = match target {
            None | Some("stderr") => LogTarget::Stderr,
            Some(target) => match target.split_once(':') {
                Some(("file", path)) if path.starts_with('/') => LogTarget::File(path.into()),
                Some(("fd", number)) => {
                    let fd = number.parse().ok().filter(|&fd: &i32| fd >= 0);
                    LogTarget::Fd(fd.ok_or_else(|| format!("`{number}` is not a descriptor"))?)
                }
                _ => return Err("expected file:/PATH, fd:N or stderr behind the comma".into()),
            },
        };
        Ok(Self { level, target })
    }
}

/// RFC 3986 §2.1.
fn percent_decoded(text: &str) -> Option<Vec<u8>> {
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        if first != b'%' {
            octets.push(first);
            continue;
        }
        let (hex, tail) = rest.split_at_checked(2)?;
        octets.push(u8::from_str_radix(str::from_utf8(hex).ok()?, 16).ok()?);
        rest = tail;
    }
    Some(octets)
}

const fn is_login_part(octets: &[u8]) -> bool {
    !octets.is_empty() && octets.len() <= LOGIN_OCTETS
}

fn error<T>(place: &str, what: &str) -> Result<T, ConfigError> {
    Err(ConfigError {
        place: place.to_owned(),
        what: what.to_owned(),
    })
}

fn at<T>(place: &str, result: Result<T, String>) -> Result<T, ConfigError> {
    result.or_else(|what| error(place, &what))
}

#[cfg(test)]
mod tests;
