//! A gateway to test, destinations for it, and a client that lays its octets out by hand.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use gateway::{Config, Gateway, Settings, Shutdown, StartError};
use socket2::{Domain, SockRef, Socket, Type};

/// No wait of a test takes longer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// A gateway in this process, which ends with this value.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    /// Where it can be watched.
    pub(crate) status: Option<SocketAddr>,
    pub(crate) shutdown: Shutdown,
    thread: Option<JoinHandle<Result<(), StartError>>>,
}

impl Running {
    /// One listener on 127.0.0.1, and loopback destinations allowed.
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings {
            listen: vec!["127.0.0.1:0".parse().unwrap()],
            allow_destinations: vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()],
            ..Settings::default()
        };
        change(&mut settings);
        let gateway = Gateway::bind(Config::new(settings).unwrap()).unwrap();
        Self {
            address: gateway.local_addrs()[0],
            status: gateway.status_addr(),
            shutdown: gateway.shutdown(),
            thread: Some(thread::spawn(move || gateway.run())),
        }
    }

    /// A client's connection, nothing sent yet.
    pub(crate) fn connect(&self) -> TcpStream {
        connect(self.address)
    }

    /// A relay to `destination`, whose reply has been read.
    pub(crate) fn relay_to(&self, destination: SocketAddr) -> TcpStream {
        let mut client = self.connect();
        client.write_all(&request(destination)).unwrap();
        assert_eq!(read_reply(&mut client), 0x00);
        client
    }

    /// Whether [`Gateway::run`] has returned, waiting for it.
    pub(crate) fn stops_within(&mut self, limit: Duration) -> bool {
        let thread = self.thread.take().unwrap();
        let start = Instant::now();
        while !thread.is_finished() && start.elapsed() < limit {
            thread::sleep(Duration::from_millis(5));
        }
        thread.is_finished()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shutdown.cut();
    }
}

/// A connection on which no read or write waits for ever.
pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    patient(TcpStream::connect(address).unwrap())
}

/// From another address of loopback, another client to the gateway.
pub(crate) fn connect_from(from: &str, to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let from: SocketAddr = from.parse().unwrap();
    socket.bind(&from.into()).unwrap();
    socket.connect(&to.into()).unwrap();
    patient(socket.into())
}

pub(crate) fn patient(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// close(2) of this stream is a reset.
pub(crate) fn resets_on_close(stream: &TcpStream) {
    SockRef::from(stream)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
}

/// A listener that serves each client with `serve` in a thread of its own.
pub(crate) fn destination(serve: impl Fn(TcpStream) + Clone + Send + 'static) -> SocketAddr {
    destination_at("127.0.0.1:0", serve)
}

pub(crate) fn destination_at(
    at: &str,
    serve: impl Fn(TcpStream) + Clone + Send + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind(at).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for client in listener.incoming() {
            let serve = serve.clone();
            thread::spawn(move || serve(patient(client.unwrap())));
        }
    });
    address
}

/// A destination that sends everything back, and its end when it is at an end.
pub(crate) fn echo() -> SocketAddr {
    destination(echo_one)
}

pub(crate) fn echo_one(mut stream: TcpStream) {
    let mut octets = vec![0; 64 << 10];
    while let Ok(received) = stream.read(&mut octets)
        && received > 0
        && stream.write_all(&octets[..received]).is_ok()
    {}
}

/// A port on which nobody listens.
pub(crate) fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}

/// An address at which a SYN is not answered as long as the other value lives: a listener with a
/// full queue.
pub(crate) fn silent() -> (SocketAddr, impl Sized) {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener
        .bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
        .unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    let queue: Vec<Socket> = (0..2)
        .map(|_| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), None).unwrap();
            socket.connect(&address.into()).ok();
            socket
        })
        .collect();
    thread::sleep(Duration::from_millis(20));
    (address, (listener, queue))
}

/// SOCKS5 without authentication, both messages in one: CONNECT to an address.
pub(crate) fn request(destination: SocketAddr) -> Vec<u8> {
    let mut octets = vec![0x05, 0x01, 0x00]; // VER NMETHODS METHODS
    octets.extend([0x05, 0x01, 0x00]); // VER CMD RSV
    match destination.ip() {
        IpAddr::V4(ip) => {
            octets.push(0x01);
            octets.extend(ip.octets());
        }
        IpAddr::V6(ip) => {
            octets.push(0x04);
            octets.extend(ip.octets());
        }
    }
    octets.extend(destination.port().to_be_bytes());
    octets
}

/// The same to a name.
pub(crate) fn request_by_name(name: &str, port: u16) -> Vec<u8> {
    let mut octets = vec![0x05, 0x01, 0x00, 0x05, 0x01, 0x00, 0x03, name.len() as u8];
    octets.extend(name.as_bytes());
    octets.extend(port.to_be_bytes());
    octets
}

/// Reads the answers to both messages and gives REP.
pub(crate) fn read_reply(client: &mut TcpStream) -> u8 {
    read_bound(client).0
}

/// The same with BND.ADDR and BND.PORT.
pub(crate) fn read_bound(client: &mut TcpStream) -> (u8, SocketAddr) {
    assert_eq!(read(client, 2), [0x05, 0x00]); // VER METHOD
    let head = read(client, 4); // VER REP RSV ATYP
    assert_eq!([head[0], head[2]], [0x05, 0x00]);
    let ip = match head[3] {
        0x01 => IpAddr::from(<[u8; 4]>::try_from(read(client, 4)).unwrap()),
        0x04 => IpAddr::from(<[u8; 16]>::try_from(read(client, 16)).unwrap()),
        other => panic!("ATYP {other}"),
    };
    let port = u16::from_be_bytes(read(client, 2).try_into().unwrap());
    (head[1], SocketAddr::new(ip, port))
}

pub(crate) fn read(client: &mut TcpStream, octets: usize) -> Vec<u8> {
    let mut read = vec![0; octets];
    client.read_exact(&mut read).unwrap();
    read
}

/// Asserts that the stream is at an orderly end.
#[track_caller]
pub(crate) fn assert_end(stream: &mut TcpStream) {
    assert_eq!(
        stream.read(&mut [0]).unwrap(),
        0,
        "an octet in place of the end"
    );
}

/// Asserts that the stream was reset.
#[track_caller]
pub(crate) fn assert_reset(stream: &mut TcpStream) {
    let end = stream.read(&mut [0]).map_err(|error| error.kind());
    assert_eq!(end, Err(ErrorKind::ConnectionReset));
}

/// Octets in which nothing can be lost, doubled or exchanged unseen, different for each `seed`:
/// blocks of an odd length that begin with their number. (An unoptimised test makes them fast.)
pub(crate) fn pattern(len_octets: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut block = [0; 4093];
    for octet in &mut block {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        *octet = state as u8;
    }
    let mut octets = Vec::with_capacity(len_octets);
    for number in 0_u64.. {
        if octets.len() >= len_octets {
            break;
        }
        block[..8].copy_from_slice(&number.to_le_bytes());
        octets.extend(block);
    }
    octets.truncate(len_octets);
    octets
}

/// Waits until `condition` holds.
#[track_caller]
pub(crate) fn until(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(
            start.elapsed() < PATIENCE,
            "{what}: not within {PATIENCE:?}"
        );
        thread::sleep(Duration::from_millis(5));
    }
}
