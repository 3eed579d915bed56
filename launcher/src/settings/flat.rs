//! The flat file: one `key value` a line, as socks-client reads it.

use std::fmt::Write as _;

use fake_dns::Ranges;
use socks_client::{
    Config, Families, Gateway, Log, LogLevel, LogTarget, Login, Resolve, TablePlace, Variables,
};

use crate::error::LaunchError;

/// Says a configuration in the shim's words. A password that is in a file of its own stays there,
/// and only its path is told.
///
/// # Errors
/// [`LaunchError::Setting`] for a value that the shim would not read as it was meant.
pub(crate) fn render(config: &Config) -> Result<String, LaunchError> {
    let text = text(config);
    match Config::build(Some(&text), &Variables::default()) {
        Ok(read) if is_same(&read, config) => Ok(text),
        // A path with a line feed in it, for one.
        _ => super::wrong("configuration", &"a value has no form in the shim's file"),
    }
}

fn is_same(one: &Config, other: &Config) -> bool {
    one.gateways == other.gateways
        && one.table == other.table
        && one.log == other.log
        && one.ranges == other.ranges
        && one.families == other.families
        && one.resolve == other.resolve
        && one.is_sticky == other.is_sticky
        && one.rules == other.rules
}

fn text(config: &Config) -> String {
    let mut text = String::from("# Written by socks6 for libsocks6.so.\n");
    let mut line = |key: &str, value: &dyn std::fmt::Display| {
        let _infallible = writeln!(text, "{key} {value}");
    };
    if !config.gateways.is_empty() {
        let gateways: Vec<_> = config.gateways.iter().map(url).collect();
        line("gateway", &gateways.join(","));
    }
    let logins = config
        .gateways
        .iter()
        .filter_map(|gateway| gateway.login.as_ref());
    let mut without_password = logins.filter(|login| login.password.0.is_empty());
    if let (Some(login), Some(file)) = (without_password.next(), &config.password_file) {
        line("user", &String::from_utf8_lossy(&login.user));
        line("password-file", &file.display());
    }
    match &config.table {
        TablePlace::Default => {}
        TablePlace::Path(path) => line("table", &path.display()),
        TablePlace::Private => line("table", &"private"),
    }
    if let Some(Log { level, target }) = &config.log {
        let level = match level {
            LogLevel::Error => "error",
            LogLevel::Warn => "warn",
            LogLevel::Info => "info",
            LogLevel::Debug => "debug",
        };
        let target = match target {
            LogTarget::File(path) => format!("file:{}", path.display()),
            LogTarget::Fd(fd) => format!("fd:{fd}"),
            LogTarget::Stderr => "stderr".to_owned(),
        };
        line("log", &format_args!("{level},{target}"));
    }
    let Ranges { v4, v6 } = &config.ranges;
    line("range-v4", &format_args!("{}/{}", v4.base(), v4.prefix()));
    line("range-v6", &format_args!("{}/{}", v6.base(), v6.prefix()));
    line(
        "families",
        &match config.families {
            Families::V4 => "v4",
            Families::V6 => "v6",
            Families::Both => "both",
        },
    );
    if config.resolve == Resolve::Verify {
        line("resolve", &"verify");
    }
    if config.is_sticky {
        line("sticky", &true);
    }
    for rule in config.rules.iter() {
        line("rule", rule);
    }
    text
}

/// With user and password, unless the password is in a file.
fn url(gateway: &Gateway) -> String {
    let login = match &gateway.login {
        Some(Login { user, password }) if !password.0.is_empty() => {
            format!("socks5://{}:{}@", encoded(user), encoded(&password.0))
        }
        _ => String::new(),
    };
    let option = if gateway.is_pipelined {
        "?pipelined"
    } else {
        ""
    };
    format!("{login}{gateway}{option}")
}

/// RFC 3986 §2.1; more than need be, so that nothing in a password can end a line or a field.
fn encoded(octets: &[u8]) -> String {
    let mut text = String::new();
    for &octet in octets {
        if octet.is_ascii_alphanumeric() {
            text.push(octet.into());
        } else {
            let _infallible = write!(text, "%{octet:02X}");
        }
    }
    text
}
