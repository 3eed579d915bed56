//! RFC 3089 §4: "chained" gateways, where every hop is a network of another family.

use std::net::SocketAddr;
use std::process::Command;

use testkit::{
    DnsServer, Families, Family, Namespace, Origin, SERVER, Service, StrangerGateway, Topology,
    artefacts, danted, has_tool, microsocks, payload, sha256, ssh_dynamic,
};

/// A gateway at one address of a namespace that takes what comes from one network and sends it on, or, with no `upstream`,
/// to its destination.
fn gateway(
    topology: &Topology,
    at: &Namespace,
    listen: SocketAddr,
    clients: &str,
    upstream: Option<SocketAddr>,
) -> Service {
    let mut text = format!("listen = [\"{listen}\"]\nallow-clients = [\"{clients}\"]\n");
    if let Some(upstream) = upstream {
        text += "[[rule]]\naction = \"allow\"\nvia = [\"next\"]\n";
        text += &format!("[[upstream]]\nname = \"next\"\naddress = \"{upstream}\"\n");
    }
    let config = topology.dir().join(format!("{}.toml", at.name()));
    std::fs::write(&config, text).unwrap();
    let mut command = at.command(&artefacts().gateway.to_string_lossy());
    command.arg("--config").arg(config);
    let mut service = Service::start("socks6-gateway", &mut command, topology.dir());
    service.wait_for_log("listening on ");
    service
}

/// A v4 link between two namespaces that have none.
fn join(one: &Namespace, other: &Namespace) {
    let (one, other) = (one.name(), other.name());
    let lines = [
        format!("link add name onward netns {one} type veth peer name back netns {other}"),
        format!("-n {one} address add 203.0.113.1/24 dev onward"),
        format!("-n {other} address add 203.0.113.2/24 dev back"),
        format!("-n {one} link set onward up"),
        format!("-n {other} link set back up"),
    ];
    for line in lines {
        let done = Command::new("/usr/sbin/ip")
            .args(line.split(' '))
            .status()
            .unwrap();
        assert!(done.success(), "ip {line}");
    }
}

fn curl(topology: &Topology, proxy: SocketAddr, server: &str) -> testkit::Outcome {
    let (proxy, url) = (
        format!("socks5h://{proxy}"),
        format!("http://{server}/bytes"),
    );
    topology
        .victim(["/usr/bin/curl", "-sS", "--proxy", &proxy, &url])
        .run()
}

/// v4 to the first gateway, v6 to the second, v4 to the third, v6 to the destination; the name is resolved once, by the
/// last one, as no other has a name server.
#[test]
fn a_name_goes_through_three_gateways_and_four_networks() {
    let Some(near) = Topology::new(Families::V4, Families::V6) else {
        return;
    };
    let far = Topology::new(Families::V4, Families::V6).unwrap();
    join(&near.destination, &far.gateway);
    let _dns: DnsServer = far.dns();
    let http = Origin::http(&far.destination, &far.destination_sockets(80));

    let third_at: SocketAddr = "203.0.113.2:1080".parse().unwrap();
    let second_at = SocketAddr::new(near.destination_address(Family::V6), 1080);
    let first_at = near.gateway_socket();
    let third = gateway(&far, &far.gateway, third_at, "203.0.113.0/24", None);
    let second = gateway(
        &near,
        &near.destination,
        second_at,
        "2001:db8:2::/64",
        Some(third_at),
    );
    let first = gateway(
        &near,
        &near.gateway,
        first_at,
        "192.0.2.0/24",
        Some(second_at),
    );

    let outcome = curl(&near, first_at, SERVER);
    let logs = || [&first, &second, &third].map(Service::log).join("\n---\n");
    assert!(outcome.is_ok(), "{outcome}\n{}", logs());
    assert_eq!(sha256(&outcome.stdout_path), sha256(&payload()));
    assert_eq!(http.connections(), 1);
    for (mut hop, client, family) in [
        (first, "192.0.2.2:", "v6"),
        (second, "[2001:db8:2::1]:", "v4"),
        (third, "203.0.113.1:", "v6"),
    ] {
        hop.wait_for_log(" end=orderly");
        let log = hop.log();
        let fields = [
            format!(" client={client}"),
            format!(" atyp=03 destination={SERVER}:80 "),
            format!(" family={family} "),
        ];
        assert!(
            fields.iter().all(|field| log.contains(field)),
            "{fields:?}\n{log}"
        );
    }
}

/// A name that does not exist is so for the last gateway alone, and curl hears it from the first one.
#[test]
fn what_the_last_gateway_says_the_client_hears() {
    let Some(near) = Topology::new(Families::V4, Families::V6) else {
        return;
    };
    let far = Topology::new(Families::V4, Families::V4).unwrap();
    join(&near.destination, &far.gateway);
    let _dns = far.dns();
    let third_at: SocketAddr = "203.0.113.2:1080".parse().unwrap();
    let second_at = SocketAddr::new(near.destination_address(Family::V6), 1080);
    let _third = gateway(&far, &far.gateway, third_at, "203.0.113.0/24", None);
    let _second = gateway(
        &near,
        &near.destination,
        second_at,
        "2001:db8:2::/64",
        Some(third_at),
    );
    let first = gateway(
        &near,
        &near.gateway,
        near.gateway_socket(),
        "192.0.2.0/24",
        Some(second_at),
    );
    for (server, rep) in [(testkit::NOWHERE, 4), (SERVER, 5)] {
        let outcome = curl(&near, near.gateway_socket(), server);
        assert!(
            outcome.stderr.contains(&format!("({rep})")),
            "{outcome}\n{}",
            first.log()
        );
    }
}

/// Nothing that we say to an upstream is of our own invention, or they pass over it.
#[test]
fn other_peoples_servers_are_upstreams_too() {
    type Start = fn(&Topology) -> StrangerGateway;
    let servers: [(&str, &str, Start); 3] = [
        ("microsocks", "/usr/bin/microsocks", microsocks),
        ("danted", "/usr/sbin/danted", danted),
        ("ssh -D", "/usr/sbin/sshd", ssh_dynamic),
    ];
    for (name, tool, start) in servers {
        if !has_tool(tool) {
            continue;
        }
        let Some(topology) = Topology::new(Families::V4, Families::V6) else {
            return;
        };
        let _dns = topology.dns();
        let _http = Origin::http(&topology.destination, &topology.destination_sockets(80));
        let stranger = start(&topology);
        let at = SocketAddr::new(topology.gateway_socket().ip(), 1081);
        let first = gateway(
            &topology,
            &topology.gateway,
            at,
            "192.0.2.0/24",
            Some(topology.gateway_socket()),
        );
        let outcome = curl(&topology, at, SERVER);
        assert!(
            outcome.is_ok(),
            "{name}: {outcome}\n{}\n{}",
            first.log(),
            stranger.log()
        );
        assert_eq!(sha256(&outcome.stdout_path), sha256(&payload()), "{name}");
    }
}
