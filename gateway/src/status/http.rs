//! As much of HTTP/1.1 (RFC 9112) as a scraper, a probe and a browser need: GET and HEAD, an answer for each connection.
//! Nothing here waits; what to answer is the server's business.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags};

/// A browser's request has some 1 KiB.
const REQUEST_OCTETS: usize = 8 << 10;

/// What a client may still send after its answer without being reset.
const REST_OCTETS: usize = 64 << 10;

/// What a client asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request<'a> {
    is_head: bool,
    pub(super) path: &'a str,
    host: Option<&'a str>,
}

impl<'a> Request<'a> {
    /// `None` while its end is missing; the status if it is none.
    fn parse(octets: &'a [u8]) -> Option<Result<Self, &'static str>> {
        let end = octets.windows(4).position(|it| it == b"\r\n\r\n");
        match end.and_then(|end| octets.get(..end)) {
            Some(head) => Some(Self::parse_head(head)),
            None if octets.len() >= REQUEST_OCTETS => {
                Some(Err("431 Request Header Fields Too Large"))
            }
            None => None,
        }
    }

    fn parse_head(head: &'a [u8]) -> Result<Self, &'static str> {
        const BAD: &str = "400 Bad Request";
        let mut lines = str::from_utf8(head).map_err(|_binary| BAD)?.split("\r\n");
        let mut words = lines.next().unwrap_or_default().split(' ');
        let (Some(method), Some(target), Some(version), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(BAD);
        };
        if !version.starts_with("HTTP/1.") {
            return Err("505 HTTP Version Not Supported");
        }
        let mut hosts = lines.filter_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("host").then(|| value.trim())
        });
        let host = hosts.next();
        // RFC 9112 §3.2
        if hosts.next().is_some() || (host.is_none() && version != "HTTP/1.0") {
            return Err(BAD);
        }
        let is_head = match method {
            "GET" => false,
            "HEAD" => true,
            _ => return Err("405 Method Not Allowed"),
        };
        let path = target.split('?').next().unwrap_or_default();
        Ok(Self {
            is_head,
            path,
            host,
        })
    }

    /// Asked of a loopback listener: a web page elsewhere may have its own name resolve to 127.0.0.1, and would read
    /// through a browser of this host what goes on here.
    pub(super) fn is_for_this_host(&self) -> bool {
        self.host.is_none_or(|host| {
            let name = match host.rsplit_once(':') {
                Some((name, port)) if port.bytes().all(|octet| octet.is_ascii_digit()) => name,
                _ => host,
            };
            let ip = name.trim_start_matches('[').trim_end_matches(']');
            name.eq_ignore_ascii_case("localhost") || ip.parse::<IpAddr>().is_ok()
        })
    }
}

/// What is said to it.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: &'static str,
    pub(super) content_type: &'static str,
    pub(super) body: String,
}

impl Answer {
    /// A line of plain text, or the status alone.
    pub(super) fn text(status: &'static str, text: &str) -> Self {
        let text = if text.is_empty() { status } else { text };
        let mut body = text.to_owned();
        if !body.ends_with('\n') {
            body.push('\n');
        }
        Self {
            status,
            content_type: "text/plain; charset=utf-8",
            body,
        }
    }

    fn octets(&self, is_head: bool) -> Vec<u8> {
        let allow = if self.status.starts_with("405") {
            "Allow: GET, HEAD\r\n"
        } else {
            ""
        };
        let mut text = format!(
            "HTTP/1.1 {}\r\nContent-Type: {}\r\nContent-Length: {}\r\n{allow}{HEADERS}\r\n",
            self.status,
            self.content_type,
            self.body.len(),
        );
        if !is_head {
            text.push_str(&self.body);
        }
        text.into_bytes()
    }
}

const HEADERS: &str = "Connection: close\r\n\
    Cache-Control: no-store\r\n\
    X-Content-Type-Options: nosniff\r\n\
    X-Frame-Options: DENY\r\n\
    Referrer-Policy: no-referrer\r\n\
    Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'\r\n";

/// One client, from accept to close.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    state: State,
    /// Closed at this moment, wherever it is.
    pub(super) deadline: Instant,
}

#[derive(Debug)]
enum State {
    Asking(Vec<u8>),
    Answering {
        octets: Vec<u8>,
        sent: usize,
    },
    /// close(2) with octets of the client unread would be a reset, and the answer lost.
    Ending {
        received: usize,
    },
}

impl Connection {
    pub(super) fn new(stream: TcpStream, deadline: Instant) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            state: State::Asking(Vec::new()),
            deadline,
        })
    }

    pub(super) fn poll(&self) -> PollFd<'_> {
        let flags = match self.state {
            State::Answering { .. } => PollFlags::OUT,
            State::Asking(_) | State::Ending { .. } => PollFlags::IN,
        };
        PollFd::from_borrowed_fd(self.stream.as_fd(), flags)
    }

    /// Goes on as far as it can; false if that was to the end. `answer` says what to say to a request, or to what is none.
    pub(super) fn advance(
        &mut self,
        mut answer: impl FnMut(Result<&Request<'_>, &'static str>) -> Answer,
    ) -> bool {
        loop {
            match self.step(&mut answer) {
                Ok(true) => {}
                Ok(false) => return false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return error.kind() == ErrorKind::WouldBlock,
            }
        }
    }

    fn step(
        &mut self,
        answer: &mut impl FnMut(Result<&Request<'_>, &'static str>) -> Answer,
    ) -> io::Result<bool> {
        let mut octets = [0; 2048];
        match &mut self.state {
            State::Asking(head) => {
                let received = self.stream.read(&mut octets)?;
                if received == 0 {
                    return Ok(false);
                }
                head.extend(octets.get(..received).unwrap_or_default());
                let octets = match Request::parse(head) {
                    None => return Ok(true),
                    Some(Ok(request)) => answer(Ok(&request)).octets(request.is_head),
                    Some(Err(status)) => answer(Err(status)).octets(false),
                };
                self.state = State::Answering { octets, sent: 0 };
            }
            State::Answering { octets, sent } => {
                let unsent = octets.get(*sent..).unwrap_or_default();
                if unsent.is_empty() {
                    self.stream.shutdown(Shutdown::Write)?;
                    self.state = State::Ending { received: 0 };
                } else {
                    *sent = sent.saturating_add(self.stream.write(unsent)?);
                }
            }
            State::Ending { received } => {
                let more = self.stream.read(&mut octets)?;
                *received = received.saturating_add(more);
                return Ok(more > 0 && *received < REST_OCTETS);
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_understood_or_have_their_status() {
        let (bad, version) = ("400 Bad Request", "505 HTTP Version Not Supported");
        for (octets, path_or_status) in [
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", Ok("/")),
            ("HEAD /metrics?x=/ HTTP/1.0\r\n\r\n", Ok("/metrics")),
            ("GET / HTTP/1.1\r\n\r\n", Err(bad)),
            ("GET / HTTP/1.1\r\nHost: a\r\nhost: b\r\n\r\n", Err(bad)),
            ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", Err(bad)),
            ("GET /\r\n\r\n", Err(bad)),
            ("\u{5}\u{1}\0\r\n\r\n", Err(bad)),
            ("GET / HTTP/2\r\nHost: a\r\n\r\n", Err(version)),
            (
                "POST / HTTP/1.1\r\nHost: a\r\n\r\n",
                Err("405 Method Not Allowed"),
            ),
        ] {
            let request = Request::parse(octets.as_bytes()).unwrap();
            let request = request.map(|request| request.path);
            assert_eq!(request, path_or_status, "{octets:?}");
        }
        let octets = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        for end in 0..octets.len() {
            assert_eq!(Request::parse(&octets[..end]), None);
        }
    }

    #[test]
    fn this_host_is_an_address_or_localhost() {
        let is_for_this_host = |host| {
            let request = Request {
                is_head: false,
                path: "/",
                host,
            };
            request.is_for_this_host()
        };
        for host in [
            "127.0.0.1:9180",
            "127.0.0.1",
            "[::1]:9180",
            "[::1]",
            "LocalHost:80",
        ] {
            assert!(is_for_this_host(Some(host)), "{host}");
        }
        assert!(is_for_this_host(None));
        for host in [
            "evil.example",
            "evil.example:9180",
            "127.0.0.1.evil.example",
            "",
        ] {
            assert!(!is_for_this_host(Some(host)), "{host}");
        }
    }
}
