//! SOCKS 4, 4a and 5 on the wire: octets to messages and back, and both sides of the handshake.
//! No socket, no clock, no heap: octets in, octets out.
//!
//! # Messages
//! [`Greeting`], [`Selection`], [`Credentials`], [`Status`], [`Request`], [`Reply`],
//! [`DatagramHeader`], [`v4::Request`] and [`v4::Reply`] each have `parse`, which gives the message
//! or says how many octets are missing ([`Parsed`]), and `encode`, which writes it into a buffer.
//! Codes are newtypes over `u8`: one that nobody has assigned is kept as it came.
//!
//! # Handshakes
//! [`ClientHandshake`] and [`ServerHandshake`] are asked for a step, which says what to send or
//! receive, and are told what was sent or received. A whole CONNECT:
//! ```
//! use socks_wire::*;
//!
//! let destination = Destination { address: Fqdn::new(b"www.example.com")?.into(), port: 80 };
//! let credentials = Credentials::new(b"alice", b"secret")?;
//! let mut client = ClientHandshake::new(Cmd::CONNECT, &destination, Some(credentials));
//! let mut server = ServerHandshake::new(ServerMethods::UsernamePassword);
//!
//! let mut scratch = [0; CLIENT_SCRATCH_OCTETS];
//! let (mut to_server, mut to_client) = (Vec::new(), Vec::new()); // the connection between them
//! let bound = loop {
//!     match client.step(&mut scratch) {
//!         Step::Send(octets) => {
//!             to_server.extend_from_slice(octets);
//!             client.sent(octets.len());
//!         }
//!         Step::Receive(at_most) if !to_client.is_empty() => {
//!             let received: Vec<u8> = to_client.drain(..at_most.min(to_client.len())).collect();
//!             client.received(&received)?;
//!         }
//!         Step::Receive(_) => match server.step() {
//!             ServerStep::Receive => {
//!                 let taken = server.received(&to_server);
//!                 to_server.drain(..taken);
//!             }
//!             ServerStep::Authenticate(credentials) => {
//!                 let ok = credentials.user() == b"alice" && credentials.password() == b"secret";
//!                 server.authenticated(ok);
//!             }
//!             ServerStep::Send(octets) => {
//!                 to_client.extend_from_slice(octets);
//!                 let sent = octets.len();
//!                 server.sent(sent);
//!             }
//!             ServerStep::Request(request) => {
//!                 assert_eq!(request.cmd, Cmd::CONNECT);
//!                 assert_eq!(request.destination.to_string(), "www.example.com:80");
//!                 // … here a gateway dials …
//!                 let bound = Bound::from("[2001:db8::1]:40000".parse::<std::net::SocketAddr>()?);
//!                 let mut reply = [0; 22];
//!                 let len = encode_reply(request.version, Rep::SUCCEEDED, &bound, &mut reply)?;
//!                 to_client.extend_from_slice(&reply[..len]);
//!             }
//!             ServerStep::Fail(error) => return Err(error.into()),
//!         },
//!         Step::Done(bound) => break bound,
//!     }
//! };
//! assert_eq!(bound.to_string(), "[2001:db8::1]:40000");
//! assert!(to_server.is_empty() && to_client.is_empty());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

mod addr;
#[cfg(test)]
mod check;
mod client;
mod datagram;
mod error;
#[cfg(test)]
mod hostile;
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
