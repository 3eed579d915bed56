//! `socks6 import`: another socksifier's configuration as one of ours, on stdout. What has no equivalent
//! becomes a comment; what would change where connections go, or who sees them, is refused.

mod proxychains;
mod torsocks;

use std::fs;
use std::process::ExitCode;

use crate::args::ImportArgs;
use crate::error::LaunchError;
use crate::say::print;

/// A line that says something, with its number.
type Line<'a> = (usize, &'a str);

/// What is wrong with a line; none for the file as a whole.
pub(crate) type Wrong = (Option<usize>, String);

/// # Errors
/// [`LaunchError::File`], and [`LaunchError::Setting`] with the line that has no like here.
pub(crate) fn import(args: &ImportArgs) -> Result<ExitCode, LaunchError> {
    let text = fs::read_to_string(&args.file).map_err(LaunchError::file(&args.file))?;
    let draft = draft(&text).map_err(|(line, what)| {
        let path = args.file.display();
        LaunchError::Setting {
            place: line.map_or_else(|| path.to_string(), |line| format!("{path}:{line}")),
            what,
        }
    })?;
    print(draft.text().trim_end());
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn draft(text: &str) -> Result<Draft, Wrong> {
    let mut lines = text
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default().trim());
    let is_proxychains = lines.any(|line| line.eq_ignore_ascii_case(proxychains::LIST));
    if is_proxychains {
        proxychains::read(text)
    } else {
        torsocks::read(text)
    }
}

/// The file to be, key by key.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    remarks: Vec<String>,
    gateways: Vec<String>,
    login: Option<(String, String)>,
    range_v4: Option<String>,
    rules: Vec<String>,
}

impl Draft {
    /// A line that has no equivalent, and what that means.
    fn remark(&mut self, line: &str, what: &str) {
        // TOML takes no other control character in a comment.
        let line = line.replace(|it: char| it.is_control() && it != '\t', "\u{fffd}");
        self.remarks.push(format!("# {line}: {what}\n"));
    }

    pub(crate) fn text(&self) -> String {
        let mut text = self.remarks.concat();
        let mut add = |key: &str, value: toml::Value| text.push_str(&format!("{key} = {value}\n"));
        match self.gateways.as_slice() {
            [one] => add("gateway", one.as_str().into()),
            more => add("gateway", more.to_vec().into()),
        }
        if let Some((user, password)) = &self.login {
            add("user", user.as_str().into());
            add("password", password.as_str().into());
        }
        if let Some(range) = &self.range_v4 {
            add("range-v4", range.as_str().into());
        }
        if !self.rules.is_empty() {
            text.push_str("rules = [\n");
            for rule in &self.rules {
                text.push_str(&format!("    {},\n", toml::Value::from(rule.as_str())));
            }
            text.push_str("]\n");
        }
        text
    }
}

fn wrong<T>(line: usize, what: impl Into<String>) -> Result<T, Wrong> {
    Err((Some(line), what.into()))
}

/// RFC 1929: a user or a password. It is not repeated.
fn login_part((line, value): Line<'_>) -> Result<&str, Wrong> {
    match value.len() {
        1..=255 => Ok(value),
        _ => wrong(line, "user and password have 1 to 255 octets"),
    }
}

#[cfg(test)]
mod tests;
