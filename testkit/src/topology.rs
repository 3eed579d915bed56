//! Client C, Gateway G and Destination D of RFC 3089 §2, each in a namespace of its own; only G has a link to both others.

use std::fmt::{Display, Formatter, Result as FmtResult};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::dns::{DnsServer, Zone};
use crate::gateway::{Gateway, GatewayOptions};
use crate::netns::{Namespace, ip_batch};
use crate::origin::Origin;
use crate::skip::may_have_namespaces;
use crate::victim::{Shim, Victim};

/// The destination's name in the gateway's DNS: one address of each family that the destination has.
pub const SERVER: &str = "server.example";
/// A name whose addresses swallow every packet, until [`Topology::open_hole`].
pub const HOLE: &str = "hole.example";
/// A name that no DNS knows.
pub const NOWHERE: &str = "nowhere.example";

/// One of the two address families.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// The families that a link carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Families {
    /// IPv4 alone: IPv6 is disabled in the kernel of that side.
    V4,
    /// IPv6 alone: that side has no IPv4 address but 127.0.0.1.
    V6,
    /// Both.
    Both,
}

impl Families {
    /// The families, v6 first.
    #[must_use]
    pub fn list(self) -> &'static [Family] {
        match self {
            Self::V4 => &[Family::V4],
            Self::V6 => &[Family::V6],
            Self::Both => &[Family::V6, Family::V4],
        }
    }

    /// The family to use where one will do: v6 if there is a choice.
    #[must_use]
    pub fn first(self) -> Family {
        self.list()[0]
    }
}

impl Display for Family {
    fn fmt(&self, f: &mut Formatter<'_>) -> FmtResult {
        f.write_str(match self {
            Self::V4 => "v4",
            Self::V6 => "v6",
        })
    }
}

/// The two links: client to gateway, gateway to destination.
#[derive(Debug, Clone, Copy)]
enum Link {
    Client,
    Destination,
}

/// The last part of an address on a link.
const GATEWAY: u16 = 1;
const HOST: u16 = 2;
const HOLE_HOST: u16 = 0x66;

fn address(link: Link, family: Family, host: u16) -> IpAddr {
    let last = u8::try_from(host).unwrap();
    match (link, family) {
        (Link::Client, Family::V4) => Ipv4Addr::new(192, 0, 2, last).into(),
        (Link::Destination, Family::V4) => Ipv4Addr::new(198, 51, 100, last).into(),
        (Link::Client, Family::V6) => Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, host).into(),
        (Link::Destination, Family::V6) => Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, host).into(),
    }
}

/// Where the decoy resolver listens and where its answers lead: addresses of the client's own, on its lo.
fn decoy_address(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(203, 0, 113, 53).into(),
        Family::V6 => Ipv6Addr::new(0x2001, 0xdb8, 0x53, 0, 0, 0, 0, 0x53).into(),
    }
}

fn trap_address(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(203, 0, 113, 66).into(),
        Family::V6 => Ipv6Addr::new(0x2001, 0xdb8, 0x66, 0, 0, 0, 0, 0x66).into(),
    }
}

/// The families of the two links.
#[derive(Debug, Clone, Copy)]
pub struct Links {
    /// Families of the link between client and gateway.
    pub client: Families,
    /// Families of the link between gateway and destination.
    pub destination: Families,
}

/// The three namespaces, without a route between client and destination. Dropped, they are gone with all that runs in them.
#[derive(Debug)]
pub struct Topology {
    /// Where the program under the shim runs. Its resolver is the decoy, see [`Topology::decoy`].
    pub client: Namespace,
    /// The dual-stack node. Its resolver knows the destination, see [`Topology::dns`].
    pub gateway: Namespace,
    /// Where the servers are.
    pub destination: Namespace,
    families: Links,
    dir: PathBuf,
}

impl Topology {
    /// Makes the namespaces; `None`, and the test noted as skipped, where that is not possible.
    #[must_use]
    pub fn new(client: Families, destination: Families) -> Option<Self> {
        if !may_have_namespaces() {
            return None;
        }
        let (instance, dir) = next_instance();
        let topology = Self {
            client: Namespace::new(instance, "client"),
            gateway: Namespace::new(instance, "gateway"),
            destination: Namespace::new(instance, "destination"),
            families: Links {
                client,
                destination,
            },
            dir,
        };
        topology.connect_links();
        topology.write_resolvers();
        Some(topology)
    }

    fn connect_links(&self) {
        let no_v6 = [
            ("ipv6/conf/all/disable_ipv6", "1"),
            ("ipv6/conf/default/disable_ipv6", "1"),
        ];
        for (namespace, families) in [
            (&self.client, self.families.client),
            (&self.destination, self.families.destination),
        ] {
            namespace.sysctl(&[("ipv6/conf/default/accept_dad", "0")]);
            if families == Families::V4 {
                namespace.sysctl(&no_v6);
            }
        }
        // A new namespace can inherit forwarding from the host.
        self.gateway.sysctl(&[
            ("ipv6/conf/default/accept_dad", "0"),
            ("ipv4/ip_forward", "0"),
            ("ipv6/conf/all/forwarding", "0"),
        ]);
        let [client, gateway, destination] =
            [&self.client, &self.gateway, &self.destination].map(Namespace::name);
        ip_batch(
            &[],
            &format!(
                "link add name eth0 netns {client} type veth peer name toclient netns {gateway}\n\
                 link add name eth0 netns {destination} type veth peer name todest netns {gateway}\n"
            ),
        );
        let Links {
            client,
            destination,
        } = self.families;
        let mut decoys = String::new();
        for &family in client.list() {
            decoys += &address_line(decoy_address(family), "lo");
            decoys += &address_line(trap_address(family), "lo");
        }
        self.client
            .ip(&(link_lines("eth0", Link::Client, client, HOST) + &decoys));
        let holes = destination
            .list()
            .iter()
            .map(|&family| self.hole_address(family));
        let holes: String = holes.map(|hole| address_line(hole, "eth0")).collect();
        let destination_lines = link_lines("eth0", Link::Destination, destination, HOST);
        self.destination.ip(&(destination_lines + &holes));
        let client_lines = link_lines("toclient", Link::Client, client, GATEWAY);
        let destination_lines = link_lines("todest", Link::Destination, destination, GATEWAY);
        self.gateway.ip(&(client_lines + &destination_lines));
        // The destination has the hole's addresses too; the gateway looks for them at a neighbour who does not exist.
        self.close_hole();
    }

    /// Lets the hole's addresses be reached, so that a connection that has waited is made at its next SYN: the second
    /// comes one second after the first.
    pub fn open_hole(&self) {
        self.gateway.ip(&self.hole_lines("del", ""));
    }

    /// Makes the hole one again.
    pub fn close_hole(&self) {
        self.gateway
            .ip(&self.hole_lines("replace", "lladdr 02:00:00:00:00:66 nud permanent"));
    }

    fn hole_lines(&self, what: &str, how: &str) -> String {
        let holes = self
            .families
            .destination
            .list()
            .iter()
            .map(|&family| self.hole_address(family));
        holes
            .map(|hole| format!("neigh {what} {hole} dev todest {how}\n"))
            .collect()
    }

    fn write_resolvers(&self) {
        let decoys: String = self
            .families
            .client
            .list()
            .iter()
            .map(|&family| format!("nameserver {}\n", decoy_address(family)))
            .collect();
        let quick = "options timeout:1 attempts:1\n";
        self.client.etc("resolv.conf", &format!("{decoys}{quick}"));
        self.gateway
            .etc("resolv.conf", &format!("nameserver 127.0.0.1\n{quick}"));
    }

    /// A folder for the files of this test, gone with the topology.
    #[must_use]
    pub fn dir(&self) -> &std::path::Path {
        &self.dir
    }

    /// The families of both links.
    #[must_use]
    pub fn families(&self) -> Links {
        self.families
    }

    /// The client's address.
    #[must_use]
    pub fn client_address(&self, family: Family) -> IpAddr {
        address(Link::Client, family, HOST)
    }

    /// Where the gateway is seen from the client.
    #[must_use]
    pub fn gateway_address(&self, family: Family) -> IpAddr {
        address(Link::Client, family, GATEWAY)
    }

    /// The destination's address.
    #[must_use]
    pub fn destination_address(&self, family: Family) -> IpAddr {
        address(Link::Destination, family, HOST)
    }

    /// The address that answers nothing, on the destination's link.
    #[must_use]
    pub fn hole_address(&self, family: Family) -> IpAddr {
        address(Link::Destination, family, HOLE_HOST)
    }

    /// The destination's addresses with a port.
    #[must_use]
    pub fn destination_sockets(&self, port: u16) -> Vec<SocketAddr> {
        let at = |&family| SocketAddr::new(self.destination_address(family), port);
        self.families.destination.list().iter().map(at).collect()
    }

    /// The name server of the gateway's namespace: [`SERVER`] and [`HOLE`] by the destination's families, else NXDOMAIN.
    #[must_use]
    pub fn dns(&self) -> DnsServer {
        let zone =
            self.families
                .destination
                .list()
                .iter()
                .fold(Zone::default(), |zone, &family| {
                    zone.host(SERVER, self.destination_address(family))
                        .host(HOLE, self.hole_address(family))
                });
        DnsServer::start(self, &self.gateway, &[Ipv4Addr::LOCALHOST.into()], &zone)
    }

    /// The resolver of the client's namespace, which answers every name with the trap's address; on 127.0.0.1 too.
    #[must_use]
    pub fn decoy(&self) -> DnsServer {
        let families = self.families.client.list();
        let zone = families.iter().fold(Zone::default(), |zone, &family| {
            zone.everything(trap_address(family))
        });
        let addresses = families.iter().map(|&family| decoy_address(family));
        let listen: Vec<IpAddr> = addresses.chain([Ipv4Addr::LOCALHOST.into()]).collect();
        DnsServer::start(self, &self.client, &listen, &zone)
    }

    /// A server in the client's namespace at the address that the decoy gives for every name: it counts who falls for it.
    #[must_use]
    pub fn trap(&self, ports: &[u16]) -> Origin {
        let at: Vec<SocketAddr> = (self.families.client.list().iter())
            .flat_map(|&family| {
                ports
                    .iter()
                    .map(move |&p| SocketAddr::new(trap_address(family), p))
            })
            .collect();
        Origin::silent(&self.client, &at)
    }

    /// A gateway of ours, listening on all its client-side addresses, port 1080, for everybody on that link.
    #[must_use]
    pub fn start_gateway(&self) -> Gateway {
        Gateway::start(self, &GatewayOptions::default())
    }

    /// `families` first of the client's: `ADDRESS:1080` of the gateway.
    #[must_use]
    pub fn gateway_socket(&self) -> SocketAddr {
        SocketAddr::new(self.gateway_address(self.families.client.first()), 1080)
    }

    /// The shim, told of the gateway, with a mapping table of this topology's own.
    #[must_use]
    pub fn shim(&self) -> Shim {
        Shim::new(&self.dir, &self.gateway_socket().to_string())
    }

    /// A program in the client's namespace.
    #[must_use]
    pub fn victim<I, S>(&self, argv: I) -> Victim<'_>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<std::ffi::OsStr>,
    {
        Victim::new(&self.dir, &self.client, argv)
    }

    /// The same program where it needs no shim: beside the gateway, with routes and names of its own.
    #[must_use]
    pub fn neighbour<I, S>(&self, argv: I) -> Victim<'_>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<std::ffi::OsStr>,
    {
        Victim::new(&self.dir, &self.gateway, argv)
    }
}

impl Drop for Topology {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.dir));
    }
}

/// A number for the names of a test's namespaces, and a folder for its files.
pub(crate) fn next_instance() -> (usize, PathBuf) {
    static INSTANCES: AtomicUsize = AtomicUsize::new(0);
    let instance = INSTANCES.fetch_add(1, Ordering::Relaxed);
    let dir = std::env::temp_dir().join(format!("s6-{}-{instance}", std::process::id()));
    drop(fs::remove_dir_all(&dir)); // a dead process may have had this pid
    fs::create_dir_all(&dir).unwrap();
    (instance, dir)
}

fn link_lines(interface: &str, link: Link, families: Families, host: u16) -> String {
    let mut lines = String::from("link set lo up\n");
    for &family in families.list() {
        lines += &address_line(address(link, family, host), interface);
    }
    lines + &format!("link set {interface} up\n")
}

fn address_line(address: IpAddr, interface: &str) -> String {
    // Duplicate detection would keep a v6 address unusable for a second.
    let (length, nodad) = match (address, interface) {
        (IpAddr::V4(_), "lo") => (32, ""),
        (IpAddr::V6(_), "lo") => (128, " nodad"),
        (IpAddr::V4(_), _) => (24, ""),
        (IpAddr::V6(_), _) => (64, " nodad"),
    };
    format!("addr add {address}/{length} dev {interface}{nodad}\n")
}
