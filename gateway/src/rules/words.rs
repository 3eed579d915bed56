//! What the conditions of a rule are written in: lists, names, ports, commands.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use socks_wire::Cmd;

use crate::text::as_text;

/// A list of which one entry has to hold. An empty one is refused: whoever writes it means "nobody", and would get what
/// a condition that is not there gives, "everybody".
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(
    try_from = "Vec<T>",
    into = "Vec<T>",
    bound(
        deserialize = "T: Deserialize<'de>",
        serialize = "T: Clone + Serialize"
    )
)]
pub(crate) struct AnyOf<T>(Vec<T>);

impl<T> AnyOf<T> {
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter()
    }
}

impl<T> TryFrom<Vec<T>> for AnyOf<T> {
    type Error = &'static str;

    fn try_from(list: Vec<T>) -> Result<Self, Self::Error> {
        if list.is_empty() {
            Err("an empty list: name something, or leave the key out")
        } else {
            Ok(Self(list))
        }
    }
}

impl<T> From<AnyOf<T>> for Vec<T> {
    fn from(AnyOf(list): AnyOf<T>) -> Self {
        list
    }
}

/// A request's CMD.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Command {
    Connect,
    Resolve,
    ResolvePtr,
}

impl Command {
    pub(crate) fn is(self, cmd: Cmd) -> bool {
        cmd == match self {
            Self::Connect => Cmd::CONNECT,
            Self::Resolve => Cmd::RESOLVE,
            Self::ResolvePtr => Cmd::RESOLVE_PTR,
        }
    }
}

/// `www.example` is that name, `.example` that name and all below it, and `*` is anything, dots too: as in the rules of
/// the Socks Lib.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Names(String);

impl Names {
    /// `name` as a client has sent it.
    pub(crate) fn contain(&self, name: &[u8]) -> bool {
        let name = name.strip_suffix(b".").unwrap_or(name).to_ascii_lowercase();
        let pattern = self.0.as_bytes();
        let Some(itself) = pattern.strip_prefix(b".") else {
            return glob(pattern, &name);
        };
        let mut below = (0..name.len()).filter_map(|at| name.get(at..));
        glob(itself, &name) || below.any(|rest| rest.starts_with(b".") && glob(pattern, rest))
    }
}

/// The first fit of each piece between two stars leaves the most for the others, so nothing has to be taken back.
fn glob(pattern: &[u8], name: &[u8]) -> bool {
    let mut pieces = pattern.split(|octet| *octet == b'*');
    let Some(mut rest) = pieces.next().and_then(|first| name.strip_prefix(first)) else {
        return false;
    };
    let Some(last) = pieces.next_back() else {
        return rest.is_empty(); // no star at all
    };
    for piece in pieces.filter(|piece| !piece.is_empty()) {
        let Some(at) = rest.windows(piece.len()).position(|it| it == piece) else {
            return false;
        };
        rest = rest
            .get(at.saturating_add(piece.len())..)
            .unwrap_or_default();
    }
    rest.ends_with(last)
}

impl FromStr for Names {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let name = text.strip_suffix('.').unwrap_or(text);
        let is_name = !name.is_empty()
            && !name.ends_with('.')
            && name
                .bytes()
                .all(|octet| octet.is_ascii_graphic() && !b"/:,[]".contains(&octet));
        if is_name {
            Ok(Self(name.to_ascii_lowercase()))
        } else {
            Err(format!(
                "\"{text}\" is not a name, such as www.example, .example or db-*.example (a name in other letters is \
                 written as DNS has it, xn--…)"
            ))
        }
    }
}

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// `80`, or `8000-8999`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Ports {
    first: u16,
    last: u16,
}

impl Ports {
    pub(crate) fn contain(self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }
}

impl FromStr for Ports {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        match (first.parse(), last.parse()) {
            (Ok(first), Ok(last)) if first <= last => Ok(Self { first, last }),
            _ => Err(format!(
                "\"{text}\" is not a port or a range of them, such as 80 or 8000-8999"
            )),
        }
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

as_text!(Names Ports);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_themselves_or_with_all_below_them_or_have_stars() {
        for (pattern, name, expected) in [
            ("example.com", "example.com", true),
            ("Example.COM", "eXample.com.", true),
            ("example.com.", "example.com", true),
            ("example.com", "www.example.com", false),
            ("example.com", "example.com.evil", false),
            (".example.com", "example.com", true),
            (".example.com", "WWW.Example.com.", true),
            (".example.com", "a.b.example.com", true),
            (".example.com", "notexample.com", false),
            (".example.com", "example.com.evil", false),
            ("*.example.*", "www.example.org", true),
            ("*.example.*", "a.b.example.co.uk", true),
            ("*.example.*", "example.org", false),
            ("db-*.example", "db-7.example", true),
            ("db-*.example", "db-.example", true),
            ("db-*.example", "web-7.example", false),
            ("a*a", "a", false),
            ("a*a", "aa", true),
            ("a*b*b", "ab", false),
            ("a*b*c", "a-bb-b-c", true),
            ("**", "anything", true),
            ("*", "anything", true),
            (".db*.example", "x.db1.example", true),
        ] {
            let names: Names = pattern.parse().unwrap();
            assert_eq!(names.contain(name.as_bytes()), expected, "{pattern} {name}");
        }
        for text in ["", ".", "..", "a b", "bücher.example", "10.0.0.0/8", "a:80"] {
            assert!(text.parse::<Names>().is_err(), "{text}");
        }
    }

    #[test]
    fn ports_have_both_ends() {
        for (text, inside, outside) in [("80", 80, 81), ("8000-8999", 8999, 9000), ("0-1", 0, 2)] {
            let ports: Ports = text.parse().unwrap();
            assert!(ports.contain(inside) && !ports.contain(outside), "{text}");
            assert_eq!(ports.to_string(), text);
        }
        for text in ["", "-", "80-", "2-1", "65536", "http"] {
            assert!(text.parse::<Ports>().is_err(), "{text}");
        }
    }
}
