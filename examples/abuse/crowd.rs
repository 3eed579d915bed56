//! Connections to the gateway from as many addresses as there are, so many a second.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, SockRef, Socket, Type};

use crate::here::{GATEWAY_V4, GATEWAY_V6};

/// Whole networks, or single addresses.
pub(crate) struct Sources(Vec<(IpAddr, u8)>);

impl Sources {
    pub(crate) fn parse(text: &str) -> Self {
        let networks = text.split(',').map(|network| {
            let (address, bits) = network.split_once('/').unwrap_or((network, "128"));
            (address.parse().unwrap(), bits.parse().unwrap())
        });
        Self(networks.collect())
    }

    fn address(&self, number: u64) -> IpAddr {
        let (network, bits) = self.0[number as usize % self.0.len()];
        let number = number / self.0.len() as u64;
        match network {
            IpAddr::V4(v4) if bits < 32 => {
                Ipv4Addr::from_bits(v4.to_bits() | (number % 254 + 1) as u32).into()
            }
            IpAddr::V6(v6) if bits < 128 => {
                Ipv6Addr::from_bits(v6.to_bits() | u128::from(number + 1)).into()
            }
            single => single,
        }
    }

    /// The next connection. One that is dropped is reset.
    pub(crate) fn connect(&self, number: u64) -> std::io::Result<TcpStream> {
        let from = self.address(number);
        let to = if from.is_ipv4() {
            GATEWAY_V4
        } else {
            GATEWAY_V6
        };
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
        socket.set_linger(Some(Duration::ZERO))?;
        socket.bind(&SocketAddr::new(from, 0).into())?;
        socket.connect_timeout(&to.into(), Duration::from_secs(5))?;
        let stream = TcpStream::from(socket);
        let patience = Some(Duration::from_secs(15));
        stream.set_read_timeout(patience)?;
        stream.set_write_timeout(patience)?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

/// close(2) of this stream is its orderly end.
pub(crate) fn ends_orderly(stream: &TcpStream) {
    SockRef::from(stream).set_linger(None).unwrap();
}

/// So many turns a second.
pub(crate) struct Pace {
    start: Instant,
    turns: u64,
    rate: f64,
}

impl Pace {
    pub(crate) fn new(rate: f64) -> Self {
        Self {
            start: Instant::now(),
            turns: 0,
            rate,
        }
    }

    /// The number of the next turn, once it is due; `None` after `time`.
    pub(crate) fn next(&mut self, time: Duration) -> Option<u64> {
        let due = Duration::from_secs_f64(self.turns as f64 / self.rate);
        thread::sleep(due.saturating_sub(self.start.elapsed()));
        if self.start.elapsed() >= time {
            return None;
        }
        self.turns += 1;
        Some(self.turns - 1)
    }

    pub(crate) fn achieved(&self) -> f64 {
        self.turns as f64 / self.start.elapsed().as_secs_f64()
    }
}
