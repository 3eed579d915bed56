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
        Reader::parse(octets, 8, |reader| {
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
        Writer::encode(buf, |writer| self.write(writer))
    }

    pub(crate) fn write(&self, writer: &mut Writer<'_>) {
        writer.put(&[VER, self.cmd.0, 0x00]);
        self.destination.write(writer);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::check::*;

    /// RFC 1928 §5: "the first octet of the address field contains the number of octets of name
    /// that follow".
    #[test]
    fn connect_by_name() {
        let message = Request {
            cmd: Cmd::CONNECT,
            destination: by_name(b"www.example.com", 80),
        };
        let fields: &[&[u8]] = &[
            &[0x05],            // VER
            &[0x01],            // CMD: CONNECT
            &[0x00],            // RSV
            &[0x03],            // ATYP: DOMAINNAME
            &[15],              // its length
            b"www.example.com", // DST.ADDR
            &[0x00, 80],        // DST.PORT
        ];
        assert_on_the_wire!(Request, message, octets(fields));
    }

    #[test]
    fn bind_by_v4_address() {
        let message = Request {
            cmd: Cmd::BIND,
            destination: by_address("192.0.2.1:65535"),
        };
        let fields: &[&[u8]] = &[
            &[0x05],         // VER
            &[0x02],         // CMD: BIND
            &[0x00],         // RSV
            &[0x01],         // ATYP: IP V4
            &[192, 0, 2, 1], // DST.ADDR
            &[0xFF, 0xFF],   // DST.PORT
        ];
        assert_on_the_wire!(Request, message, octets(fields));
    }

    #[test]
    fn udp_associate_by_v6_address() {
        let destination = by_address("[2001:db8::1]:258");
        let message = Request {
            cmd: Cmd::UDP_ASSOCIATE,
            destination,
        };
        let fields: &[&[u8]] = &[
            &[0x05],                                                       // VER
            &[0x03],                                                       // CMD: UDP ASSOCIATE
            &[0x00],                                                       // RSV
            &[0x04],                                                       // ATYP: IP V6
            &[0x20, 0x01, 0x0D, 0xB8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1], // DST.ADDR
            &[0x01, 0x02],                                                 // DST.PORT
        ];
        assert_on_the_wire!(Request, message, octets(fields));
    }

    #[test]
    fn what_is_no_request() {
        let cases: [(&[u8], WireError); 5] = [
            (
                &[0x04],
                WireError::Version {
                    found: 4,
                    expected: 5,
                },
            ),
            (&[0x05, 0x01, 0x00, 0x02], WireError::Atyp(0x02)),
            (&[0x05, 0x01, 0x00, 0x00], WireError::Atyp(0x00)),
            (&[0x05, 0x01, 0x00, 0x03, 0], WireError::FqdnLength(0)),
            (
                &[0x05, 0x01, 0x00, 0x03, 3, b'a', 0, b'b'],
                WireError::FqdnNul,
            ),
        ];
        for (octets, error) in cases {
            assert_eq!(Request::parse(octets), Err(error));
        }
    }

    #[test]
    fn reserved_octet_is_not_judged() {
        let octets = [0x05, 0x01, 0xAA, 0x01, 192, 0, 2, 1, 0, 80];
        let destination = by_address("192.0.2.1:80");
        let message = Request {
            cmd: Cmd::CONNECT,
            destination,
        };
        assert_eq!(
            Request::parse(&octets),
            Ok(Parsed::Whole {
                message,
                len_octets: 10
            })
        );
    }

    #[test]
    fn cmd_is_shown_with_its_code() {
        assert_eq!(std::format!("{}", Cmd::CONNECT), "CONNECT (01)");
        assert_eq!(std::format!("{}", Cmd(0x7F)), "unassigned (7f)");
    }

    proptest! {
        /// Commands that nobody knows included.
        #[test]
        fn round_trips(cmd: u8, destination in any_destination()) {
            assert_round_trip!(Request, Request { cmd: Cmd(cmd), destination });
        }
    }
}
