//! The keyed hash that spreads names over the slots and tells a true row from a damaged one.

use siphasher::sip::SipHasher13;

/// Random, one for each table. Whoever chooses names (a web page, say) cannot choose where they collide.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key([u8; Self::OCTETS]);

impl Key {
    pub(crate) const OCTETS: usize = 16;

    pub(crate) fn from_bytes(bytes: [u8; Self::OCTETS]) -> Self {
        Self(bytes)
    }

    pub(crate) fn as_bytes(&self) -> &[u8; Self::OCTETS] {
        &self.0
    }

    pub(crate) fn hash(&self, octets: &[u8]) -> u64 {
        SipHasher13::new_with_key(&self.0).hash(octets)
    }

    /// A key for a second purpose, or for the same purpose at another time.
    pub(crate) fn derive(&self, context: &[u8]) -> Self {
        let mut bytes = self.0;
        let hash = self.hash(context).to_ne_bytes();
        for (to, from) in bytes.iter_mut().zip(hash) {
            *to ^= from;
        }
        Self(bytes)
    }
}
