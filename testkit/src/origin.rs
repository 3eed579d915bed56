//! Servers of the destination, as threads of the test on sockets in the namespace: HTTP, echo, a banner, and the trap that says nothing.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, sleep};
use std::time::Duration;

use crate::artefacts::made_once;
use crate::git;
use crate::netns::Namespace;

/// The size of the payload: what each of the programs has to move.
pub const PAYLOAD_OCTETS: usize = 50_000_000;
/// A peer that falls silent must not keep a thread for ever.
const SILENCE: Duration = Duration::from_secs(60);

/// What to do with one connection.
type Manner = dyn Fn(&TcpStream) -> io::Result<()> + Send + Sync;

/// A running server. Dropped, it accepts no more.
#[derive(Debug)]
pub struct Origin {
    listeners: Vec<TcpListener>,
    peers: Arc<Mutex<Vec<SocketAddr>>>,
    received: Arc<AtomicUsize>,
}

impl Origin {
    /// HTTP: `/bytes` is the payload, `/slow` the same at about 3 MB a second, `/git/…` the repository by smart HTTP, and `/`
    /// says who asked.
    #[must_use]
    pub fn http(at: &Namespace, addresses: &[SocketAddr]) -> Self {
        Self::start(at, addresses, |_| Arc::new(serve_http))
    }

    /// Sends back what it receives; half-closes when its peer has.
    #[must_use]
    pub fn echo(at: &Namespace, addresses: &[SocketAddr]) -> Self {
        Self::start(at, addresses, |_| {
            Arc::new(|connection: &TcpStream| {
                io::copy(&mut &*connection, &mut &*connection)?;
                connection.shutdown(Shutdown::Write)
            })
        })
    }

    /// Speaks first, as ssh and smtp servers do, then sends back what it receives.
    #[must_use]
    pub fn banner(at: &Namespace, addresses: &[SocketAddr], banner: &'static [u8]) -> Self {
        Self::start(at, addresses, |_| {
            Arc::new(|connection: &TcpStream| {
                (&*connection).write_all(banner)?;
                io::copy(&mut &*connection, &mut &*connection)?;
                connection.shutdown(Shutdown::Write)
            })
        })
    }

    /// Says by whom it is reached, an address in a line, then sends back what it receives.
    #[must_use]
    pub fn greeter(at: &Namespace, addresses: &[SocketAddr]) -> Self {
        Self::start(at, addresses, |_| {
            Arc::new(|mut connection: &TcpStream| {
                writeln!(connection, "{}", connection.peer_addr()?.ip())?;
                io::copy(&mut &*connection, &mut &*connection)?;
                connection.shutdown(Shutdown::Write)
            })
        })
    }

    /// Accepts and closes at once, without a word: enough to be counted.
    #[must_use]
    pub fn silent(at: &Namespace, addresses: &[SocketAddr]) -> Self {
        Self::start(at, addresses, |_| Arc::new(|_: &TcpStream| Ok(())))
    }

    /// Reads whatever comes and says nothing: [`Origin::received`] knows how much.
    #[must_use]
    pub fn sink(at: &Namespace, addresses: &[SocketAddr]) -> Self {
        Self::start(at, addresses, |received| {
            let received = Arc::clone(received);
            Arc::new(move |mut connection: &TcpStream| {
                let mut buffer = vec![0; 1 << 16];
                loop {
                    match connection.read(&mut buffer)? {
                        0 => return Ok(()),
                        n => received.fetch_add(n, Ordering::Relaxed),
                    };
                }
            })
        })
    }

    fn start(
        at: &Namespace,
        addresses: &[SocketAddr],
        manner: impl FnOnce(&Arc<AtomicUsize>) -> Arc<Manner>,
    ) -> Self {
        let bind = |address: &SocketAddr| {
            TcpListener::bind(address).unwrap_or_else(|e| panic!("bind {address}: {e}"))
        };
        let listeners: Vec<TcpListener> = at.inside(|| addresses.iter().map(bind).collect());
        let origin = Self {
            listeners,
            peers: Arc::default(),
            received: Arc::default(),
        };
        let manner = manner(&origin.received);
        for listener in &origin.listeners {
            let listener = listener.try_clone().unwrap();
            let (peers, manner) = (Arc::clone(&origin.peers), Arc::clone(&manner));
            thread::spawn(move || accept(&listener, &peers, &manner));
        }
        origin
    }

    /// Who has connected so far.
    #[must_use]
    pub fn peers(&self) -> Vec<SocketAddr> {
        self.peers.lock().unwrap().clone()
    }

    /// How many have connected so far.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.peers().len()
    }

    /// How many octets a [`Origin::sink`] has read.
    #[must_use]
    pub fn received(&self) -> usize {
        self.received.load(Ordering::Relaxed)
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        for listener in &self.listeners {
            // Wakes the thread in accept, which closing alone would not.
            _ = rustix::net::shutdown(listener, rustix::net::Shutdown::Both);
        }
    }
}

fn accept(listener: &TcpListener, peers: &Mutex<Vec<SocketAddr>>, manner: &Arc<Manner>) {
    while let Ok((connection, peer)) = listener.accept() {
        peers.lock().unwrap().push(peer);
        connection.set_read_timeout(Some(SILENCE)).unwrap();
        connection.set_write_timeout(Some(SILENCE)).unwrap();
        let manner = Arc::clone(manner);
        // What a client does to its connection is the test's business, not an error here.
        thread::spawn(move || drop(manner(&connection)));
    }
}

/// A request, as far as we care.
#[derive(Debug, Default)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    fn read(connection: &TcpStream) -> io::Result<Self> {
        let mut reader = BufReader::new(connection);
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let mut words = line.split_whitespace().map(str::to_owned);
        let mut request = Self {
            method: words.next().unwrap_or_default(),
            ..Self::default()
        };
        let target = words.next().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        (request.path, request.query) = (path.to_owned(), query.to_owned());
        loop {
            line.clear();
            reader.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(": ") else {
                break;
            };
            request
                .headers
                .push((name.to_ascii_lowercase(), value.to_owned()));
        }
        let length = request
            .header("content-length")
            .and_then(|n| n.parse().ok())
            .unwrap_or(0);
        request.body.resize(length, 0);
        reader.read_exact(&mut request.body)?;
        Ok(request)
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }
}

fn serve_http(connection: &TcpStream) -> io::Result<()> {
    let request = Request::read(connection)?;
    let mut out = connection;
    match request.path.as_str() {
        "/" => {
            let text = format!("you come from {}\n", connection.peer_addr()?.ip());
            head(out, "text/plain", text.len())?;
            out.write_all(text.as_bytes())?;
        }
        "/bytes" => {
            head(out, BYTES, PAYLOAD_OCTETS)?;
            io::copy(&mut File::open(payload())?, &mut out)?;
        }
        "/slow" => {
            head(out, BYTES, PAYLOAD_OCTETS)?;
            let mut payload = File::open(payload())?;
            while io::copy(&mut (&mut payload).take(1 << 16), &mut out)? > 0 {
                sleep(Duration::from_millis(20));
            }
        }
        path if path.starts_with("/git/") => out.write_all(&git::answer(&request)?)?,
        _ => out.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")?,
    }
    connection.shutdown(Shutdown::Write)
}

/// What is no text.
const BYTES: &str = "application/octet-stream";

fn head(mut out: impl Write, kind: &str, length: usize) -> io::Result<()> {
    write!(
        out,
        "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\n\
         Content-Length: {length}\r\nConnection: close\r\n\r\n"
    )
}

/// A file of [`PAYLOAD_OCTETS`] octets that no compression makes smaller.
#[must_use]
pub fn payload() -> PathBuf {
    made_once("payload", |path| {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64; // xorshift64; any fixed seed will do
        let octets: Vec<u8> = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        })
        .take(PAYLOAD_OCTETS / 8)
        .flatten()
        .collect();
        std::fs::write(path, octets).unwrap();
    })
}

/// A file's SHA-256 in hexadecimal, by coreutils.
#[must_use]
pub fn sha256(path: &Path) -> String {
    let done = Command::new("/usr/bin/sha256sum")
        .arg(path)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&done.stdout);
    text.split_whitespace()
        .next()
        .unwrap_or("no such file")
        .to_owned()
}
