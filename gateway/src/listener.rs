//! A listener and the threads that take turns at it: one that accepts a client serves it to its end.
//!
//! Threads that wait in accept(2) are cheaper than one started for each client, as the kernel hands
//! over without a queue of ours. The last one to be waiting starts its successor before it serves,
//! and one that has served goes back to waiting unless enough do so already. When a limit of the
//! system is reached nobody is lost: clients wait in the listener's queue until it has passed.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{Shutdown, SocketFlags, acceptfrom_with, shutdown};
use socket2::{Domain, Protocol, Socket, Type};

use crate::Shared;
use crate::config::Listen;
use crate::memory::has_room;
use crate::serve::{refuse, serve};
use crate::shares::{Holder, Seat};
use crate::shutdown::Event;
use crate::sys;

/// What getaddrinfo(3) needs with the usual modules of nsswitch, several times over. The relay
/// itself is content with 32 KiB; what is not touched costs address space only.
const STACK_OCTETS: usize = 256 << 10;

/// Threads that stay when they have nothing to serve, for a burst to come.
const SPARE_THREADS: usize = 64;

/// A thread that has had nothing to serve for so long ends, unless it is the last one.
const SPARE_FOR: Duration = Duration::from_secs(2);

/// After accept has failed for want of descriptors or memory.
const PAUSE: Duration = Duration::from_millis(100);

pub(crate) struct Listener {
    shared: Arc<Shared>,
    socket: OwnedFd,
    address: SocketAddr,
    /// Threads in accept(2), or on their way there.
    idle: AtomicUsize,
    is_closing: AtomicBool,
    is_starved: AtomicBool,
    is_short_of_threads: AtomicBool,
}

impl Listener {
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
        // Accepted sockets inherit these four, which saves as many system calls for each client.
        socket.set_tcp_nodelay(true)?;
        socket.set_out_of_band_inline(true)?; // as in dial.rs
        socket.set_linger(Some(Duration::ZERO))?;
        socket.set_read_timeout(Some(SPARE_FOR))?;
        socket.bind(&listen.address.into())?;
        socket.listen(libc::SOMAXCONN)?;
        let address = socket
            .local_addr()?
            .as_socket()
            .ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(Self {
            shared,
            socket: socket.into(),
            address,
            idle: AtomicUsize::new(0),
            is_closing: AtomicBool::new(false),
            is_starved: AtomicBool::new(false),
            is_short_of_threads: AtomicBool::new(false),
        })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sees to it that a thread is waiting for the next client.
    pub(crate) fn reinforce(self: &Arc<Self>) -> io::Result<()> {
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
            if !self.is_short_of_threads.swap(true, Ordering::Relaxed) {
                tracing::warn!(listener = %self.address, %error, "no thread for the next client");
            }
            return Err(error);
        }
        self.is_short_of_threads.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// No further client is accepted, those in the queue are reset, and waiting threads end.
    pub(crate) fn close(&self) {
        self.is_closing.store(true, Ordering::Release);
        // A listener that is shut down wakes everybody who waits in accept(2).
        let _ = shutdown(&self.socket, Shutdown::Both);
    }

    /// One thread's life: counted as idle when it begins.
    fn work(self: Arc<Self>) {
        while let Some((client, peer)) = self.accept() {
            let Some(seat) = self.seat(peer) else {
                refuse(peer);
                continue;
            };
            let Some(client) = self.shared.relays.admit(client) else {
                return;
            };
            if self.idle.fetch_sub(1, Ordering::AcqRel) == 1 && self.reinforce().is_err() {
                // Whoever runs the gateway tries again; this client is served meanwhile.
                self.shared.events.tell(Event::ShortOfThreads);
            }
            // A panic has been reported by the panic hook; it costs this client alone.
            let story = AssertUnwindSafe(|| serve(&self.shared, client.as_fd(), peer, &seat));
            catch_unwind(story).ok();
            drop((client, seat));
            if !self.may_stay() {
                return;
            }
        }
    }

    /// `None` if the client has as many relays as one may have. It is reset at once, without a handshake: a thread that
    /// stays with it for as long as it likes is what it must not have.
    fn seat(&self, peer: SocketAddr) -> Option<Seat> {
        let quotas = &self.shared.config.get().quotas;
        let holder = Holder::Client(quotas.client(peer.ip()));
        self.shared.shares.take(holder, quotas.relays_per_client)
    }

    /// The next client; `None` if this thread is needed no more.
    fn accept(&self) -> Option<(OwnedFd, SocketAddr)> {
        loop {
            if self.is_closing.load(Ordering::Acquire) {
                return None;
            }
            match acceptfrom_with(&self.socket, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
                Ok((client, address)) => {
                    let peer = address.and_then(|address| SocketAddr::try_from(address).ok());
                    let Some(peer) = peer else { continue };
                    while !has_room() && !self.is_closing.load(Ordering::Acquire) {
                        self.starve();
                    }
                    self.is_starved.store(false, Ordering::Relaxed);
                    // v4-mapped clients are v4 ones, in the policy as in the log.
                    return Some((
                        client,
                        SocketAddr::new(peer.ip().to_canonical(), peer.port()),
                    ));
                }
                Err(Errno::AGAIN) if self.may_leave() => return None,
                Err(Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::NOBUFS) => self.starve(),
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

    /// Out of descriptors or memory: running relays go on, and the next client waits.
    fn starve(&self) {
        if !self.is_starved.swap(true, Ordering::Relaxed) {
            tracing::warn!(listener = %self.address, "out of descriptors or memory: clients wait");
        }
        self.shared.pools.give_up_spare();
        thread::sleep(PAUSE);
    }
}
