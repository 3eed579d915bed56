//! How a running gateway is told to stop: signal → stop accepting → drain; to read its configuration again; and to let a
//! new one take over.
//! What there is to be drained, and for how long, the gateway knows.

use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR2};
use signal_hook::iterator::Signals;

/// What a gateway's main thread waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// A listener is left without a thread, and none can be had at the moment.
    ShortOfThreads,
    /// Read the configuration again.
    Reload,
    /// Start a successor.
    Upgrade,
    /// A successor of this process id serves: leave the clients to it.
    Replaced(u32),
    /// There is no successor.
    NotReplaced,
    /// Stop accepting, let the relays end.
    Drain,
    /// End the relays.
    Cut,
}

/// Where events come from. Threads of the gateway and handles outside have one each.
#[derive(Debug, Clone)]
pub(crate) struct Events(Sender<Event>);

impl Events {
    pub(crate) fn channel() -> (Self, Receiver<Event>) {
        let (sender, receiver) = channel();
        (Self(sender), receiver)
    }

    pub(crate) fn tell(&self, event: Event) {
        // Nobody listens any more once the gateway has stopped: what was to be reached.
        let _ = self.0.send(event);
    }
}

/// A handle that stops a running gateway, from any thread.
#[derive(Debug, Clone)]
pub struct Shutdown(pub(crate) Events);

impl Shutdown {
    /// No new clients; the gateway stops when the running relays have ended or the drain timeout
    /// has passed.
    pub fn drain(&self) {
        self.0.tell(Event::Drain);
    }

    /// The gateway stops at once and resets what is running.
    pub fn cut(&self) {
        self.0.tell(Event::Cut);
    }

    /// From now on the first SIGTERM or SIGINT of this process drains, the second cuts, SIGHUP reloads,
    /// and SIGUSR2 starts a successor.
    ///
    /// # Errors
    /// If a handler cannot be installed or the thread that waits for signals cannot be started.
    pub fn on_signals(&self) -> io::Result<()> {
        let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP, SIGUSR2])?;
        let events = self.0.clone();
        thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                let mut end = Event::Drain;
                for signal in &mut signals {
                    match signal {
                        SIGHUP => events.tell(Event::Reload),
                        SIGUSR2 => events.tell(Event::Upgrade),
                        _ => {
                            events.tell(end);
                            end = Event::Cut;
                        }
                    }
                }
            })?;
        Ok(())
    }
}
