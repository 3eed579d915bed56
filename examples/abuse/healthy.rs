//! The client that means well: connects by name, has a word echoed, and says how long that took.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use crate::here::{ECHO, GATEWAY_V4};
use crate::socks::{reply, to_name};

const PATIENCE: Duration = Duration::from_secs(15);

/// Between two connections: seldom enough to be no load itself.
const PAUSE: Duration = Duration::from_millis(5);

/// Prints median and 95th percentile in microseconds, how many there were, and how many of them failed.
pub(crate) fn measure(time: Duration) {
    let (start, mut took, mut failed) = (Instant::now(), Vec::new(), 0);
    while start.elapsed() < time {
        let before = Instant::now();
        if let Err(error) = once() {
            eprintln!("healthy: {error}");
            failed += 1;
        }
        took.push(before.elapsed());
        thread::sleep(PAUSE);
    }
    took.sort_unstable();
    let at = |percent: usize| took[(took.len() - 1) * percent / 100].as_micros();
    println!("{} {} {} {failed}", at(50), at(95), took.len());
}

fn once() -> io::Result<()> {
    let mut gateway = TcpStream::connect_timeout(&GATEWAY_V4, PATIENCE)?;
    gateway.set_read_timeout(Some(PATIENCE))?;
    gateway.set_nodelay(true)?;
    gateway.write_all(&to_name(b"www.good.test", ECHO))?;
    let rep = reply(&gateway)?;
    if rep != 0x00 {
        return Err(io::Error::other(format!("REP {rep:02x}")));
    }
    gateway.write_all(b"hello")?;
    let mut echoed = [0; 5];
    gateway.read_exact(&mut echoed)?;
    if &echoed == b"hello" {
        Ok(())
    } else {
        Err(io::Error::other("other octets"))
    }
}
