//! What a rule says of the sockets by which the gateway dials.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;

use socket2::Socket;

use crate::sys;

/// Where a connection begins, and by which way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Outgoing<'r> {
    pub(crate) source_v4: Option<Ipv4Addr>,
    pub(crate) source_v6: Option<Ipv6Addr>,
    /// SO_BINDTODEVICE
    pub(crate) interface: Option<&'r str>,
    /// SO_MARK
    pub(crate) mark: Option<u32>,
}

impl Outgoing<'_> {
    /// Before it is connected to an address of this family.
    pub(crate) fn apply(self, socket: &Socket, to: SocketAddr) -> io::Result<()> {
        if let Some(mark) = self.mark {
            ours(socket.set_mark(mark), || format!("mark {mark}"))?;
        }
        if let Some(interface) = self.interface {
            let bound = socket.bind_device(Some(interface.as_bytes()));
            ours(bound, || format!("interface {interface}"))?;
        }
        let source: Option<IpAddr> = match to {
            SocketAddr::V4(_) => self.source_v4.map(Into::into),
            SocketAddr::V6(_) => self.source_v6.map(Into::into),
        };
        if let Some(source) = source {
            // The port is chosen by connect(2), so that there are as many as there are destinations times ports.
            let bound = sys::choose_port_late(socket.as_fd())
                .and_then(|()| socket.bind(&SocketAddr::new(source, 0).into()));
            ours(bound, || format!("source {source}"))?;
        }
        Ok(())
    }
}

/// Whatever the kernel says of what the operator wants says nothing of the destination: without its errno nobody is told so.
fn ours(done: io::Result<()>, what: impl FnOnce() -> String) -> io::Result<()> {
    done.map_err(|error| io::Error::other(format!("cannot use {}: {error}", what())))
}
