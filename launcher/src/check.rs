//! `socks6 check`: a line for each thing that has to be right.

use std::env;
use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use socks_client::{Gateway, GatewayHost, Resolve};
use socks_wire::{Cmd, Destination, Fqdn, HandshakeError, Method, Progress, Rep};

use crate::args::CheckArgs;
use crate::elf::Image;
use crate::error::LaunchError;
use crate::library::Library;
use crate::probe::{self, Probe, ProbeError};
use crate::program::Program;
use crate::say::print;
use crate::settings::{self, Settings};

/// For a gateway's answer to a request, since it may have to wait for somebody itself.
const DIAL_LIMIT: Duration = Duration::from_secs(30);
/// For an answer that it gives at once or never.
const SHORT_LIMIT: Duration = Duration::from_secs(3);

/// Looks at everything, also behind something that is wrong.
///
/// # Errors
/// If the configuration cannot be read: then there is nothing to look at.
pub(crate) fn check(args: &CheckArgs) -> Result<ExitCode, LaunchError> {
    let settings = Settings::load(&args.settings)?;
    let mut sheet = Sheet { is_well: true };
    sheet.enter("system", system());
    sheet.enter("shim", shim(&settings));
    let mut source = match &settings.source {
        Some(path) => path.display().to_string(),
        None => "no file, defaults".to_owned(),
    };
    if let Some(foreign) = &settings.foreign {
        source.push_str(&format!("; gateway {foreign}"));
    }
    sheet.enter("config", Ok(source));
    gateways(&mut sheet, args, &settings)?;
    if let Some(command) = &args.command {
        let looked_at = Program::find(command).map_err(|error| error.to_string());
        let reached = looked_at.and_then(|program| match program.obstacle() {
            None => Ok(format!("{}: the shim gets into it", program.path.display())),
            Some((path, obstacle)) => Err(format!(
                "{}: {obstacle}. {}",
                path.display(),
                obstacle.alternative()
            )),
        });
        sheet.enter("command", reached);
    }
    Ok(if sheet.is_well {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

struct Sheet {
    is_well: bool,
}

impl Sheet {
    fn enter(&mut self, what: &str, found: Result<String, String>) {
        match found {
            Ok(words) => print(format_args!("{what:<9}ok    {words}")),
            Err(words) => {
                self.is_well = false;
                print(format_args!("{what:<9}FAIL  {words}"));
            }
        }
    }

    /// Neither well nor wrong.
    fn note(what: &str, words: impl Display) {
        print(format_args!("{what:<9}--    {words}"));
    }
}

fn system() -> Result<String, String> {
    let here = format!("{} {}", env::consts::ARCH, env::consts::OS);
    if !cfg!(all(target_os = "linux", target_env = "gnu")) {
        return Err(format!("{here}: Linux with glibc is needed"));
    }
    if !cfg!(target_arch = "x86_64") {
        return Err(format!(
            "{here}: nobody has tried it on other processors than x86_64 yet"
        ));
    }
    match Image::own().map(|own| own.obstacle(&own)) {
        Ok(None) => Ok(format!("{here} with glibc")),
        Ok(Some(obstacle)) => Err(format!("this socks6 is {obstacle}")),
        Err(error) => Err(error),
    }
}

/// Starts a process under the shim, since the loader's judgement is the one that counts: it goes on
/// without a library that it cannot load.
fn shim(settings: &Settings) -> Result<String, String> {
    let library = Library::find(settings.library.as_deref()).map_err(|error| error.to_string())?;
    let path = library.path().display();
    let mut process = Command::new("/proc/self/exe");
    for variable in settings::VARIABLES {
        process.env_remove(variable);
    }
    let output = process
        .arg("--version")
        .env("LD_PRELOAD", library.path())
        .stdin(Stdio::null())
        .output()
        .map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&output.stderr);
    if let Some(line) = said.lines().find(|line| line.contains("ld.so")) {
        return Err(format!("{path}: {line}"));
    }
    if !output.status.success() {
        return Err(format!(
            "{path}: a process under it ended with {}",
            output.status
        ));
    }
    Ok(path.to_string())
}

fn gateways(sheet: &mut Sheet, args: &CheckArgs, settings: &Settings) -> Result<(), LaunchError> {
    let mut config = settings.config.clone();
    if let Some(path) = &config.password_file {
        let password = std::fs::read(path).map_err(LaunchError::file(path))?;
        config
            .set_password(&password)
            .map_err(|error| LaunchError::Setting {
                place: error.place,
                what: error.what,
            })?;
    }
    if config.gateways.is_empty() {
        Sheet::note(
            "gateway",
            "none is configured: socks6 run starts a private one",
        );
    }
    let v4 = args.v4_target.map(SocketAddr::V4);
    let v6 = args.v6_target.map(SocketAddr::V6);
    for gateway in &config.gateways {
        let GatewayHost::Ip(address) = gateway.host else {
            continue;
        };
        let greeted = greet(gateway, address);
        let is_there = greeted.is_ok();
        sheet.enter("gateway", greeted);
        if is_there {
            pipelining(sheet, gateway, address);
            if config.resolve == Resolve::Verify {
                sheet.enter("gateway", look_ups(gateway, address));
            }
        }
        for target in [v4, v6].into_iter().flatten() {
            let family = if target.is_ipv4() { "IPv4" } else { "IPv6" };
            let rep = ask(
                gateway,
                address,
                gateway.is_pipelined,
                (Cmd::CONNECT, target.into()),
                DIAL_LIMIT,
            );
            sheet.enter(family, reach(gateway, target, rep));
        }
    }
    if !config.gateways.is_empty() {
        let options = [
            (v4, "IPv4", "--v4-target ADDR:PORT"),
            (v6, "IPv6", "--v6-target [ADDR]:PORT"),
        ];
        for (_, family, option) in options.iter().filter(|(target, ..)| target.is_none()) {
            Sheet::note(
                family,
                format_args!("not tried; {option} has the gateway connect there"),
            );
        }
    }
    Ok(())
}

fn greet(gateway: &Gateway, address: IpAddr) -> Result<String, String> {
    let start = Instant::now();
    let probe = Probe::open(address, gateway.port, gateway.login.as_ref())
        .map_err(|error| format!("{gateway}: {error}"))?;
    let way = match (probe.method, &gateway.login) {
        (Method::USERNAME_PASSWORD, _) => "takes user and password",
        (_, Some(_)) => "does not ask for the password",
        (_, None) => "asks for no password",
    };
    Ok(format!(
        "{gateway} answers in {} ms and {way}",
        start.elapsed().as_millis()
    ))
}

/// Whether it answers a request that comes in one segment with all before it. Asked for is a port of its
/// own where nobody can listen, so that nobody is contacted.
fn pipelining(sheet: &mut Sheet, gateway: &Gateway, address: IpAddr) {
    let nobody = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0);
    let asked = |is_pipelined| {
        ask(
            gateway,
            address,
            is_pipelined,
            (Cmd::CONNECT, nobody.into()),
            SHORT_LIMIT,
        )
    };
    let hangs_up = |asked: Result<Rep, ProbeError>| asked.is_err_and(|error| error.is_end());
    let is_taken = match asked(true) {
        Ok(_) => true,
        // In one segment a login leaves no choice of method.
        Err(ProbeError::Refusal(HandshakeError::NoAcceptableMethod)) => {
            let words = format!("{gateway} asks for no password: leave out the login");
            return if gateway.is_pipelined {
                sheet.enter("gateway", Err(words));
            } else {
                Sheet::note(
                    "gateway",
                    format_args!("{words}, and `?pipelined` may save round trips"),
                );
            };
        }
        // `ssh -D` has no other word for a refusal.
        end => hangs_up(end) && hangs_up(asked(false)),
    };
    match (gateway.is_pipelined, is_taken) {
        (true, true) => sheet.enter("gateway", Ok(format!("{gateway} takes all in one segment"))),
        (true, false) => sheet.enter(
            "gateway",
            Err(format!(
                "{gateway} does not take all in one segment: leave out `?pipelined`"
            )),
        ),
        (false, true) => Sheet::note(
            "gateway",
            format_args!("{gateway} takes all in one segment: `?pipelined` saves round trips"),
        ),
        (false, false) => Sheet::note(
            "gateway",
            format_args!("{gateway} does not take all in one segment"),
        ),
    }
}

/// Whether it knows RESOLVE. Asked about is a name that no name server is asked about (RFC 6761 §6.3); whether it
/// may be told is another matter.
fn look_ups(gateway: &Gateway, address: IpAddr) -> Result<String, String> {
    let nobody = Fqdn::new(b"localhost").map_err(|error| error.to_string())?;
    let question = Destination {
        address: nobody.into(),
        port: 0,
    };
    let is_pipelined = gateway.is_pipelined;
    match ask(
        gateway,
        address,
        is_pipelined,
        (Cmd::RESOLVE, question),
        SHORT_LIMIT,
    ) {
        Ok(rep) if rep != Rep::COMMAND_NOT_SUPPORTED => Ok(format!("{gateway} answers look-ups")),
        _ => Err(format!(
            "{gateway} answers no look-ups: `resolve = \"verify\"` is without effect"
        )),
    }
}

fn ask(
    gateway: &Gateway,
    address: IpAddr,
    is_pipelined: bool,
    request: (Cmd, Destination),
    limit: Duration,
) -> Result<Rep, ProbeError> {
    probe::ask(
        SocketAddr::new(address, gateway.port),
        gateway.login.as_ref(),
        Progress::beginning(is_pipelined),
        request,
        limit,
    )
}

/// A refused port was reached as well: somebody there has refused it.
fn reach(
    gateway: &Gateway,
    target: SocketAddr,
    rep: Result<Rep, ProbeError>,
) -> Result<String, String> {
    match rep {
        Ok(Rep::SUCCEEDED) => Ok(format!("{gateway} reaches {target}")),
        Ok(Rep::CONNECTION_REFUSED) => Ok(format!(
            "{gateway} reaches the host of {target}, where nobody listens"
        )),
        Ok(rep) => Err(format!("{gateway} does not reach {target}: {rep}")),
        Err(error) => Err(format!("{gateway}, asked for {target}: {error}")),
    }
}
