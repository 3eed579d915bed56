//! `Text`: up to 255 octets by value, for names and user ids.
//! Which octets are allowed is up to the types built on it.

use core::fmt::{self, Write as _};

use crate::write::copy;

/// Most octets that a one-octet length can count.
pub(crate) const MOST_OCTETS: usize = 255;

/// Unused octets are zero, so that the derived comparison and hash are those of the text.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Text {
    len: u8,
    octets: [u8; MOST_OCTETS],
}

impl Text {
    pub(crate) const EMPTY: Self = Self {
        len: 0,
        octets: [0; MOST_OCTETS],
    };

    /// `None` if there are more than 255.
    pub(crate) fn new(from: &[u8]) -> Option<Self> {
        let len = u8::try_from(from.len()).ok()?;
        let mut octets = [0; MOST_OCTETS];
        copy(&mut octets, from);
        Some(Self { len, octets })
    }

    /// Becomes this text; false, and nothing changes, if it is longer than 255 octets.
    pub(crate) fn set(&mut self, from: &[u8]) -> bool {
        let Ok(len) = u8::try_from(from.len()) else {
            return false;
        };
        self.len = len;
        self.octets = [0; MOST_OCTETS];
        copy(&mut self.octets, from);
        true
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.octets.get(..usize::from(self.len)).unwrap_or_default()
    }
}

/// Printable ASCII as it is and all else as `\xNN`: these octets come from strangers and go to logs
/// and terminals, where a blank begins the next field and an escape sequence is obeyed.
impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for &octet in self.as_bytes() {
            match octet {
                b'\\' => f.write_str("\\x5c")?,
                octet if octet.is_ascii_graphic() => f.write_char(char::from(octet))?,
                octet => write!(f, "\\x{octet:02x}")?,
            }
        }
        Ok(())
    }
}
