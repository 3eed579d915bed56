//! Name servers: Debian's dnsmasq, told every answer by us, counting what it is asked.

use std::fmt::Write as _;
use std::net::IpAddr;

use crate::netns::Namespace;
use crate::process::Service;
use crate::topology::Topology;

/// What a name server knows. Any other name does not exist.
#[derive(Debug, Default)]
pub struct Zone {
    lines: String,
}

impl Zone {
    /// Adds an address of a name; its PTR record comes with it.
    #[must_use]
    pub fn host(mut self, name: &str, address: IpAddr) -> Self {
        writeln!(self.lines, "host-record={name},{address}").unwrap();
        self
    }

    /// Adds a name that has no address.
    #[must_use]
    pub fn without_address(mut self, name: &str) -> Self {
        writeln!(self.lines, "txt-record={name},text").unwrap();
        self
    }

    /// Gives this address for every name there is.
    #[must_use]
    pub fn everything(mut self, address: IpAddr) -> Self {
        writeln!(self.lines, "address=/#/{address}").unwrap();
        self
    }
}

/// A running name server.
#[derive(Debug)]
pub struct DnsServer {
    service: Service,
}

impl DnsServer {
    /// Starts a name server on port 53 of these addresses.
    #[must_use]
    pub fn start(topology: &Topology, at: &Namespace, listen: &[IpAddr], zone: &Zone) -> Self {
        let config = topology.dir().join(format!("{}-dnsmasq.conf", at.name()));
        let mut text = zone.lines.clone();
        if !text.contains("/#/") {
            text += "address=/#/\n"; // NXDOMAIN, where dnsmasq would otherwise refuse for want of a server to ask
        }
        for address in listen {
            writeln!(text, "listen-address={address}").unwrap();
        }
        std::fs::write(&config, text).unwrap();
        let mut command = at.command("/usr/sbin/dnsmasq");
        command
            .arg(format!("--conf-file={}", config.display()))
            .args([
                "--keep-in-foreground",
                "--bind-interfaces",
                "--no-resolv",
                "--no-hosts",
            ])
            .args([
                "--user=root",
                "--pid-file",
                "--log-queries",
                "--log-facility=-",
            ]);
        let mut service = Service::start("dnsmasq", &mut command, topology.dir());
        service.wait_for_log("started, version");
        Self { service }
    }

    /// How many questions it has been asked.
    #[must_use]
    pub fn queries(&self) -> usize {
        self.service
            .log()
            .lines()
            .filter(|line| line.contains(" query["))
            .count()
    }

    /// Its log, for the message of a failing test.
    #[must_use]
    pub fn log(&self) -> String {
        self.service.log()
    }
}
