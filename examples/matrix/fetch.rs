//! Fetches `http://NAME/` from several hosts at once by tokio, on one thread: `tokio-fetch NAME...`
//! What a host sends goes into the file NAME; what goes wrong is said on stdout as `NAME: ERROR`.
#![forbid(unsafe_code)]
#![allow(
    clippy::print_stdout,
    reason = "a program of the matrix: stdout is its result"
)]

use std::io;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio::task::JoinSet;

fn main() -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let transfers: JoinSet<()> = std::env::args().skip(1).map(report).collect();
        transfers.join_all().await;
    });
    Ok(())
}

async fn report(name: String) {
    if let Err(error) = fetch(&name).await {
        println!("{name}: {error}");
    }
}

async fn fetch(name: &str) -> io::Result<()> {
    let mut stream = TcpStream::connect((name, 80)).await?;
    let request = format!("GET / HTTP/1.0\r\nHost: {name}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let head = answer.windows(4).position(|four| four == b"\r\n\r\n");
    let body = head.and_then(|head| answer.get(head.saturating_add(4)..));
    std::fs::write(name, body.ok_or(io::ErrorKind::InvalidData)?)
}
