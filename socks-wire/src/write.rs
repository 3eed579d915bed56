//! `Writer`: the only code that writes into a buffer.
//! It counts what a message needs even where there is no room for it.

use crate::WireError;

#[derive(Debug)]
pub(crate) struct Writer<'b> {
    buf: &'b mut [u8],
    /// Octets of the message that are left out of `buf`, from its beginning.
    skipped: usize,
    needed: usize,
}

impl<'b> Writer<'b> {
    /// Writes one message and gives its length.
    pub(crate) fn encode(
        buf: &'b mut [u8],
        message: impl FnOnce(&mut Self),
    ) -> Result<usize, WireError> {
        let mut writer = Self {
            buf,
            skipped: 0,
            needed: 0,
        };
        message(&mut writer);
        match writer {
            Self { buf, needed, .. } if needed <= buf.len() => Ok(needed),
            Self { needed, .. } => Err(WireError::NoRoom { needed }),
        }
    }

    /// Writes what comes after the message's first `skipped` octets, as far as there is room, and gives
    /// how many octets that is.
    pub(crate) fn encode_rest(
        buf: &'b mut [u8],
        skipped: usize,
        message: impl FnOnce(&mut Self),
    ) -> usize {
        let mut writer = Self {
            buf,
            skipped,
            needed: 0,
        };
        message(&mut writer);
        let rest = writer.needed.saturating_sub(skipped);
        rest.min(writer.buf.len())
    }

    /// The length that `encode` would give.
    pub(crate) fn measure(message: impl FnOnce(&mut Self)) -> usize {
        let mut writer = Self {
            buf: &mut [],
            skipped: 0,
            needed: 0,
        };
        message(&mut writer);
        writer.needed
    }

    pub(crate) fn put(&mut self, octets: &[u8]) {
        let unskipped = self.skipped.saturating_sub(self.needed);
        let at = self.needed.saturating_sub(self.skipped);
        if let (Some(room), Some(octets)) = (self.buf.get_mut(at..), octets.get(unskipped..)) {
            copy(room, octets);
        }
        self.needed = self.needed.saturating_add(octets.len());
    }

    pub(crate) fn octet(&mut self, octet: u8) {
        self.put(&[octet]);
    }

    pub(crate) fn port(&mut self, port: u16) {
        self.put(&port.to_be_bytes());
    }

    /// An octet that says how many follow, and those. What has more than 255 octets is cut; the
    /// types of this crate hold none such.
    pub(crate) fn counted(&mut self, octets: &[u8]) {
        let len = u8::try_from(octets.len()).unwrap_or(u8::MAX);
        self.octet(len);
        self.put(octets.get(..usize::from(len)).unwrap_or(octets));
    }
}

/// Copies as much as there is of both. `copy_from_slice` would panic where the two differ, and the
/// release build of this crate is to contain no panic at all.
pub(crate) fn copy(to: &mut [u8], from: &[u8]) {
    for (to, &from) in to.iter_mut().zip(from) {
        *to = from;
    }
}
