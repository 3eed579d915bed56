//! Which authentication: the client's offer and the server's choice (RFC 1928 §3).
//! The authentication itself is in `userpass`.

use core::fmt;

use crate::{Parsed, WireError, read::Reader, text::MOST_OCTETS, write::Writer};

/// VER of SOCKS5.
pub(crate) const VER: u8 = 0x05;

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
