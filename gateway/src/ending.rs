//! The end of a gateway: it stops accepting, its relays have their time, and what is left is cut off.

use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use crate::Gateway;
use crate::listener::{Listener, SPARE_FOR};
use crate::shutdown::Event;

/// How often a gateway that drains looks whether the last relay has ended.
const DRAIN_POLL: Duration = Duration::from_millis(10);
const MOST_DRAIN_POLL: Duration = Duration::from_secs(1);

/// Threads have left a listener that is not shut down, unless they wait for room for a client.
const LEAVING: Duration = SPARE_FOR.saturating_mul(2);

/// How long threads have to notice that their client was cut off.
const CUT_GRACE: Duration = Duration::from_secs(1);

impl Gateway {
    /// After `event`, to the last relay.
    pub(crate) fn end(&mut self, mut event: Event) {
        if let Event::Replaced(pid) = event {
            event = self.leave(pid);
        }
        let is_draining = &self.shared.figures.is_draining;
        is_draining.store(true, Ordering::Relaxed);
        self.manager.stopping();
        for (_, listener) in &self.listeners {
            if self.is_upgrading {
                // The successor has it too by now.
                listener.leave();
            } else {
                listener.close();
            }
        }
        if event == Event::Drain {
            let limit = self.shared.config.get().drain_timeout;
            self.drain(Some(limit));
        }
        self.shared.relays.close();
        self.cut();
    }

    /// Another process serves from now on; this one ends with its relays, or is told to stop before.
    fn leave(&mut self, successor: u32) -> Event {
        tracing::info!(successor, "upgraded");
        self.manager.replaced_by(successor);
        if let Some(status) = self.status.take() {
            status.leave();
        }
        for (_, listener) in &self.listeners {
            listener.leave();
        }
        let limit = self.shared.config.get().upgrade_timeout;
        self.drain(limit)
    }

    /// Waits for the last relay's end or that of `limit`. Gives what is to be done next: cut off what is left, or what it
    /// was told meanwhile.
    fn drain(&mut self, limit: Option<Duration>) -> Event {
        tracing::info!(relays = self.shared.relays.count(), "draining");
        let start = Instant::now();
        // Whoever comes out of a queue that is left to others has the whole of the limit as well.
        let is_left = |listener: &Listener| self.is_upgrading || listener.is_shared();
        let may_come = self.listeners.iter().any(|(_, listener)| is_left(listener));
        let mut since = (!may_come).then_some(start);
        while self.is_busy() {
            if since.is_none() && (!self.is_waiting() || start.elapsed() > LEAVING) {
                since = Some(Instant::now());
            }
            let elapsed = since.map_or(Duration::ZERO, |since| since.elapsed());
            if limit.is_some_and(|limit| elapsed >= limit) {
                break;
            }
            // What has taken long may take longer: without a limit, days.
            let poll = elapsed.div_f32(10.0).clamp(DRAIN_POLL, MOST_DRAIN_POLL);
            if let Ok(event @ (Event::Drain | Event::Cut)) = self.next_event(Some(poll)) {
                return event;
            }
        }
        Event::Cut
    }

    /// Whether a client is being served, or may yet be.
    fn is_busy(&self) -> bool {
        // In this order: a client is counted as served before its thread is no longer waiting.
        self.is_waiting() || self.shared.relays.count() > 0
    }

    fn is_waiting(&self) -> bool {
        let mut listeners = self.listeners.iter();
        listeners.any(|(_, listener)| listener.is_waiting())
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
