//! How the shim comes to life inside a process: the constructor, and the first call if one is earlier.

use std::cell::Cell;
use std::ffi::{CStr, CString, OsStr, c_char};
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use fake_dns::{Table, TableError};
use once_cell::race::OnceBox;
use socks_client::{
    Candidate, Candidates, Config, ConfigError, DirectNames, Gateway, GatewayHost, Handshakes, Log,
    LogLevel, LogTarget, Secret, Sockets, TablePlace, Twins, Variables,
};

use crate::ask::Mute;
use crate::hosts_file::HostsFile;
use crate::kept::Kept;
use crate::log::Sink;
use crate::next;
use crate::state::State;
use crate::sys::addrinfo;
use crate::sys::file::File;
use crate::sys::memory::{self, Process};

/// The flat file and the password file are small; anything else is not one.
const MOST_FILE_OCTETS: usize = 64 * 1024;
/// /proc/PID/maps of a program with many libraries.
const MOST_MAPS_OCTETS: usize = 4 << 20;

/// The shim's state, or why there is none.
pub(crate) enum Start {
    /// As it will stay.
    Ready(&'static State),
    /// This thread is building it and has come back through one of our own hooks.
    Starting,
    /// Not even a private table could be had: everything fails.
    Failed,
}

static STATE: OnceBox<Option<State>> = OnceBox::new();

thread_local! {
    static IS_STARTING: Cell<bool> = const { Cell::new(false) };
}

/// Other libraries' constructors may run before this one; whatever they call works, only later.
#[used]
#[unsafe(link_section = ".init_array")]
static CONSTRUCTOR: extern "C" fn() = constructor;

extern "C" fn constructor() {
    // A caught panic still prints, to a stderr that is not ours. (std is this library's own copy.)
    std::panic::set_hook(Box::new(|_| {}));
    next::look_up_all();
    crate::enter::enter((), (), |_| ());
    // SAFETY: a handler that stores one word.
    unsafe { libc::pthread_atfork(None, Some(forked), Some(forked)) };
}

/// The state, if it is built.
pub(crate) fn built() -> Option<&'static State> {
    STATE.get()?.as_ref()
}

/// Whether there is no state, and there will be none.
pub(crate) fn has_failed() -> bool {
    STATE.get().is_some_and(Option::is_none)
}

extern "C" fn forked() {
    crate::enter::enter((), (), |state| state.process.forked());
}

/// The state, built on the first call. Two threads may build it at once: one result is dropped.
pub(crate) fn state() -> Start {
    if let Some(state) = STATE.get() {
        return state.as_ref().map_or(Start::Failed, Start::Ready);
    }
    if IS_STARTING.replace(true) {
        return Start::Starting;
    }
    let state = STATE.get_or_init(|| Box::new(build()));
    IS_STARTING.set(false);
    state.as_ref().map_or(Start::Failed, Start::Ready)
}

fn build() -> Option<State> {
    let variables = variables();
    let (mut config, mut trouble) = match configure(&variables) {
        Ok(config) => (config, None),
        Err(error) => (Config::broken(&variables), Some(error.to_string())),
    };
    let candidates = match candidates(&config.gateways) {
        Ok(candidates) => candidates,
        Err(error) => {
            config.is_broken = true;
            trouble.get_or_insert(error);
            Vec::new()
        }
    };
    if config.gateways.is_empty() && !config.is_broken {
        trouble = Some("no gateway is configured (SOCKS6_GATEWAY)".to_owned());
    }
    let sink = config.log.clone().map(Sink::new);
    let Some((table, place)) = open_table(&config, sink.as_ref()) else {
        to_stderr(format_args!(
            "no memory for the mapping table; nothing outside this host is reachable"
        ));
        return None;
    };
    let state = State {
        sockets: Sockets::new(memory::rows()?),
        handshakes: Handshakes::new(memory::handshakes()?),
        process: Process::new()?,
        kept: kept(&config, place.as_deref()),
        sink,
        direct_names: DirectNames::new(&config.rules),
        config,
        candidates: Candidates::new(candidates),
        table,
        mute: Mute::default(),
        twins: Twins::new(),
        hosts: HostsFile::new(),
    };
    if let Some(trouble) = trouble.filter(|_| !is_parent_socksified()) {
        let remedy = "names and addresses outside this host are not reachable until it is mended";
        to_stderr(format_args!("{trouble}; {remedy}"));
    }
    Some(state)
}

/// What a program that cleans the environment of the next one shall not take from it.
fn kept(config: &Config, table: Option<&Path>) -> Kept {
    let Some(preload) = variable(c"LD_PRELOAD").filter(|_| config.is_sticky) else {
        return Kept::default();
    };
    let entry = |name: &str, value: &OsStr| {
        CString::new([name.as_bytes(), b"=", value.as_bytes()].concat()).ok()
    };
    // The default table's place depends on the environment.
    let place = table.filter(|_| config.table == TablePlace::Default);
    let place = place.and_then(|path| entry("SOCKS6_TABLE", path.as_os_str()));
    let told = TOLD
        .iter()
        .filter_map(|name| entry(name.to_str().ok()?, variable(name)?));
    Kept::new(preload.as_bytes(), told.chain(place).collect())
}

/// All that the shim reads.
const TOLD: [&CStr; 8] = [
    c"SOCKS6_CONFIG",
    c"SOCKS6_GATEWAY",
    c"SOCKS6_USER",
    c"SOCKS6_PASSWORD",
    c"SOCKS6_PASSWORD_FILE",
    c"SOCKS6_TABLE",
    c"SOCKS6_LOG",
    c"SOCKS6_NO_PROXY",
];

fn variables() -> Variables {
    let text = |name: &CStr| variable(name).map(|text| text.to_string_lossy().into_owned());
    Variables {
        gateway: text(c"SOCKS6_GATEWAY"),
        user: text(c"SOCKS6_USER"),
        password: variable(c"SOCKS6_PASSWORD").map(|text| Secret(text.as_bytes().to_vec())),
        password_file: text(c"SOCKS6_PASSWORD_FILE"),
        table: text(c"SOCKS6_TABLE"),
        log: text(c"SOCKS6_LOG"),
        no_proxy: text(c"SOCKS6_NO_PROXY"),
    }
}

unsafe extern "C" {
    /// stdlib.h, absent from the libc crate.
    fn secure_getenv(name: *const c_char) -> *const c_char;
}

/// secure_getenv(3): a program that runs with another's rights takes no orders from its caller.
fn variable(name: &CStr) -> Option<&'static OsStr> {
    // SAFETY: NUL-terminated; the constructor runs before the program can have a second thread that
    // changes the environment.
    let value = unsafe { secure_getenv(name.as_ptr()) };
    if value.is_null() {
        return None;
    }
    // SAFETY: not null: a NUL-terminated string of the environment, copied by our callers at once.
    Some(OsStr::from_bytes(
        unsafe { CStr::from_ptr(value) }.to_bytes(),
    ))
    .filter(|v| !v.is_empty())
}

fn configure(variables: &Variables) -> Result<Config, ConfigError> {
    let file = config_file()?;
    let mut config = Config::build(file.as_deref(), variables)?;
    if let Some(path) = config.password_file.clone() {
        let what = |what: String| ConfigError {
            place: path.display().to_string(),
            what,
        };
        let text = read_file(&path).map_err(|error| what(in_words(error)))?;
        config.set_password(&text)?;
    }
    Ok(config)
}

/// The flat file that SOCKS6_CONFIG names, which must be there, or a default one, which need not.
fn config_file() -> Result<Option<String>, ConfigError> {
    let named = variable(c"SOCKS6_CONFIG").map(PathBuf::from);
    let is_named = named.is_some();
    let home = variable(c"XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(Path::new(variable(c"HOME")?).join(".config")));
    let own = home.map(|home| home.join("socks6/shim.conf"));
    let places = match named {
        Some(path) => vec![path],
        None => own
            .into_iter()
            .chain([PathBuf::from("/etc/socks6/shim.conf")])
            .collect(),
    };
    for path in places {
        let what = |what: String| ConfigError {
            place: path.display().to_string(),
            what,
        };
        match read_file(&path) {
            Ok(text) => {
                return String::from_utf8(text)
                    .map(Some)
                    .map_err(|_not_utf8| what("it is not text".into()));
            }
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) if !is_named => {}
            // A file of another user's (sudo -u, a daemon's own user) is not this one's configuration.
            Err(rustix::io::Errno::ACCESS) if !is_named => {}
            Err(error) => return Err(what(in_words(error))),
        }
    }
    Ok(None)
}

/// As errno(3) names it; rustix without std knows its number alone.
fn in_words(error: rustix::io::Errno) -> String {
    std::io::Error::from_raw_os_error(error.raw_os_error()).to_string()
}

fn read_file(path: &Path) -> Result<Vec<u8>, rustix::io::Errno> {
    File::read_whole(path, MOST_FILE_OCTETS)
}

/// The gateways' addresses. A gateway named by host name is looked up here: the only real look-up.
fn candidates(gateways: &[Gateway]) -> Result<Vec<Candidate>, String> {
    let mut candidates = Vec::new();
    for (gateway, Gateway { host, port, .. }) in gateways.iter().enumerate() {
        match host {
            GatewayHost::Ip(ip) => {
                candidates.push(Candidate {
                    address: SocketAddr::new(*ip, *port),
                    gateway,
                });
            }
            GatewayHost::Name(name) => {
                let found = CString::new(name.as_str()).map(|name| addrinfo::look_up(&name));
                let found = found.ok().filter(|found| !found.is_empty());
                let found = found.ok_or_else(|| format!("the gateway {name} has no address"))?;
                candidates.extend(found.into_iter().map(|ip| Candidate {
                    address: SocketAddr::new(ip, *port),
                    gateway,
                }));
            }
        }
    }
    Ok(candidates)
}

/// The shared table and where it is, or a private one, with a word in the log on what that costs.
fn open_table(config: &Config, sink: Option<&Sink>) -> Option<(Table, Option<PathBuf>)> {
    let private = || Some((Table::private(&config.ranges).ok()?, None));
    let opened = match &config.table {
        TablePlace::Private => return private(),
        TablePlace::Path(path) => Table::open(path, &config.ranges)
            .map(|table| (table, path.clone()))
            .map_err(|error| (path.clone(), error)),
        TablePlace::Default => {
            let runtime = variable(c"XDG_RUNTIME_DIR").map(Path::new);
            Table::open_default(runtime, &config.ranges)
                .map_err(|error| (PathBuf::from("the default table"), error))
        }
    };
    match opened {
        Ok((table, place)) => Some((table, Some(place))),
        Err((place, error)) => {
            say_private(sink, &place, error);
            private()
        }
    }
}

fn say_private(sink: Option<&Sink>, place: &Path, error: TableError) {
    let place = place.display();
    if let Some(sink) = sink {
        sink.log(
            LogLevel::Warn,
            format_args!("{place}: {error}; names are shared with forked children only"),
        );
    }
}

fn to_stderr(message: std::fmt::Arguments<'_>) {
    Sink::new(Log {
        level: LogLevel::Error,
        target: LogTarget::Stderr,
    })
    .write_line(message);
}

/// Whether the parent runs under this library too: then it, or its own parent, has complained.
fn is_parent_socksified() -> bool {
    let Some(parent) = rustix::process::getppid() else {
        return false;
    };
    let maps = format!("/proc/{}/maps", parent.as_raw_nonzero());
    let Ok(text) = File::read_whole(Path::new(&maps), MOST_MAPS_OCTETS) else {
        return false;
    };
    text.windows(b"/libsocks6.so".len())
        .any(|window| window == b"/libsocks6.so")
}
