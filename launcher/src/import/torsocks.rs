//! torsocks.conf(5): `Directive value`, `#` begins a comment anywhere.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;

use super::{Draft, Line, Wrong, login_part, wrong};

pub(super) fn read(text: &str) -> Result<Draft, Wrong> {
    let mut draft = Draft::default();
    // What torsocks has where the file says nothing.
    let (mut address, mut port) = (IpAddr::from([127, 0, 0, 1]), 9050);
    let (mut user, mut password) = (None, None);
    let mut localhost = 0;
    for (line, text) in (1..).zip(text.lines()) {
        let text = text.split('#').next().unwrap_or_default().trim();
        let Some((key, value)) = text.split_once(char::is_whitespace) else {
            if text.is_empty() {
                continue;
            }
            return wrong(
                line,
                format!("`{text}` has no value, or this is no file that is known here"),
            );
        };
        let value = value.trim();
        let at = (line, value);
        match key {
            "TorAddress" => address = parsed(at, "an address")?,
            "TorPort" => port = parsed::<NonZeroU16>(at, "a port")?.get(),
            "SOCKS5Username" => user = Some((line, login_part(at)?)),
            "SOCKS5Password" => password = Some((line, login_part(at)?)),
            "OnionAddrRange" => {
                draft.remark(
                    text,
                    "every name has an address here, from range-v4 and range-v6",
                );
            }
            "AllowInbound" if number(at, 1)? == 0 => {
                draft.remark(text, "listen() and accept() are left alone");
            }
            "AllowInbound" => {}
            "AllowOutboundLocalhost" => localhost = number(at, 2)?,
            "IsolatePID" if number(at, 1)? == 1 => {
                let instead =
                    "a user of its own for each run (--user) isolates runs from one another";
                return wrong(line, format!("processes cannot be isolated; {instead}"));
            }
            "IsolatePID" => {}
            "EnableIPv6" => {
                number(at, 1)?;
                draft.remark(text, "both families are relayed");
            }
            _ => return wrong(line, format!("`{key}` is not known, neither to torsocks")),
        }
    }
    draft
        .gateways
        .push(SocketAddr::new(address, port).to_string());
    draft.login = match (user, password) {
        (Some((_, user)), Some((_, password))) => Some((user.to_owned(), password.to_owned())),
        (None, None) => None,
        (Some((line, _)), None) | (None, Some((line, _))) => {
            return wrong(line, "SOCKS5Username and SOCKS5Password go together");
        }
    };
    // Neither TCP nor UDP; TCP alone; both.
    let rejected = match localhost {
        0 => Some(""),
        1 => Some(" udp"),
        _ => None,
    };
    for network in rejected
        .map(|_| ["127.0.0.0/8", "::1"])
        .into_iter()
        .flatten()
    {
        draft
            .rules
            .push(format!("reject {network}{}", rejected.unwrap_or_default()));
    }
    Ok(draft)
}

fn parsed<T: std::str::FromStr>((line, value): Line<'_>, what: &str) -> Result<T, Wrong> {
    value
        .parse()
        .or_else(|_| wrong(line, format!("`{value}` is not {what}")))
}

fn number(at: Line<'_>, most: u8) -> Result<u8, Wrong> {
    let value = parsed(at, "a number")?;
    if value > most {
        return wrong(at.0, format!("{value} is not 0 to {most}"));
    }
    Ok(value)
}
