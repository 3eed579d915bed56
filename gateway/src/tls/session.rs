//! A TLS connection on a socket that does not block. It waits for nothing, and gives and takes octets as recv(2) and send(2)
//! do; what differs is said at [`Stream`].
//!
//! It holds a read buffer of 4 KiB and its keys while it is quiet, a record more while one is incomplete, and what it
//! has encrypted until the kernel takes it: that of one send, since there is no other one before.
//!
//! [`Stream`]: crate::stream::Stream

use std::cell::RefCell;
use std::fmt;
use std::io::{self, BufRead, IoSlice, Read, Write};
use std::mem;
use std::os::fd::BorrowedFd;
use std::thread;

use rustix::event::PollFlags;
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, recv, send, sendmsg};
use rustls::{Connection, InvalidMessage};

use crate::direction::WITHOUT_MEMORY;
use crate::memory::has_room;
use crate::pipes::BUFFER_OCTETS;

/// Used by one thread, and by both directions of a relay in turn.
pub(crate) struct Session(Box<RefCell<State>>); // it is large, and most relays have none

struct State {
    connection: Connection,
    /// How many octets of the present send have been encrypted.
    accepted: usize,
    is_ahead: bool,
    broken: Option<Broken>,
}

/// Why a session is over before its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    #[error("{0}")]
    Socket(Errno),
    /// RFC 8446 §6.1: an end without close_notify may be anybody's doing.
    #[error("TLS: the connection ended where more was due")]
    CutOff,
    #[error("TLS: {}", in_words(.0))]
    Tls(rustls::Error),
}

impl Session {
    pub(super) fn new(mut connection: Connection) -> Self {
        connection.set_buffer_limit(Some(BUFFER_OCTETS));
        Self(Box::new(RefCell::new(State {
            connection,
            accepted: 0,
            // The first octets may come with the last of the handshake.
            is_ahead: true,
            broken: None,
        })))
    }

    /// The handshake, as far as it goes: what has to be waited for, or `None` once it is done.
    pub(crate) fn shake_hands(&self, socket: BorrowedFd<'_>) -> Result<Option<PollFlags>, Broken> {
        let state = &mut *self.0.borrow_mut();
        loop {
            match state.flush(socket) {
                Ok(()) => {}
                Err(Errno::AGAIN) => return Ok(Some(PollFlags::OUT)),
                Err(errno) => return Err(Broken::Socket(errno)),
            }
            if !state.connection.is_handshaking() {
                return Ok(None);
            }
            match state.receive(socket) {
                Ok(()) => {}
                Err(Broken::Socket(Errno::AGAIN)) => return Ok(Some(PollFlags::IN)),
                Err(broken) => return Err(broken),
            }
        }
    }

    /// Writes `most` octets `into`, which has room for them; 0 is close_notify.
    pub(crate) fn read(
        &self,
        socket: BorrowedFd<'_>,
        most: usize,
        into: &mut dyn Write,
    ) -> Result<usize, Errno> {
        let state = &mut *self.0.borrow_mut();
        state.is_ahead = true;
        let mut have = 0_usize;
        while have < most {
            let mut reader = state.connection.reader();
            match reader.fill_buf() {
                Ok([]) => break,
                Ok(chunk) => {
                    let part = chunk.get(..most.saturating_sub(have)).unwrap_or(chunk);
                    into.write_all(part).map_err(|_full| Errno::NOBUFS)?;
                    let taken = part.len();
                    reader.consume(taken);
                    have = have.saturating_add(taken);
                    continue;
                }
                Err(_) => {} // nothing more at the moment, or at all
            }
            let broken = match &state.broken {
                Some(broken) => broken.errno(),
                None => match state.receive(socket) {
                    Ok(()) => continue,
                    Err(broken) => {
                        let errno = broken.errno();
                        if errno == Errno::AGAIN {
                            state.is_ahead = false;
                        } else {
                            state.broken = Some(broken);
                        }
                        errno
                    }
                },
            };
            // What came before a break is still to be delivered.
            return if have > 0 { Ok(have) } else { Err(broken) };
        }
        Ok(have)
    }

    /// How many of these octets are the kernel's.
    pub(crate) fn send(&self, socket: BorrowedFd<'_>, octets: &[u8]) -> Result<usize, Errno> {
        let state = &mut *self.0.borrow_mut();
        if state.accepted == 0 {
            need_room()?;
            state.flush(socket)?;
            let written = state.connection.writer().write(octets); // into memory
            state.accepted = written.map_err(|_broken| Errno::PROTO)?;
        }
        state.flush(socket)?;
        Ok(mem::take(&mut state.accepted))
    }

    /// Sends close_notify, behind everything else.
    pub(crate) fn close(&self, socket: BorrowedFd<'_>) -> Result<(), Errno> {
        let state = &mut *self.0.borrow_mut();
        state.connection.send_close_notify(); // once, however often this is called
        state.flush(socket)
    }

    /// Whether something may have been received that has not been read: it has left the socket, which poll knows.
    pub(crate) fn is_ahead(&self) -> bool {
        self.0.borrow().is_ahead
    }

    pub(crate) fn why(&self) -> Option<String> {
        let state = self.0.borrow();
        state.broken.as_ref().map(Broken::to_string)
    }
}

impl State {
    /// One recv(2), and what follows from it.
    fn receive(&mut self, socket: BorrowedFd<'_>) -> Result<(), Broken> {
        need_room().map_err(Broken::Socket)?;
        let received = match self.connection.read_tls(&mut Raw(socket)) {
            Ok(received) => received,
            Err(error) => return Err(Broken::Socket(errno_of(&error))),
        };
        match self.connection.process_new_packets() {
            Ok(state) if received == 0 && !state.peer_has_closed() => Err(Broken::CutOff),
            Ok(_) => Ok(()),
            Err(error) => {
                // The peer is told why, if it can be.
                let _ = self.flush(socket);
                Err(Broken::Tls(error))
            }
        }
    }

    fn flush(&mut self, socket: BorrowedFd<'_>) -> Result<(), Errno> {
        while self.connection.wants_write() {
            if let Err(error) = self.connection.write_tls(&mut Raw(socket)) {
                return Err(errno_of(&error));
            }
        }
        Ok(())
    }
}

impl Broken {
    /// EPROTO stands for what no socket says.
    fn errno(&self) -> Errno {
        match self {
            Self::Socket(errno) => *errno,
            Self::CutOff | Self::Tls(_) => Errno::PROTO,
        }
    }
}

/// Records are allocated one by one, and Rust ends a process without memory.
fn need_room() -> Result<(), Errno> {
    if has_room() {
        return Ok(());
    }
    thread::sleep(WITHOUT_MEMORY);
    Err(Errno::AGAIN)
}

fn errno_of(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::PROTO)
}

fn in_words(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "that is not TLS".to_owned()
        }
        other => other.to_string(),
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").finish_non_exhaustive()
    }
}

/// The socket as rustls wants it.
struct Raw<'a>(BorrowedFd<'a>);

impl Read for Raw<'_> {
    fn read(&mut self, octets: &mut [u8]) -> io::Result<usize> {
        let received = retry_on_intr(|| recv(self.0, &mut *octets, RecvFlags::empty()));
        Ok(received.map(|(received, _)| received)?)
    }
}

impl Write for Raw<'_> {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        Ok(retry_on_intr(|| send(self.0, octets, SendFlags::NOSIGNAL))?)
    }

    fn write_vectored(&mut self, octets: &[IoSlice<'_>]) -> io::Result<usize> {
        let sent = retry_on_intr(|| {
            let mut nothing = SendAncillaryBuffer::default();
            sendmsg(self.0, octets, &mut nothing, SendFlags::NOSIGNAL)
        });
        Ok(sent?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
