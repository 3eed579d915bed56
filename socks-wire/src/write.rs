//! `Writer`: the only code that writes into a buffer.
//! It counts what a message needs even where there is no room for it.

use crate::WireError;

#[derive(Debug)]
pub(crate) struct Writer<'b> {
    buf: &'b mut [u8],
    needed: usize,
}

impl<'b> Writer<'b> {
    /// Writes one message and gives its length.
    pub(crate) fn encode(
        buf: &'b mut [u8],
        message: impl FnOnce(&mut Self),
    ) -> Result<usize, WireError> {
        let mut writer = Self { buf, needed: 0 };
        message(&mut writer);
        match writer {
            Self { buf, needed } if needed <= buf.len() => Ok(needed),
            Self { needed, .. } => Err(WireError::NoRoom { needed }),
        }
    }

    /// The length that `encode` would give.
    pub(crate) fn measure(message: impl FnOnce(&mut Self)) -> usize {
        let mut writer = Self {
            buf: &mut [],
            needed: 0,
        };
        message(&mut writer);
        writer.needed
    }

    pub(crate) fn put(&mut self, octets: &[u8]) {
        let end = self.needed.saturating_add(octets.len());
        if let Some(field) = self.buf.get_mut(self.needed..end) {
            copy(field, octets);
        }
        self.needed = end;
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
