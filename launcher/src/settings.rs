//! Flags, environment and configuration file put together into what the shim runs on.
//! What the values mean and whether they are valid is socks-client's.

mod file;
pub(crate) mod flat;
pub(crate) mod foreign;

use std::env;
use std::ffi::OsString;
use std::fs;
use std::net::ToSocketAddrs as _;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use socks_client::{
    Config, Gateway, GatewayHost, Log, LogLevel, LogTarget, Rule, Secret, Variables,
};

use crate::args::{HowArgs, SettingsArgs};
use crate::error::LaunchError;
use crate::say::say;

use foreign::Foreign;

/// What the launcher takes over into the flat file, and so out of the environment. SOCKS6_CONFIG
/// is replaced.
pub(crate) const VARIABLES: [&str; 7] = [
    "SOCKS6_GATEWAY",
    "SOCKS6_USER",
    "SOCKS6_PASSWORD",
    "SOCKS6_PASSWORD_FILE",
    "SOCKS6_TABLE",
    "SOCKS6_LOG",
    NO_PROXY,
];
const NO_PROXY: &str = "SOCKS6_NO_PROXY";
pub(crate) const CONFIG_VARIABLE: &str = "SOCKS6_CONFIG";

/// What a run is to be like.
#[derive(Debug, Default)]
pub(crate) struct Settings {
    /// What the shim gets, gateways by address.
    pub(crate) config: Config,
    /// The gateways as the user wrote them, without credentials.
    pub(crate) gateways_as_named: Vec<String>,
    /// Other programs' variables, if they have told of the gateway.
    pub(crate) foreign: Option<Foreign>,
    /// Never start a private gateway.
    pub(crate) is_strict: bool,
    /// Where libsocks6.so is, if the user says so.
    pub(crate) library: Option<PathBuf>,
    /// The file that had a part in it.
    pub(crate) source: Option<PathBuf>,
}

/// What a variable's name stands for.
type Environment<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// A value, and the words that say where it stands.
#[derive(Debug, Clone)]
struct At<T> {
    value: T,
    place: String,
}

/// The settings that can come from each of flags, environment and file.
#[derive(Debug, Default)]
struct Layer {
    gateway: Option<At<String>>,
    user: Option<At<String>>,
    password: Option<At<Secret>>,
    password_file: Option<At<PathBuf>>,
    table: Option<At<PathBuf>>,
    log: Option<At<String>>,
    rules: Vec<At<String>>,
}

/// A configuration file: TOML's settings as a layer, or a flat file's text, whose keys the shim's
/// own parser knows.
#[derive(Debug, Default)]
struct Base {
    layer: Layer,
    flat: String,
    /// For each line of `flat`, where it stands.
    places: Vec<String>,
    is_strict: bool,
    library: Option<PathBuf>,
    source: Option<PathBuf>,
}

impl Settings {
    /// Flags win over variables, variables over the file; and a gateway's user and password are not
    /// taken from below the layer that names the gateway, so that no other gateway is told them.
    ///
    /// # Errors
    /// [`LaunchError::Setting`] with the place of the wrong one, [`LaunchError::File`].
    pub(crate) fn load(args: &SettingsArgs) -> Result<Self, LaunchError> {
        Self::load_with(args, &|name| env::var_os(name))
    }

    /// For what has nothing to do with gateways.
    ///
    /// # Errors
    /// As [`Settings::load`], but for a gateway's name and other programs' variables.
    pub(crate) fn without_gateways(args: &SettingsArgs) -> Result<Config, LaunchError> {
        let own = Self::put_together(args, &|name| env::var_os(name), |_| None)?;
        Ok(own.config)
    }

    fn load_with(args: &SettingsArgs, environment: Environment<'_>) -> Result<Self, LaunchError> {
        let mut settings = Self::put_together(args, environment, foreign::layer)?;
        settings.config.gateways = resolve(&settings.config.gateways)?;
        Ok(settings)
    }

    fn put_together(
        args: &SettingsArgs,
        environment: Environment<'_>,
        foreign: impl FnOnce(Environment<'_>) -> Option<(Layer, Foreign)>,
    ) -> Result<Self, LaunchError> {
        let variable = |name: &str| environment(name).filter(|value| !value.is_empty());
        let mut base = Base::find(args.config.as_deref(), &variable)?;
        let top = Layer::of_args(args).over(Layer::of_variables(&variable)?);
        if top.gateway.is_some() {
            base.drop_login();
        }
        let has_gateway =
            top.gateway.is_some() || base.layer.gateway.is_some() || base.flat_names("gateway");
        let (mut below, mut told) = (Layer::default(), None);
        if !has_gateway && let Some((layer, foreign)) = foreign(&variable) {
            base.drop_login();
            (below, told) = (layer, Some(foreign));
        }
        let layer = top.over(below).over(base.layer);
        let library = variable("SOCKS6_LIB").map(PathBuf::from).or(base.library);

        let config = layer.build(&base.flat, &base.places)?;
        let gateways_as_named = config.gateways.iter().map(ToString::to_string).collect();
        Ok(Self {
            config,
            gateways_as_named,
            foreign: told,
            is_strict: base.is_strict,
            library,
            source: base.source,
        })
    }

    /// For a run.
    ///
    /// # Errors
    /// As [`Settings::load`], and [`LaunchError::Strict`].
    pub(crate) fn of_run(how: &HowArgs) -> Result<Self, LaunchError> {
        let mut settings = Self::load(&how.settings)?;
        settings.is_strict |= how.strict;
        settings.config.is_sticky |= how.sticky;
        settings.refuse_under_strict()?;
        Ok(settings)
    }

    /// What nobody wrote for socks6 must not take everything from it.
    fn refuse_under_strict(&self) -> Result<(), LaunchError> {
        match &self.foreign {
            Some(foreign) if self.is_strict && foreign.is_all_direct => {
                let instead = "SOCKS6_NO_PROXY='*' says the same for socks6";
                let what = format!("NO_PROXY=* would have everything go direct; {instead}");
                Err(LaunchError::Strict(what))
            }
            _ => Ok(()),
        }
    }

    /// Whatever the user wanted logged.
    pub(crate) fn log_everything_to(&mut self, path: &Path) {
        self.config.log = Some(Log {
            level: LogLevel::Debug,
            target: LogTarget::File(path.to_owned()),
        });
    }

    /// The flat file for the shim.
    ///
    /// # Errors
    /// [`LaunchError::Setting`] for a value that has no form there.
    pub(crate) fn flat(&self) -> Result<String, LaunchError> {
        flat::render(&self.config)
    }
}

impl Layer {
    fn of_args(args: &SettingsArgs) -> Self {
        let here = |path: &PathBuf| absolute(Path::new(""), path);
        let level = match args.verbose {
            0 => None,
            1 => Some("info"),
            _ => Some("debug"),
        };
        Self {
            gateway: args.gateway.clone().map(|value| at(value, "--gateway")),
            user: args.user.clone().map(|value| at(value, "--user")),
            password: None,
            password_file: args
                .password_file
                .as_ref()
                .map(|p| at(here(p), "--password-file")),
            table: args
                .table
                .as_ref()
                .map(|path| at(table(path, here), "--table")),
            log: match (&args.log, level) {
                (Some(log), _) => Some(at(log_in(Path::new(""), log), "--log")),
                (None, Some(level)) => Some(at(format!("{level},stderr"), "--verbose")),
                (None, None) => None,
            },
            rules: args
                .rules
                .iter()
                .map(|rule| at(rule.clone(), "--rule"))
                .collect(),
        }
    }

    fn of_variables(variable: &dyn Fn(&str) -> Option<OsString>) -> Result<Self, LaunchError> {
        let text = |name: &str| match variable(name).map(OsString::into_string) {
            Some(Ok(value)) => Ok(Some(at(value, name))),
            Some(Err(_not_repeated)) => wrong(name, &"not UTF-8"),
            None => Ok(None),
        };
        let path = |name: &str| variable(name).map(|value| at(PathBuf::from(value), name));
        let password = variable("SOCKS6_PASSWORD").map(OsString::into_vec);
        Ok(Self {
            gateway: text("SOCKS6_GATEWAY")?,
            user: text("SOCKS6_USER")?,
            password: password.map(|octets| at(Secret(octets), "SOCKS6_PASSWORD")),
            password_file: path("SOCKS6_PASSWORD_FILE"),
            table: path("SOCKS6_TABLE"),
            log: text("SOCKS6_LOG")?,
            rules: no_proxy(text(NO_PROXY)?)?,
        })
    }

    /// This layer, and below it the other.
    fn over(mut self, mut below: Self) -> Self {
        self.rules.append(&mut below.rules);
        if self.gateway.is_some() {
            below.drop_login();
        }
        if self.password.is_some() || self.password_file.is_some() {
            below.password = None;
            below.password_file = None;
        }
        Self {
            gateway: self.gateway.or(below.gateway),
            user: self.user.or(below.user),
            password: self.password.or(below.password),
            password_file: self.password_file.or(below.password_file),
            table: self.table.or(below.table),
            log: self.log.or(below.log),
            rules: self.rules,
        }
    }

    fn drop_login(&mut self) {
        self.user = None;
        self.password = None;
        self.password_file = None;
    }

    /// The shim's own parser decides. It knows our settings as variables; the places where the user
    /// wrote them are put in for their names.
    fn build(self, flat: &str, places: &[String]) -> Result<Config, LaunchError> {
        let text = |setting: &Option<At<PathBuf>>| match setting {
            Some(At { value, place }) => match value.to_str() {
                Some(text) => in_a_line(text, place),
                None => wrong(place, &"not UTF-8"),
            },
            None => Ok(None),
        };
        let log = match &self.log {
            Some(At { value, place }) => in_a_line(value, place)?,
            None => None,
        };
        let variables = Variables {
            gateway: self.gateway.as_ref().map(|at| at.value.clone()),
            user: self.user.as_ref().map(|at| at.value.clone()),
            password: self.password.as_ref().map(|at| at.value.clone()),
            password_file: text(&self.password_file)?,
            table: text(&self.table)?,
            log,
            no_proxy: None,
        };
        let mut rules = Vec::new();
        for At { value, place } in &self.rules {
            rules.push(Rule::parse(value).or_else(|what| wrong(place, &what))?);
        }
        let mut config = Config::build(Some(flat), &variables).map_err(|error| {
            let line = error
                .place
                .strip_prefix("line ")
                .and_then(|n| n.parse::<usize>().ok());
            let place = match error.place.as_str() {
                "SOCKS6_GATEWAY" => self.gateway.map(|at| at.place),
                "SOCKS6_USER" => self.user.map(|at| at.place),
                "SOCKS6_PASSWORD" => self.password.map(|at| at.place),
                "SOCKS6_TABLE" => self.table.map(|at| at.place),
                "SOCKS6_LOG" => self.log.map(|at| at.place),
                _ => line.and_then(|line| places.get(line.checked_sub(1)?).cloned()),
            };
            LaunchError::Setting {
                place: place.unwrap_or(error.place),
                what: error.what,
            }
        })?;
        config.rules.precede(rules);
        if let Some(path) = config.password_file.clone() {
            // It stays in its file; the shim reads it there. But what is wrong is said now.
            let password = fs::read(&path).map_err(LaunchError::file(&path))?;
            config
                .clone()
                .set_password(&password)
                .map_err(|error| LaunchError::Setting {
                    place: path.display().to_string(),
                    what: error.what,
                })?;
        }
        Ok(config)
    }
}

impl Base {
    /// The file that was named; or the one that SOCKS6_CONFIG names, as within another run; or the
    /// first that is there of the user's and the system's.
    fn find(
        named: Option<&Path>,
        variable: &dyn Fn(&str) -> Option<OsString>,
    ) -> Result<Self, LaunchError> {
        if let Some(named) = named {
            return Self::read(named);
        }
        if let Some(inherited) = variable(CONFIG_VARIABLE) {
            return Self::read(Path::new(&inherited));
        }
        let home = variable("HOME").map(|home| PathBuf::from(home).join(".config"));
        let user = variable("XDG_CONFIG_HOME")
            .map(PathBuf::from)
            .filter(|path| path.is_absolute());
        for folder in [user.or(home), Some("/etc".into())].into_iter().flatten() {
            for name in ["socks6/config.toml", "socks6/shim.conf"] {
                let path = folder.join(name);
                if path.exists() {
                    return Self::read(&path);
                }
            }
        }
        Ok(Self::default())
    }

    fn read(path: &Path) -> Result<Self, LaunchError> {
        let text = fs::read_to_string(path).map_err(LaunchError::file(path))?;
        if path
            .extension()
            .is_some_and(|extension| extension == "toml")
        {
            let base = file::parse(path, &text)?;
            let mode = path.metadata().map(|status| status.mode());
            if base.layer.password.is_some() && mode.is_ok_and(|mode| mode & 0o044 != 0) {
                say(format_args!(
                    "{}: others can read the password in it",
                    path.display()
                ));
            }
            return Ok(base);
        }
        let places = (1..=text.lines().count()).map(|n| format!("{}:{n}", path.display()));
        Ok(Self {
            places: places.collect(),
            flat: text,
            source: Some(path.to_owned()),
            ..Self::default()
        })
    }

    fn flat_names(&self, key: &str) -> bool {
        let mut lines = self.flat.lines();
        lines.any(|line| line.split_whitespace().next() == Some(key))
    }

    fn drop_login(&mut self) {
        self.layer.drop_login();
        // Emptied, not removed: the line numbers stay true.
        let is_login = |line: &str| {
            let key = line.split_whitespace().next();
            matches!(key, Some("user" | "password" | "password-file"))
        };
        let lines = self
            .flat
            .lines()
            .map(|line| if is_login(line) { "" } else { line });
        self.flat = lines.collect::<Vec<_>>().join("\n");
    }
}

/// What a file says by itself, in the shim's words.
#[cfg(feature = "fuzzing")]
pub(crate) fn flat_of(path: &Path, text: &str) -> Result<String, LaunchError> {
    let base = file::parse(path, text)?;
    flat::render(&base.layer.build(&base.flat, &base.places)?)
}

/// The rules that a list of what needs no proxy stands for.
fn no_proxy(list: Option<At<String>>) -> Result<Vec<At<String>>, LaunchError> {
    let Some(At { value, place }) = list else {
        return Ok(Vec::new());
    };
    Rule::parse_no_proxy(&value)
        .map(|rule| match rule {
            Ok(rule) => Ok(at(rule.to_string(), &place)),
            Err(what) => wrong(&place, &what),
        })
        .collect()
}

/// Host names become addresses: the shim would have to ask DNS from within the program.
fn resolve(gateways: &[Gateway]) -> Result<Vec<Gateway>, LaunchError> {
    let mut resolved = Vec::new();
    for gateway in gateways {
        let name = match &gateway.host {
            GatewayHost::Ip(_) => {
                resolved.push(gateway.clone());
                continue;
            }
            GatewayHost::Name(name) => name,
        };
        let addresses = (name.as_str(), gateway.port).to_socket_addrs();
        for address in addresses.or_else(|cause| wrong(&format!("gateway {gateway}"), &cause))? {
            let one = Gateway {
                host: GatewayHost::Ip(address.ip()),
                ..gateway.clone()
            };
            if !resolved.contains(&one) {
                resolved.push(one);
            }
        }
    }
    Ok(resolved)
}

/// A path as the user means it: relative to the working directory, or to the file it stands in.
fn absolute(folder: &Path, path: &Path) -> PathBuf {
    std::path::absolute(folder.join(path)).unwrap_or_else(|_empty| path.to_owned())
}

fn table(path: &Path, absolute: impl Fn(&PathBuf) -> PathBuf) -> PathBuf {
    if path.as_os_str() == "private" {
        path.to_owned()
    } else {
        absolute(&path.to_owned())
    }
}

/// `LEVEL,file:PATH` with an absolute path.
fn log_in(folder: &Path, log: &str) -> String {
    match log.split_once(",file:") {
        Some((level, path)) => {
            format!(
                "{level},file:{}",
                absolute(folder, Path::new(path)).display()
            )
        }
        None => log.to_owned(),
    }
}

fn at<T>(value: T, place: &str) -> At<T> {
    At {
        value,
        place: place.to_owned(),
    }
}

/// A value that has a form in the flat file, where it ends with its line.
fn in_a_line(value: &str, place: &str) -> Result<Option<String>, LaunchError> {
    if value.contains('\n') || value.trim_end() != value {
        return wrong(place, &"expected one line, with no blank at its end");
    }
    Ok(Some(value.to_owned()))
}

fn wrong<T>(place: &str, what: &dyn ToString) -> Result<T, LaunchError> {
    Err(LaunchError::Setting {
        place: place.to_owned(),
        what: what.to_string(),
    })
}

#[cfg(test)]
mod tests;
