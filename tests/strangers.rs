//! Nothing between shim and gateway is of our own invention: each works with other people's.

use testkit::{
    Families, Family, Gateway, GatewayOptions, Origin, SERVER, Sshd, StrangerGateway, Topology,
    c_program, danted, has_tool, microsocks, payload, sha256, ssh_dynamic,
};

/// RFC 1928 §4, ATYP X'03', as curl sends it; RFC 1929 too; and SOCKS 4a.
#[test]
fn curl_of_itself_uses_our_gateway() {
    for (client, destination) in [(Families::V4, Families::V6), (Families::V6, Families::V4)] {
        let Some(topology) = Topology::new(client, destination) else {
            return;
        };
        let _dns = topology.dns();
        let _http = Origin::http(&topology.destination, &topology.destination_sockets(80));
        let gateway = topology.start_gateway();
        let url = format!("http://{SERVER}/bytes");
        for scheme in ["socks5h", "socks4a"] {
            let proxy = format!("{scheme}://{}", topology.gateway_socket());
            let outcome = topology
                .victim(["/usr/bin/curl", "-sS", "--proxy", &proxy, &url])
                .run();
            let context = format!("{scheme}: {}\n{}", outcome.stderr, gateway.log());
            assert!(outcome.is_ok(), "{context}");
            assert_eq!(
                sha256(&outcome.stdout_path),
                sha256(&payload()),
                "{context}"
            );
        }
    }
}

/// RFC 1929: a name and a password, as curl sends them.
#[test]
fn curl_of_itself_logs_in_at_our_gateway() {
    let Some(topology) = Topology::new(Families::V4, Families::V6) else {
        return;
    };
    let _dns = topology.dns();
    let _http = Origin::http(&topology.destination, &topology.destination_sockets(80));
    let users = topology.dir().join("users");
    std::fs::write(&users, "alice:right\n").unwrap();
    let arguments = vec!["--password-file".to_owned(), users.display().to_string()];
    let _gateway = Gateway::start(&topology, &GatewayOptions { arguments });
    for (password, is_let_in) in [("right", true), ("wrong", false)] {
        let proxy = format!("socks5h://alice:{password}@{}", topology.gateway_socket());
        let outcome = topology
            .victim(["/usr/bin/curl", "-sS", "--proxy", &proxy, SERVER])
            .run();
        assert_eq!(outcome.is_ok(), is_let_in, "{outcome}");
    }
}

/// A client that has its SOCKS from a helper, as many have: ssh through `nc -X 5`.
#[test]
fn ssh_by_a_proxy_command_uses_our_gateway() {
    let Some(topology) = Topology::new(Families::V4, Families::V6) else {
        return;
    };
    let _dns = topology.dns();
    let sshd = Sshd::start(
        &topology,
        &topology.destination,
        &topology.destination_sockets(22),
    );
    let gateway = topology.start_gateway();
    let proxy = format!(
        "ProxyCommand=/bin/nc.openbsd -X 5 -x {} %h %p",
        topology.gateway_socket()
    );
    let command = format!("cat {}", payload().display());
    let argv = [
        sshd.client(),
        ["-o", &proxy, SERVER, &command].map(str::to_owned).to_vec(),
    ]
    .concat();
    let outcome = topology.victim(argv).run();
    let context = format!("{}\n{}", outcome.stderr, gateway.log());
    assert!(outcome.is_ok(), "{context}");
    assert_eq!(
        sha256(&outcome.stdout_path),
        sha256(&payload()),
        "{context}"
    );
}

/// RFC 1928 by microsocks, which does not take two messages in one segment.
#[test]
fn the_shim_works_through_microsocks() {
    through("/usr/bin/microsocks", microsocks);
}

/// RFC 1928 by Dante.
#[test]
fn the_shim_works_through_danted() {
    through("/usr/sbin/danted", danted);
}

/// RFC 1928 by OpenSSH's dynamic forwarding.
#[test]
fn the_shim_works_through_ssh_dynamic_forwarding() {
    through("/usr/sbin/sshd", ssh_dynamic);
}

fn through(tool: &str, start: fn(&Topology) -> StrangerGateway) {
    if !has_tool(tool) {
        return;
    }
    for (client, destination) in [(Families::V4, Families::V6), (Families::V6, Families::V4)] {
        let Some(topology) = Topology::new(client, destination) else {
            return;
        };
        let _dns = topology.dns();
        let _http = Origin::http(&topology.destination, &topology.destination_sockets(80));
        let gateway = start(&topology);
        let shim = topology.shim();
        let url = format!("http://{SERVER}/bytes");
        let curl = topology
            .victim(["/usr/bin/curl", "-sS", &url])
            .shim(&shim)
            .run();
        let context = || format!("{tool}: {}\n{}", shim.log(), gateway.log());
        assert!(curl.is_ok(), "{}\n{}", curl.stderr, context());
        assert_eq!(sha256(&curl.stdout_path), sha256(&payload()));

        let program = c_program(match client.first() {
            Family::V4 => "demo/v4_only",
            Family::V6 => "demo/v6_only",
        });
        let legacy = topology
            .victim([program.as_os_str(), SERVER.as_ref()])
            .shim(&shim)
            .run();
        assert!(legacy.is_ok(), "{legacy}\n{}", context());
        // Which errno a refusal becomes is the stranger's choice of REP; that it is one is not.
        let connect = c_program("victims/connect");
        let refused = topology
            .victim([connect.as_os_str(), SERVER.as_ref(), "81".as_ref()])
            .shim(&shim)
            .run();
        let stdout = refused.stdout();
        assert!(
            stdout.starts_with("connect: E") && !stdout.contains("EIN"),
            "{stdout}{}",
            context()
        );
    }
}
