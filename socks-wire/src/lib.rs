//! SOCKS 4, 4a and 5 on the wire: octets to messages and back, and both sides of the handshake.
//! No socket, no clock, no heap: octets in, octets out.

#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

mod addr;
mod client;
mod datagram;
mod error;
mod method;
mod read;
mod reply;
mod request;
mod server;
mod text;
mod userpass;
pub mod v4;
mod write;

pub use addr::{Address, Atyp, Bound, Destination, Fqdn};
pub use client::{CLIENT_SCRATCH_OCTETS, ClientHandshake, Progress, Step};
pub use datagram::{DatagramHeader, Frag};
pub use error::{HandshakeError, WireError};
pub use method::{Greeting, Method, Selection};
pub use read::Parsed;
pub use reply::{Rep, Reply};
pub use request::{Cmd, Request};
pub use server::{
    ServerHandshake, ServerMethods, ServerRequest, ServerStep, Version, encode_reply,
};
pub use userpass::{Credentials, Status};
