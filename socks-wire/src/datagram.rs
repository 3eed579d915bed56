//! What stands before the data of a relayed datagram: `RSV FRAG ATYP DST.ADDR DST.PORT` (RFC 1928 §7).
//! The data itself is never copied here; reassembling fragments is left to the relay, which may refuse.

use crate::{Destination, Parsed, WireError, read::Reader, write::Writer};

/// FRAG: the datagram's place in a sequence of fragments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Frag(pub u8);

impl Frag {
    /// Not a fragment.
    pub const STANDALONE: Self = Self(0x00);
    /// The bit that marks the last fragment of a sequence.
    pub const END_OF_SEQUENCE: u8 = 0x80;
}

/// The header; DATA is what follows it in the datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DatagramHeader {
    /// FRAG.
    pub frag: Frag,
    /// DST.ADDR and DST.PORT; on the way back, where the datagram came from.
    pub destination: Destination,
}

impl DatagramHeader {
    /// Reads the header; DATA begins behind its `len_octets`. RSV is not looked at. A datagram that
    /// asks for more is cut short: there is no more.
    ///
    /// # Errors
    /// [`WireError::Atyp`] and what [`Fqdn::new`](crate::Fqdn::new) gives.
    pub fn parse(datagram: &[u8]) -> Result<Parsed<Self>, WireError> {
        Reader::parse(datagram, 7, |reader| {
            let [_rsv, _rsv_2, frag] = reader.array()?;
            Ok(Self {
                frag: Frag(frag),
                destination: Destination::read(reader)?,
            })
        })
    }

    /// Writes the header and gives its length; DATA goes behind it.
    ///
    /// # Errors
    /// [`WireError::NoRoom`].
    pub fn encode(&self, buf: &mut [u8]) -> Result<usize, WireError> {
        Writer::encode(buf, |writer| {
            writer.put(&[0x00, 0x00, self.frag.0]);
            self.destination.write(writer);
        })
    }
}
