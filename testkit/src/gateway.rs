//! Our gateway as a process in the gateway's namespace.

use std::net::SocketAddr;
use std::time::Duration;

use crate::artefacts::artefacts;
use crate::process::Service;
use crate::topology::Topology;
use crate::wait::until;

/// How a gateway is started, beyond the addresses of the client's link.
#[derive(Debug, Default)]
pub struct GatewayOptions {
    /// Further words of the command line.
    pub arguments: Vec<String>,
}

/// A running socks6-gateway on port 1080 of every address that the client can see.
#[derive(Debug)]
pub struct Gateway {
    service: Service,
}

impl Gateway {
    /// Starts it and waits until it listens.
    #[must_use]
    pub fn start(topology: &Topology, options: &GatewayOptions) -> Self {
        let mut command = topology
            .gateway
            .command(&artefacts().gateway.to_string_lossy());
        let families = topology.families().client.list();
        for &family in families {
            let listen = SocketAddr::new(topology.gateway_address(family), 1080);
            command.args(["--listen", &listen.to_string()]);
        }
        command.args([
            "--allow-client",
            "192.0.2.0/24",
            "--allow-client",
            "2001:db8:1::/64",
        ]);
        command.args(&options.arguments);
        let mut service = Service::start("socks6-gateway", &mut command, topology.dir());
        service.wait_until("listening", |log| {
            (log.matches("listening on ").count() >= families.len()).then_some(())
        });
        Self { service }
    }

    /// Its log.
    #[must_use]
    pub fn log(&self) -> String {
        self.service.log()
    }

    /// The log's lines about finished relays to this name.
    #[must_use]
    pub fn relays_to(&self, name: &str) -> Vec<String> {
        let destination = format!("destination={name}:");
        self.log()
            .lines()
            .filter(|l| l.contains(&destination))
            .map(str::to_owned)
            .collect()
    }

    /// Waits until at least so many relays to this name are finished, and gives their lines: the log has them a moment later
    /// than the program has its answer.
    pub fn wait_for_relays_to(&self, name: &str, count: usize) -> Vec<String> {
        until(
            Duration::from_secs(5),
            "relays in the gateway's log",
            || Some(self.relays_to(name)).filter(|lines| lines.len() >= count),
        )
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.service.pid()
    }

    /// Kills it without a warning.
    pub fn kill(&mut self) {
        self.service.kill();
    }
}
