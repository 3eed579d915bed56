//! The TOML file: its keys, and where in the file each of them stands.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};
use socks_client::Secret;
use toml::Spanned;

use super::{At, Base, Layer, absolute, log_in, table};
use crate::error::LaunchError;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    gateway: Option<Spanned<OneOrMore>>,
    user: Option<Spanned<String>>,
    password: Option<Spanned<Password>>,
    password_file: Option<Spanned<String>>,
    table: Option<Spanned<String>>,
    log: Option<Spanned<String>>,
    range_v4: Option<Spanned<String>>,
    range_v6: Option<Spanned<String>>,
    families: Option<Spanned<String>>,
    resolve: Option<Spanned<String>>,
    rules: Option<Vec<Spanned<String>>>,
    strict: Option<bool>,
    sticky: Option<Spanned<bool>>,
    library: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "expected a gateway or a list of gateways, in quotes"
)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

struct Password(Secret);

/// By hand, since serde's own complaint about a password that is a number repeats the number.
impl<'de> Deserialize<'de> for Password {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match toml::Value::deserialize(deserializer)? {
            toml::Value::String(text) => Ok(Self(Secret(text.into_bytes()))),
            _ => Err(D::Error::custom("expected a password in quotes")),
        }
    }
}

/// # Errors
/// [`LaunchError::Setting`] with file, line and column.
pub(super) fn parse(path: &Path, text: &str) -> Result<Base, LaunchError> {
    let place = |offset: usize| {
        let before = text.get(..offset).unwrap_or_default();
        let line = before.matches('\n').count().saturating_add(1);
        let column = before
            .rsplit('\n')
            .next()
            .unwrap_or_default()
            .chars()
            .count();
        format!("{}:{line}:{}", path.display(), column.saturating_add(1))
    };
    let file: File = toml::from_str(text).map_err(|error| LaunchError::Setting {
        place: place(error.span().map_or(0, |span| span.start)),
        what: error.message().to_owned(),
    })?;

    let folder = path.parent().unwrap_or_else(|| Path::new(""));
    let at = |setting: Spanned<String>| At {
        place: place(setting.span().start),
        value: setting.into_inner(),
    };
    let gateway = file.gateway.map(|setting| At {
        place: place(setting.span().start),
        value: match setting.into_inner() {
            OneOrMore::One(gateway) => gateway,
            OneOrMore::More(gateways) => gateways.join(","),
        },
    });
    let layer = Layer {
        gateway,
        user: file.user.map(at),
        password: file.password.map(|setting| At {
            place: place(setting.span().start),
            value: setting.into_inner().0,
        }),
        password_file: file
            .password_file
            .map(at)
            .map(|at| at.map(|p| absolute(folder, p.as_ref()))),
        table: file
            .table
            .map(at)
            .map(|at| at.map(|path| table(Path::new(&path), |path| absolute(folder, path)))),
        log: file
            .log
            .map(at)
            .map(|at| at.map(|log| log_in(folder, &log))),
        rules: file.rules.unwrap_or_default().into_iter().map(at).collect(),
    };

    let mut base = Base {
        layer,
        is_strict: file.strict.unwrap_or_default(),
        library: file.library.map(|library| absolute(folder, &library)),
        source: Some(path.to_owned()),
        ..Base::default()
    };
    let sticky = file.sticky.map(|setting| At {
        place: place(setting.span().start),
        value: setting.into_inner().to_string(),
    });
    let flat = [
        ("range-v4", file.range_v4.map(at)),
        ("range-v6", file.range_v6.map(at)),
        ("families", file.families.map(at)),
        ("resolve", file.resolve.map(at)),
        ("sticky", sticky),
    ];
    for (key, setting) in flat {
        let Some(At { value, place }) = setting else {
            continue;
        };
        if value.contains(char::is_control) {
            return super::wrong(&place, &"expected one line");
        }
        base.flat.push_str(&format!("{key} {value}\n"));
        base.places.push(place);
    }
    Ok(base)
}

impl<T> At<T> {
    fn map<U>(self, f: impl FnOnce(T) -> U) -> At<U> {
        At {
            value: f(self.value),
            place: self.place,
        }
    }
}
