//! The SOCKS handshake on a socket, as far as it goes without waiting.

use std::ffi::{c_int, c_short};

use socks_client::{Errno, Gateway};
use socks_wire::{
    CLIENT_SCRATCH_OCTETS, ClientHandshake, Credentials, HandshakeError, Progress, Step,
};

use crate::sys::io::{self, Moved};

/// Where a step of the handshake ended.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Ended {
    /// The request is granted.
    Stands(Progress),
    /// Waiting is needed, for this.
    Wants(c_short, Progress),
    /// The gateway's word.
    Refused(HandshakeError),
    /// The gateway's end, with the errno if there was one.
    Lost(Option<Errno>),
}

/// Steps a handshake; what is received is shown to `heard`.
pub(crate) fn advance(
    fd: c_int,
    handshake: &mut ClientHandshake<'_>,
    mut heard: impl FnMut(&[u8]),
) -> Ended {
    // For one message at a time, of either direction: the stack may be a signal handler's.
    let mut scratch = [0; CLIENT_SCRATCH_OCTETS];
    loop {
        let received = match handshake.step(&mut scratch) {
            Step::Done(_) => return Ended::Stands(handshake.progress()),
            Step::Send(octets) => match io::send(fd, octets) {
                Moved::Octets(len) => {
                    handshake.sent(len);
                    continue;
                }
                Moved::Later => return Ended::Wants(libc::POLLOUT, handshake.progress()),
                Moved::End => return Ended::Lost(None),
                Moved::Failed(errno) => return Ended::Lost(Some(errno)),
            },
            Step::Receive(most) => {
                let most = most.min(CLIENT_SCRATCH_OCTETS);
                match io::receive(fd, scratch.get_mut(..most).unwrap_or_default()) {
                    Moved::Octets(len) => len,
                    Moved::Later => return Ended::Wants(libc::POLLIN, handshake.progress()),
                    Moved::End => return Ended::Lost(None),
                    Moved::Failed(errno) => return Ended::Lost(Some(errno)),
                }
            }
        };
        let received = scratch.get(..received).unwrap_or_default();
        heard(received);
        if let Err(error) = handshake.received(received) {
            return Ended::Refused(error);
        }
    }
}

/// What a gateway is told of the user.
pub(crate) fn credentials(gateway: Option<&Gateway>) -> Option<Credentials<'_>> {
    let login = gateway?.login.as_ref()?;
    Credentials::new(&login.user, &login.password.0).ok()
}
