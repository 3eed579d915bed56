//! proxychains.conf, as proxychains-ng reads it: `key value` lines, then the proxies behind `[ProxyList]`.

use std::net::{IpAddr, Ipv4Addr};

use socks_client::Rule;

use super::{Draft, Line, Wrong, login_part, wrong};

pub(super) const LIST: &str = "[ProxyList]";
/// The default of remote_dns_subnet.
const MULTICAST: &str = "224";
/// What proxychains relays as well, unless it is a localnet.
const DIRECT_HERE: [&str; 4] = ["127.0.0.0/8", "::1/128", "169.254.0.0/16", "fe80::/10"];

pub(super) fn read(text: &str) -> Result<Draft, Wrong> {
    let mut draft = Draft::default();
    // proxychains' own default is a chain, too.
    let (mut is_all, mut chain_line) = (true, None);
    let mut len = 1;
    let mut has_dns = false;
    let mut is_list = false;
    for (line, text) in (1..).zip(text.lines()) {
        // Comments stand on lines of their own: a password may have a #.
        let text = text.trim();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        if text.eq_ignore_ascii_case(LIST) {
            is_list = true;
            continue;
        }
        if is_list {
            draft.gateways.push(gateway((line, text))?);
            continue;
        }
        let words: Vec<_> = text
            .split([' ', '\t', '='])
            .filter(|word| !word.is_empty())
            .collect();
        match *words.as_slice() {
            ["strict_chain" | "dynamic_chain"] => (is_all, chain_line) = (true, Some(line)),
            ["random_chain" | "round_robin_chain"] => {
                (is_all, chain_line) = (false, Some(line));
                draft.remark(text, "gateways are tried in the order of the list");
            }
            ["chain_len", count] => {
                let count = count.parse::<usize>();
                len = count.or_else(|_| wrong(line, "chain_len is a number"))?;
            }
            ["proxy_dns" | "proxy_dns_old"] => has_dns = true,
            ["proxy_dns_daemon", _] => {
                has_dns = true;
                draft.remark(text, "no daemon is needed: the mapping table is a file");
            }
            ["remote_dns_subnet", MULTICAST] => {
                draft.remark(
                    text,
                    "programs refuse multicast addresses: 198.18.0.0/15 is used",
                );
            }
            ["remote_dns_subnet", octet] => draft.range_v4 = Some(range((line, octet))?),
            ["tcp_read_time_out" | "tcp_connect_time_out", _] => {
                draft.remark(
                    text,
                    "programs have the time that they give connect() themselves",
                );
            }
            ["quiet_mode"] => {}
            ["localnet", network] => draft.rules.push(localnet((line, network))?),
            ["dnat", ..] => return wrong(line, "destinations cannot be replaced by others"),
            _ => {
                return wrong(
                    line,
                    format!("`{text}` is not known, neither to proxychains"),
                );
            }
        }
    }
    if draft.gateways.is_empty() {
        return Err((None, "there is no proxy in it".into()));
    }
    if draft.gateways.len() > 1 && (is_all || len > 1) {
        let what = "a chain of proxies: a connection goes through one gateway here";
        return Err((chain_line, what.into()));
    }
    if !has_dns {
        draft.remark(
            "no proxy_dns",
            "names are looked up by the gateway all the same",
        );
    }
    for network in DIRECT_HERE {
        if !draft.rules.contains(&format!("direct {network}")) {
            draft.rules.push(format!("relay {network} tcp"));
        }
    }
    Ok(draft)
}

/// `TYPE ADDRESS PORT [USER PASSWORD]`.
fn gateway((line, text): Line<'_>) -> Result<String, Wrong> {
    let words: Vec<_> = text.split_whitespace().collect();
    let (place, login) = match *words.as_slice() {
        ["socks5", address, port] => ((address, port), String::new()),
        ["socks5", address, port, user, password] => (
            (address, port),
            format!(
                "{}:{}@",
                encoded(login_part((line, user))?),
                encoded(login_part((line, password))?)
            ),
        ),
        ["socks4", ..] => {
            let maybe = "many servers speak both: try socks5 in its place";
            return wrong(line, format!("socks4 is not spoken here; {maybe}"));
        }
        [kind @ ("http" | "raw"), ..] => {
            return wrong(line, format!("an {kind} proxy is no SOCKS5 gateway"));
        }
        _ => return wrong(line, "expected TYPE ADDRESS PORT [USER PASSWORD]"),
    };
    match (place.0.parse::<IpAddr>(), place.1.parse::<u16>()) {
        (Ok(address), Ok(port)) if port != 0 => {
            let place = std::net::SocketAddr::new(address, port);
            let scheme = if login.is_empty() { "" } else { "socks5://" };
            Ok(format!("{scheme}{login}{place}"))
        }
        _ => wrong(
            line,
            format!("`{} {}` is not an address and a port", place.0, place.1),
        ),
    }
}

/// RFC 3986 §2.1.
fn encoded(text: &str) -> String {
    let mut url = String::new();
    for octet in text.bytes() {
        if octet.is_ascii_alphanumeric() {
            url.push(octet.into());
        } else {
            url.push_str(&format!("%{octet:02X}"));
        }
    }
    url
}

/// The first octet of a network of 2^24 addresses.
fn range((line, octet): Line<'_>) -> Result<String, Wrong> {
    // The kernel keeps 0 and 127, and whoever gets an address of 224 and above may take it for no host's.
    match octet.parse::<u8>() {
        Ok(first @ (1..=126 | 128..=223)) => Ok(format!("{first}.0.0.0/8")),
        _ => wrong(
            line,
            format!("{octet}.0.0.0/8 cannot be a range of fake addresses"),
        ),
    }
}

/// `ADDRESS[:PORT]/MASK`, the mask as an address or as a prefix; an IPv6 address with a port in brackets.
fn localnet((line, network): Line<'_>) -> Result<String, Wrong> {
    let parts = network.rsplit_once('/').and_then(|(place, mask)| {
        let prefix = match mask.parse::<Ipv4Addr>() {
            Ok(mask) if mask.to_bits().leading_ones() == mask.to_bits().count_ones() => {
                mask.to_bits().leading_ones().to_string()
            }
            Ok(_gaps) => return None,
            Err(_prefix) => mask.to_owned(),
        };
        let (address, port) = match place.parse::<IpAddr>() {
            Ok(_) => (place, ""),
            Err(_) => place.rsplit_once(':')?,
        };
        let address = address.trim_start_matches('[').trim_end_matches(']');
        Some(
            format!("direct {address}/{prefix} {port}")
                .trim_end()
                .to_owned(),
        )
    });
    let rule = parts.ok_or_else(|| {
        (
            Some(line),
            format!("`{network}` is not ADDRESS[:PORT]/MASK"),
        )
    })?;
    match Rule::parse(&rule) {
        Ok(rule) => Ok(rule.to_string()),
        Err(what) => wrong(line, what),
    }
}
