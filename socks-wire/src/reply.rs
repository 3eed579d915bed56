//! What became of the request: `VER REP RSV ATYP BND.ADDR BND.PORT` (RFC 1928 §6).
//! Which errno a REP is, and which REP an errno, stands in socks-client and in the gateway.

use core::fmt;

use crate::{Bound, Parsed, WireError, method::VER, read::Reader, write::Writer};

/// REP: success, or why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rep(pub u8);

impl Rep {
    /// The connection stands.
    pub const SUCCEEDED: Self = Self(0x00);
    /// None of the other reasons.
    pub const GENERAL_SOCKS_SERVER_FAILURE: Self = Self(0x01);
    /// The server's policy.
    pub const CONNECTION_NOT_ALLOWED_BY_RULESET: Self = Self(0x02);
    /// No route.
    pub const NETWORK_UNREACHABLE: Self = Self(0x03);
    /// Nobody there, or no such name.
    pub const HOST_UNREACHABLE: Self = Self(0x04);
    /// Nobody listens there.
    pub const CONNECTION_REFUSED: Self = Self(0x05);
    /// Literally a hop limit; commonly, and by our gateway, used for a dial that timed out.
    pub const TTL_EXPIRED: Self = Self(0x06);
    /// A CMD that the server does not do.
    pub const COMMAND_NOT_SUPPORTED: Self = Self(0x07);
    /// An ATYP that the server does not know.
    pub const ADDRESS_TYPE_NOT_SUPPORTED: Self = Self(0x08);
}

impl fmt::Display for Rep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match *self {
            Self::SUCCEEDED => "succeeded",
            Self::GENERAL_SOCKS_SERVER_FAILURE => "general SOCKS server failure",
            Self::CONNECTION_NOT_ALLOWED_BY_RULESET => "connection not allowed by ruleset",
            Self::NETWORK_UNREACHABLE => "network unreachable",
            Self::HOST_UNREACHABLE => "host unreachable",
            Self::CONNECTION_REFUSED => "connection refused",
            Self::TTL_EXPIRED => "TTL expired",
            Self::COMMAND_NOT_SUPPORTED => "command not supported",
            Self::ADDRESS_TYPE_NOT_SUPPORTED => "address type not supported",
            _ => "unassigned",
        };
        write!(f, "{name} ({:02x})", self.0)
    }
}

/// The server's reply. BIND has two of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply {
    /// REP.
    pub rep: Rep,
    /// BND.ADDR and BND.PORT.
    pub bound: Bound,
}

impl Reply {
    /// Reads one message from the beginning of `octets`. RSV is not looked at.
    ///
    /// # Errors
    /// [`WireError::Version`], [`WireError::Atyp`] and what [`Fqdn::new`](crate::Fqdn::new) gives.
    pub fn parse(octets: &[u8]) -> Result<Parsed<Self>, WireError> {
        Reader::parse(octets, 8, |reader| {
            reader.version(VER)?;
            let [rep, _rsv] = reader.array()?;
            Ok(Self {
                rep: Rep(rep),
                bound: Bound::read(reader)?,
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
        writer.put(&[VER, self.rep.0, 0x00]);
        self.bound.write(writer);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::check::*;

    #[test]
    fn succeeded_with_v4_address() {
        let bound = Bound::from(core::net::SocketAddr::from(([198, 51, 100, 7], 40_000)));
        let fields: &[&[u8]] = &[
            &[0x05],            // VER
            &[0x00],            // REP: succeeded
            &[0x00],            // RSV
            &[0x01],            // ATYP: IP V4
            &[198, 51, 100, 7], // BND.ADDR
            &[0x9C, 0x40],      // BND.PORT
        ];
        assert_on_the_wire!(
            Reply,
            Reply {
                rep: Rep::SUCCEEDED,
                bound
            },
            octets(fields)
        );
    }

    #[test]
    fn refused_with_v6_address() {
        let bound = Bound {
            address: by_address("[::1]:0").address,
            port: 0,
        };
        let fields: &[&[u8]] = &[
            &[0x05],                                           // VER
            &[0x05],                                           // REP: connection refused
            &[0x00],                                           // RSV
            &[0x04],                                           // ATYP: IP V6
            &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1], // BND.ADDR
            &[0x00, 0x00],                                     // BND.PORT
        ];
        assert_on_the_wire!(
            Reply,
            Reply {
                rep: Rep::CONNECTION_REFUSED,
                bound
            },
            octets(fields)
        );
    }

    #[test]
    fn succeeded_with_name() {
        let bound = Bound {
            address: by_name(b"gw", 0).address,
            port: 1080,
        };
        let fields: &[&[u8]] = &[
            &[0x05],       // VER
            &[0x00],       // REP: succeeded
            &[0x00],       // RSV
            &[0x03],       // ATYP: DOMAINNAME
            &[2],          // its length
            b"gw",         // BND.ADDR
            &[0x04, 0x38], // BND.PORT
        ];
        assert_on_the_wire!(
            Reply,
            Reply {
                rep: Rep::SUCCEEDED,
                bound
            },
            octets(fields)
        );
    }

    #[test]
    fn what_is_no_reply() {
        // SOCKS4's refusal, which a server that knows no SOCKS5 may give.
        let v4 = [0x00, 0x5B, 0, 0, 0, 0, 0, 0];
        assert_eq!(
            Reply::parse(&v4),
            Err(WireError::Version {
                found: 0,
                expected: 5
            })
        );
        assert_eq!(
            Reply::parse(&[0x05, 0x00, 0x00, 0x05]),
            Err(WireError::Atyp(0x05))
        );
    }

    #[test]
    fn rep_is_shown_with_its_code() {
        assert_eq!(
            std::format!("{}", Rep::CONNECTION_REFUSED),
            "connection refused (05)"
        );
        assert_eq!(std::format!("{}", Rep(0x5B)), "unassigned (5b)");
    }

    proptest! {
        /// Codes that nobody knows included.
        #[test]
        fn round_trips(rep: u8, bound in any_bound()) {
            assert_round_trip!(Reply, Reply { rep: Rep(rep), bound });
        }
    }
}
