//! A listener and the threads that take turns at it: one that accepts a client serves it to its end.
//!
//! Threads that wait in accept(2) are cheaper than one started for each client, as the kernel hands
//! over without a queue of ours. The last one to be waiting starts its successor before it serves,
//! and one that has served goes back to waiting unless enough do so already. When a limit of the
//! system is reached nobody is lost: clients wait in the listener's queue until it has passed.
//!
//! A socket that other processes listen on too is never shut down, which would end it for all of them: the threads in
//! accept(2) leave it as they time out, and whoever they have accepted by then is served.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use rustix::io::Errno;
use rustix::net::{Shutdown, SocketFlags, acceptfrom_with, shutdown};
use socket2::{Domain, Protocol, Socket, Type};

use crate::Shared;
use crate::config::Listen;
use crate::inherited::Passed;
use crate::memory::has_room;
use crate::serve::{refuse, seat, serve};
use crate::shutdown::Event;
use crate::sys;
use crate::wait::is_readable;

/// What getaddrinfo(3) needs with the usual modules of nsswitch, several times over. The relay
/// itself is content with 32 KiB; what is not touched costs address space only.
const STACK_OCTETS: usize = 256 << 10;

/// Threads that stay when they have nothing to serve, for a burst to come.
const SPARE_THREADS: usize = 64;

/// A thread that has had nothing to serve for so long ends, unless it is the last one.
pub(crate) const SPARE_FOR: Duration = Duration::from_secs(2);

/// After accept has failed for want of descriptors or memory, or for good.
const PAUSE: Duration = Duration::from_millis(100);

/// For the thread of a client that gives way.
const SHORT_PAUSE: Duration = Duration::from_millis(1);

pub(crate) struct Listener {
    shared: Arc<Shared>,
    /// `None` once no further client is to be accepted.
    socket: RwLock<Option<Arc<OwnedFd>>>,
    address: SocketAddr,
    /// As it was configured: what rules call it.
    configured: SocketAddr,
    /// Somebody else has bound it and goes on listening.
    is_shared: bool,
    /// Threads in accept(2), or on their way there.
    idle: AtomicUsize,
    starved: Seldom,
    short_of_threads: Seldom,
}

impl Listener {
    /// A socket of its own.
    pub(crate) fn bind(shared: Arc<Shared>, listen: Listen) -> io::Result<Self> {
        let socket = Socket::new(
            Domain::for_address(listen.address),
            Type::STREAM,
            Some(Protocol::TCP),
        )?;
        if listen.address.is_ipv6() {
            let is_mapped = listen.address.ip().to_canonical().is_ipv4();
            socket.set_only_v6(!listen.is_dual && !is_mapped)?;
        }
        socket.set_reuse_address(true)?;
        socket.bind(&listen.address.into())?;
        Self::on(shared, socket, listen.address, false)
    }

    /// A socket that listens already.
    pub(crate) fn adopt(shared: Arc<Shared>, passed: Passed, is_shared: bool) -> io::Result<Self> {
        let socket = Socket::from(passed.socket);
        // accept(2) is to wait.
        socket.set_nonblocking(false)?;
        Self::on(shared, socket, passed.address, is_shared)
    }

    fn on(
        shared: Arc<Shared>,
        socket: Socket,
        configured: SocketAddr,
        is_shared: bool,
    ) -> io::Result<Self> {
        // Accepted sockets inherit these four, which saves as many system calls for each client.
        socket.set_tcp_nodelay(true)?;
        socket.set_out_of_band_inline(true)?; // as in dial.rs
        socket.set_linger(Some(Duration::ZERO))?;
        socket.set_read_timeout(Some(SPARE_FOR))?;
        socket.listen(libc::SOMAXCONN)?;
        let address = socket
            .local_addr()?
            .as_socket()
            .ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(Self {
            shared,
            socket: RwLock::new(Some(Arc::new(socket.into()))),
            address,
            configured,
            is_shared,
            idle: AtomicUsize::new(0),
            starved: Seldom::default(),
            short_of_threads: Seldom::default(),
        })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sees to it that a thread is waiting for the next client.
    pub(crate) fn reinforce(self: &Arc<Self>) -> io::Result<()> {
        if self.socket().is_none() {
            return Ok(());
        }
        // Never more than there are, not even for a moment: somebody else would rely on it.
        let none_to_one = self
            .idle
            .compare_exchange(0, 1, Ordering::AcqRel, Ordering::Acquire);
        if none_to_one.is_err() {
            return Ok(());
        }
        let listener = Arc::clone(self);
        let started = if has_room() {
            sys::spawn(STACK_OCTETS, move || listener.work())
        } else {
            Err(io::ErrorKind::OutOfMemory.into())
        };
        if let Err(error) = started {
            self.idle.fetch_sub(1, Ordering::AcqRel);
            self.shared.figures.pauses.add("threads");
            // Whoever gives way leaves a thread for the next client.
            self.shared.relays.make_room();
            if self.short_of_threads.is_due() {
                tracing::warn!(listener = %self.address, %error, "no thread for the next client");
            }
            return Err(error);
        }
        Ok(())
    }

    /// No further client is accepted. Those in the queue are reset, and waiting threads end, unless somebody else listens
    /// there too.
    pub(crate) fn close(&self) {
        if let Some(socket) = self.leave()
            && !self.is_shared
        {
            // A listener that is shut down wakes everybody who waits in accept(2).
            let _ = shutdown(&*socket, Shutdown::Both);
        }
    }

    /// The next client is somebody else's: threads end as they notice, and those in the queue stay there.
    pub(crate) fn leave(&self) -> Option<Arc<OwnedFd>> {
        self.socket.write().take()
    }

    /// The socket, and whether somebody else has bound it; `None` if it is closed.
    pub(crate) fn to_hand_over(&self) -> Option<(Arc<OwnedFd>, bool)> {
        Some((self.socket()?, self.is_shared))
    }

    pub(crate) fn is_shared(&self) -> bool {
        self.is_shared
    }

    /// Whether a thread may still come back from accept(2) with a client.
    pub(crate) fn is_waiting(&self) -> bool {
        self.idle.load(Ordering::Acquire) > 0
    }

    fn socket(&self) -> Option<Arc<OwnedFd>> {
        self.socket.read().clone()
    }

    /// One thread's life: counted as idle when it begins.
    fn work(self: Arc<Self>) {
        while let Some((client, peer)) = self.accept() {
            let seat = match seat(&self.shared, peer) {
                Ok(seat) => seat,
                Err(error) => {
                    refuse(&self.shared, peer, error);
                    continue;
                }
            };
            let starved = || self.note_starved();
            let Some(client) = self.shared.relays.admit(client, peer, starved) else {
                self.idle.fetch_sub(1, Ordering::AcqRel);
                return;
            };
            if self.idle.fetch_sub(1, Ordering::AcqRel) == 1 && self.reinforce().is_err() {
                // Whoever runs the gateway tries again; this client is served meanwhile.
                self.shared.events.tell(Event::ShortOfThreads);
            }
            // A panic has been reported by the panic hook; it costs this client alone.
            let story = AssertUnwindSafe(|| {
                serve(&self.shared, &client, peer, seat, self.configured);
            });
            catch_unwind(story).ok();
            drop(client);
            self.shared.pools.has_gone_back();
            if !self.may_stay() {
                return;
            }
        }
    }

    /// The next client; `None` if this thread is needed no more.
    fn accept(&self) -> Option<(OwnedFd, SocketAddr)> {
        loop {
            let Some(socket) = self.socket() else {
                self.idle.fetch_sub(1, Ordering::AcqRel);
                return None;
            };
            match acceptfrom_with(&*socket, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
                Ok((client, address)) => {
                    let peer = address.and_then(|address| SocketAddr::try_from(address).ok());
                    let Some(peer) = peer else { continue };
                    while !has_room() && self.socket().is_some() {
                        self.starve(true);
                    }
                    // v4-mapped clients are v4 ones, in the policy as in the log.
                    return Some((
                        client,
                        SocketAddr::new(peer.ip().to_canonical(), peer.port()),
                    ));
                }
                Err(Errno::AGAIN) if self.may_leave() => return None,
                Err(Errno::AGAIN) => self.shared.pools.tidy(),
                Err(Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::NOBUFS) => {
                    // accept(2) says so whether there is a client or not.
                    self.starve(is_readable(&socket));
                }
                // Somebody else has shut it down.
                Err(Errno::INVAL) if self.socket().is_some() => thread::sleep(PAUSE),
                // A client that is gone already (accept(2) passes network errors on), a signal, or
                // the listener has been closed, which the next round sees.
                Err(_) => {}
            }
        }
    }

    /// Whether others are waiting for the next client besides the asking thread, which then leaves.
    fn may_leave(&self) -> bool {
        self.count_idle(|idle| idle.checked_sub(1).filter(|others| *others > 0))
    }

    /// Whether few enough are waiting for the asking thread to join them.
    fn may_stay(&self) -> bool {
        self.count_idle(|idle| idle.checked_add(1).filter(|all| *all <= SPARE_THREADS))
    }

    fn count_idle(&self, change: impl Fn(usize) -> Option<usize>) -> bool {
        let changed = self
            .idle
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, change);
        changed.is_ok()
    }

    /// Out of descriptors or memory: running relays go on, and the next client waits, or another one gives way to it.
    fn starve(&self, is_awaited: bool) {
        self.note_starved();
        let is_made = is_awaited && self.shared.relays.make_room();
        thread::sleep(if is_made { SHORT_PAUSE } else { PAUSE });
    }

    fn note_starved(&self) {
        if self.starved.is_due() {
            tracing::warn!(listener = %self.address, "out of descriptors or memory: clients wait");
        }
        self.shared.figures.pauses.add("descriptors");
        self.shared.pools.give_up_spare();
    }
}

/// Once a minute: where one client gives way to the next, a limit is reached again and again.
#[derive(Debug, Default)]
struct Seldom(Mutex<Option<Instant>>);

impl Seldom {
    fn is_due(&self) -> bool {
        let mut last = self.0.lock();
        let is_due = last.is_none_or(|last| last.elapsed() >= Duration::from_secs(60));
        if is_due {
            *last = Some(Instant::now());
        }
        is_due
    }
}
