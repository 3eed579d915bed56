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
        Reader::parse(datagram, 8, |reader| {
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::check::*;

    #[test]
    fn header_before_the_data() {
        let message = DatagramHeader {
            frag: Frag::STANDALONE,
            destination: by_name(b"ntp", 123),
        };
        let fields: &[&[u8]] = &[
            &[0x00, 0x00], // RSV
            &[0x00],       // FRAG
            &[0x03],       // ATYP: DOMAINNAME
            &[3],          // its length
            b"ntp",        // DST.ADDR
            &[0x00, 123],  // DST.PORT
        ];
        assert_on_the_wire!(DatagramHeader, message, octets(fields));
    }

    #[test]
    fn last_fragment() {
        let frag = Frag(Frag::END_OF_SEQUENCE | 2);
        let message = DatagramHeader {
            frag,
            destination: by_address("192.0.2.1:53"),
        };
        let fields: &[&[u8]] = &[
            &[0x00, 0x00],   // RSV
            &[0x82],         // FRAG: the second is the last
            &[0x01],         // ATYP: IP V4
            &[192, 0, 2, 1], // DST.ADDR
            &[0x00, 53],     // DST.PORT
        ];
        assert_on_the_wire!(DatagramHeader, message, octets(fields));
    }

    proptest! {
        #[test]
        fn round_trips(frag: u8, destination in any_destination()) {
            assert_round_trip!(DatagramHeader, DatagramHeader { frag: Frag(frag), destination });
        }
    }
}
