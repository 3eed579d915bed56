//! The listener for those who watch the gateway: a page at `/`, `/metrics` and `/healthz`.
//!
//! One thread serves all of them without waiting for any: it shares nothing with relays but the figures it reads, keeps
//! few connections, each for a short time, and a view of the relays for a while, so that neither slow nor eager clients
//! can hurt the gateway. `http` has the protocol.

mod history;
mod http;
mod metrics;
mod page;
mod process;
mod words;

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::net::{Shutdown, shutdown};

use crate::Shared;
use crate::error::StartError;
use crate::figures::Figures;
use crate::inherited::Passed;
use crate::memory::has_room;
use crate::relays::View;
use crate::status::history::{History, Sample};
use crate::status::http::{Answer, Connection};
use crate::status::page::Page;
use crate::wait::poll_until;

/// A newcomer above these takes the place of the oldest.
const MOST_CONNECTIONS: usize = 16;

/// From accept to the last octet of the answer.
const TIME: Duration = Duration::from_secs(10);

/// After accept has failed for want of descriptors or memory.
const PAUSE: Duration = Duration::from_millis(100);

/// A look at all the relays is good for so long.
const VIEW_FOR: Duration = Duration::from_millis(100);

/// The listener, which closes with this value.
#[derive(Debug)]
pub(crate) struct Status {
    configured: SocketAddr,
    listener: Arc<TcpListener>,
    is_started: AtomicBool,
    is_closing: Arc<AtomicBool>,
    /// Another process goes on listening there.
    is_left: Arc<AtomicBool>,
}

impl Status {
    /// The one for this address, if one is wanted; `standing` or what a predecessor has passed if that is it already.
    pub(crate) fn bind(
        standing: Option<&Arc<Self>>,
        address: Option<SocketAddr>,
        passed: Option<Passed>,
    ) -> Result<Option<Arc<Self>>, StartError> {
        let Some(address) = address else {
            return Ok(None);
        };
        if let Some(standing) = standing.filter(|it| it.configured == address) {
            return Ok(Some(Arc::clone(standing)));
        }
        let listener = match passed.filter(|it| it.address == address) {
            Some(passed) => Ok(passed.socket.into()),
            None => TcpListener::bind(address),
        };
        let listener = listener
            .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
            .map_err(|error| StartError::Listen { address, error })?;
        Ok(Some(Arc::new(Self {
            configured: address,
            listener: Arc::new(listener),
            is_started: AtomicBool::new(false),
            is_closing: Arc::default(),
            is_left: Arc::default(),
        })))
    }

    /// The address that it was asked for by, and the socket.
    pub(crate) fn to_hand_over(&self) -> (SocketAddr, Arc<TcpListener>) {
        (self.configured, Arc::clone(&self.listener))
    }

    /// Whoever comes next is the other process's; those who have come get their answer.
    pub(crate) fn leave(&self) {
        self.is_left.store(true, Relaxed);
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap_or(self.configured)
    }

    /// Starts its thread, if it has none.
    pub(crate) fn start(&self, shared: &Arc<Shared>) -> Result<(), StartError> {
        if self.is_started.swap(true, Relaxed) {
            return Ok(());
        }
        let server = Server {
            configured: self.configured,
            is_loopback: self.address().ip().to_canonical().is_loopback(),
            listener: Arc::clone(&self.listener),
            is_closing: Arc::clone(&self.is_closing),
            is_left: Arc::clone(&self.is_left),
            connections: Vec::new(),
            pause_until: None,
            board: Board {
                shared: Arc::clone(shared),
                view: None,
                history: History::default(),
            },
        };
        let builder = thread::Builder::new().name("status".to_owned());
        let started = builder.spawn(move || server.run());
        started.map(drop).map_err(StartError::Thread)
    }
}

impl Drop for Status {
    fn drop(&mut self) {
        self.is_closing.store(true, Relaxed);
        if !self.is_left.load(Relaxed) {
            // A listener that is shut down wakes its thread. One that is left must not be: its thread ends with the next sample.
            let _ = shutdown(&*self.listener, Shutdown::Both);
        }
    }
}

struct Server {
    configured: SocketAddr,
    listener: Arc<TcpListener>,
    is_loopback: bool,
    is_closing: Arc<AtomicBool>,
    is_left: Arc<AtomicBool>,
    connections: Vec<Connection>,
    pause_until: Option<Instant>,
    board: Board,
}

impl Server {
    fn run(mut self) {
        while !self.is_over() {
            self.board.sample();
            let due = self.wait();
            let mut due = due.into_iter();
            let is_called = due.next().unwrap_or(false);
            let (board, is_loopback, now) = (&mut self.board, self.is_loopback, Instant::now());
            self.connections.retain_mut(|connection| {
                let is_due = due.next().unwrap_or(false);
                connection.deadline > now
                    && (!is_due
                        || connection.advance(|request| match request {
                            Ok(request) if is_loopback && !request.is_for_this_host() => {
                                Answer::text("421 Misdirected Request", "ask for it by its address")
                            }
                            Ok(request) => board.answer(request.path),
                            Err(status) => Answer::text(status, ""),
                        }))
            });
            if is_called && !self.is_left.load(Relaxed) {
                self.accept();
            }
        }
    }

    fn is_over(&self) -> bool {
        let has_to_answer = self.is_left.load(Relaxed) && !self.connections.is_empty();
        self.is_closing.load(Relaxed) && !has_to_answer
    }

    /// Which have something to be done, the listener first.
    fn wait(&mut self) -> Vec<bool> {
        let now = Instant::now();
        self.pause_until = self.pause_until.filter(|until| *until > now);
        let listens = if self.pause_until.is_some() || self.is_left.load(Relaxed) {
            PollFlags::empty()
        } else {
            PollFlags::IN
        };
        let mut fds = vec![PollFd::from_borrowed_fd(self.listener.as_fd(), listens)];
        fds.extend(self.connections.iter().map(Connection::poll));
        let deadlines = self.connections.iter().map(|it| it.deadline);
        let others = [self.pause_until, self.board.history.due()];
        // ENOMEM at worst: tried again in the next turn.
        let _ = poll_until(
            &mut fds,
            deadlines.chain(others.into_iter().flatten()).min(),
        );
        fds.iter().map(|fd| !fd.revents().is_empty()).collect()
    }

    fn accept(&mut self) {
        match self.listener.accept() {
            Ok((stream, peer)) => {
                let config = self.board.shared.config.get();
                if !config.metrics.allows(self.configured, peer.ip()) {
                    return;
                }
                if self.connections.len() >= MOST_CONNECTIONS {
                    self.connections.remove(0);
                }
                let now = Instant::now();
                let deadline = now.checked_add(TIME).unwrap_or(now);
                self.connections.extend(Connection::new(stream, deadline));
            }
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::WouldBlock | ErrorKind::ConnectionAborted | ErrorKind::Interrupted
                ) => {}
            Err(_) => self.pause_until = Instant::now().checked_add(PAUSE),
        }
    }
}

/// What can be read here.
struct Board {
    shared: Arc<Shared>,
    view: Option<(Instant, View)>,
    history: History,
}

impl Board {
    fn answer(&mut self, path: &str) -> Answer {
        let is_draining = self.shared.figures.is_draining.load(Relaxed);
        match path {
            "/healthz" if is_draining => Answer::text("503 Service Unavailable", "draining"),
            "/healthz" => Answer::text("200 OK", "serving"),
            "/metrics" | "/" if !has_room() => {
                Answer::text("503 Service Unavailable", "out of memory")
            }
            "/metrics" => {
                let (figures, view, _) = self.look();
                Answer {
                    content_type: "text/plain; version=0.0.4; charset=utf-8",
                    ..Answer::text("200 OK", &metrics::text(figures, view))
                }
            }
            "/" => {
                let (figures, view, history) = self.look();
                let page = Page {
                    figures,
                    view,
                    history,
                };
                Answer {
                    content_type: "text/html; charset=utf-8",
                    ..Answer::text("200 OK", &page.to_string())
                }
            }
            _ => Answer::text("404 Not Found", "there are /, /metrics and /healthz"),
        }
    }

    fn look(&mut self) -> (&Figures, &View, &History) {
        let stale = self.view.take_if(|(at, _)| at.elapsed() >= VIEW_FOR);
        drop(stale);
        let (_, view) = self
            .view
            .get_or_insert_with(|| (Instant::now(), self.shared.relays.view()));
        (&self.shared.figures, view, &self.history)
    }

    fn sample(&mut self) {
        if self.history.due().is_none_or(|due| due <= Instant::now()) {
            let (figures, view, _) = self.look();
            let sample = Sample::now(figures, view);
            self.history.push(sample);
        }
    }
}
