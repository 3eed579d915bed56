//! What was typed.

use std::ffi::OsString;
use std::net::{SocketAddrV4, SocketAddrV6};
use std::path::PathBuf;

use clap::{ArgAction, Parser, Subcommand};

/// Runs programs so that their connections reach both address families through a SOCKS gateway.
#[derive(Debug, Parser)]
#[command(name = "socks6", version, arg_required_else_help = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Run(RunArgs),
    Shell(ShellArgs),
    /// Run a command and say what it did: names, connections, and what escaped the shim.
    ///
    /// strace(1) is needed for the kernel's view. The exit status is the command's own.
    #[command(long_about = None)]
    Audit(RunArgs),
    Check(CheckArgs),
    Table(TableArgs),
    Import(ImportArgs),
    #[command(hide = true)]
    Supervise(SuperviseArgs),
    #[command(hide = true)]
    Keep(KeepArgs),
    #[command(hide = true)]
    Bound(BoundArgs),
}

/// Run a command under the shim.
///
/// The exit status is the command's own; 125 if socks6 itself fails or refuses, 126 if the command
/// cannot be executed, 127 if it is not found.
#[derive(Debug, clap::Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) how: HowArgs,

    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}

/// Start your shell ($SHELL) under the shim.
#[derive(Debug, clap::Args)]
pub(crate) struct ShellArgs {
    #[command(flatten)]
    pub(crate) how: HowArgs,
}

/// Say whether it would work: this system, the shim, the gateway and, if named, a command.
///
/// The exit status is 0 if all that was looked at is well, 1 if not. The gateway is asked for a
/// connection only to the targets that are named; nothing else is contacted.
#[derive(Debug, clap::Args)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    pub(crate) settings: SettingsArgs,

    /// An IPv4 address and port that the gateway shall try to reach
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) v4_target: Option<SocketAddrV4>,

    /// An IPv6 address and port that the gateway shall try to reach
    #[arg(long, value_name = "[ADDR]:PORT")]
    pub(crate) v6_target: Option<SocketAddrV6>,

    /// The command to look at
    pub(crate) command: Option<OsString>,
}

/// Say where the mapping table is, and how full.
#[derive(Debug, clap::Args)]
pub(crate) struct TableArgs {
    #[command(flatten)]
    pub(crate) settings: SettingsArgs,
}

/// Print the configuration of proxychains-ng or torsocks as one of socks6.
///
/// What has no equivalent becomes a comment; what would lead connections elsewhere is refused.
#[derive(Debug, clap::Args)]
pub(crate) struct ImportArgs {
    /// A proxychains.conf or torsocks.conf
    pub(crate) file: PathBuf,
}

/// How a command is run.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct HowArgs {
    #[command(flatten)]
    pub(crate) settings: SettingsArgs,

    /// Refuse what cannot be guaranteed: no gateway configured, a command out of reach, io_uring
    #[arg(long, conflicts_with = "unprotected")]
    pub(crate) strict: bool,

    /// Stay with programs that a command of the run starts with a cleaned environment
    #[arg(long)]
    pub(crate) sticky: bool,

    /// Run the command even if the shim cannot get into it: its connections then go direct
    #[arg(long)]
    pub(crate) unprotected: bool,
}

/// Which gateway, and what else the shim runs on.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct SettingsArgs {
    /// The gateway: HOST:PORT, [V6]:PORT or socks5://USER:PASSWORD@HOST:PORT; several by commas
    #[arg(long, short, value_name = "HOST:PORT")]
    pub(crate) gateway: Option<String>,

    /// The user at the gateway
    #[arg(long, short, value_name = "NAME", requires = "password_file")]
    pub(crate) user: Option<String>,

    /// A file whose first line is the user's password
    #[arg(long, value_name = "FILE", requires = "user")]
    pub(crate) password_file: Option<PathBuf>,

    /// The configuration [default: ~/.config/socks6/config.toml, else /etc/socks6/config.toml]
    #[arg(long, short, value_name = "FILE.toml")]
    pub(crate) config: Option<PathBuf>,

    /// The mapping table's file, or `private` for one that only this run has
    #[arg(long, value_name = "PATH|private")]
    pub(crate) table: Option<PathBuf>,

    /// Reach a destination directly, by the gateway, or not: "direct|relay|reject TARGET [PORTS] [tcp|udp]"
    ///
    /// TARGET is a name, .NAME for all below it too, a pattern with *, an address, a network, or * for
    /// all but this host. Repeat for several: the first that matches decides. They come before those of
    /// the configuration.
    #[arg(long = "rule", value_name = "RULE")]
    pub(crate) rules: Vec<String>,

    /// What the shim logs, and where: error, warn, info or debug; then stderr, file:PATH or fd:N
    #[arg(long, value_name = "LEVEL[,DEST]", conflicts_with = "verbose")]
    pub(crate) log: Option<String>,

    /// Log one line per connection to stderr; twice: look-ups too
    #[arg(long, short, action = ArgAction::Count)]
    pub(crate) verbose: u8,
}

/// Run the command of a run with a private gateway, and wait for the last of its descendants; for
/// socks6 itself.
#[derive(Debug, clap::Args)]
pub(crate) struct SuperviseArgs {
    /// The flat file
    #[arg(long)]
    pub(crate) config: PathBuf,
    /// LD_PRELOAD
    #[arg(long)]
    pub(crate) preload: OsString,
    /// The file to execute
    pub(crate) path: PathBuf,
    /// Its argv[0]
    pub(crate) arg0: OsString,
    /// The rest of its argv
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) arguments: Vec<OsString>,
}

/// Keep a private gateway until stdin closes; for socks6 itself.
#[derive(Debug, clap::Args)]
pub(crate) struct KeepArgs {
    /// The gateway's program
    pub(crate) gateway: PathBuf,
    /// The folder of the run, removed at the end
    pub(crate) folder: PathBuf,
}

/// Execute a program that ends with its parent; for socks6 itself.
#[derive(Debug, clap::Args)]
pub(crate) struct BoundArgs {
    /// The parent
    pub(crate) parent: i32,
    /// The program and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) program: Vec<OsString>,
}
