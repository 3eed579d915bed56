//! A name as the table keeps it: the key of RFC 3089 §3, normalised.

use core::fmt;

use crate::error::TableError;

/// A name of 1 to 255 octets, none of them NUL, in ASCII lower case and without a trailing dot.
#[derive(Clone, Copy)]
pub struct Name {
    len: u8,
    /// Zero past `len`.
    octets: [u8; 255],
}

impl Name {
    /// None yet: room for one.
    pub const EMPTY: Self = Self {
        len: 0,
        octets: [0; 255],
    };

    /// Lower case, and one trailing dot removed, so that every spelling of a name has one address.
    ///
    /// # Errors
    /// [`TableError::Name`] if what is left is empty, longer than 255 octets, or has a NUL.
    pub fn new(name: &[u8]) -> Result<Self, TableError> {
        let name = name.strip_suffix(b".").unwrap_or(name);
        let len = u8::try_from(name.len()).map_err(|_too_long| TableError::Name)?;
        if len == 0 || name.contains(&0) {
            return Err(TableError::Name);
        }
        let mut octets = [0; 255];
        for (to, from) in octets.iter_mut().zip(name) {
            *to = from.to_ascii_lowercase();
        }
        Ok(Self { len, octets })
    }

    /// Becomes what stands in a record; false if that is not what [`Name::new`] makes.
    pub(crate) fn set(&mut self, len: u8, words: impl Iterator<Item = u64>) -> bool {
        *self = Self::EMPTY;
        self.len = len;
        let octets = self.octets.get_mut(..usize::from(len)).unwrap_or_default();
        for (chunk, word) in octets.chunks_mut(size_of::<u64>()).zip(words) {
            for (to, from) in chunk.iter_mut().zip(word.to_ne_bytes()) {
                *to = from;
            }
        }
        let is_not = |octet: &u8| *octet == 0 || octet.is_ascii_uppercase();
        len != 0 && !octets.iter().any(is_not)
    }

    pub(crate) fn len(&self) -> u8 {
        self.len
    }

    /// The name's own octets.
    pub fn as_bytes(&self) -> &[u8] {
        self.octets.get(..usize::from(self.len)).unwrap_or_default()
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Name {}

impl fmt::Display for Name {
    /// Text for people: octets that are not printable ASCII are escaped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_bytes().escape_ascii().fmt(f)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Name({self})")
    }
}
