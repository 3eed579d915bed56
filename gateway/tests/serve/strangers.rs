//! Clients that we did not write.

use std::io::{Read, Write};
use std::process::Command;

use gateway::Users;

use crate::harness::{Running, destination, pattern};

const LEN_OCTETS: usize = 5 << 20;

#[test]
fn curl_fetches_through_every_version_that_it_speaks() {
    let open = Running::new();
    let closed = Running::with(|it| it.users = Users::from_lines(b"alice:s3cret").unwrap());
    let to = destination(|mut stream| {
        let mut request = [0; 1000];
        while !request.windows(4).any(|it| it == b"\r\n\r\n") {
            if stream.read(&mut request).unwrap() == 0 {
                return;
            }
        }
        let body = pattern(LEN_OCTETS, 7);
        write!(
            stream,
            "HTTP/1.0 200 OK\r\nContent-Length: {LEN_OCTETS}\r\n\r\n"
        )
        .unwrap();
        stream.write_all(&body).unwrap();
    });
    let (at, with_password) = (
        open.address.to_string(),
        format!("alice:s3cret@{}", closed.address),
    );
    for (option, at) in [
        ("--socks5-hostname", &at),
        ("--socks5", &at),
        ("--socks4a", &at),
        ("--socks4", &at),
        ("--socks5-hostname", &with_password),
    ] {
        let url = format!("http://localhost:{}/", to.port());
        let output = Command::new("curl")
            .args(["-sS", "--max-time", "10", option, at, &url])
            .output();
        let output = output.unwrap();
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{option}: {complaint}");
        assert!(
            output.stdout == pattern(LEN_OCTETS, 7),
            "{option}: other octets"
        );
    }
}
