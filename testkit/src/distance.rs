//! A link with a delay: octets take their time from one side to the other. (tc-netem is not in every kernel.)

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use crate::netns::Namespace;

/// A server that is far away: what reaches it, and what comes back, is under way for a while. TCP's own handshake is not.
#[derive(Debug)]
pub struct Distance {
    listener: TcpListener,
}

impl Distance {
    /// Listens at `near` and connects to `far`; both directions take `one_way`.
    #[must_use]
    pub fn start(at: &Namespace, near: SocketAddr, far: SocketAddr, one_way: Duration) -> Self {
        let listener = at.inside(|| TcpListener::bind(near)).expect("bind");
        let accepting = listener.try_clone().unwrap();
        // A thread is born into the namespace of its parent.
        at.inside(|| thread::spawn(move || accept(&accepting, far, one_way)));
        Self { listener }
    }
}

impl Drop for Distance {
    fn drop(&mut self) {
        _ = rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both);
    }
}

fn accept(near: &TcpListener, far: SocketAddr, one_way: Duration) {
    while let Ok((client, _)) = near.accept() {
        let server = TcpStream::connect(far).expect("connect");
        for (from, to) in [(&client, &server), (&server, &client)] {
            let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
            to.set_nodelay(true).unwrap();
            // What the ends do to their connection is the test's business.
            thread::spawn(move || drop(carry(&from, to, one_way)));
        }
    }
}

fn carry(mut from: &TcpStream, to: TcpStream, one_way: Duration) -> io::Result<()> {
    let (depart, arrive) = channel();
    thread::spawn(move || drop(deliver(&arrive, &to)));
    let mut buffer = vec![0; 1 << 16];
    loop {
        let len = from.read(&mut buffer)?;
        let due = Instant::now() + one_way;
        if len == 0 || depart.send((due, buffer[..len].to_vec())).is_err() {
            return Ok(());
        }
    }
}

fn deliver(arrive: &Receiver<(Instant, Vec<u8>)>, mut to: &TcpStream) -> io::Result<()> {
    while let Ok((due, octets)) = arrive.recv() {
        sleep(due.saturating_duration_since(Instant::now()));
        to.write_all(&octets)?;
    }
    to.shutdown(Shutdown::Write)
}
