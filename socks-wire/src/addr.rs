//! Where to, and from where: ATYP, name or address, and port (RFC 1928 §5).
//! The mapping of names to fake addresses is fake-dns's, resolving them the gateway's.

use core::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use crate::{
    WireError,
    read::{Reader, Stop},
    text::Text,
    write::Writer,
};

/// ATYP: what kind of address follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Atyp(pub u8);

impl Atyp {
    /// Four octets.
    pub const IP_V4: Self = Self(0x01);
    /// An octet of length and a name.
    pub const DOMAINNAME: Self = Self(0x03);
    /// Sixteen octets.
    pub const IP_V6: Self = Self(0x04);
}

impl fmt::Display for Atyp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match *self {
            Self::IP_V4 => "IPv4",
            Self::DOMAINNAME => "domain name",
            Self::IP_V6 => "IPv6",
            _ => "unassigned",
        };
        write!(f, "{name} ({:02x})", self.0)
    }
}

/// A name as it stands on the wire: 1 to 255 octets, none of them NUL. Nothing else is checked or
/// changed here; both sides must agree on what a name means, and that is DNS's business.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fqdn(Text);

impl Fqdn {
    /// Copies the name.
    ///
    /// # Errors
    /// [`WireError::FqdnLength`] and [`WireError::FqdnNul`].
    pub fn new(octets: &[u8]) -> Result<Self, WireError> {
        let mut name = Self(Text::EMPTY);
        name.set(octets)?;
        Ok(name)
    }

    fn set(&mut self, octets: &[u8]) -> Result<(), WireError> {
        if octets.contains(&0) {
            return Err(WireError::FqdnNul);
        }
        if octets.is_empty() || !self.0.set(octets) {
            return Err(WireError::FqdnLength(octets.len()));
        }
        Ok(())
    }

    /// The name's octets.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// What is not printable ASCII is shown as `\xNN`.
impl fmt::Display for Fqdn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Fqdn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fqdn({self})")
    }
}

/// A name or a literal address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(
    clippy::large_enum_variant,
    reason = "there is no heap to put the name in"
)]
pub enum Address {
    /// ATYP 01 or 04.
    Ip(IpAddr),
    /// ATYP 03.
    Fqdn(Fqdn),
}

impl Address {
    /// How the wire says what kind it is.
    #[must_use]
    pub fn atyp(&self) -> Atyp {
        match self {
            Self::Ip(IpAddr::V4(_)) => Atyp::IP_V4,
            Self::Ip(IpAddr::V6(_)) => Atyp::IP_V6,
            Self::Fqdn(_) => Atyp::DOMAINNAME,
        }
    }

    /// Becomes this name, in place, where there is not the stack for another one.
    ///
    /// # Errors
    /// As [`Fqdn::new`].
    pub fn set_fqdn(&mut self, octets: &[u8]) -> Result<(), WireError> {
        *self = Self::Fqdn(Fqdn(Text::EMPTY));
        match self {
            Self::Fqdn(name) => name.set(octets),
            Self::Ip(_) => Ok(()), // the line above
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, Stop> {
        Ok(match Atyp(reader.octet()?) {
            Atyp::IP_V4 => Self::Ip(Ipv4Addr::from(reader.array::<4>()?).into()),
            Atyp::DOMAINNAME => Self::Fqdn(Fqdn::new(reader.counted()?)?),
            Atyp::IP_V6 => Self::Ip(Ipv6Addr::from(reader.array::<16>()?).into()),
            Atyp(unknown) => return Err(WireError::Atyp(unknown).into()),
        })
    }

    fn write(&self, writer: &mut Writer<'_>) {
        writer.octet(self.atyp().0);
        match self {
            Self::Ip(IpAddr::V4(ip)) => writer.put(&ip.octets()),
            Self::Ip(IpAddr::V6(ip)) => writer.put(&ip.octets()),
            Self::Fqdn(name) => writer.counted(name.as_bytes()),
        }
    }
}

impl From<IpAddr> for Address {
    fn from(ip: IpAddr) -> Self {
        Self::Ip(ip)
    }
}

impl From<Fqdn> for Address {
    fn from(name: Fqdn) -> Self {
        Self::Fqdn(name)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(ip) => ip.fmt(f),
            Self::Fqdn(name) => name.fmt(f),
        }
    }
}

/// DST.ADDR and DST.PORT: where the client wants to go. Shown as `name:port` or `[v6]:port`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Destination {
    /// DST.ADDR.
    pub address: Address,
    /// DST.PORT, in host order.
    pub port: u16,
}

/// BND.ADDR and BND.PORT: the server's own end of the normal connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Bound {
    /// BND.ADDR.
    pub address: Address,
    /// BND.PORT, in host order.
    pub port: u16,
}

impl Bound {
    /// 0.0.0.0:0, for a reply that has nothing to say here.
    pub const UNSPECIFIED: Self = Self {
        address: Address::Ip(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        port: 0,
    };
}

/// The two are the same on the wire and differ in what they mean.
macro_rules! address_and_port {
    ($name:ident) => {
        impl $name {
            pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, Stop> {
                Ok(Self {
                    address: Address::read(reader)?,
                    port: reader.port()?,
                })
            }

            pub(crate) fn write(&self, writer: &mut Writer<'_>) {
                self.address.write(writer);
                writer.port(self.port);
            }
        }

        impl From<SocketAddr> for $name {
            fn from(from: SocketAddr) -> Self {
                Self {
                    address: from.ip().into(),
                    port: from.port(),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match &self.address {
                    Address::Ip(ip) => SocketAddr::new(*ip, self.port).fmt(f),
                    Address::Fqdn(name) => write!(f, "{name}:{}", self.port),
                }
            }
        }
    };
}

address_and_port!(Destination);
address_and_port!(Bound);

#[cfg(test)]
mod tests {
    use std::format;

    use super::*;
    use crate::check::*;

    #[test]
    fn fqdn_has_1_to_255_octets_and_no_nul() {
        assert_eq!(Fqdn::new(b""), Err(WireError::FqdnLength(0)));
        assert_eq!(Fqdn::new(b"x").unwrap().as_bytes(), b"x");
        assert_eq!(Fqdn::new(&[b'x'; 255]).unwrap().as_bytes(), [b'x'; 255]);
        assert_eq!(Fqdn::new(&[b'x'; 256]), Err(WireError::FqdnLength(256)));
        assert_eq!(
            Fqdn::new(b"good.example\0.evil.example"),
            Err(WireError::FqdnNul)
        );
    }

    #[test]
    fn a_destination_is_shown_as_it_is_typed() {
        assert_eq!(
            format!("{}", by_name(b"www.example.com", 80)),
            "www.example.com:80"
        );
        assert_eq!(
            format!("{}", by_address("[2001:db8::1]:80")),
            "[2001:db8::1]:80"
        );
        assert_eq!(format!("{}", by_address("192.0.2.1:80")), "192.0.2.1:80");
        assert_eq!(format!("{}", Bound::UNSPECIFIED), "0.0.0.0:0");
        assert_eq!(
            format!("{:?}", Fqdn::new(b"a.example").unwrap()),
            "Fqdn(a.example)"
        );
    }

    /// A name is a stranger's text: it must not forge a field or a line of a log.
    #[test]
    fn a_name_cannot_reach_out_of_its_place_in_a_log() {
        let name = by_name(b"a rep=00\n\x1b[2J\\\xff", 80);
        assert_eq!(format!("{name}"), r"a\x20rep=00\x0a\x1b[2J\x5c\xff:80");
    }

    #[test]
    fn atyp_is_shown_with_its_code() {
        assert_eq!(
            format!("{}", by_name(b"a", 1).address.atyp()),
            "domain name (03)"
        );
        assert_eq!(format!("{}", Atyp(0x09)), "unassigned (09)");
    }
}
