//! SOCKS5 without a password, laid out by hand.

use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr, TcpStream};

/// Greeting and CONNECT in one.
pub(crate) fn to_address(to: SocketAddr) -> Vec<u8> {
    let octets = match to.ip() {
        IpAddr::V4(ip) => [&[0x01], &ip.octets()[..]].concat(),
        IpAddr::V6(ip) => [&[0x04], &ip.octets()[..]].concat(),
    };
    connect(&octets, to.port())
}

pub(crate) fn to_name(name: &[u8], port: u16) -> Vec<u8> {
    connect(&[&[0x03, name.len() as u8], name].concat(), port)
}

fn connect(destination: &[u8], port: u16) -> Vec<u8> {
    let head = [0x05, 0x01, 0x00, 0x05, 0x01, 0x00]; // VER NMETHODS METHODS, VER CMD RSV
    [&head[..], destination, &port.to_be_bytes()].concat()
}

/// REP, once both answers have been read.
pub(crate) fn reply(mut gateway: &TcpStream) -> io::Result<u8> {
    let mut head = [0; 6]; // VER METHOD, VER REP RSV ATYP
    gateway.read_exact(&mut head)?;
    let address = if head[5] == 0x04 { 16 } else { 4 };
    gateway.read_exact(&mut [0; 18][..address + 2])?;
    Ok(head[3])
}
