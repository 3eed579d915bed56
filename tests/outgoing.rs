//! How the gateway dials: source, interface, mark, family; and IPv4 by a translator where there is none.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Command;

use testkit::{
    DnsServer, Families, Family, Gateway, GatewayOptions, Namespace, Origin, Outcome, SERVER,
    Topology, Zone,
};

fn ip(at: &Namespace, line: &str) {
    let mut command = Command::new("/usr/sbin/ip");
    command.args(["-n", at.name()]).args(line.split(' '));
    assert!(command.status().unwrap().success(), "ip {line}");
}

fn gateway(topology: &Topology, config: &str) -> Gateway {
    let path = topology.dir().join("gateway.toml");
    std::fs::write(&path, config).unwrap();
    let arguments = vec!["--config".to_owned(), path.display().to_string()];
    Gateway::start(topology, &GatewayOptions { arguments })
}

fn curl(topology: &Topology, server: &str) -> Outcome {
    let proxy = format!("socks5h://{}", topology.gateway_socket());
    let url = format!("http://{server}/");
    let words = [
        "/usr/bin/curl",
        "-sS",
        "--max-time",
        "10",
        "--proxy",
        &proxy,
        &url,
    ];
    topology.victim(words).run()
}

/// Who has asked the origin, as the origin sees it.
fn last_peer(origin: &Origin) -> IpAddr {
    origin.peers().last().unwrap().ip()
}

#[test]
fn a_rule_says_from_where_and_by_which_family() {
    let Some(topology) = Topology::new(Families::V4, Families::Both) else {
        return;
    };
    let _dns = topology.dns();
    let ports = [80, 81, 82, 83].map(|port| topology.destination_sockets(port));
    let http = Origin::http(&topology.destination, &ports.concat());
    ip(&topology.gateway, "address add 198.51.100.9/24 dev todest");
    ip(
        &topology.gateway,
        "address add 2001:db8:2::9/64 dev todest nodad preferred_lft 0",
    );
    let gateway = gateway(
        &topology,
        "[[rule]]\naction = \"allow\"\nports = [\"80\"]\nprefer = \"v4\"\n\
         [[rule]]\naction = \"allow\"\nports = [\"81\"]\nprefer = \"v6\"\n\
         [[rule]]\naction = \"allow\"\nports = [\"82\"]\nprefer = \"v4\"\nsource-v4 = \"198.51.100.9\"\n\
         [[rule]]\naction = \"allow\"\nports = [\"83\"]\nprefer = \"v6\"\nsource-v6 = \"2001:db8:2::9\"\n",
    );
    for (port, source) in [
        (80, "198.51.100.1"),
        (81, "2001:db8:2::1"),
        (82, "198.51.100.9"),
        (83, "2001:db8:2::9"),
    ] {
        let outcome = curl(&topology, &format!("{SERVER}:{port}"));
        assert!(outcome.is_ok(), "{port}: {outcome}\n{}", gateway.log());
        assert_eq!(
            last_peer(&http),
            source.parse::<IpAddr>().unwrap(),
            "{port}"
        );
    }
}

/// What the operator wants and cannot have is the gateway's trouble (01), not the destination's.
#[test]
fn a_rule_says_by_which_interface_and_mark() {
    let Some(topology) = Topology::new(Families::V4, Families::V4) else {
        return;
    };
    let _dns = topology.dns();
    let ports = [80, 81, 82, 83, 84, 85].map(|port| topology.destination_sockets(port));
    let _http = Origin::http(&topology.destination, &ports.concat());
    // Marked packets have a table of their own, and it leads nowhere.
    ip(&topology.gateway, "rule add fwmark 7 table 100");
    ip(&topology.gateway, "route add unreachable default table 100");
    let rule = |port: u16, option: &str| {
        format!("[[rule]]\naction = \"allow\"\nports = [\"{port}\"]\n{option}\n")
    };
    let rules = [
        rule(80, "interface = \"todest\""),
        rule(81, "interface = \"toclient\""),
        rule(82, "mark = 8"),
        rule(83, "mark = 7"),
        rule(84, "interface = \"nosuch0\""),
        rule(85, "source-v4 = \"198.51.100.77\""),
    ];
    let text = format!("{}[limits]\ndial = \"2s\"\n", rules.concat());
    let gateway = gateway(&topology, &text);
    for (port, refusal) in [
        (80, None),
        (81, Some("(6)")), // nobody there answers for that address
        (82, None),
        (83, Some("(4)")),
        (84, Some("(1)")),
        (85, Some("(1)")),
    ] {
        let outcome = curl(&topology, &format!("{SERVER}:{port}"));
        match refusal {
            None => assert!(outcome.is_ok(), "{port}: {outcome}\n{}", gateway.log()),
            Some(rep) => assert!(
                outcome.stderr.contains(rep),
                "{port}: {outcome}\n{}",
                gateway.log()
            ),
        }
    }
    let log = gateway.log();
    for said in [
        "cannot use interface nosuch0: ",
        "cannot use source 198.51.100.77: ",
    ] {
        assert!(log.contains(said), "{log}");
    }
}

/// The v4 address 198.51.100.80 of a server behind a translator, for which the destination's namespace stands.
const TRANSLATED: &str = "2001:db8:64::c633:6450";

/// A network of v6 alone. What the translator's prefix leads to is the destination itself.
fn v6_network() -> Option<(Topology, Origin)> {
    let topology = Topology::new(Families::V6, Families::V6)?;
    ip(
        &topology.destination,
        &format!("address add {TRANSLATED}/128 dev lo nodad"),
    );
    let destination = topology.destination_address(Family::V6);
    ip(
        &topology.gateway,
        &format!("route add 2001:db8:64::/96 via {destination} dev todest"),
    );
    let server = SocketAddr::new(TRANSLATED.parse().unwrap(), 80);
    let http = Origin::http(&topology.destination, &[server]);
    Some((topology, http))
}

fn dns(topology: &Topology, zone: &Zone) -> DnsServer {
    DnsServer::start(
        topology,
        &topology.gateway,
        &[Ipv4Addr::LOCALHOST.into()],
        zone,
    )
}

/// RFC 6052 §2: curl sends ATYP 01, or a name that has an A record alone, from a v6 host to a v6 gateway.
#[test]
fn an_ipv4_address_is_dialled_through_the_translators_prefix() {
    let Some((topology, http)) = v6_network() else {
        return;
    };
    let v4: IpAddr = "198.51.100.80".parse().unwrap();
    let _dns = dns(&topology, &Zone::default().host("old.example", v4));
    let gateway = gateway(
        &topology,
        "[nat64]\nprefix = \"2001:db8:64::/96\"\n\
         [[rule]]\nname = \"v4-range\"\naction = \"deny\"\ndestinations = [\"198.51.100.128/25\"]\n\
         [[rule]]\naction = \"allow\"\n",
    );
    for server in ["198.51.100.80", "old.example"] {
        let outcome = curl(&topology, server);
        assert!(outcome.is_ok(), "{server}: {outcome}\n{}", gateway.log());
    }
    assert_eq!(http.connections(), 2);
    assert!(
        gateway
            .log()
            .contains(&format!(" address=[{TRANSLATED}]:80 family=v6 ")),
        "{}",
        gateway.log()
    );
    // The rule has seen the v4 address; and the translator's is no way round it.
    for denied in ["198.51.100.200", "[2001:db8:64::c633:64c8]"] {
        let outcome = curl(&topology, denied);
        assert!(
            outcome.stderr.contains("(2)"),
            "{denied}: {outcome}\n{}",
            gateway.log()
        );
    }
    assert_eq!(
        gateway.log().matches("denied by rule v4-range").count(),
        2,
        "{}",
        gateway.log()
    );
}

/// RFC 7050 §3.
#[test]
fn the_prefix_is_discovered_by_the_name_that_is_there_for_it() {
    let Some((topology, http)) = v6_network() else {
        return;
    };
    let own_name: IpAddr = "2001:db8:64::192.0.0.170".parse().unwrap();
    let dns = dns(&topology, &Zone::default().host("ipv4only.arpa", own_name));
    let gateway = gateway(&topology, "[nat64]\nprefix = \"discover\"\n");
    for _ in 0..3 {
        let outcome = curl(&topology, "198.51.100.80");
        assert!(outcome.is_ok(), "{outcome}\n{}", gateway.log());
    }
    assert_eq!(http.connections(), 3);
    let asked = dns.log().matches("query[AAAA] ipv4only.arpa").count();
    assert_eq!(asked, 1, "{}", dns.log());
}

#[test]
fn without_a_translator_ipv4_is_out_of_reach() {
    let Some((topology, _http)) = v6_network() else {
        return;
    };
    let gateway = gateway(&topology, "");
    let outcome = curl(&topology, "198.51.100.80");
    assert!(
        outcome.stderr.contains("(3)"),
        "{outcome}\n{}",
        gateway.log()
    );
}
