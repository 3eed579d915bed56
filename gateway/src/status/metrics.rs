//! The figures in Prometheus' text format 0.0.4.

use std::fmt::{self, Display, Write};
use std::sync::atomic::Ordering::Relaxed;
use std::time::UNIX_EPOCH;

use crate::figures::{Figures, Histogram};
use crate::log;
use crate::relays::View;
use crate::status::process::Process;

pub(super) fn text(figures: &Figures, view: &View) -> String {
    let mut text = Text(String::with_capacity(8 << 10));
    // A String takes everything.
    write(&mut text, figures, view).ok();
    text.0
}

fn write(text: &mut Text, figures: &Figures, view: &View) -> fmt::Result {
    text.head("socks6_build_info", "gauge", "The version that runs.")?;
    text.row("socks6_build_info", "version", env!("CARGO_PKG_VERSION"), 1)?;

    let relays = view.clients.iter().filter(|it| it.is_relay()).count();
    text.gauge(
        "socks6_clients",
        "Clients that are being served.",
        view.clients.len(),
    )?;
    text.gauge(
        "socks6_relays",
        "Of those the ones whose destination is connected.",
        relays,
    )?;
    text.gauge(
        "socks6_clients_most",
        "Clients that may be served at a time.",
        view.most,
    )?;
    let is_draining = u8::from(figures.is_draining.load(Relaxed));
    text.gauge(
        "socks6_draining",
        "1 while the gateway lets its last relays end.",
        is_draining,
    )?;

    text.counter(
        "socks6_clients_accepted_total",
        "Clients that were accepted.",
        view.admitted,
    )?;
    text.tally(
        "socks6_relays_ended_total",
        "Relays that are over.",
        "end",
        figures.ended.counts(),
    )?;
    text.counter(
        "socks6_answered_total",
        "Clients that asked for a name or an address and were told.",
        figures.answered.load(Relaxed),
    )?;
    text.tally(
        "socks6_clients_failed_total",
        "Clients that got neither relay nor answer.",
        "reason",
        figures.failed.counts(),
    )?;
    let unreachable = figures.unreachable.counts().into_iter();
    text.tally(
        "socks6_dial_errors_total",
        "Of those the ones whose destination was not found or not reached, by REP in hexadecimal.",
        "rep",
        unreachable.map(|(rep, count)| (format!("{rep:02x}"), count)),
    )?;

    text.head(
        "socks6_relayed_bytes_total",
        "counter",
        "Octets delivered, by running relays too.",
    )?;
    for (direction, octets) in [
        ("to_destination", view.moved.to_destination),
        ("to_client", view.moved.to_client),
    ] {
        text.row("socks6_relayed_bytes_total", "direction", direction, octets)?;
    }
    text.histogram(
        "socks6_handshake_seconds",
        "From accept to the end of the request.",
        &figures.handshake,
    )?;
    text.histogram(
        "socks6_dial_seconds",
        "From the request to the destination's connection, if there is one.",
        &figures.dial,
    )?;

    let mut pauses = figures.pauses.counts();
    pauses.push(("relays", view.waits));
    text.tally(
        "socks6_accept_pauses_total",
        "Waits before the next client, by what was short: descriptors (or memory), threads, or relays (the limit).",
        "reason",
        pauses,
    )?;
    text.tally(
        "socks6_reloads_total",
        "SIGHUPs.",
        "outcome",
        figures.reloads.counts(),
    )?;
    text.counter(
        "socks6_log_lines_lost_total",
        "Lines that the log could not take at once.",
        log::lines_lost(),
    )?;
    process(text, figures)
}

/// By the names that every client library of Prometheus gives them.
fn process(text: &mut Text, figures: &Figures) -> fmt::Result {
    let process = Process::look();
    if let Ok(since) = figures.since.duration_since(UNIX_EPOCH) {
        let help = "When it began, in seconds of Unix time.";
        text.gauge("process_start_time_seconds", help, since.as_secs_f64())?;
    }
    for (name, help, value) in [
        ("process_threads", "Threads.", process.threads),
        ("process_open_fds", "Open descriptors.", process.descriptors),
        (
            "process_max_fds",
            "The limit on open descriptors.",
            process.most_descriptors,
        ),
        (
            "process_resident_memory_bytes",
            "Resident memory.",
            process.resident_octets,
        ),
    ] {
        if let Some(value) = value {
            text.gauge(name, help, value)?;
        }
    }
    if let Some(cpu) = process.cpu {
        text.counter(
            "process_cpu_seconds_total",
            "CPU time, user and system.",
            cpu.as_secs_f64(),
        )?;
    }
    Ok(())
}

struct Text(String);

impl Text {
    fn head(&mut self, name: &str, kind: &str, help: &str) -> fmt::Result {
        writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}")
    }

    /// No label's value comes from a client: words of ours and numbers need no escapes.
    fn row(
        &mut self,
        name: &str,
        label: &str,
        word: impl Display,
        value: impl Display,
    ) -> fmt::Result {
        writeln!(self.0, "{name}{{{label}=\"{word}\"}} {value}")
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl Display) -> fmt::Result {
        self.head(name, "gauge", help)?;
        writeln!(self.0, "{name} {value}")
    }

    fn counter(&mut self, name: &str, help: &str, value: impl Display) -> fmt::Result {
        self.head(name, "counter", help)?;
        writeln!(self.0, "{name} {value}")
    }

    fn tally<W: Display>(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        counts: impl IntoIterator<Item = (W, u64)>,
    ) -> fmt::Result {
        self.head(name, "counter", help)?;
        for (word, count) in counts {
            self.row(name, label, word, count)?;
        }
        Ok(())
    }

    fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) -> fmt::Result {
        self.head(name, "histogram", help)?;
        let bucket = format!("{name}_bucket");
        let mut all = 0;
        for (bound, count) in histogram.cumulative() {
            match bound {
                Some(ms) => self.row(&bucket, "le", f64::from(ms) / 1000.0, count)?,
                None => self.row(&bucket, "le", "+Inf", count)?,
            }
            all = count;
        }
        writeln!(
            self.0,
            "{name}_sum {}\n{name}_count {all}",
            histogram.sum().as_secs_f64()
        )
    }
}
