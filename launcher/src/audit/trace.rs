//! What strace(1) writes: a line for a system call, with the addresses in it.

use std::net::{IpAddr, SocketAddr};

/// A destination that a process named to the kernel.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Named {
    /// connect(2), or one of the send family.
    pub(super) is_connect: bool,
    pub(super) to: SocketAddr,
    /// `PID<NAME>`
    pub(super) by: String,
}

/// All of them, in order.
pub(super) fn named(trace: &str) -> Vec<Named> {
    trace.lines().flat_map(of_line).collect()
}

/// `PID<NAME> CALL(…{sa_family=AF_INET, sin_port=htons(80), sin_addr=inet_addr("192.0.2.1")}…`, where NAME
/// may have anything in it.
fn of_line(line: &str) -> impl Iterator<Item = Named> {
    let start = line.find("> ").map_or(0, |at| at.saturating_add(1));
    let (by, call) = line.split_at_checked(start).unwrap_or(("", line));
    let call = call.trim_start();
    let is_connect = call.starts_with("connect(") || call.starts_with("<... connect ");
    let sockets = call.split("{sa_family=AF_INET").skip(1).filter_map(socket);
    sockets.map(move |to| Named {
        is_connect,
        to,
        by: by.trim().to_owned(),
    })
}

/// Of what stands behind `{sa_family=AF_INET`.
fn socket(text: &str) -> Option<SocketAddr> {
    let text = text.split('}').next()?;
    let port = between(text, "_port=htons(", ")")?.parse().ok()?;
    let address: IpAddr = match text.strip_prefix('6') {
        Some(v6) => between(v6, "inet_pton(AF_INET6, \"", "\"")?.parse().ok()?,
        None => between(text, "inet_addr(\"", "\"")?.parse().ok()?,
    };
    Some(SocketAddr::new(address.to_canonical(), port))
}

fn between<'a>(text: &'a str, before: &str, behind: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(before)?;
    rest.split_once(behind).map(|(found, _)| found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_found_in_every_call_that_has_one() {
        let trace = r#"71<curl> connect(3, {sa_family=AF_INET, sin_port=htons(80), sin_addr=inet_addr("192.0.2.1")}, 16) = -1 EINPROGRESS (Operation now in progress)
71<a > b> connect(3, {sa_family=AF_INET6, sin6_port=htons(443), sin6_flowinfo=htonl(0), inet_pton(AF_INET6, "::ffff:192.0.2.2", &sin6_addr), sin6_scope_id=0}, 28 <unfinished ...>
72<dig> sendmmsg(4, [{msg_hdr={msg_name={sa_family=AF_INET, sin_port=htons(53), sin_addr=inet_addr("192.0.2.3")}, msg_namelen=16, msg_iovlen=1}, msg_len=5}, {msg_hdr={msg_name={sa_family=AF_INET6, sin6_port=htons(53), sin6_flowinfo=htonl(0), inet_pton(AF_INET6, "2001:db8::3", &sin6_addr), sin6_scope_id=0}, msg_namelen=28}}], 2, 0) = 2
73<sh> connect(5, {sa_family=AF_UNIX, sun_path="/run/nscd"...}, 110) = -1 ENOENT (No such file or directory)
73<sh> connect(5, {sa_family=AF_UNSPEC, sa_data=""...}, 16) = 0
73<sh> sendto(5, ""..., 9, MSG_NOSIGNAL, NULL, 0) = 9
71<curl> <... connect resumed>) = 0
"#;
        let found: Vec<_> = named(trace)
            .into_iter()
            .map(|named| format!("{} {} {}", named.is_connect, named.to, named.by))
            .collect();
        let expected = [
            "true 192.0.2.1:80 71<curl>",
            "false 192.0.2.2:443 71<a >",
            "false 192.0.2.3:53 72<dig>",
            "false [2001:db8::3]:53 72<dig>",
        ];
        assert_eq!(found, expected);
    }
}
