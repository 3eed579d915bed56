//! Which authentication: the client's offer and the server's choice (RFC 1928 §3).
//! The authentication itself is in `userpass`.

use core::fmt;

use crate::{Parsed, WireError, read::Reader, text::MOST_OCTETS, write::Writer};

/// VER of SOCKS5.
pub(crate) const VER: u8 = 0x05;

/// The first of 16 private methods that count gateways.
const HOPS: u8 = 0xE0;

/// METHOD: a way to authenticate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Method(pub u8);

impl Method {
    /// Whoever reaches the server may use it.
    pub const NO_AUTHENTICATION_REQUIRED: Self = Self(0x00);
    /// RFC 1961, which nobody here speaks.
    pub const GSSAPI: Self = Self(0x01);
    /// RFC 1929.
    pub const USERNAME_PASSWORD: Self = Self(0x02);
    /// Not a method either, and never chosen: what a gateway offers to the next one besides, so that a request can be known
    /// to go in circles. RFC 1928 §3 has X'80' to X'FE' for private methods, and a server passes over those that it does not
    /// know; one that knows this finds out how many gateways the request has come through, of which it can tell 15.
    #[must_use]
    pub const fn hops(count: u8) -> Self {
        let most = 0x0F;
        Self(HOPS | if count < most { count } else { most })
    }

    /// How many gateways [`Self::hops`] speaks of, if that is what it is.
    #[must_use]
    pub const fn as_hops(self) -> Option<u8> {
        if self.0 & 0xF0 == HOPS {
            Some(self.0 & 0x0F)
        } else {
            None
        }
    }

    /// Not a method: the server's word that it takes none of those offered.
    pub const NO_ACCEPTABLE_METHODS: Self = Self(0xFF);
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match *self {
            Self::NO_AUTHENTICATION_REQUIRED => "no authentication required",
            Self::GSSAPI => "GSSAPI",
            Self::USERNAME_PASSWORD => "username/password",
            Self::NO_ACCEPTABLE_METHODS => "no acceptable methods",
            Self(0x03..=0x7F) => "IANA assigned",
            Self(0xE0..=0xEF) => "number of gateways",
            Self(0x80..=0xFE) => "private method",
        };
        write!(f, "{name} ({:02x})", self.0)
    }
}

/// `VER NMETHODS METHODS`: the client's first message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Greeting<'a> {
    pub(crate) methods: &'a [u8],
}

impl<'a> Greeting<'a> {
    /// Most octets that the message can have.
    pub(crate) const MOST_OCTETS: usize = 2 + MOST_OCTETS;

    /// Offers these METHODS, one octet each. None at all can be said, and can only be refused.
    ///
    /// # Errors
    /// [`WireError::MethodCount`].
    pub const fn new(methods: &'a [u8]) -> Result<Self, WireError> {
        if methods.len() > MOST_OCTETS {
            return Err(WireError::MethodCount(methods.len()));
        }
        Ok(Self { methods })
    }

    /// What is offered, in the client's order.
    pub fn methods(&self) -> impl Iterator<Item = Method> + 'a {
        self.methods.iter().copied().map(Method)
    }

    /// Reads one message from the beginning of `octets`.
    ///
    /// # Errors
    /// [`WireError::Version`].
    pub fn parse(octets: &'a [u8]) -> Result<Parsed<Self>, WireError> {
        Reader::parse(octets, 2, |reader| {
            reader.version(VER)?;
            Ok(Self {
                methods: reader.counted()?,
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
        writer.octet(VER);
        writer.counted(self.methods);
    }
}

/// `VER METHOD`: the server's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Selection {
    /// The method to go on with, or [`Method::NO_ACCEPTABLE_METHODS`].
    pub method: Method,
}

impl Selection {
    /// Reads one message from the beginning of `octets`.
    ///
    /// # Errors
    /// [`WireError::Version`].
    pub fn parse(octets: &[u8]) -> Result<Parsed<Self>, WireError> {
        Reader::parse(octets, 2, |reader| {
            reader.version(VER)?;
            Ok(Self {
                method: Method(reader.octet()?),
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
        writer.put(&[VER, self.method.0]);
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::check::*;

    #[test]
    fn greeting_with_two_methods() {
        let fields: &[&[u8]] = &[
            &[0x05],       // VER
            &[2],          // NMETHODS
            &[0x00, 0x02], // METHODS: none, username/password
        ];
        assert_on_the_wire!(
            Greeting,
            Greeting::new(&[0x00, 0x02]).unwrap(),
            octets(fields)
        );
        let methods = Greeting {
            methods: &[0x00, 0x02],
        }
        .methods();
        assert!(methods.eq([
            Method::NO_AUTHENTICATION_REQUIRED,
            Method::USERNAME_PASSWORD
        ]));
    }

    /// RFC 1928 §3 has 1 to 255 methods; none at all has an answer as well, FF.
    #[test]
    fn greeting_without_methods() {
        assert_on_the_wire!(Greeting, Greeting::new(&[]).unwrap(), [0x05, 0]);
    }

    #[test]
    fn methods_past_the_count() {
        assert_eq!(Greeting::new(&[0; 256]), Err(WireError::MethodCount(256)));
    }

    #[test]
    fn selection() {
        let message = Selection {
            method: Method::USERNAME_PASSWORD,
        };
        let fields: &[&[u8]] = &[
            &[0x05], // VER
            &[0x02], // METHOD
        ];
        assert_on_the_wire!(Selection, message, octets(fields));
    }

    #[test]
    fn another_version() {
        let error = WireError::Version {
            found: b'H',
            expected: 5,
        };
        assert_eq!(Selection::parse(b"HTTP/1.1 400"), Err(error));
        assert_eq!(Greeting::parse(b"H"), Err(error));
    }

    #[test]
    fn method_is_shown_with_its_code() {
        assert_eq!(
            std::format!("{}", Method::USERNAME_PASSWORD),
            "username/password (02)"
        );
        assert_eq!(std::format!("{}", Method(0x80)), "private method (80)");
    }

    proptest! {
        #[test]
        fn round_trips(methods in vec(any::<u8>(), 0..=255), method: u8) {
            assert_round_trip!(Greeting, Greeting::new(&methods).unwrap());
            assert_round_trip!(Selection, Selection { method: Method(method) });
        }
    }
}
