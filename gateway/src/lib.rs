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
//! is shared between clients but the pools of buffers and pipes, the table of who is there, what one of them may take:
//! `shares`, `pace` and `logins`, and how many look-ups are under way: `zones`. `memory` says when there is too little for another one.
//! `figures` and `watched` are what `status` shows of it, in a thread of its own.

#![deny(unsafe_code)]

mod args;
mod config;
mod confine;
mod descriptors;
mod dial;
mod direction;
mod ending;
mod error;
mod figures;
mod file;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod handshake;
mod hash;
mod inherited;
mod listener;
mod live;
mod log;
mod logins;
mod lookup;
mod manager;
mod manual;
mod memory;
mod metrics;
mod nat64;
mod outgoing;
mod own;
mod pace;
mod passwd;
mod pipes;
mod policy;
mod proxy;
mod quotas;
mod record;
mod relay;
mod relays;
mod resolve;
mod rules;
mod serve;
mod shares;
mod shutdown;
mod status;
mod stream;
mod sys;
mod text;
mod tls;
mod upgrade;
mod upstream;
mod users;
mod wait;
mod watched;
mod zones;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

pub use crate::args::{Args, ArgsError, Task};
pub use crate::config::{Config, ConfigError, Settings};
pub use crate::confine::{Needs, Process, confine};
pub use crate::error::StartError;
pub use crate::file::FileError;
pub use crate::inherited::{Inherited, InheritedError};
pub use crate::log::{Log, LogError, LogFormat, LogSettings};
pub use crate::manager::Manager;
pub use crate::memory::share_one_heap;
pub use crate::metrics::MetricsSettings;
pub use crate::nat64::Nat64;
pub use crate::passwd::PasswdError;
pub use crate::quotas::Quotas;
pub use crate::rules::Rules;
pub use crate::shutdown::Shutdown;
pub use crate::tls::{TlsError, TlsListeners};
pub use crate::upgrade::{Again, Report};
pub use crate::upstream::UpstreamError;
pub use crate::users::{Users, UsersError};

use crate::config::Listen;
use crate::descriptors::Descriptors;
use crate::figures::Figures;
use crate::listener::Listener;
use crate::live::Live;
use crate::logins::Logins;
use crate::own::OwnAddresses;
use crate::pipes::Pools;
use crate::relays::Relays;
use crate::shares::Shares;
use crate::shutdown::{Event, Events};
use crate::status::Status;
use crate::zones::Zones;

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
    pub(crate) figures: Figures,
    pub(crate) zones: Zones,
}

/// A gateway whose listeners stand; clients are served once it runs.
pub struct Gateway {
    shared: Arc<Shared>,
    listeners: Vec<(Listen, Arc<Listener>)>,
    events: Receiver<Event>,
    manager: Manager,
    report: Report,
    reread: Option<Box<Reread>>,
    again: Option<Again>,
    is_upgrading: bool,
    log: Option<Log>,
    status: Option<Arc<Status>>,
}

/// Where a new configuration comes from, or why there is none.
type Reread = dyn Fn() -> Result<Config, String> + Send;

/// Between two attempts to start a thread for a listener that has none.
const THREAD_RETRY: Duration = Duration::from_millis(100);

impl Gateway {
    /// Binds every listener.
    ///
    /// # Errors
    /// If one of them cannot be had. One that is there by default and not by configuration may be
    /// missing, on a host without IPv6.
    pub fn bind(config: Config) -> Result<Self, StartError> {
        Self::adopt(config, Inherited::default())
    }

    /// The same, with sockets that are bound already in place of those of the same address.
    ///
    /// # Errors
    /// As [`Gateway::bind`].
    pub fn adopt(config: Config, mut inherited: Inherited) -> Result<Self, StartError> {
        let (sender, events) = Events::channel();
        let (listen, metrics) = (config.listen.clone(), config.metrics.listen);
        let descriptors = Arc::<Descriptors>::default();
        let shared = Arc::new(Shared {
            relays: Arc::new(Relays::new(config.max_relays, Arc::clone(&descriptors))),
            config: Live::new(config),
            pools: Pools::new(descriptors),
            own: OwnAddresses::default(),
            logins: Logins::new(),
            shares: Arc::default(),
            events: sender,
            figures: Figures::default(),
            zones: Zones::default(),
        });
        let mut gateway = Self {
            shared,
            listeners: Vec::new(),
            events,
            manager: Manager::default(),
            report: inherited.report(),
            reread: None,
            again: None,
            is_upgrading: false,
            log: None,
            status: None,
        };
        gateway.status = Status::bind(None, metrics, inherited.take_status())?;
        gateway.listeners = gateway.bind_all(&listen, inherited)?;
        gateway.tell_listeners();
        Ok(gateway)
    }

    /// Those that stand already are not bound again.
    fn bind_all(
        &self,
        listen: &[Listen],
        mut inherited: Inherited,
    ) -> Result<Vec<(Listen, Arc<Listener>)>, StartError> {
        let mut listeners = Vec::new();
        for &listen in listen {
            if let Some((_, known)) = self.listeners.iter().find(|(known, _)| *known == listen) {
                listeners.push((listen, Arc::clone(known)));
                continue;
            }
            let shared = Arc::clone(&self.shared);
            let listener = match inherited.take(listen.address) {
                Some((passed, is_shared)) => Listener::adopt(shared, passed, is_shared),
                None => Listener::bind(shared, listen),
            };
            match listener {
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

    /// Tells a service manager how it fares, from [`Gateway::run`].
    pub fn report_to(&mut self, manager: Manager) {
        self.manager = manager;
    }

    /// On SIGHUP ([`Shutdown::on_signals`]) the configuration is replaced by what `reread` gives.
    pub fn reload_with(&mut self, reread: impl Fn() -> Result<Config, String> + Send + 'static) {
        self.reread = Some(Box::new(reread));
    }

    /// On SIGUSR2 ([`Shutdown::on_signals`]) a successor is started so, and takes over the listeners.
    pub fn upgrade_with(&mut self, again: Again) {
        self.again = Some(again);
    }

    /// The log follows the configuration from now on, and its file is opened anew on SIGHUP.
    pub fn log_with(&mut self, log: Log) {
        self.log = Some(log);
    }

    /// All of the new configuration, or nothing of it. Running relays go on as they began.
    fn reload(&mut self) {
        let Some(reread) = &self.reread else { return };
        self.manager.reloading();
        let replaced = if self.is_upgrading {
            // A listener that is closed here would be closed for the successor too.
            Err("an upgrade is on its way".to_owned())
        } else {
            reread().and_then(|config| self.replace(config).map_err(|error| error.to_string()))
        };
        match replaced {
            Ok(()) => {
                self.shared.figures.reloads.add("replaced");
                tracing::info!("reloaded");
                self.manager.ready("reloaded");
            }
            Err(why) => {
                self.shared.figures.reloads.add("refused");
                self.log.iter().for_each(Log::reopen);
                let why = format!("not reloaded, and nothing has changed: {why}");
                tracing::error!("{why}");
                self.manager.ready(&why);
            }
        }
    }

    fn replace(&mut self, config: Config) -> Result<(), StartError> {
        let log = match &self.log {
            Some(log) => Some((log, log.open(&config.log)?)),
            None => None,
        };
        let status = Status::bind(self.status.as_ref(), config.metrics.listen, None)?;
        if let Some(status) = &status {
            status.start(&self.shared)?;
        }
        let listeners = self.bind_all(&config.listen, Inherited::default())?;
        for (_, listener) in &listeners {
            if let Err(error) = listener.reinforce() {
                self.close_but(&listeners, &self.listeners);
                return Err(StartError::Thread(error));
            }
        }
        self.shared.relays.set_most(config.max_relays);
        self.shared.config.replace(config);
        self.close_but(&self.listeners, &listeners);
        if let Some((log, opened)) = log {
            log.switch(opened);
        }
        self.listeners = listeners;
        self.status = status;
        self.tell_listeners();
        Ok(())
    }

    fn tell_listeners(&self) {
        *self.shared.figures.listeners.write() = self.local_addrs();
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

    /// Where it can be watched, with the true port.
    #[must_use]
    pub fn status_addr(&self) -> Option<SocketAddr> {
        self.status.as_ref().map(|status| status.address())
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
        if let Some(status) = &self.status {
            status.start(&self.shared)?;
        }
        self.manager.ready("serving");
        self.report.serving();
        let event = self.wait_for_the_end();
        self.end(event);
        Ok(())
    }

    fn wait_for_the_end(&mut self) -> Event {
        let mut is_short_of_threads = false;
        loop {
            match self.next_event(is_short_of_threads.then_some(THREAD_RETRY)) {
                Ok(Event::ShortOfThreads) => is_short_of_threads = true,
                Ok(Event::Reload) => self.reload(),
                Ok(Event::Upgrade) if !self.is_upgrading => {
                    self.is_upgrading = self.again.is_some();
                    self.upgrade();
                }
                Ok(Event::Upgrade) => {}
                Ok(Event::NotReplaced) => self.is_upgrading = false,
                Ok(event @ (Event::Replaced(_) | Event::Drain | Event::Cut)) => return event,
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

    /// The next event, or a timeout; a service manager hears meanwhile that this thread is alive.
    fn next_event(&mut self, within: Option<Duration>) -> Result<Event, RecvTimeoutError> {
        let end = within.and_then(|within| Instant::now().checked_add(within));
        loop {
            let relays = &self.shared.relays;
            let alive = self.manager.alive(|| format!("{} relays", relays.count()));
            let event = match [end, alive].into_iter().flatten().min() {
                None => self.events.recv().map_err(RecvTimeoutError::from),
                Some(at) => {
                    let left = at.saturating_duration_since(Instant::now());
                    self.events.recv_timeout(left)
                }
            };
            let is_over = end.is_some_and(|end| Instant::now() >= end);
            if is_over || event != Err(RecvTimeoutError::Timeout) {
                return event;
            }
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

fn is_without_family(error: &std::io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL)
    )
}
