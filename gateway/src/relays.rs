//! The clients that are being served: how many there may be, which of them gives way to another one, and how to end them all.
//! Touched at a client's milestones; a running relay shares nothing.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use rustix::net::connect_unspec;

use crate::descriptors::{Descriptors, Pair};
use crate::wait::is_readable;
use crate::watched::{Moved, Watched};

/// Of so many clients one may be unserved, and is given the time that it needs: where the gateway is full of relays, those who
/// come must not push each other out of the place that one of them leaves.
const UNSERVED_ONE_IN: usize = 8;

/// To find one who is silent, under the lock.
const LOOKED_AT: usize = 64;

/// Who is not silent now may be so later, and a pipe that goes wakes nobody.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(crate) struct Relays {
    state: Mutex<State>,
    changed: Condvar,
    descriptors: Arc<Descriptors>,
}

#[derive(Debug, Default)]
struct State {
    clients: HashMap<u64, Client>,
    /// Of those the ones for whom nothing is under way: they have not said what they want, or have been told why not and stay.
    /// The first one has been here for longest.
    unserved: BTreeSet<u64>,
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

    /// Waits for room, and makes it if somebody can give way. `out_of_descriptors` is called each time that there is none
    /// because pipes have the last ones. `None` if the gateway stops meanwhile: the client is closed.
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
            let are_out = self.descriptors.are_out();
            if state.turn == turn && (are_out || state.clients.len() >= state.most) {
                state.make_room();
            }
            if are_out {
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
        state.unserved.insert(number);
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

    /// For want of something else that each client takes: whether one of them gives way, and is about to end.
    pub(crate) fn make_room(&self) -> bool {
        self.state.lock().make_room()
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

impl State {
    /// Resets the unserved client that has been here for longest, if there are too many of them; its thread finds the socket
    /// dead. Silence costs an attacker nothing. Whoever means it has sent a request long before as many others have come; if
    /// that one still waits to be read, it is this gateway that is slow.
    fn make_room(&mut self) -> bool {
        let enough = self.clients.len().div_ceil(UNSERVED_ONE_IN);
        let excess = self.unserved.len().saturating_sub(enough);
        let mut oldest = self.unserved.iter().take(excess.min(LOOKED_AT));
        let is_silent = |client: &Client| !is_readable(&client.socket);
        let silent = oldest.find(|number| self.clients.get(number).is_some_and(is_silent));
        let Some(number) = silent.copied() else {
            return false;
        };
        self.unserved.remove(&number);
        if let Some(client) = self.clients.get(&number) {
            // As in `cut`.
            let _ = connect_unspec(&client.socket);
        }
        true
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

    /// It has said what it wants, and gives way to nobody any more. `false` if it has done so already.
    pub(crate) fn served(&self) -> bool {
        self.place.relays.state.lock().unserved.remove(&self.number)
    }

    /// Whether it has given way, of a client that is not served yet.
    pub(crate) fn has_given_way(&self) -> bool {
        !self
            .place
            .relays
            .state
            .lock()
            .unserved
            .contains(&self.number)
    }

    /// It has been told why not, and stays.
    pub(crate) fn told(&self) {
        self.watched.told();
        self.place.relays.state.lock().unserved.insert(self.number);
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
        state.unserved.remove(&self.number);
        state.moved = state.moved.plus(self.watched.octets.moved());
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    use super::*;

    fn admit(relays: &Arc<Relays>) -> Option<(Admitted, UnixStream)> {
        let (client, outside) = UnixStream::pair().unwrap();
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        let admitted = relays.admit(client.into(), peer, || ());
        Some((admitted?, outside))
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

    /// In a gateway with room for 16, of which two may be unserved in peace.
    #[test]
    fn those_who_say_nothing_give_way_in_the_order_in_which_they_came_and_nobody_else_does() {
        let relays = room_for(16);
        let (clients, mut outside): (Vec<_>, Vec<_>) =
            (0..16).map(|_| admit(&relays).unwrap()).unzip();
        let gave_way = |number: usize| clients[number].has_given_way();
        assert!(clients[0].served());
        outside[1].write_all(b"\x05").unwrap();
        assert!(relays.make_room());
        assert!(
            gave_way(2) && !gave_way(1),
            "nobody has read yet what 1 said"
        );
        assert!(!clients[2].served(), "too late");
        assert!(clients[1].served());
        for client in &clients[5..] {
            assert!(client.served());
        }
        assert!(!relays.make_room(), "the last ones have their time");
        clients[0].told();
        clients[5].told();
        assert!(relays.make_room(), "the oldest, who was told and stays");
        assert!(gave_way(0) && !gave_way(3) && !gave_way(5));
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
