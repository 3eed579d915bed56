//! What can be wrong with octets, and how a handshake can end badly.
//! Too few octets are no error (see [`Parsed::More`](crate::Parsed::More)); what a failure means to
//! an application or to a client is decided in socks-client and in the gateway.

use core::net::IpAddr;

use crate::{Cmd, Method, Rep};

/// Octets that are not the message they should be, or a message that octets cannot say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// The first octet of a message is of another protocol.
    #[error("VER is {found:#04x}, expected {expected:#04x}")]
    Version {
        /// What came.
        found: u8,
        /// What the message begins with.
        expected: u8,
    },
    /// How long the address is cannot be known, so nothing behind it can be read.
    #[error("ATYP is {0:#04x}, expected 0x01, 0x03 or 0x04")]
    Atyp(u8),
    /// A command that no version of the protocol knows.
    #[error("CMD is {0}")]
    Cmd(Cmd),
    /// The server chose a method that the client had not offered.
    #[error("METHOD is {0}, which was not offered")]
    MethodNotOffered(Method),
    /// More methods than NMETHODS can count.
    #[error("{0} methods, expected at most 255")]
    MethodCount(usize),
    /// A name that the one-octet length cannot say, or none at all.
    #[error("name of {0} octets, expected 1 to 255")]
    FqdnLength(usize),
    /// A name with a NUL in it means one name to C and another to everybody else.
    #[error("NUL in a name")]
    FqdnNul,
    /// UNAME of RFC 1929.
    #[error("user name of {0} octets, expected 1 to 255")]
    UserLength(usize),
    /// PASSWD of RFC 1929.
    #[error("password of {0} octets, expected 1 to 255")]
    PasswordLength(usize),
    /// USERID of SOCKS4, which has no limit of its own.
    #[error("user id of {0} octets or more, expected at most 255")]
    UserIdLength(usize),
    /// A NUL ends a user id of SOCKS4, so there can be none in it.
    #[error("NUL in a user id")]
    UserIdNul,
    /// SOCKS4 has four octets for an address, and 0.0.0.x in them means that a name follows.
    #[error("SOCKS4 cannot carry the address {0}")]
    NotInV4(IpAddr),
    /// The buffer is too small for the message.
    #[error("no room: the message has {needed} octets")]
    NoRoom {
        /// Length of the whole message, in octets.
        needed: usize,
    },
    /// More octets were handed over than the handshake had asked for.
    #[error("an octet that the handshake did not ask for")]
    Surplus,
}

/// Why a handshake ended without a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The server refused the request.
    #[error("request refused: {0}")]
    Reply(Rep),
    /// Client and server have no authentication method in common.
    #[error("no acceptable authentication method")]
    NoAcceptableMethod,
    /// The server's STATUS (RFC 1929), which is not 0.
    #[error("wrong user name or password (status {0:#04x})")]
    WrongPassword(u8),
    /// The other side does not speak the protocol.
    #[error(transparent)]
    Wire(#[from] WireError),
}
