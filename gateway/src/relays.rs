//! The clients that are being served: how many there may be, and how to end them all.
//! Touched when a client comes and when it goes; a running relay shares nothing.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};
use rustix::net::connect_unspec;

use crate::watched::{Moved, Watched};

#[derive(Debug)]
pub(crate) struct Relays {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    clients: HashMap<u64, Client>,
    next: u64,
    waits: u64,
    moved: Moved,
    most: usize,
    is_closed: bool,
}

#[derive(Debug)]
struct Client {
    socket: Arc<OwnedFd>,
    watched: Arc<Watched>,
}

/// Everybody who is there, and what has gone over relays altogether.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) clients: Vec<Arc<Watched>>,
    pub(crate) most: usize,
    /// Clients that ever were here.
    pub(crate) admitted: u64,
    /// Of those the ones that had to wait for another one to go.
    pub(crate) waits: u64,
    /// Of relays that are over and those that run: it never becomes less.
    pub(crate) moved: Moved,
}

impl Relays {
    pub(crate) fn new(most: usize) -> Self {
        let state = State {
            most,
            ..State::default()
        };
        Self {
            state: Mutex::new(state),
            changed: Condvar::new(),
        }
    }

    /// How many there may be from now on; those that are there stay.
    pub(crate) fn set_most(&self, most: usize) {
        self.state.lock().most = most;
        self.changed.notify_all();
    }

    /// Waits for room. `None` if the gateway stops meanwhile: the client is closed.
    pub(crate) fn admit(self: &Arc<Self>, client: OwnedFd, peer: SocketAddr) -> Option<Admitted> {
        let mut state = self.state.lock();
        if state.clients.len() >= state.most {
            state.waits = state.waits.saturating_add(1);
        }
        while state.clients.len() >= state.most && !state.is_closed {
            self.changed.wait(&mut state);
        }
        if state.is_closed {
            return None;
        }
        let client = Arc::new(client);
        let number = state.next;
        state.next = state.next.wrapping_add(1);
        let watched = Arc::new(Watched::new(peer));
        state.clients.insert(
            number,
            Client {
                socket: Arc::clone(&client),
                watched: Arc::clone(&watched),
            },
        );
        Some(Admitted {
            relays: Arc::clone(self),
            number,
            client,
            watched,
        })
    }

    /// A client that was here and is not admitted.
    pub(crate) fn turn_away(&self) {
        let mut state = self.state.lock();
        state.next = state.next.wrapping_add(1);
    }

    /// From now on nobody is admitted.
    pub(crate) fn close(&self) {
        self.state.lock().is_closed = true;
        self.changed.notify_all();
    }

    pub(crate) fn count(&self) -> usize {
        self.state.lock().clients.len()
    }

    pub(crate) fn view(&self) -> View {
        let state = self.state.lock();
        let clients = state.clients.values();
        let mut view = View {
            clients: clients.map(|client| Arc::clone(&client.watched)).collect(),
            most: state.most,
            admitted: state.next,
            waits: state.waits,
            moved: state.moved,
        };
        drop(state);
        for client in &view.clients {
            view.moved = view.moved.plus(client.octets.moved());
        }
        view
    }

    /// Resets every client; the threads find their sockets dead and reset the other side.
    pub(crate) fn cut(&self) {
        for client in self.state.lock().clients.values() {
            // connect(2): "the association dissolved", which for TCP is a reset. It fails only on a
            // socket that is dead already.
            let _ = connect_unspec(&client.socket);
        }
    }
}

/// A client that is being served, until this is dropped.
#[derive(Debug)]
pub(crate) struct Admitted {
    relays: Arc<Relays>,
    number: u64,
    client: Arc<OwnedFd>,
    watched: Arc<Watched>,
}

impl Admitted {
    pub(crate) fn watched(&self) -> &Watched {
        &self.watched
    }
}

impl AsFd for Admitted {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.client.as_fd()
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut state = self.relays.state.lock();
        let client = state.clients.remove(&self.number);
        state.moved = state.moved.plus(self.watched.octets.moved());
        drop(state);
        self.relays.changed.notify_one();
        drop(client);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    use super::*;

    fn admit(relays: &Arc<Relays>) -> Option<Admitted> {
        let client = UnixStream::pair().unwrap().0.into();
        relays.admit(client, SocketAddr::from(([127, 0, 0, 1], 1)))
    }

    #[test]
    fn the_client_above_the_cap_waits_for_another_one_to_go() {
        let relays = Arc::new(Relays::new(1));
        let first = admit(&relays).unwrap();
        let waiting = std::thread::spawn({
            let relays = Arc::clone(&relays);
            move || admit(&relays).is_some()
        });
        std::thread::sleep(Duration::from_millis(20));
        assert!(!waiting.is_finished());
        drop(first);
        assert!(waiting.join().unwrap());
        assert_eq!(relays.count(), 0);
    }

    #[test]
    fn nobody_is_admitted_to_a_gateway_that_stops() {
        let relays = Arc::new(Relays::new(1));
        let _first = admit(&relays).unwrap();
        let waiting = std::thread::spawn({
            let relays = Arc::clone(&relays);
            move || admit(&relays).is_none()
        });
        std::thread::sleep(Duration::from_millis(20));
        relays.close();
        assert!(waiting.join().unwrap());
        assert!(admit(&relays).is_none());
    }
}
