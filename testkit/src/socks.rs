//! Other people's SOCKS servers, in the place of our gateway.

use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use crate::netns::Namespace;
use crate::process::Service;
use crate::ssh::Sshd;
use crate::topology::Topology;
use crate::wait::until;

/// A running SOCKS server that is not ours, at [`Topology::gateway_socket`].
#[derive(Debug)]
pub struct StrangerGateway {
    service: Service,
    _through: Option<Sshd>,
}

impl StrangerGateway {
    fn start(topology: &Topology, service: Service, through: Option<Sshd>) -> Self {
        wait_for_port(&topology.gateway, topology.gateway_socket());
        Self {
            service,
            _through: through,
        }
    }

    /// Its log, for the message of a failing test.
    #[must_use]
    pub fn log(&self) -> String {
        self.service.log()
    }
}

fn wait_for_port(at: &Namespace, address: SocketAddr) {
    until(
        Duration::from_secs(20),
        &format!("somebody listens at {address}"),
        || at.inside(|| TcpStream::connect(address)).ok().map(drop),
    );
}

/// microsocks: no two messages in one segment, one address per name.
#[must_use]
pub fn microsocks(topology: &Topology) -> StrangerGateway {
    let at = topology.gateway_socket();
    let mut command = topology.gateway.command("/usr/bin/microsocks");
    command.args(["-i", &at.ip().to_string(), "-p", &at.port().to_string()]);
    let service = Service::start("microsocks", &mut command, topology.dir());
    StrangerGateway::start(topology, service, None)
}

/// Dante's danted.
#[must_use]
pub fn danted(topology: &Topology) -> StrangerGateway {
    let at = topology.gateway_socket();
    let mut config = format!(
        "logoutput: stderr\ninternal: {} port = {}\nexternal: todest\nclientmethod: none\n\
         socksmethod: none\nuser.privileged: root\nuser.unprivileged: nobody\n",
        at.ip(),
        at.port()
    );
    for rule in ["client", "socks"] {
        writeln!(config, "{rule} pass {{ from: 0/0 to: 0/0 }}").unwrap();
    }
    let path = topology.dir().join("danted.conf");
    fs::write(&path, config).unwrap();
    let mut command = topology.gateway.command("/usr/sbin/danted");
    command.arg("-f").arg(path).args(["-p", "/dev/null"]);
    let service = Service::start("danted", &mut command, topology.dir());
    StrangerGateway::start(topology, service, None)
}

/// `ssh -D`: an sshd and its client, both in the gateway's namespace.
#[must_use]
pub fn ssh_dynamic(topology: &Topology) -> StrangerGateway {
    let local = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 22);
    let sshd = Sshd::start(topology, &topology.gateway, &[local]);
    let argv = sshd.client();
    let mut command = topology.gateway.command(&argv[0]);
    command
        .args(&argv[1..])
        .args(["-N", "-D", &topology.gateway_socket().to_string()]);
    command.arg(local.ip().to_string());
    let service = Service::start("ssh-D", &mut command, topology.dir());
    StrangerGateway::start(topology, service, Some(sshd))
}
