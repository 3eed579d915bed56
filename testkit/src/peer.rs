//! A SOCKS server that follows a script of octets, for all that a real one would not do.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, sleep};
use std::time::Duration;

use crate::netns::Namespace;

/// One step of a script.
#[derive(Debug, Clone)]
pub enum Act {
    /// Sends these octets in one segment.
    Send(Vec<u8>),
    /// Sends these octets one by one, this far apart.
    Trickle(Vec<u8>, Duration),
    /// Reads exactly this many octets.
    Receive(usize),
    /// Reads what one recv gives: see [`Peer::pieces`].
    ReceivePiece,
    /// Reads a request, however long its name is.
    ReceiveRequest,
    /// Waits.
    Wait(Duration),
    /// Sends back what it receives, until the client is done.
    Echo,
    /// Reads and ignores, until the client is done.
    Hold,
    /// Cuts the connection with a RST.
    Reset,
}

/// A running scripted server: each connection plays the script from its start, and is closed at its end.
#[derive(Debug)]
pub struct Peer {
    listener: TcpListener,
    connections: Arc<AtomicUsize>,
    pieces: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Peer {
    /// Starts the server.
    #[must_use]
    pub fn start(at: &Namespace, address: SocketAddr, script: Vec<Act>) -> Self {
        Self::start_in_turn(at, address, vec![script])
    }

    /// Starts a server whose first client meets the first of these scripts, and so on; the last is for all that come after.
    #[must_use]
    pub fn start_in_turn(at: &Namespace, address: SocketAddr, scripts: Vec<Vec<Act>>) -> Self {
        let listener = at.inside(|| TcpListener::bind(address)).expect("bind");
        let connections = Arc::new(AtomicUsize::new(0));
        let (accepting, count) = (listener.try_clone().unwrap(), Arc::clone(&connections));
        let pieces = Arc::default();
        let heard = Arc::clone(&pieces);
        thread::spawn(move || {
            while let Ok((connection, _)) = accepting.accept() {
                let turn = count.fetch_add(1, Ordering::Relaxed);
                let script = scripts[turn.min(scripts.len() - 1)].clone();
                let heard = Arc::clone(&heard);
                // A client that goes away in the middle is the test's business.
                thread::spawn(move || drop(play(&connection, &script, &heard)));
            }
        });
        Self {
            listener,
            connections,
            pieces,
        }
    }

    /// What each [`Act::ReceivePiece`] has read so far.
    #[must_use]
    pub fn pieces(&self) -> Vec<Vec<u8>> {
        self.pieces.lock().unwrap().clone()
    }

    /// How many clients came.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        _ = rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both);
    }
}

fn play(
    mut connection: &TcpStream,
    script: &[Act],
    pieces: &Mutex<Vec<Vec<u8>>>,
) -> io::Result<()> {
    connection.set_nodelay(true)?;
    connection.set_read_timeout(Some(Duration::from_secs(60)))?;
    for act in script {
        match act {
            Act::Send(octets) => connection.write_all(octets)?,
            Act::Trickle(octets, pause) => {
                for octet in octets {
                    connection.write_all(&[*octet])?;
                    sleep(*pause);
                }
            }
            Act::Receive(len_octets) => connection.read_exact(&mut vec![0; *len_octets])?,
            Act::ReceivePiece => {
                let mut room = vec![0; 1024];
                let len = connection.read(&mut room)?;
                pieces.lock().unwrap().push(room[..len].to_vec());
            }
            Act::ReceiveRequest => receive_request(connection)?,
            Act::Wait(pause) => sleep(*pause),
            Act::Echo => drop(io::copy(&mut &*connection, &mut connection)?),
            Act::Hold => drop(io::copy(&mut connection, &mut io::sink())?),
            Act::Reset => {
                rustix::net::sockopt::set_socket_linger(connection, Some(Duration::ZERO))?;
                return Ok(());
            }
        }
    }
    Ok(())
}

/// VER CMD RSV ATYP, then an address of the length that ATYP says, then two octets of port.
fn receive_request(mut connection: &TcpStream) -> io::Result<()> {
    let mut fixed = [0; 5];
    connection.read_exact(&mut fixed)?;
    let further = match fixed[3] {
        1 => 4 - 1 + 2,
        4 => 16 - 1 + 2,
        _ => usize::from(fixed[4]) + 2,
    };
    connection.read_exact(&mut vec![0; further])
}
