//! Destinations that a gateway must not reach for anybody, in every form that a client can give them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::socks::{to_address, to_name};

/// Where the sentinel is, and the gateway itself.
const PORTS: [u16; 2] = [8080, 1080];

/// Loopback, this host, metadata, link-local, multicast, broadcast, the range of fakes, and the gateway's own.
const V4: [[u8; 4]; 11] = [
    [127, 0, 0, 1],
    [127, 255, 255, 254],
    [0, 0, 0, 0],
    [169, 254, 169, 254],
    [169, 254, 1, 1],
    [100, 100, 100, 200],
    [224, 0, 0, 1],
    [255, 255, 255, 255],
    [198, 18, 0, 1],
    [192, 0, 2, 1],
    [198, 51, 100, 1],
];

const V6: [&str; 11] = [
    "::",
    "::1",
    "fe80::1",
    "ff02::1",
    "fd00:ec2::254",
    "fd00:ec2::23",
    "fd20:ce::254",
    "fd00:42::42",
    "100::1",
    "2001:db8:1::1",
    "2001:db8:2::1",
];

/// What inet_aton(3), getaddrinfo(3) or a browser makes an address of; names of the gateway's own hosts file.
const NAMES: [&str; 23] = [
    "localhost",
    "LocalHost.",
    "a.localhost",
    "localhost.localdomain",
    "gateway-host",
    "2130706433",
    "0x7f.1",
    "0x7f000001",
    "0X7F.0.0.0x1",
    "127.1",
    "127.0.1",
    "0177.0.0.1",
    "017700000001",
    "0",
    "0x0",
    "3221225985", // the gateway
    "[::1]",
    "[::ffff:127.0.0.1]",
    "::ffff:7f00:1",
    "0:0:0:0:0:ffff:127.0.0.1",
    "0000:0000:0000:0000:0000:0000:0000:0001",
    "fe80::1%lo",
    "fe80::1%1",
];

/// These name nothing: refused as such, or for what they look like.
const NO_NAMES: [&str; 11] = [
    "127.0.0.1.",
    "127.1.",
    "2130706433.",
    "[127.0.0.1]",
    "127.0.0.1%lo",
    " 127.0.0.1",
    "127.0.0.1 x",
    "127.0.0.1:8080",
    "::1%lo",
    "::ffff:127.0.0.1%lo",
    "\u{2460}\u{2461}\u{2466}.0.0.1",
];

/// Each with what it is, the request, and whether it may be unknown instead of forbidden.
pub(crate) fn all() -> Vec<(String, Vec<u8>, bool)> {
    let mut all = Vec::new();
    let v4 = V4.map(Ipv4Addr::from);
    let v6 = V6.map(|text| text.parse::<Ipv6Addr>().unwrap());
    let forms = v4.iter().flat_map(|&v4| forms(v4));
    let addresses = v4.map(IpAddr::from).into_iter();
    for address in addresses.chain(v6.into_iter().chain(forms).map(IpAddr::from)) {
        for port in PORTS {
            let request = to_address(SocketAddr::new(address, port));
            all.push((format!("{address} port {port}"), request, false));
        }
        for name in [address.to_string(), name_of(address)] {
            let request = to_name(name.as_bytes(), PORTS[0]);
            all.push((format!("{name} for {address}"), request, false));
        }
    }
    for (names, is_no_name) in [(&NAMES[..], false), (&NO_NAMES, true)] {
        for name in names {
            let request = to_name(name.as_bytes(), PORTS[0]);
            all.push((format!("name {name:?}"), request, is_no_name));
        }
    }
    all
}

/// Every v6 address by which a packet may end up at a v4 one.
fn forms(v4: Ipv4Addr) -> [Ipv6Addr; 11] {
    let [a, b, c, d] = v4.octets();
    let [high, low] = [u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])];
    [
        [0, 0, 0, 0, 0, 0xffff, high, low],        // v4-mapped
        [0, 0, 0, 0, 0, 0, high, low],             // v4-compatible
        [0, 0, 0, 0, 0xffff, 0, high, low],        // v4-translated
        [0x64, 0xff9b, 0, 0, 0, 0, high, low],     // NAT64
        [0x64, 0xff9b, 1, 0, 0, 0, high, low],     // NAT64 for local use
        [0x2001, 0xdb8, 0x64, 0, 0, 0, high, low], // NAT64 by the script's configuration
        [0x2002, high, low, 0, 0, 0, 0, 0],        // 6to4
        [0x2002, high, low, 0, 0, 0, 0, 1],
        [0x2001, 0, 0x4136, 0xe378, 0x8000, 0x63bf, !high, !low], // Teredo
        [0x2001, 0xdb8, 2, 0, 0, 0x5efe, high, low],              // ISATAP
        [0x2001, 0xdb8, 2, 0, 0x200, 0x5efe, high, low],
    ]
    .map(Ipv6Addr::from)
}

/// That the name server of this program gives this address.
fn name_of(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => format!("{:08x}.v4.test", v4.to_bits()),
        IpAddr::V6(v6) => format!("{:032x}.v6.test", v6.to_bits()),
    }
}
