//! Values as an operator writes them, on the command line and in the configuration file alike.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use tracing::level_filters::LevelFilter;

/// A time: `500ms`, `10s`, `2m`, `1h`; seconds if there is no unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Span(pub(crate) Duration);

/// A range of addresses: `192.0.2.0/24`, or one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Cidr(pub(crate) IpNet);

/// A numeric address and a port: `127.0.0.1:1080`, `[::]:1080`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Endpoint(pub(crate) SocketAddr);

/// How much to log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Level(pub(crate) LevelFilter);
/// Octets a second: `500KiB`, `10MiB`, `1GB`; octets if there is no unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Rate(pub(crate) u64);

/// The largest first.
const UNITS: [(&str, u64); 7] = [
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("kB", 1_000),
    ("", 1),
];

/// A number of leading bits of an IPv6 address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "u8")]
pub(crate) struct PrefixV6(pub(crate) u8);

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
        let unit = text.get(digits.len()..).unwrap_or_default();
        let duration = digits.parse::<u32>().ok().and_then(|number| {
            Some(match unit {
                "ms" => Duration::from_millis(number.into()),
                "" | "s" => Duration::from_secs(number.into()),
                "m" => Duration::from_secs(60).checked_mul(number)?,
                "h" => Duration::from_secs(3600).checked_mul(number)?,
                _ => return None,
            })
        });
        duration
            .map(Self)
            .ok_or_else(|| format!("\"{text}\" is not a time, such as 500ms, 10s, 2m or 1h"))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let milliseconds = self.0.as_millis();
        let seconds = self.0.as_secs();
        match (milliseconds % 1000, seconds % 60, seconds % 3600) {
            (0, 0, 0) if seconds > 0 => write!(f, "{}h", seconds / 3600),
            (0, 0, _) if seconds > 0 => write!(f, "{}m", seconds / 60),
            (0, ..) => write!(f, "{seconds}s"),
            _ => write!(f, "{milliseconds}ms"),
        }
    }
}

impl FromStr for Cidr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let net = text.parse().ok();
        net.or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
            .map(|net| Self(canonical(net)))
            .ok_or_else(|| {
                format!("\"{text}\" is not an address or a range, such as 192.0.2.7, 192.0.2.0/24 or 2001:db8::/32")
            })
    }
}

/// A range of v4-mapped addresses is one of v4 addresses, as every address is before it is judged.
fn canonical(net: IpNet) -> IpNet {
    match (net.addr().to_canonical(), net.prefix_len().checked_sub(96)) {
        (v4 @ IpAddr::V4(_), Some(bits)) if net.addr().is_ipv6() => {
            IpNet::new(v4, bits).unwrap_or(net)
        }
        _ => net,
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Self).map_err(|_not_one| {
            format!("\"{text}\" is not a numeric address and a port, such as 127.0.0.1:1080 or [::]:1080")
        })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Level {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Self).map_err(|_not_one| {
            format!("\"{text}\" is not a level: off, error, warn, info, debug or trace")
        })
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
        let unit = text.get(digits.len()..).unwrap_or_default();
        let octets = UNITS.iter().find(|(name, _)| *name == unit);
        let octets =
            octets.and_then(|(_, octets)| octets.checked_mul(digits.parse::<u32>().ok()?.into()));
        match octets {
            Some(octets) if octets > 0 => Ok(Self(octets)),
            _ => Err(format!(
                "\"{text}\" is not a number of octets for a second, such as 500KiB, 10MiB or 1GB"
            )),
        }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, octets) in UNITS {
            if let (Some(0), Some(number)) =
                (self.0.checked_rem(octets), self.0.checked_div(octets))
            {
                return write!(f, "{number}{name}");
            }
        }
        Ok(())
    }
}

impl TryFrom<u8> for PrefixV6 {
    type Error = String;

    fn try_from(bits: u8) -> Result<Self, String> {
        // Without a bit, all of IPv6 would be one client.
        if (1..=128).contains(&bits) {
            Ok(Self(bits))
        } else {
            Err(format!("{bits} is not a number of bits from 1 to 128"))
        }
    }
}

/// serde's side of a value that is written as text.
macro_rules! as_text {
    ($($name:ty)*) => {
        $(impl TryFrom<String> for $name {
            type Error = String;

            fn try_from(text: String) -> Result<Self, String> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.to_string()
            }
        })*
    };
}

pub(crate) use as_text;

as_text!(Span Cidr Endpoint Level Rate);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_v4_mapped_range_is_a_v4_one() {
        for (text, net) in [
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("::ffff:192.0.2.7", "192.0.2.7/32"),
            ("::fffe:0:0/95", "::fffe:0:0/95"),
            ("2001:db8::/120", "2001:db8::/120"),
        ] {
            assert_eq!(text.parse::<Cidr>().unwrap().to_string(), net);
        }
    }

    #[test]
    fn rates_are_written_as_they_are_read() {
        for text in ["1", "1023", "500KiB", "10MiB", "1GB", "3GiB", "64kB"] {
            assert_eq!(text.parse::<Rate>().unwrap().to_string(), text);
        }
        assert_eq!("2048KiB".parse::<Rate>().unwrap().to_string(), "2MiB");
        for text in [
            "",
            "0",
            "0MiB",
            "MiB",
            "1Mib",
            "-1",
            "1.5MiB",
            "1 MiB",
            "99999999999",
        ] {
            assert!(text.parse::<Rate>().is_err(), "{text}");
        }
    }

    #[test]
    fn times_are_written_as_they_are_read() {
        for text in ["0s", "1ms", "1500ms", "10s", "127s", "2m", "1h", "25h"] {
            assert_eq!(text.parse::<Span>().unwrap().to_string(), text);
        }
        assert_eq!("90".parse::<Span>().unwrap().to_string(), "90s");
        for text in ["", "s", "1d", "-1s", "1 s", "1.5s", "99999999999"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }
}
