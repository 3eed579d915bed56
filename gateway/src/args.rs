//! What was typed: clap makes `--help` of it, and the man page and completions come from it too. The configuration file
//! stands below it.
//! Whether it makes sense is [`Config`]'s to say.

use std::fs;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use toml::Spanned;
use zeroize::Zeroizing;

use crate::config::{Config, ConfigError, Settings};
use crate::file::{File, FileError};
use crate::inherited::InheritedError;
use crate::log::{Log, LogError, LogFormat};
use crate::manual::Page;
use crate::passwd::{Passwd, PasswdError};
use crate::text::{Cidr, Endpoint, Level, Span};
use crate::tls::TlsError;
use crate::upstream::UpstreamError;
use crate::users::{Users, UsersError};

const NAME: &str = "socks6-gateway";

/// SOCKS gateway between IPv4 and IPv6 (RFC 3089): clients of either family reach destinations of
/// either family, by name or by address.
///
/// Speaks SOCKS5 (RFC 1928, RFC 1929), SOCKS4 and SOCKS4a on the same port. Without options it
/// serves the programs of this host, on port 1080 of 127.0.0.1 and of `[::1]`.
#[derive(Debug, Parser)]
#[command(name = NAME, version, after_long_help = EXAMPLES, max_term_width = 100, args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,

    /// Read this configuration file. What is given on the command line replaces what it says.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Say whether all of it makes sense, and do nothing else.
    #[arg(long)]
    check: bool,

    /// Print what is in force, file and command line taken together, as a configuration file, and do nothing else.
    #[arg(long)]
    print_config: bool,

    /// Listen here; repeat for several. `[::]` takes both families, port 0 lets the kernel choose.
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Vec<Endpoint>,

    /// Serve clients of this range; repeat for several. Without it: all who can connect.
    ///
    /// Where a password is asked for as well, a client has to satisfy both.
    #[arg(long, value_name = "CIDR")]
    allow_client: Vec<Cidr>,

    /// Allow destinations of this range although they are denied by default.
    ///
    /// Denied unless allowed: loopback, 0.0.0.0/8, ::, link-local, multicast, broadcast, cloud
    /// metadata services, the gateway's own addresses, the fake addresses of the Socks Lib
    /// (198.18.0.0/15, 100::/64), and the IPv6 forms of all of these (v4-mapped, v4-compatible,
    /// 6to4, NAT64).
    #[arg(long, value_name = "CIDR")]
    allow_destination: Vec<Cidr>,

    /// Ask for user name and password: this name, and the first line of --password-file.
    #[arg(long, value_name = "NAME", requires = "password_file")]
    user: Option<String>,

    /// Ask for user name and password: those in this file, lines of USER:HASH or USER:PASSWORD.
    ///
    /// `socks6-gateway passwd FILE USER` makes such a line, with an Argon2id hash. Empty lines and lines that begin with #
    /// are passed over; - reads standard input. With --user the file holds that user's password alone.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,

    /// Serve the whole world without a password. You do not want this.
    #[arg(long)]
    open_relay_for_anyone: bool,

    /// Serve at most so many clients at a time; others wait.
    ///
    /// Without it: as many as the limit on open files has room for.
    #[arg(long, value_name = "N")]
    max_relays: Option<usize>,

    /// Time for a client to say what it wants, from its connection to the end of its request. [default: 10s]
    #[arg(long, value_name = "TIME")]
    handshake_timeout: Option<Span>,

    /// Time for a connection to the destination, over all addresses of its name. [default: 127s]
    #[arg(long, value_name = "TIME")]
    dial_timeout: Option<Span>,

    /// End a relay over which nothing has gone in either direction for so long. Without it: never.
    #[arg(long, value_name = "TIME")]
    idle_timeout: Option<Span>,

    /// Time for running relays to end after SIGTERM or SIGINT; a second signal ends them at once. [default: 30s]
    #[arg(long, value_name = "TIME")]
    drain_timeout: Option<Span>,

    /// Refuse an address after so many wrong passwords, for a minute; 0 for never. [default: 10]
    #[arg(long, value_name = "N")]
    failed_logins: Option<u32>,

    /// How much to log: off, error, warn, info (a line for each relay), debug or trace. [default: info]
    #[arg(long, value_name = "LEVEL")]
    log: Option<Level>,

    /// Log to the end of this file in place of standard error.
    #[arg(long, value_name = "FILE")]
    log_file: Option<PathBuf>,

    /// How a line of the log looks. [default: text]
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<LogFormat>,

    /// Listeners that a service manager has passed.
    #[arg(skip)]
    given: Vec<SocketAddr>,
}

/// What is not serving.
#[derive(Debug, Subcommand)]
enum Command {
    Passwd(Passwd),
    /// Print a page of the manual.
    ///
    /// As man(1) takes it: `socks6-gateway man toml | man -l -`, or into a file under /usr/local/share/man.
    Man {
        /// Which page.
        #[arg(default_value = "gateway")]
        page: Page,
    },
    /// Print what completes the command line in a shell.
    Completions {
        /// Which shell.
        shell: Shell,
    },
}

/// What the command line asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// Serve.
    Run,
    /// `--check`
    Check,
    /// `--print-config`, `man`, `completions`
    Print,
    /// `passwd`
    Passwd,
}

const EXAMPLES: &str = "\
Times are numbers with ms, s, m or h; seconds if there is none.

Examples:
  On a dual-stack host, for two networks (RFC 3089's Gateway G):
    socks6-gateway --listen '[::]:1080' --allow-client 192.0.2.0/24 --allow-client 2001:db8::/32

  On two addresses of its own, for users with a password:
    socks6-gateway --listen 192.0.2.1:1080 --listen '[2001:db8::1]:1080' --password-file users

  For trying it out on one machine, with a server on 127.0.0.1:
    socks6-gateway --listen 127.0.0.1:1080 --allow-destination 127.0.0.0/8
    curl --socks5-hostname 127.0.0.1:1080 http://localhost:8000/

It prints `listening on ADDR:PORT` for each listener on standard output once it can be reached.
Exit status: 0 after SIGTERM or SIGINT, 1 if it cannot run, 2 if the options are wrong.";

/// What is wrong with what was typed or stands in the configuration file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArgsError {
    /// What a service manager has passed is of no use.
    #[error(transparent)]
    Inherited(#[from] InheritedError),
    /// The configuration file is of no use.
    #[error(transparent)]
    File(#[from] FileError),
    /// The settings make no sense, or are not safe.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The log file cannot be opened.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The password file cannot be read.
    #[error("cannot read --password-file {0}: {1}")]
    PasswordFile(PathBuf, io::Error),
    /// The password file says something else than users and passwords.
    #[error("--password-file {0}: {1}")]
    Users(PathBuf, UsersError),
    /// An upstream is of no use.
    #[error("upstream {0}: {1}")]
    Upstream(String, UpstreamError),
    /// What TLS listeners need is of no use.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The password file is as it was.
    #[error(transparent)]
    Passwd(#[from] PasswdError),
}

impl Args {
    /// What is to be done.
    #[must_use]
    pub fn task(&self) -> Task {
        match (&self.command, self.check, self.print_config) {
            (Some(Command::Passwd(_)), ..) => Task::Passwd,
            (Some(Command::Man { .. } | Command::Completions { .. }), ..) => Task::Print,
            (_, true, _) => Task::Check,
            (_, _, true) => Task::Print,
            _ => Task::Run,
        }
    }

    /// From now on it is to listen here too.
    pub fn listen_too(&mut self, given: Vec<SocketAddr>) {
        self.given = given;
    }

    /// Reads the configuration file and the password file, and finds out whether all of it makes sense. Called again it
    /// reads them again.
    ///
    /// # Errors
    /// That says what to do about it.
    pub fn config(&self) -> Result<Config, ArgsError> {
        self.config_of(&self.file()?)
    }

    /// The same for a process that begins: it logs from here on. What can be read once, such as a pipe, is read once.
    ///
    /// # Errors
    /// As [`Args::config`], and if there can be no such log.
    pub fn start(&self) -> Result<(Config, Log), ArgsError> {
        let file = self.file()?;
        // First: there may be something to be said of the rest.
        let log = Log::start(&file.log.settings())?;
        Ok((self.config_of(&file)?, log))
    }

    fn config_of(&self, file: &File) -> Result<Config, ArgsError> {
        let users = match file.password_file.as_deref() {
            Some(path) => read_users(self.user.as_deref(), path)?,
            None => Users::default(),
        };
        let mut upstreams = Vec::new();
        for table in file.upstream.iter().map(Spanned::get_ref) {
            let upstream = table.ready(read_secret);
            let wrong = |error| ArgsError::Upstream(table.name.clone(), error);
            upstreams.push(Arc::new(upstream.map_err(wrong)?));
        }
        let mut settings = file.settings();
        let tls = file.tls.as_ref().map(|table| table.ready(read_secret));
        settings.tls = tls.transpose()?;
        for given in &self.given {
            if !settings.addresses().contains(given) {
                settings.listen.push(*given);
            }
        }
        let secrets = file.password_files().filter(|path| !is_stdin(path));
        let files = self.config.as_deref().into_iter().chain(secrets);
        let files = files.chain(file.tls_files());
        settings.process.files = files.map(Path::to_owned).collect();
        Ok(Config::new(Settings {
            users,
            rules: settings.rules.with_upstreams(upstreams),
            ..settings
        })?)
    }

    /// Changes a password file.
    ///
    /// # Errors
    /// If the file is as it was.
    pub fn passwd(&self) -> Result<(), ArgsError> {
        match &self.command {
            Some(Command::Passwd(passwd)) => Ok(passwd.run()?),
            _ => Ok(()),
        }
    }

    /// What is to be printed.
    ///
    /// # Errors
    /// As [`Args::config`], if it is the configuration.
    pub fn printed(&self) -> Result<String, ArgsError> {
        match self.command {
            Some(Command::Man { page }) => Ok(page.text(Self::command())),
            Some(Command::Completions { shell }) => {
                let mut text = Vec::new();
                clap_complete::generate(shell, &mut Self::command(), NAME, &mut text);
                Ok(String::from_utf8(text).unwrap_or_default())
            }
            _ => self.in_force(),
        }
    }

    /// What is in force, as the text of a configuration file.
    fn in_force(&self) -> Result<String, ArgsError> {
        let file = self.file()?;
        self.config_of(&file)?;
        let text = toml::to_string(&file.in_force());
        // Nothing in it has no TOML.
        Ok(text.unwrap_or_default())
    }

    /// The file under what was typed.
    fn file(&self) -> Result<File, FileError> {
        let mut file = match &self.config {
            Some(path) => File::read(path)?,
            None => File::default(),
        };
        replace(&mut file.listen, &self.listen);
        replace(&mut file.allow_clients, &self.allow_client);
        replace(&mut file.allow_destinations, &self.allow_destination);
        file.open_relay_for_anyone |= self.open_relay_for_anyone;
        let limits = &mut file.limits;
        let typed = |typed: Option<Span>, limit: &mut Option<Span>| *limit = typed.or(*limit);
        typed(self.handshake_timeout, &mut limits.handshake);
        typed(self.dial_timeout, &mut limits.dial);
        typed(self.idle_timeout, &mut limits.idle);
        typed(self.drain_timeout, &mut limits.drain);
        limits.relays = self.max_relays.or(limits.relays);
        limits.failed_logins = self.failed_logins.or(limits.failed_logins);
        if self.password_file.is_some() {
            file.password_file.clone_from(&self.password_file);
        }
        file.log.level = self.log.or(file.log.level);
        file.log.format = self.log_format.or(file.log.format);
        if self.log_file.is_some() {
            file.log.file.clone_from(&self.log_file);
        }
        Ok(file)
    }
}

fn replace<T: Copy>(list: &mut Vec<T>, typed: &[T]) {
    if !typed.is_empty() {
        *list = typed.to_vec();
    }
}

fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-"
}

fn read_users(user: Option<&str>, path: &Path) -> Result<Users, ArgsError> {
    let unreadable = |error| ArgsError::PasswordFile(path.to_owned(), error);
    let mut octets = Zeroizing::new(Vec::new());
    if is_stdin(path) {
        io::stdin().read_to_end(&mut octets).map_err(unreadable)?;
    } else {
        octets = read_secret(path).map_err(unreadable)?;
    }
    let users = match user {
        Some(name) => Users::single(name.as_bytes(), &octets),
        None => Users::from_lines(&octets),
    };
    let users = users.map_err(|error| ArgsError::Users(path.to_owned(), error))?;
    // Of a file of one password, or standard input, passwd makes nothing.
    if users.plain() > 0 && user.is_none() && !is_stdin(path) {
        tracing::warn!(
            users = users.plain(),
            "passwords in plain: socks6-gateway passwd {} USER puts a hash in place of one",
            path.display()
        );
    }
    Ok(users)
}

fn read_secret(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut octets = Zeroizing::new(Vec::new());
    let mut file = fs::File::open(path)?;
    if file.metadata()?.mode() & 0o004 != 0 {
        tracing::warn!(file = %path.display(), "everybody on this host can read this secret");
    }
    file.read_to_end(&mut octets)?;
    Ok(octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Args, clap::Error> {
        Args::try_parse_from(std::iter::once("socks6-gateway").chain(line.split_whitespace()))
    }

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn the_documented_command_lines_are_understood() {
        for line in [
            "",
            "--listen [::]:1080 --allow-client 2001:db8::/32 --allow-client 192.0.2.0/24",
            "--listen 192.0.2.1:1080 --listen [2001:db8::1]:1080 --allow-client 192.0.2.0/24",
            "--listen 127.0.0.1:1080 --allow-destination 127.0.0.0/8 --allow-destination ::1",
            "--idle-timeout 2m --drain-timeout 500ms --log debug --max-relays 100",
        ] {
            assert!(parse(line).unwrap().config().is_ok(), "{line}");
        }
    }

    #[test]
    fn nonsense_is_refused_in_words() {
        for (line, word) in [
            ("--listen 1080", "numeric address"),
            ("--listen localhost:1080", "numeric address"),
            ("--allow-client example.com", "range"),
            ("--allow-client 192.0.2.0/33", "range"),
            ("--drain-timeout soon", "not a time"),
            ("--user alice", "--password-file"),
            ("--log loud", "LEVEL"),
        ] {
            let error = parse(line).unwrap_err().to_string();
            assert!(error.contains(word), "{line}: {error}");
        }
    }

    #[test]
    fn a_missing_password_file_is_named() {
        let args = parse("--password-file /no/such/file").unwrap();
        let error = args.config().unwrap_err().to_string();
        assert!(
            error.starts_with("cannot read --password-file /no/such/file: "),
            "{error}"
        );
    }
}
