//! Username/password authentication (RFC 1929).
//! Whether they are the right ones is the gateway's to say.

use core::fmt;

use crate::{Parsed, WireError, method, read::Reader, text::MOST_OCTETS, write::Writer};

/// VER of the sub-negotiation, which counts by itself.
const VER: u8 = 0x01;

/// `VER ULEN UNAME PLEN PASSWD`: user name and password, 1 to 255 octets each.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Credentials<'a> {
    user: &'a [u8],
    password: &'a [u8],
}

impl<'a> Credentials<'a> {
    /// Most octets that the message can have.
    pub(crate) const MOST_OCTETS: usize = 3 + 2 * MOST_OCTETS;

    /// Borrows both.
    ///
    /// # Errors
    /// [`WireError::UserLength`] and [`WireError::PasswordLength`].
    pub const fn new(user: &'a [u8], password: &'a [u8]) -> Result<Self, WireError> {
        if user.is_empty() || user.len() > MOST_OCTETS {
            return Err(WireError::UserLength(user.len()));
        }
        if password.is_empty() || password.len() > MOST_OCTETS {
            return Err(WireError::PasswordLength(password.len()));
        }
        Ok(Self { user, password })
    }

    /// UNAME.
    #[must_use]
    pub const fn user(&self) -> &'a [u8] {
        self.user
    }

    /// PASSWD. To be compared in constant time, and never shown.
    #[must_use]
    pub const fn password(&self) -> &'a [u8] {
        self.password
    }

    /// Reads one message from the beginning of `octets`.
    ///
    /// # Errors
    /// [`WireError::Version`], [`WireError::UserLength`] and [`WireError::PasswordLength`].
    pub fn parse(octets: &'a [u8]) -> Result<Parsed<Self>, WireError> {
        Reader::parse(octets, 5, |reader| {
            reader.version(VER)?;
            Ok(Self::new(reader.counted()?, reader.counted()?)?)
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
        writer.counted(self.user);
        writer.counted(self.password);
    }
}

impl fmt::Debug for Credentials<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({}, …)", self.user.escape_ascii())
    }
}

/// `VER STATUS`: the server's verdict. Anything but 0 is a refusal, and the server closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status(pub u8);

impl Status {
    /// The client may send its request.
    pub const SUCCESS: Self = Self(0x00);
    /// What our server says; the RFC leaves the choice.
    pub const FAILURE: Self = Self(0x01);

    /// Reads one message from the beginning of `octets`. VER may be 05 as well: many servers put the
    /// version of SOCKS here, and clients have always let it pass.
    ///
    /// # Errors
    /// [`WireError::Version`].
    pub fn parse(octets: &[u8]) -> Result<Parsed<Self>, WireError> {
        Reader::parse(octets, 2, |reader| match reader.octet()? {
            VER | method::VER => Ok(Self(reader.octet()?)),
            found => Err(WireError::Version {
                found,
                expected: VER,
            }
            .into()),
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
        writer.put(&[VER, self.0]);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::check::*;

    #[test]
    fn credentials() {
        let fields: &[&[u8]] = &[
            &[0x01],   // VER
            &[5],      // ULEN
            b"alice",  // UNAME
            &[6],      // PLEN
            b"secret", // PASSWD
        ];
        assert_on_the_wire!(
            Credentials,
            Credentials::new(b"alice", b"secret").unwrap(),
            octets(fields)
        );
    }

    #[test]
    fn status() {
        let fields: &[&[u8]] = &[
            &[0x01], // VER
            &[0x00], // STATUS: success
        ];
        assert_on_the_wire!(Status, Status::SUCCESS, octets(fields));
    }

    /// RFC 1929 §2: 1 to 255 octets each.
    #[test]
    fn lengths_are_checked() {
        let (longest, longer) = ([b'x'; 255], [b'x'; 256]);
        assert!(Credentials::new(&longest, &longest).is_ok());
        assert_eq!(Credentials::new(b"", b"x"), Err(WireError::UserLength(0)));
        assert_eq!(
            Credentials::new(&longer, b"x"),
            Err(WireError::UserLength(256))
        );
        assert_eq!(
            Credentials::new(b"x", b""),
            Err(WireError::PasswordLength(0))
        );
        assert_eq!(
            Credentials::new(b"x", &longer),
            Err(WireError::PasswordLength(256))
        );

        assert_eq!(
            Credentials::parse(&[1, 0, 1, b'x']),
            Err(WireError::UserLength(0))
        );
        assert_eq!(
            Credentials::parse(&[1, 1, b'x', 0]),
            Err(WireError::PasswordLength(0))
        );
    }

    #[test]
    fn another_version() {
        let error = |found| WireError::Version { found, expected: 1 };
        assert_eq!(Credentials::parse(&[5]), Err(error(5)));
        assert_eq!(Status::parse(&[0, 0]), Err(error(0)));
        let message = Status::SUCCESS;
        assert_eq!(
            Status::parse(&[5, 0]),
            Ok(Parsed::Whole {
                message,
                len_octets: 2
            })
        );
    }

    #[test]
    fn password_is_not_shown() {
        let shown = std::format!("{:?}", Credentials::new(b"al\nice", b"secret").unwrap());
        assert_eq!(shown, "Credentials(al\\nice, …)");
    }

    proptest! {
        #[test]
        fn round_trips(user in any_text(), password in any_text(), status: u8) {
            assert_round_trip!(Credentials, Credentials::new(&user, &password).unwrap());
            assert_round_trip!(Status, Status(status));
        }
    }
}
