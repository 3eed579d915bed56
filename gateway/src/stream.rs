//! What a handshake and a relay read from and write to: a socket, or TLS on a socket, with the manners of the socket.
//! Neither waits. Whoever polls before it receives has to ask [`Stream::is_ahead`] as well.
//!
//! So a relay over TLS is the same relay, by the same thread and with the same two descriptors, except that it cannot splice.
//! A tunnel would have left the relay as it was: a thread of its own moves octets between TLS and a socketpair, whose other
//! end looks like any socket. That is a thread and two descriptors more for each relay, every octet twice through the kernel,
//! and a second way by which a break is told, since a socketpair has no reset. TLS in the kernel (kTLS) would even splice, where
//! its module is loaded; but it takes a FIN without close_notify for an end.

use std::os::fd::BorrowedFd;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};

use crate::tls::Session;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Stream<'a> {
    socket: BorrowedFd<'a>,
    tls: Option<&'a Session>,
}

impl<'a> Stream<'a> {
    pub(crate) fn new(socket: BorrowedFd<'a>, tls: Option<&'a Session>) -> Self {
        Self { socket, tls }
    }

    pub(crate) fn plain(socket: BorrowedFd<'a>) -> Self {
        Self::new(socket, None)
    }

    /// What to poll, and to set options of.
    pub(crate) fn socket(self) -> BorrowedFd<'a> {
        self.socket
    }

    pub(crate) fn tls(self) -> Option<&'a Session> {
        self.tls
    }

    /// As recv(2): 0 is the end of the stream, and never what a stream that was cut off ends with.
    pub(crate) fn recv(self, mut octets: &mut [u8]) -> Result<usize, Errno> {
        match self.tls {
            None => recv(self.socket, octets, RecvFlags::empty()).map(|(received, _)| received),
            Some(tls) => tls.read(self.socket, octets.len(), &mut octets),
        }
    }

    /// As send(2), but after EAGAIN the same octets have to come again: of TLS the kernel may have a part of their record.
    pub(crate) fn send(self, octets: &[u8]) -> Result<usize, Errno> {
        match self.tls {
            None => send(self.socket, octets, SendFlags::NOSIGNAL),
            Some(tls) => tls.send(self.socket, octets),
        }
    }

    /// As shutdown(2) of the sending side. EAGAIN if that has to wait for the socket.
    pub(crate) fn shut(self) -> Result<(), Errno> {
        if let Some(tls) = self.tls {
            tls.close(self.socket)?;
        }
        // ENOTCONN: the stream broke, which whoever reads from it finds out.
        let _ = shutdown(self.socket, Shutdown::Write);
        Ok(())
    }

    /// Whether recv has something to give although poll says nothing of it.
    pub(crate) fn is_ahead(self) -> bool {
        self.tls.is_some_and(Session::is_ahead)
    }

    /// What `errno` means here.
    pub(crate) fn why(self, errno: Errno) -> String {
        let broken = self.tls.and_then(Session::why);
        broken.unwrap_or_else(|| errno.to_string())
    }
}
