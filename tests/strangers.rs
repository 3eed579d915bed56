//! Nothing between shim and gateway is of our own invention: the shim works with other people's gateways, and our gateway
//! with other people's clients (`clients`).

use testkit::{
    Families, Family, Origin, SERVER, StrangerGateway, Topology, c_program, danted, has_tool,
    microsocks, payload, sha256, ssh_dynamic,
};

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
