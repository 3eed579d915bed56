//! SOCKS4 and 4a, for clients that know nothing newer: `VN CMD DSTPORT DSTIP USERID 00 [NAME 00]`.
//! It has neither IPv6 addresses nor passwords, and one word for every kind of refusal.

use core::{
    fmt,
    net::{IpAddr, Ipv4Addr},
};

use crate::{
    Address, Cmd, Destination, Fqdn, Parsed, Version, WireError,
    read::Reader,
    text::{MOST_OCTETS, Text},
    write::Writer,
};

/// VN of a request.
pub(crate) const VN: u8 = 0x04;

/// VN of a reply, which is not the version of the protocol.
const REPLY_VN: u8 = 0x00;

/// USERID: what the client says of its user, unproven. 0 to 255 octets, none of them NUL.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct UserId(Text);

impl UserId {
    /// No user named.
    pub const EMPTY: Self = Self(Text::EMPTY);

    /// Copies the user id.
    ///
    /// # Errors
    /// [`WireError::UserIdLength`] and [`WireError::UserIdNul`].
    pub fn new(octets: &[u8]) -> Result<Self, WireError> {
        if octets.contains(&0) {
            return Err(WireError::UserIdNul);
        }
        Text::new(octets)
            .map(Self)
            .ok_or(WireError::UserIdLength(octets.len()))
    }

    /// The user id's octets.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// What is not printable ASCII is shown as `\xNN`.
impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UserId({self})")
    }
}

/// The client's request: SOCKS4 if the destination is an address, 4a if it is a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// CMD: CONNECT or BIND, with the codes of SOCKS5.
    pub cmd: Cmd,
    /// DSTIP or the name, and DSTPORT.
    pub destination: Destination,
    /// USERID.
    pub user_id: UserId,
}

impl Request {
    /// Most octets that the message can have.
    pub(crate) const MOST_OCTETS: usize = 8 + MOST_OCTETS + 1 + MOST_OCTETS + 1;

    /// Which of the two it is.
    #[must_use]
    pub fn version(&self) -> Version {
        match self.destination.address {
            Address::Ip(_) => Version::V4,
            Address::Fqdn(_) => Version::V4a,
        }
    }

    /// Reads one message from the beginning of `octets`.
    ///
    /// # Errors
    /// [`WireError::Version`], [`WireError::UserIdLength`] and [`WireError::FqdnLength`]. The
    /// protocol limits neither of the two texts; 255 octets are our limit.
    pub fn parse(octets: &[u8]) -> Result<Parsed<Self>, WireError> {
        Reader::parse(octets, 9, |reader| {
            reader.version(VN)?;
            let cmd = Cmd(reader.octet()?);
            let port = reader.port()?;
            let ip = Ipv4Addr::from(reader.array::<4>()?);
            let over = MOST_OCTETS + 1;
            let user_id = reader
                .until_nul(MOST_OCTETS)?
                .ok_or(WireError::UserIdLength(over))?;
            let user_id = UserId::new(user_id)?;
            let address = if means_name(ip) {
                let name = reader
                    .until_nul(MOST_OCTETS)?
                    .ok_or(WireError::FqdnLength(over))?;
                Fqdn::new(name)?.into()
            } else {
                IpAddr::from(ip).into()
            };
            Ok(Self {
                cmd,
                destination: Destination { address, port },
                user_id,
            })
        })
    }

    /// Writes the message and gives its length.
    ///
    /// # Errors
    /// [`WireError::NoRoom`]; [`WireError::NotInV4`] for IPv6 and for 0.0.0.1 to 0.0.0.255.
    pub fn encode(&self, buf: &mut [u8]) -> Result<usize, WireError> {
        let (ip, name) = match &self.destination.address {
            Address::Ip(IpAddr::V4(ip)) if !means_name(*ip) => (*ip, None),
            Address::Ip(ip) => return Err(WireError::NotInV4(*ip)),
            Address::Fqdn(name) => (Ipv4Addr::new(0, 0, 0, 1), Some(name)),
        };
        Writer::encode(buf, |writer| {
            writer.put(&[VN, self.cmd.0]);
            writer.port(self.destination.port);
            writer.put(&ip.octets());
            writer.put(self.user_id.as_bytes());
            writer.octet(0);
            if let Some(name) = name {
                writer.put(name.as_bytes());
                writer.octet(0);
            }
        })
    }
}

/// 0.0.0.x with x other than 0: a name follows the user id (SOCKS4a).
fn means_name(ip: Ipv4Addr) -> bool {
    matches!(ip.octets(), [0, 0, 0, last] if last != 0)
}

/// CD: the result code of a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cd(pub u8);

impl Cd {
    /// The connection stands.
    pub const GRANTED: Self = Self(0x5A);
    /// Every other end, as far as we say.
    pub const REJECTED_OR_FAILED: Self = Self(0x5B);
}

impl fmt::Display for Cd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match *self {
            Self::GRANTED => "request granted",
            Self::REJECTED_OR_FAILED => "request rejected or failed",
            _ => "unassigned",
        };
        write!(f, "{name} ({:02x})", self.0)
    }
}

/// The server's reply: `VN CD DSTPORT DSTIP`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply {
    /// CD.
    pub cd: Cd,
    /// DSTPORT: what SOCKS5 calls BND.PORT, in host order.
    pub port: u16,
    /// DSTIP: what SOCKS5 calls BND.ADDR.
    pub ip: Ipv4Addr,
}

impl Reply {
    /// Reads one message from the beginning of `octets`.
    ///
    /// # Errors
    /// [`WireError::Version`].
    pub fn parse(octets: &[u8]) -> Result<Parsed<Self>, WireError> {
        Reader::parse(octets, 8, |reader| {
            reader.version(REPLY_VN)?;
            let cd = Cd(reader.octet()?);
            let port = reader.port()?;
            Ok(Self {
                cd,
                port,
                ip: reader.array::<4>()?.into(),
            })
        })
    }

    /// Writes the message and gives its length.
    ///
    /// # Errors
    /// [`WireError::NoRoom`].
    pub fn encode(&self, buf: &mut [u8]) -> Result<usize, WireError> {
        Writer::encode(buf, |writer| self.write(writer))
    }

    pub(crate) fn write(&self, writer: &mut Writer<'_>) {
        writer.put(&[REPLY_VN, self.cd.0]);
        writer.port(self.port);
        writer.put(&self.ip.octets());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::check::*;

    #[test]
    fn connect_by_address() {
        let message = Request {
            cmd: Cmd::CONNECT,
            destination: by_address("192.0.2.1:80"),
            user_id: UserId::new(b"fred").unwrap(),
        };
        let fields: &[&[u8]] = &[
            &[0x04],         // VN
            &[0x01],         // CMD: CONNECT
            &[0x00, 80],     // DSTPORT
            &[192, 0, 2, 1], // DSTIP
            b"fred",         // USERID
            &[0x00],         // its end
        ];
        assert_on_the_wire!(Request, message, octets(fields));
        assert_eq!(message.version(), Version::V4);
    }

    #[test]
    fn connect_by_name() {
        let destination = by_name(b"example.com", 443);
        let message = Request {
            cmd: Cmd::CONNECT,
            destination,
            user_id: UserId::EMPTY,
        };
        let fields: &[&[u8]] = &[
            &[0x04],        // VN
            &[0x01],        // CMD: CONNECT
            &[0x01, 0xBB],  // DSTPORT
            &[0, 0, 0, 1],  // DSTIP: a name follows
            &[0x00],        // end of USERID, which is empty
            b"example.com", // NAME
            &[0x00],        // its end
        ];
        assert_on_the_wire!(Request, message, octets(fields));
        assert_eq!(message.version(), Version::V4a);
    }

    #[test]
    fn granted() {
        let message = Reply {
            cd: Cd::GRANTED,
            port: 258,
            ip: Ipv4Addr::new(192, 0, 2, 1),
        };
        let fields: &[&[u8]] = &[
            &[0x00],         // VN
            &[0x5A],         // CD: granted
            &[0x01, 0x02],   // DSTPORT
            &[192, 0, 2, 1], // DSTIP
        ];
        assert_on_the_wire!(Reply, message, octets(fields));
    }

    /// "the first three bytes of DSTIP to NULL and the last byte to a non-zero value" (SOCKS4a).
    #[test]
    fn only_0_0_0_x_means_a_name() {
        for (ip, name) in [
            ([0, 0, 0, 255], true),
            ([0, 0, 0, 0], false),
            ([0, 0, 1, 1], false),
        ] {
            assert_eq!(means_name(ip.into()), name);
        }
    }

    #[test]
    fn user_id_and_name_end_at_255_octets() {
        let head = [0x04, 0x01, 0, 80, 0, 0, 0, 1];
        let text = [b'x'; 255];
        let whole = octets(&[&head, &text, &[0], &text, &[0]]);
        assert_eq!(whole.len(), Request::MOST_OCTETS);
        assert!(matches!(
            Request::parse(&whole),
            Ok(Parsed::Whole {
                len_octets: 520,
                ..
            })
        ));

        let long_user_id = octets(&[&head, &text, b"x"]);
        assert_eq!(
            Request::parse(&long_user_id),
            Err(WireError::UserIdLength(256))
        );
        let long_name = octets(&[&head, &text, &[0], &text, b"x"]);
        assert_eq!(Request::parse(&long_name), Err(WireError::FqdnLength(256)));
        let no_name = octets(&[&head, &[0, 0]]);
        assert_eq!(Request::parse(&no_name), Err(WireError::FqdnLength(0)));
    }

    #[test]
    fn what_v4_cannot_say() {
        for text in ["[2001:db8::1]:80", "0.0.0.7:80"] {
            let destination = by_address(text);
            let message = Request {
                cmd: Cmd::CONNECT,
                destination,
                user_id: UserId::EMPTY,
            };
            let Address::Ip(ip) = destination.address else {
                panic!("not a name")
            };
            assert_eq!(message.encode(&mut [0; 600]), Err(WireError::NotInV4(ip)));
        }
        assert_eq!(UserId::new(b"a\0b"), Err(WireError::UserIdNul));
        assert_eq!(UserId::new(&[b'x'; 256]), Err(WireError::UserIdLength(256)));
    }

    proptest! {
        #[test]
        fn round_trips(
            cmd: u8,
            name in prop::option::of(any_text()),
            ip: Ipv4Addr,
            port: u16,
            user_id in any_user_id(),
            cd: u8,
        ) {
            let by_ip = Address::Ip(ip.into());
            let address = name.map_or(by_ip, |name| Fqdn::new(&name).unwrap().into());
            let destination = Destination { address, port };
            let message = Request { cmd: Cmd(cmd), destination, user_id };
            if name_or_plain(address) {
                assert_round_trip!(Request, message);
            }
            assert_round_trip!(Reply, Reply { cd: Cd(cd), port, ip });
        }
    }

    fn name_or_plain(address: Address) -> bool {
        !matches!(address, Address::Ip(IpAddr::V4(ip)) if means_name(ip))
    }
}
