//! The Gateway of RFC 3089: a SOCKS server that joins a client's connection of one address family
//! with a destination's of the other, a thread for each relay.
//!
//! The binary `socks6-gateway` is this library with a command line; tests start it in-process:
//!
//! ```
//! use gateway::{Config, Gateway, Settings};
//!
//! let listen = vec!["127.0.0.1:0".parse()?];
//! let config = Config::new(Settings { listen, ..Settings::default() })?;
//! let gateway = Gateway::bind(config)?;
//! let (address, shutdown) = (gateway.local_addrs()[0], gateway.shutdown());
//! let running = std::thread::spawn(move || gateway.run());
//! // … clients connect to `address` …
//! # std::net::TcpStream::connect(address)?;
//! shutdown.drain();
//! running.join().expect("no panic")?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! One client's way through the modules: `listener` accepts it, `serve` tells its story with
//! `handshake`, `policy`, `resolve`, `dial` and `relay`, and `record` logs it. Nothing on that way
//! is shared between clients but the pools of buffers and pipes, the table of who is there, and what one of them may take:
//! `shares`, `pace` and `logins`. `memory` says when there is too little for another one.

#![deny(unsafe_code)]

mod args;
mod config;
mod dial;
mod direction;
mod error;
mod file;
mod handshake;
mod hash;
mod listener;
mod live;
mod logins;
mod lookup;
mod memory;
mod own;
mod pace;
mod passwd;
mod pipes;
mod policy;
mod quotas;
mod record;
mod relay;
mod relays;
mod resolve;
mod serve;
mod shares;
mod shutdown;
mod sys;
mod text;
mod users;
mod wait;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

pub use crate::args::{Args, ArgsError, Task};
pub use crate::config::{Config, ConfigError, Settings};
pub use crate::error::StartError;
pub use crate::file::FileError;
pub use crate::memory::share_one_heap;
pub use crate::passwd::PasswdError;
pub use crate::quotas::Quotas;
pub use crate::shutdown::Shutdown;
pub use crate::users::{Users, UsersError};

use crate::config::Listen;
use crate::listener::Listener;
use crate::live::Live;
use crate::logins::Logins;
use crate::own::OwnAddresses;
use crate::pipes::Pools;
use crate::relays::Relays;
use crate::shares::Shares;
use crate::shutdown::{Event, Events};

/// What the threads of one gateway share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: Live,
    pub(crate) pools: Pools,
    pub(crate) own: OwnAddresses,
    pub(crate) relays: Arc<Relays>,
    pub(crate) logins: Logins,
    pub(crate) shares: Arc<Shares>,
    pub(crate) events: Events,
}

/// A gateway whose listeners stand; clients are served once it runs.
pub struct Gateway {
    shared: Arc<Shared>,
    listeners: Vec<(Listen, Arc<Listener>)>,
    events: Receiver<Event>,
    reread: Option<Box<Reread>>,
}

/// Where a new configuration comes from, or why there is none.
type Reread = dyn Fn() -> Result<Config, String> + Send;

/// How often a gateway that drains looks whether the last relay has ended.
const DRAIN_POLL: Duration = Duration::from_millis(10);

/// How long threads have to notice that their client was cut off.
const CUT_GRACE: Duration = Duration::from_secs(1);

/// Between two attempts to start a thread for a listener that has none.
const THREAD_RETRY: Duration = Duration::from_millis(100);

/// Descriptors left for what is no relay: listeners, log, resolver, pipes.
const SPARE_DESCRIPTORS: u64 = 64;

impl Gateway {
    /// Binds every listener.
    ///
    /// # Errors
    /// If one of them cannot be had. One that is there by default and not by configuration may be
    /// missing, on a host without IPv6.
    pub fn bind(config: Config) -> Result<Self, StartError> {
        let (sender, events) = Events::channel();
        let listen = config.listen.clone();
        let shared = Arc::new(Shared {
            relays: Arc::new(Relays::new(most_relays(&config))),
            config: Live::new(config),
            pools: Pools::default(),
            own: OwnAddresses::default(),
            logins: Logins::new(),
            shares: Arc::default(),
            events: sender,
        });
        let mut gateway = Self {
            shared,
            listeners: Vec::new(),
            events,
            reread: None,
        };
        gateway.listeners = gateway.bind_all(&listen)?;
        Ok(gateway)
    }

    /// Those that stand already are not bound again.
    fn bind_all(&self, listen: &[Listen]) -> Result<Vec<(Listen, Arc<Listener>)>, StartError> {
        let mut listeners = Vec::new();
        for &listen in listen {
            if let Some((_, known)) = self.listeners.iter().find(|(known, _)| *known == listen) {
                listeners.push((listen, Arc::clone(known)));
                continue;
            }
            match Listener::bind(Arc::clone(&self.shared), listen) {
                Ok(listener) => listeners.push((listen, Arc::new(listener))),
                Err(error) if listen.is_optional && is_without_family(&error) => {
                    tracing::info!(address = %listen.address, %error, "not listening there");
                }
                Err(error) => {
                    return Err(StartError::Listen {
                        address: listen.address,
                        error,
                    });
                }
            }
        }
        Ok(listeners)
    }

    /// On SIGHUP ([`Shutdown::on_signals`]) the configuration is replaced by what `reread` gives.
    pub fn reload_with(&mut self, reread: impl Fn() -> Result<Config, String> + Send + 'static) {
        self.reread = Some(Box::new(reread));
    }

    /// All of the new configuration, or nothing of it. Running relays go on as they began.
    fn reload(&mut self) {
        let Some(reread) = &self.reread else { return };
        let replaced =
            reread().and_then(|config| self.replace(config).map_err(|error| error.to_string()));
        match replaced {
            Ok(()) => tracing::info!("reloaded"),
            Err(why) => tracing::error!("not reloaded, and nothing has changed: {why}"),
        }
    }

    fn replace(&mut self, config: Config) -> Result<(), StartError> {
        let listeners = self.bind_all(&config.listen)?;
        for (_, listener) in &listeners {
            if let Err(error) = listener.reinforce() {
                self.close_but(&listeners, &self.listeners);
                return Err(StartError::Thread(error));
            }
        }
        self.shared.relays.set_most(most_relays(&config));
        self.shared.config.replace(config);
        self.close_but(&self.listeners, &listeners);
        self.listeners = listeners;
        Ok(())
    }

    /// Closes those of `some` that are not among `others`.
    fn close_but(&self, some: &[(Listen, Arc<Listener>)], others: &[(Listen, Arc<Listener>)]) {
        for (listen, listener) in some {
            if !others.iter().any(|(other, _)| other == listen) {
                listener.close();
            }
        }
    }

    /// Where it listens, with the true ports, in the order of the configuration.
    #[must_use]
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.listeners
            .iter()
            .map(|(_, listener)| listener.address())
            .collect()
    }

    /// A handle that stops this gateway.
    #[must_use]
    pub fn shutdown(&self) -> Shutdown {
        Shutdown(self.shared.events.clone())
    }

    /// Serves clients until told to stop, and returns when the last relay has ended, was cut off
    /// after the drain timeout, or was told to end at once.
    ///
    /// # Errors
    /// If not even one thread for each listener can be started.
    pub fn run(mut self) -> Result<(), StartError> {
        for (_, listener) in &self.listeners {
            listener.reinforce().map_err(StartError::Thread)?;
        }
        let event = self.wait_for_the_end();
        for (_, listener) in &self.listeners {
            listener.close();
        }
        self.shared.relays.close();
        if event == Event::Drain {
            self.drain();
        }
        self.cut();
        Ok(())
    }

    fn wait_for_the_end(&mut self) -> Event {
        let mut is_short_of_threads = false;
        loop {
            let event = if is_short_of_threads {
                self.events.recv_timeout(THREAD_RETRY)
            } else {
                self.events.recv().map_err(RecvTimeoutError::from)
            };
            match event {
                Ok(Event::ShortOfThreads) => is_short_of_threads = true,
                Ok(Event::Reload) => self.reload(),
                Ok(event @ (Event::Drain | Event::Cut)) => return event,
                Err(RecvTimeoutError::Timeout) => {
                    is_short_of_threads = self
                        .listeners
                        .iter()
                        .any(|(_, listener)| listener.reinforce().is_err());
                }
                // Not as long as `shared` holds a sender.
                Err(RecvTimeoutError::Disconnected) => return Event::Cut,
            }
        }
    }

    fn drain(&self) {
        let relays = &self.shared.relays;
        tracing::info!(relays = relays.count(), "draining");
        let (start, limit) = (Instant::now(), self.shared.config.get().drain_timeout);
        while relays.count() > 0 && start.elapsed() < limit {
            if self.events.recv_timeout(DRAIN_POLL) == Ok(Event::Cut) {
                break;
            }
        }
    }

    fn cut(&self) {
        let relays = &self.shared.relays;
        let left = relays.count();
        if left > 0 {
            tracing::warn!(relays = left, "cutting off");
            relays.cut();
        }
        // A thread that waits for the resolver does not notice; it ends with the process.
        let start = Instant::now();
        while relays.count() > 0 && start.elapsed() < CUT_GRACE {
            thread::sleep(DRAIN_POLL);
        }
    }
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gateway")
            .field("listeners", &self.local_addrs())
            .finish_non_exhaustive()
    }
}

/// Raises this process's limit on open descriptors as far as it may: a relay takes two.
pub fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    // Not being able to is no reason not to start: there is less room, that is all.
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            ..limit
        },
    );
}

fn most_relays(config: &Config) -> usize {
    config.max_relays.unwrap_or_else(affordable_relays)
}

/// As many relays as the limit on descriptors has room for, so that it is not reached in the middle
/// of a dial.
fn affordable_relays() -> usize {
    let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let relays = descriptors
        .saturating_sub(SPARE_DESCRIPTORS)
        .checked_div(2)
        .unwrap_or(0)
        .max(1);
    usize::try_from(relays).unwrap_or(usize::MAX)
}

fn is_without_family(error: &std::io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL)
    )
}
