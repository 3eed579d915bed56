//! What the client wants: `VER CMD RSV ATYP DST.ADDR DST.PORT` (RFC 1928 §4).
//! Whether it may have it is the gateway's policy.

use core::fmt;

use crate::{
    Destination, Parsed, WireError, method::VER, read::Reader, text::MOST_OCTETS, write::Writer,
};

/// CMD: what is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cmd(pub u8);

impl Cmd {
    /// A connection to the destination.
    pub const CONNECT: Self = Self(0x01);
    /// A connection from the destination.
    pub const BIND: Self = Self(0x02);
    /// A relay for datagrams.
    pub const UDP_ASSOCIATE: Self = Self(0x03);
    /// Name to address, Tor's extension.
    pub const RESOLVE: Self = Self(0xF0);
    /// Address to name, Tor's extension.
    pub const RESOLVE_PTR: Self = Self(0xF1);
}

impl fmt::Display for Cmd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match *self {
            Self::CONNECT => "CONNECT",
            Self::BIND => "BIND",
            Self::UDP_ASSOCIATE => "UDP ASSOCIATE",
            Self::RESOLVE => "RESOLVE",
            Self::RESOLVE_PTR => "RESOLVE_PTR",
            _ => "unassigned",
        };
        write!(f, "{name} ({:02x})", self.0)
    }
}

/// The client's request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// CMD.
    pub cmd: Cmd,
    /// DST.ADDR and DST.PORT.
    pub destination: Destination,
}

impl Request {
    /// Most octets that the message can have.
    pub(crate) const MOST_OCTETS: usize = 7 + MOST_OCTETS;

    /// Reads one message from the beginning of `octets`. RSV is not looked at.
    ///
    /// # Errors
    /// [`WireError::Version`], [`WireError::Atyp`] and what [`Fqdn::new`](crate::Fqdn::new) gives.
    pub fn parse(octets: &[u8]) -> Result<Parsed<Self>, WireError> {
        Reader::parse(octets, 7, |reader| {
            reader.version(VER)?;
            let [cmd, _rsv] = reader.array()?;
            Ok(Self {
                cmd: Cmd(cmd),
                destination: Destination::read(reader)?,
            })
        })
    }

    /// Writes the message and gives its length.
    ///
    /// # Errors
    /// [`WireError::NoRoom`].
    pub fn encode(&self, buf: &mut [u8]) -> Result<usize, WireError> {
        Writer::encode(buf, |writer| {
            Self::write(self.cmd, &self.destination, writer)
        })
    }

    /// Takes the parts, to spare the client's machine a copy of the destination.
    pub(crate) fn write(cmd: Cmd, destination: &Destination, writer: &mut Writer<'_>) {
        writer.put(&[VER, cmd.0, 0x00]);
        destination.write(writer);
    }
}
