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
        Reader::parse(octets, 7, |reader| {
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
