//! What can be seen from outside of a client that is being served. Its thread writes here, and nobody else does.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use parking_lot::Mutex;
use socks_wire::Destination;

#[derive(Debug)]
pub(crate) struct Watched {
    pub(crate) start: Instant,
    pub(crate) octets: Octets,
    stage: Mutex<Stage>,
}

/// How far a client has got.
#[derive(Debug, Clone)]
pub(crate) struct Stage {
    pub(crate) client: SocketAddr,
    pub(crate) user: Option<String>,
    /// It has said what it wants.
    pub(crate) destination: Option<Destination>,
    /// The destination's connection stands.
    pub(crate) address: Option<SocketAddr>,
    /// It has been told why not, and is expected to go.
    pub(crate) is_told: bool,
}

/// What a relay has delivered so far. A plain store into the relay's own memory after each turn: the figures on a status
/// page are of this moment, and no octet costs a locked instruction.
#[derive(Debug, Default)]
pub(crate) struct Octets {
    to_destination: AtomicU64,
    to_client: AtomicU64,
}

/// Octets each way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Moved {
    pub(crate) to_destination: u64,
    pub(crate) to_client: u64,
}

impl Watched {
    pub(crate) fn new(client: SocketAddr) -> Self {
        let stage = Stage {
            client,
            user: None,
            destination: None,
            address: None,
            is_told: false,
        };
        Self {
            start: Instant::now(),
            octets: Octets::default(),
            stage: Mutex::new(stage),
        }
    }

    pub(crate) fn stage(&self) -> Stage {
        self.stage.lock().clone()
    }

    pub(crate) fn is_relay(&self) -> bool {
        let stage = self.stage.lock();
        stage.address.is_some() && !stage.is_told
    }

    pub(crate) fn requested(&self, client: SocketAddr, user: Option<&str>, to: Destination) {
        let mut stage = self.stage.lock();
        stage.client = client;
        stage.user = user.map(str::to_owned);
        stage.destination = Some(to);
    }

    pub(crate) fn dialled(&self, address: SocketAddr) {
        self.stage.lock().address = Some(address);
    }

    pub(crate) fn told(&self) {
        self.stage.lock().is_told = true;
    }
}

impl Octets {
    pub(crate) fn set(&self, moved: Moved) {
        self.to_destination.store(moved.to_destination, Relaxed);
        self.to_client.store(moved.to_client, Relaxed);
    }

    pub(crate) fn moved(&self) -> Moved {
        Moved {
            to_destination: self.to_destination.load(Relaxed),
            to_client: self.to_client.load(Relaxed),
        }
    }
}

impl Moved {
    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            to_destination: self.to_destination.saturating_add(other.to_destination),
            to_client: self.to_client.saturating_add(other.to_client),
        }
    }

    pub(crate) fn all(self) -> u64 {
        self.to_destination.saturating_add(self.to_client)
    }
}
