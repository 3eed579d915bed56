//! The four cases of RFC 3089 §2, shown: a program that knows one address family, a web server that has one, a gateway between
//! them, and no route. `scripts/demo` builds and runs this; `demo shell v4 v6` is what `scripts/netns` runs.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::exit,
    reason = "a demonstration: it prints, and ends with the reason where it cannot go on"
)]

use std::env::args;
use std::process::exit;

use testkit::{Families, Family, Origin, Outcome, SERVER, Topology, c_program};

fn main() {
    let words: Vec<String> = args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let shown = match words[..] {
        [] => four_cases(),
        ["shell", client, destination] => match (families(client), families(destination)) {
            (Some(client), Some(destination)) => shell(client, destination),
            _ => usage(),
        },
        _ => usage(),
    };
    exit(i32::from(!shown));
}

fn usage() -> bool {
    println!("usage: demo | demo shell v4|v6 v4|v6");
    false
}

fn families(word: &str) -> Option<Families> {
    match word {
        "v4" => Some(Families::V4),
        "v6" => Some(Families::V6),
        _ => None,
    }
}

fn four_cases() -> bool {
    let cases = [
        ("A", Families::V4, Families::V4),
        ("B", Families::V4, Families::V6),
        ("C", Families::V6, Families::V4),
        ("D", Families::V6, Families::V6),
    ];
    let mut rows = Vec::new();
    for (case, client, destination) in cases {
        let Some((plain, socksified)) = one_case(case, client, destination) else {
            return false;
        };
        rows.push((
            case,
            client.first(),
            destination.first(),
            plain.is_ok(),
            socksified.is_ok(),
        ));
    }
    let word = |is_ok| if is_ok { "reached" } else { "failed" };
    println!("\ncase  program  server   without the shim  with the shim");
    for (case, from, to, plain, socksified) in &rows {
        println!(
            "{case:<6}{from}-only  {to}-only  {:<18}{}",
            word(*plain),
            word(*socksified)
        );
    }
    rows.iter()
        .all(|(.., plain, socksified)| !plain && *socksified)
}

/// Shows one case: the program without the shim, then with it.
fn one_case(case: &str, client: Families, destination: Families) -> Option<(Outcome, Outcome)> {
    let topology = Topology::new(client, destination)?;
    let (from, to) = (client.first(), destination.first());
    let server = topology.destination_address(to);
    println!("\n== Case {case}: a {from}-only program, a {to}-only web server");
    println!("client       {}", topology.client_address(from));
    println!(
        "gateway      {} towards the client",
        topology.gateway_socket()
    );
    println!("web server   {server}, known to the gateway's DNS as {SERVER}");
    let route = topology.client.route_to(server);
    println!(
        "route        from client to web server: {}",
        route.unwrap_or_else(|refused| refused)
    );

    let _dns = topology.dns();
    let _http = Origin::http(&topology.destination, &topology.destination_sockets(80));
    let gateway = topology.start_gateway();
    let program = c_program(match from {
        Family::V4 => "demo/v4_only",
        Family::V6 => "demo/v6_only",
    });
    let argv = [program.as_os_str(), SERVER.as_ref()];
    println!("\n$ {from}-only {SERVER}");
    let plain = show(topology.victim(argv).run());
    println!(
        "\n$ LD_PRELOAD=libsocks6.so SOCKS6_GATEWAY={} {from}-only {SERVER}",
        topology.gateway_socket()
    );
    let socksified = show(topology.victim(argv).shim(&topology.shim()).run());
    if socksified.is_ok() {
        let relay = gateway.wait_for_relays_to(SERVER, 1).concat();
        println!("gateway's log: {relay}");
    }
    Some((plain, socksified))
}

fn show(outcome: Outcome) -> Outcome {
    print!("{}{}", outcome.stdout(), outcome.stderr);
    println!("[{}]", outcome.ending);
    outcome
}

/// A shell on the client's side, under the shim, with a web server to reach.
fn shell(client: Families, destination: Families) -> bool {
    let Some(topology) = Topology::new(client, destination) else {
        return false;
    };
    let _dns = topology.dns();
    let _http = Origin::http(&topology.destination, &topology.destination_sockets(80));
    let _gateway = topology.start_gateway();
    println!(
        "A {} client under the shim. The {} web server is http://{SERVER}/ ,",
        client.first(),
        destination.first()
    );
    println!(
        "ping and ip show that there is no route. The shim's log goes to the terminal; exit ends it all."
    );
    let mut shell = topology.client.command("/usr/bin/env");
    let variables = topology
        .shim()
        .with("SOCKS6_LOG", "info,stderr")
        .variables();
    shell
        .args(variables)
        .arg("/bin/bash")
        .stdin(std::process::Stdio::inherit());
    shell.status().is_ok()
}
