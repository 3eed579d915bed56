//! Rows for connections, so that a socket inherited over exec or received over SCM_RIGHTS goes on answering
//! `getpeername` with what its application asked for.

use core::net::SocketAddr;

use crate::pool::Family;

/// What is remembered of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connection {
    /// The address as the application gave it to `connect`, with flow and scope of an IPv6 one.
    pub asked: SocketAddr,
    /// The family of the application's own socket.
    pub family: Family,
}
