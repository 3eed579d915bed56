//! A client, three gateways, a balancer and a destination, each in a namespace of its own on one link. The addresses are those
//! of `deploy/haproxy.cfg`; the client has IPv4 alone and the destination IPv6 alone, so that only the gateways reach both.

use std::ffi::OsStr;
use std::fs;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use crate::artefacts::{artefacts, repository_root};
use crate::netns::{Namespace, ip_batch};
use crate::process::Service;
use crate::skip::{has_tool, may_have_namespaces};
use crate::topology::{SERVER, next_instance};
use crate::victim::{Shim, Victim};
use crate::wait::until;

const HAPROXY: &str = "/usr/sbin/haproxy";

/// The namespaces. Dropped, they are gone with all that runs in them.
#[derive(Debug)]
pub struct Fleet {
    /// Where the program under the shim runs, at 192.0.2.2.
    pub client: Namespace,
    /// Where [`SERVER`] is.
    pub destination: Namespace,
    balancer: Namespace,
    gateways: [Namespace; 3],
    link: Namespace,
    dir: PathBuf,
}

impl Fleet {
    /// What the client is told where a balancer stands before the gateways.
    pub const BALANCER: &str = "192.0.2.10:1080";
    /// What it is told where it balances itself.
    pub const LIST: &str = "192.0.2.21:1080,192.0.2.22:1080,192.0.2.23:1080";

    /// Makes the namespaces; `None`, and the test noted as skipped, where that is not possible.
    #[must_use]
    pub fn new() -> Option<Self> {
        if !may_have_namespaces() {
            return None;
        }
        let (instance, dir) = next_instance();
        let make = |role| Namespace::new(instance, role);
        let link = make("link");
        link.ip("link add bridge type bridge\nlink set bridge up\n");
        let fleet = Self {
            client: make("client"),
            destination: make("destination"),
            balancer: make("balancer"),
            gateways: ["gateway1", "gateway2", "gateway3"].map(make),
            link,
            dir,
        };
        fleet.join(&fleet.client, 2, false);
        fleet.join(&fleet.destination, 2, true);
        fleet.join(&fleet.balancer, 10, false);
        for (host, gateway) in (21..).zip(&fleet.gateways) {
            fleet.join(gateway, host, false);
            gateway.ip(&format!("addr add 2001:db8:2::{host}/64 dev eth0 nodad\n"));
            let server = fleet.destination_socket(80).ip();
            gateway.etc(
                "hosts",
                &format!("127.0.0.1 localhost\n{server} {SERVER}\n"),
            );
        }
        Some(fleet)
    }

    /// Puts a namespace on the link, as the host of this number.
    fn join(&self, namespace: &Namespace, host: u8, is_v6: bool) {
        let (name, link) = (namespace.name(), self.link.name());
        let (_, role) = name.rsplit_once('-').unwrap();
        ip_batch(
            &[],
            &format!("link add name eth0 netns {name} type veth peer name {role} netns {link}\n"),
        );
        self.link.ip(&format!(
            "link set {role} master bridge\nlink set {role} up\n"
        ));
        let address = if is_v6 {
            format!("2001:db8:2::{host}/64 dev eth0 nodad")
        } else {
            format!("192.0.2.{host}/24 dev eth0")
        };
        namespace.ip(&format!(
            "link set lo up\naddr add {address}\nlink set eth0 up\n"
        ));
    }

    /// The destination's address.
    #[must_use]
    pub fn destination_socket(&self, port: u16) -> SocketAddr {
        SocketAddr::new(Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 2).into(), port)
    }

    /// By which address one of the gateways reaches the destination: 0, 1 or 2.
    #[must_use]
    pub fn gateway_address(&self, number: u16) -> IpAddr {
        Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 0x21 + number).into()
    }

    /// One of the gateways, as docs/gateway.md has it: for clients that come by the balancer, and for those that do not.
    #[must_use]
    pub fn start_gateway(&self, number: usize) -> Service {
        let own = 21 + number;
        let config = self.dir.join(format!("gateway{own}.toml"));
        let text = format!(
            "listen = [\"192.0.2.{own}:1080\"]\nallow-clients = [\"192.0.2.0/24\"]\nproxy-protocol-from = [\"192.0.2.10\"]\n\
             [metrics]\nlisten = \"192.0.2.{own}:9180\"\nallow-clients = [\"192.0.2.10\"]\n"
        );
        fs::write(&config, text).unwrap();
        let mut command = self.gateways[number].command(&artefacts().gateway.to_string_lossy());
        command.arg("--config").arg(config);
        let mut service = Service::start("socks6-gateway", &mut command, &self.dir);
        service.wait_for_log("status on ");
        service
    }

    /// HAProxy by `deploy/haproxy.cfg` as it stands; `None`, and the test noted as skipped, where there is none.
    #[must_use]
    pub fn start_haproxy(&self) -> Option<Service> {
        if !has_tool(HAPROXY) {
            return None;
        }
        let mut command = self.balancer.command(HAPROXY);
        command.args(["-db", "-f"]);
        command.arg(repository_root().join("deploy/haproxy.cfg"));
        let service = Service::start("haproxy", &mut command, &self.dir);
        until(Duration::from_secs(20), "haproxy listens", || {
            let connected = self.client.inside(|| TcpStream::connect(Self::BALANCER));
            connected.ok().map(drop)
        });
        Some(service)
    }

    /// The shim, told of these gateways.
    #[must_use]
    pub fn shim(&self, gateways: &str) -> Shim {
        Shim::new(&self.dir, gateways)
    }

    /// A program in the client's namespace.
    #[must_use]
    pub fn victim<I, S>(&self, argv: I) -> Victim<'_>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        Victim::new(&self.dir, &self.client, argv)
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.dir));
    }
}
