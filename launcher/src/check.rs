//! `socks6 check`: a line for each thing that has to be right.

use std::env;
use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use socks_client::{Gateway, GatewayHost};
use socks_wire::{Method, Rep};

use crate::args::CheckArgs;
use crate::elf::Image;
use crate::error::LaunchError;
use crate::library::Library;
use crate::probe::{Probe, ProbeError};
use crate::program::Program;
use crate::say::print;
use crate::settings::{self, Settings};

/// Looks at everything, also behind something that is wrong.
///
/// # Errors
/// If the configuration cannot be read: then there is nothing to look at.
pub(crate) fn check(args: &CheckArgs) -> Result<ExitCode, LaunchError> {
    let settings = Settings::load(&args.settings)?;
    let mut sheet = Sheet { is_well: true };
    sheet.enter("system", system());
    sheet.enter("shim", shim(&settings));
    let source = settings
        .source
        .as_ref()
        .map(|path| path.display().to_string());
    sheet.enter(
        "config",
        Ok(source.unwrap_or_else(|| "no file, defaults".to_owned())),
    );
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
        sheet.enter("gateway", greet(gateway, address));
        for target in [v4, v6].into_iter().flatten() {
            let family = if target.is_ipv4() { "IPv4" } else { "IPv6" };
            let rep = Probe::open(address, gateway.port, gateway.login.as_ref())
                .and_then(|probe| probe.reach(target));
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
