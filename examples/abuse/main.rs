//! The programs of `scripts/abuse`: clients of a SOCKS gateway that mean no good, one that does, and what they connect to.
//! The addresses are those of the script's namespaces.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::unused_io_amount,
    reason = "a test's program: it prints, whatever goes wrong ends it, and who is reset need not have taken all"
)]

mod attack;
mod crowd;
mod dns;
mod forbidden;
mod healthy;
mod servers;
mod socks;

use std::env::args;
use std::time::Duration;

/// As in the script.
mod here {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

    pub(crate) const GATEWAY_V4: SocketAddr =
        SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 1080);
    pub(crate) const GATEWAY_V6: SocketAddr = SocketAddr::new(
        IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1)),
        1080,
    );
    pub(crate) const DESTINATION: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);

    /// Sends everything back.
    pub(crate) const ECHO: u16 = 7;
    /// Never reads.
    pub(crate) const DEAF: u16 = 9;
    /// Sends as fast as it can.
    pub(crate) const CHARGEN: u16 = 19;
}

const USAGE: &str = "usage: abuse destination | dns ADDRESS | sentinel PORT... | healthy SECONDS
       abuse KIND FROM SECONDS RATE MOST, FROM being an address or networks (192.0.2.0/24,2001:db8::/64),
       RATE connections a second, and MOST how many of them stay";

fn main() {
    let words: Vec<String> = args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["destination"] => servers::destination(),
        ["dns", at] => dns::serve(at.parse().unwrap()),
        ["sentinel", ref ports @ ..] => servers::sentinel(ports),
        ["healthy", seconds] => healthy::measure(time(seconds)),
        [kind, from, seconds, rate, most] => attack::attack(
            kind,
            from,
            time(seconds),
            rate.parse().unwrap(),
            most.parse().unwrap(),
        ),
        _ => panic!("{USAGE}"),
    }
}

fn time(seconds: &str) -> Duration {
    Duration::from_secs_f64(seconds.parse().unwrap())
}
