//! The clients that are being served: how many there may be, and how to end them all.
//! Touched when a client comes and when it goes; a running relay shares nothing.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};
use rustix::net::connect_unspec;

#[derive(Debug)]
pub(crate) struct Relays {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    clients: HashMap<u64, Arc<OwnedFd>>,
    next: u64,
    most: usize,
    is_closed: bool,
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
    pub(crate) fn admit(self: &Arc<Self>, client: OwnedFd) -> Option<Admitted> {
        let mut state = self.state.lock();
        while state.clients.len() >= state.most && !state.is_closed {
            self.changed.wait(&mut state);
        }
        if state.is_closed {
            return None;
        }
        let client = Arc::new(client);
        let number = state.next;
        state.next = state.next.wrapping_add(1);
        state.clients.insert(number, Arc::clone(&client));
        Some(Admitted {
            relays: Arc::clone(self),
            number,
            client,
        })
    }

    /// From now on nobody is admitted.
    pub(crate) fn close(&self) {
        self.state.lock().is_closed = true;
        self.changed.notify_all();
    }

    pub(crate) fn count(&self) -> usize {
        self.state.lock().clients.len()
    }

    /// Resets every client; the threads find their sockets dead and reset the other side.
    pub(crate) fn cut(&self) {
        for client in self.state.lock().clients.values() {
            // connect(2): "the association dissolved", which for TCP is a reset. It fails only on a
            // socket that is dead already.
            let _ = connect_unspec(client);
        }
    }
}

/// A client that is being served, until this is dropped.
#[derive(Debug)]
pub(crate) struct Admitted {
    relays: Arc<Relays>,
    number: u64,
    client: Arc<OwnedFd>,
}

impl AsFd for Admitted {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.client.as_fd()
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let client = self.relays.state.lock().clients.remove(&self.number);
        self.relays.changed.notify_one();
        drop(client);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    use super::*;

    fn client() -> OwnedFd {
        UnixStream::pair().unwrap().0.into()
    }

    #[test]
    fn the_client_above_the_cap_waits_for_another_one_to_go() {
        let relays = Arc::new(Relays::new(1));
        let first = relays.admit(client()).unwrap();
        let waiting = std::thread::spawn({
            let relays = Arc::clone(&relays);
            move || relays.admit(client()).is_some()
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
        let _first = relays.admit(client()).unwrap();
        let waiting = std::thread::spawn({
            let relays = Arc::clone(&relays);
            move || relays.admit(client()).is_none()
        });
        std::thread::sleep(Duration::from_millis(20));
        relays.close();
        assert!(waiting.join().unwrap());
        assert!(relays.admit(client()).is_none());
    }
}
