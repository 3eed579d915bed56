//! The clients that are being served: how many there may be, and how to end them all.
//! Touched when a client comes and when it goes; a running relay shares nothing.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use rustix::net::connect_unspec;

use crate::descriptors::{Descriptors, Pair};
use crate::watched::{Moved, Watched};

#[derive(Debug)]
pub(crate) struct Relays {
    state: Mutex<State>,
    changed: Condvar,
    descriptors: Arc<Descriptors>,
}

/// A pipe that goes wakes nobody: whoever waits looks again after so long.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

#[derive(Debug, Default)]
struct State {
    clients: HashMap<u64, Client>,
    next: u64,
    /// Clients that have come for a place, each with a number, and whose turn it is.
    arrived: u64,
    turn: u64,
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
    /// At most as many as there are descriptors for, if nothing else is said.
    pub(crate) fn new(most: Option<usize>, descriptors: Arc<Descriptors>) -> Self {
        let state = State {
            most: most.unwrap_or_else(|| descriptors.most()),
            ..State::default()
        };
        Self {
            state: Mutex::new(state),
            changed: Condvar::new(),
            descriptors,
        }
    }

    /// How many there may be from now on; those that are there stay.
    pub(crate) fn set_most(&self, most: Option<usize>) {
        self.state.lock().most = most.unwrap_or_else(|| self.descriptors.most());
        self.changed.notify_all();
    }

    /// Waits for room. `out_of_descriptors` is called each time that there is none because pipes have the last ones. `None`
    /// if the gateway stops meanwhile: the client is closed.
    pub(crate) fn admit(
        self: &Arc<Self>,
        client: OwnedFd,
        peer: SocketAddr,
        out_of_descriptors: impl Fn(),
    ) -> Option<Admitted> {
        let mut state = self.state.lock();
        if state.clients.len() >= state.most {
            state.waits = state.waits.saturating_add(1);
        }
        let turn = state.arrived;
        state.arrived = turn.wrapping_add(1);
        let mut waiting = None;
        let pair = loop {
            if state.is_closed {
                return None;
            }
            if state.turn == turn
                && state.clients.len() < state.most
                && let Some(pair) = self.descriptors.for_client()
            {
                break pair;
            }
            if self.descriptors.are_out() {
                waiting.get_or_insert_with(|| self.descriptors.wait());
                if state.clients.len() < state.most {
                    out_of_descriptors();
                }
            }
            self.changed.wait_for(&mut state, LOOK_AGAIN);
        };
        state.turn = turn.wrapping_add(1);
        self.changed.notify_all();
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
            number,
            client,
            watched,
            place: Place {
                relays: Arc::clone(self),
                pair: Some(pair),
            },
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
    number: u64,
    client: Arc<OwnedFd>,
    watched: Arc<Watched>,
    place: Place, // the last one: it goes when the socket has gone
}

/// What the next client waits for.
#[derive(Debug)]
struct Place {
    relays: Arc<Relays>,
    pair: Option<Pair>,
}

impl Drop for Place {
    fn drop(&mut self) {
        drop(self.pair.take());
        // Whoever has not seen this one is waiting by now, and not about to.
        drop(self.relays.state.lock());
        self.relays.changed.notify_all(); // it is for one of them, who knows that it is
    }
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
        let mut state = self.place.relays.state.lock();
        state.clients.remove(&self.number);
        state.moved = state.moved.plus(self.watched.octets.moved());
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    fn admit(relays: &Arc<Relays>) -> Option<Admitted> {
        let client = UnixStream::pair().unwrap().0.into();
        relays.admit(client, SocketAddr::from(([127, 0, 0, 1], 1)), || ())
    }

    fn room_for(most: usize) -> Arc<Relays> {
        Arc::new(Relays::new(Some(most), Arc::default()))
    }

    #[test]
    fn the_client_above_the_cap_waits_for_another_one_to_go() {
        let relays = room_for(1);
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
        let relays = room_for(1);
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
