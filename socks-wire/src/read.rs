//! `Reader`: the only code that slices a received buffer.
//! It knows fields, not messages; what a field means is said where the message is.

use core::ffi::CStr;

use crate::WireError;

/// What a message's `parse` makes of the octets so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parsed<T> {
    /// The message is complete. What lies behind it is not looked at.
    Whole {
        /// The message.
        message: T,
        /// How many octets it took.
        len_octets: usize,
    },
    /// Too few octets: at least this many more (never 0) are needed. They all belong to this
    /// message, so reading that many never takes an octet from what follows it.
    More(usize),
}

impl<T> Parsed<T> {
    pub(crate) fn map<U>(self, of: impl FnOnce(T) -> U) -> Parsed<U> {
        match self {
            Self::Whole {
                message,
                len_octets,
            } => Parsed::Whole {
                message: of(message),
                len_octets,
            },
            Self::More(octets) => Parsed::More(octets),
        }
    }
}

/// Why reading stops before the end of a message.
#[derive(Debug)]
pub(crate) enum Stop {
    More(usize),
    Wrong(WireError),
}

impl From<WireError> for Stop {
    fn from(error: WireError) -> Self {
        Self::Wrong(error)
    }
}

#[derive(Debug)]
pub(crate) struct Reader<'a> {
    octets: &'a [u8],
    at: usize,
    least: usize,
}

impl<'a> Reader<'a> {
    /// Reads one message, the shortest of whose kind has `least` octets: known beforehand, it saves
    /// asking for the first fields one by one.
    pub(crate) fn parse<T>(
        octets: &'a [u8],
        least: usize,
        message: impl FnOnce(&mut Self) -> Result<T, Stop>,
    ) -> Result<Parsed<T>, WireError> {
        let mut reader = Self {
            octets,
            at: 0,
            least,
        };
        match message(&mut reader) {
            Ok(message) => Ok(Parsed::Whole {
                message,
                len_octets: reader.at,
            }),
            Err(Stop::More(octets)) => Ok(Parsed::More(octets)),
            Err(Stop::Wrong(error)) => Err(error),
        }
    }

    pub(crate) fn octet(&mut self) -> Result<u8, Stop> {
        self.array().map(|[octet]| octet)
    }

    pub(crate) fn version(&mut self, expected: u8) -> Result<(), Stop> {
        match self.octet()? {
            found if found == expected => Ok(()),
            found => Err(WireError::Version { found, expected }.into()),
        }
    }

    /// A port, in network order on the wire.
    pub(crate) fn port(&mut self) -> Result<u16, Stop> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Stop> {
        match self.rest().first_chunk() {
            Some(&field) => {
                self.at = self.at.saturating_add(N);
                Ok(field)
            }
            None => Err(self.more(N)),
        }
    }

    /// An octet that says how many follow, and those.
    pub(crate) fn counted(&mut self) -> Result<&'a [u8], Stop> {
        let len = usize::from(self.octet()?);
        let field = self.rest().get(..len).ok_or_else(|| self.more(len))?;
        self.at = self.at.saturating_add(len);
        Ok(field)
    }

    /// What stands before the next NUL, at most `most` octets; the NUL is taken too. `None` once it
    /// is certain that there are more than `most`.
    pub(crate) fn until_nul(&mut self, most: usize) -> Result<Option<&'a [u8]>, Stop> {
        let rest = self.rest();
        match CStr::from_bytes_until_nul(rest).map(CStr::to_bytes) {
            Ok(text) if text.len() <= most => {
                self.at = self.at.saturating_add(text.len()).saturating_add(1);
                Ok(Some(text))
            }
            Err(_) if rest.len() <= most => Err(self.more(rest.len().saturating_add(1))),
            Ok(_) | Err(_) => Ok(None),
        }
    }

    fn rest(&self) -> &'a [u8] {
        self.octets.get(self.at..).unwrap_or_default()
    }

    /// The next field has `len` octets, and they are not all here.
    fn more(&self, len: usize) -> Stop {
        let end = self.at.saturating_add(len).max(self.least);
        Stop::More(end.saturating_sub(self.octets.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::Parsed::More;
    use crate::{check::*, *};

    /// The shortest message of each kind is whole, and nothing yet asks for all of it.
    macro_rules! assert_shortest {
        ($Message:ident, $message:expr, $len_octets:expr) => {{
            assert_eq!($Message::parse(&[]), Ok(More($len_octets)));
            let mut buf = [0; 16];
            assert_eq!($message.encode(&mut buf), Ok($len_octets));
            assert_on_the_wire!($Message, $message, buf[..$len_octets]);
        }};
    }

    /// One receive for as much as is sure to come, not one for each field.
    #[test]
    fn nothing_yet_asks_for_the_shortest_message() {
        assert_shortest!(Greeting, Greeting::new(&[]).unwrap(), 2);
        assert_shortest!(Selection, Selection { method: Method(0) }, 2);
        assert_shortest!(Credentials, Credentials::new(b"a", b"b").unwrap(), 5);
        assert_shortest!(Status, Status(0), 2);
        let destination = by_name(b"a", 1);
        assert_shortest!(
            Request,
            Request {
                cmd: Cmd(1),
                destination
            },
            8
        );
        assert_shortest!(
            DatagramHeader,
            DatagramHeader {
                frag: Frag(0),
                destination
            },
            8
        );
        let bound = Bound {
            address: destination.address,
            port: 1,
        };
        assert_shortest!(Reply, Reply { rep: Rep(0), bound }, 8);
    }

    #[test]
    fn nothing_yet_asks_for_the_shortest_message_of_socks4() {
        use v4::{Cd, Reply, Request, UserId};
        let (destination, user_id) = (by_address("192.0.2.1:80"), UserId::EMPTY);
        assert_shortest!(
            Request,
            Request {
                cmd: Cmd(1),
                destination,
                user_id
            },
            9
        );
        let ip = [192, 0, 2, 1].into();
        assert_shortest!(
            Reply,
            Reply {
                cd: Cd(0),
                port: 80,
                ip
            },
            8
        );
    }
}
