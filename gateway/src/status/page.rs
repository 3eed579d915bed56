//! The figures for a person: one page of HTML without a script, which loads itself anew. Every name on it may be a hostile
//! client's: [`Escaped`], and a policy that lets nothing run if that were forgotten.

use std::fmt::{self, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use socks_wire::Rep;

use crate::figures::{Figures, Histogram};
use crate::log;
use crate::relays::View;
use crate::status::history::{History, Rates, Sample};
use crate::status::process::Process;
use crate::status::words::{Age, Escaped, Size};
use crate::watched::Watched;

/// More rows than anybody reads.
const MOST_ROWS: usize = 200;

const STYLE: &str = include_str!("page.css");

pub(super) struct Page<'a> {
    pub(super) figures: &'a Figures,
    pub(super) view: &'a View,
    pub(super) history: &'a History,
}

impl fmt::Display for Page<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rates = self.history.rates(&Sample::now(self.figures, self.view));
        let host = rustix::system::uname();
        let host = Escaped(host.nodename().to_string_lossy());
        write!(
            f,
            "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width\"><meta http-equiv=\"refresh\" content=\"5\">\
             <title>socks6-gateway on {host}</title><style>{STYLE}</style></head>\n<body>\n"
        )?;
        self.header(f, &host)?;
        self.tiles(f, &rates)?;
        self.traffic(f)?;
        self.relays(f)?;
        f.write_str("<div class=\"columns\">\n")?;
        let plain = |(word, count): (&str, u64)| (word.replace('-', " "), count);
        let ended = self.figures.ended.counts();
        tally(f, "Relays that are over", ended.into_iter().map(plain))?;
        let failed = self.figures.failed.counts();
        tally(f, "Clients without a relay", failed.into_iter().map(plain))?;
        let unreachable = self.figures.unreachable.counts().into_iter();
        let named = unreachable.map(|(rep, count)| (Rep(rep).to_string(), count));
        tally(f, "Destinations not reached", named)?;
        self.rest(f)?;
        f.write_str(
            "</div>\n<footer>Counts are since the start, rates of the last minute. \
             <a href=\"/metrics\">Metrics for Prometheus</a></footer>\n</body></html>\n",
        )
    }
}

impl Page<'_> {
    fn header(&self, f: &mut fmt::Formatter<'_>, host: &impl fmt::Display) -> fmt::Result {
        let (class, word) = if self.figures.is_draining.load(Relaxed) {
            ("badge draining", "draining")
        } else {
            ("badge", "serving")
        };
        let up = self.figures.since.elapsed().unwrap_or_default();
        write!(
            f,
            "<header><h1>socks6-gateway on {host}</h1><span class=\"{class}\">{word}</span>\
             <span class=\"soft\">version {}, up {}, listening on ",
            env!("CARGO_PKG_VERSION"),
            Age(up)
        )?;
        for (index, address) in self.figures.listeners.read().iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{address}")?;
        }
        f.write_str("</span></header>\n")
    }

    fn tiles(&self, f: &mut fmt::Formatter<'_>, rates: &Rates) -> fmt::Result {
        let clients = self.view.clients.len();
        let relays = self.view.clients.iter().filter(|it| it.is_relay()).count();
        let moved = self.view.moved;
        f.write_str("<div class=\"tiles\">\n")?;
        let waiting = clients.saturating_sub(relays);
        let of = format!("{waiting} connecting, at most {}", self.view.most);
        tile(f, "", "relays now", relays, of)?;
        let per_second = format!("{:.1}/s", rates.accepted);
        let all = format!("{} since the start", self.view.admitted);
        tile(f, "", "clients accepted", per_second, all)?;
        let is_bad = if rates.failed > 0.0 { "bad" } else { "" };
        let per_second = format!("{:.1}/s", rates.failed);
        let all = format!("{} since the start", self.figures.failed.sum());
        tile(f, is_bad, "clients without a relay", per_second, all)?;
        for (class, what, rate, all) in [
            (
                "out",
                "to destinations",
                rates.to_destination,
                moved.to_destination,
            ),
            ("in", "to clients", rates.to_client, moved.to_client),
        ] {
            let all = format!("{} since the start", Size::of(all));
            tile(f, class, what, format!("{}/s", Size(rate)), all)?;
        }
        f.write_str("</div>\n")
    }

    /// Both directions over ten minutes, the newest at the right.
    fn traffic(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let steps: Vec<Rates> = self.history.steps().collect();
        let top = steps
            .iter()
            .flat_map(|it| [it.to_destination, it.to_client])
            .fold(0.0, f64::max);
        write!(
            f,
            "<figure class=\"card\"><svg viewBox=\"0 0 120 100\" preserveAspectRatio=\"none\" role=\"img\" \
             aria-label=\"octets per second\"><line x1=\"0\" x2=\"120\" y1=\"99\" y2=\"99\"/>"
        )?;
        for (class, of) in [
            ("out", (|it| it.to_destination) as fn(&Rates) -> f64),
            ("in", |it| it.to_client),
        ] {
            write!(f, "<polyline class=\"{class}\" points=\"")?;
            // One step back from the right for each that is newer.
            for (x, step) in (1..=120).rev().zip(steps.iter().rev()) {
                let y = 99.0 - 96.0 * of(step) / top.max(1.0);
                write!(f, "{x},{y:.1} ")?;
            }
            f.write_str("\"/>")?;
        }
        writeln!(
            f,
            "</svg><figcaption><span>the last 10 minutes; the top is {}/s</span><span><span class=\"out\">\
             &#9644; to destinations</span> &nbsp; <span class=\"in\">&#9644; to clients</span></span>\
             </figcaption></figure>",
            Size(top)
        )
    }

    fn relays(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut clients: Vec<(u64, &Arc<Watched>)> = self
            .view
            .clients
            .iter()
            .map(|client| (client.octets.moved().all(), client))
            .collect();
        clients.sort_by_key(|(octets, client)| (std::cmp::Reverse(*octets), client.start));
        f.write_str("<section class=\"card\"><h2>Clients now</h2>\n")?;
        if clients.is_empty() {
            return f.write_str("<p class=\"soft\">There is none.</p></section>\n");
        }
        f.write_str(
            "<div class=\"scroll\"><table><thead><tr><th class=\"client\">client<th class=\"user\">user<th>destination<th class=\"n\">age\
             <th class=\"n\">to destination<th class=\"n\">to client</tr></thead><tbody>\n",
        )?;
        for (_, client) in clients.iter().take(MOST_ROWS) {
            row(f, client)?;
        }
        f.write_str("</tbody></table></div>")?;
        match clients.len().saturating_sub(MOST_ROWS) {
            0 => {}
            more => write!(
                f,
                "<p class=\"soft\">and {more} more, over which less has gone</p>"
            )?,
        }
        f.write_str("</section>\n")
    }

    fn rest(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let process = Process::look();
        let mut text = String::new();
        let mut line = |what: &str, value: String| writeln!(text, "<dt>{what}<dd>{value}");
        for (what, histogram) in [
            ("handshake p50 / p95", &self.figures.handshake),
            ("dial p50 / p95", &self.figures.dial),
        ] {
            line(
                what,
                format!("≤ {} / {}", within(histogram, 50), within(histogram, 95)),
            )?;
        }
        if let Some((open, most)) = process.descriptors.zip(process.most_descriptors) {
            line("descriptors", format!("{open} of {most}"))?;
        }
        if let Some(threads) = process.threads {
            line("threads", threads.to_string())?;
        }
        if let Some(octets) = process.resident_octets {
            line("memory", Size::of(octets).to_string())?;
        }
        if let Some(cpu) = process.cpu {
            line("CPU time", Age(cpu).to_string())?;
        }
        for (reason, count) in self.figures.pauses.counts() {
            line(&format!("waits for {reason}"), count.to_string())?;
        }
        line("waits for a place", self.view.waits.to_string())?;
        line("log lines lost", log::lines_lost().to_string())?;
        for (outcome, count) in self.figures.reloads.counts() {
            line(&format!("configurations {outcome}"), count.to_string())?;
        }
        writeln!(
            f,
            "<section class=\"card\"><h2>The process</h2><dl>\n{text}</dl></section>"
        )
    }
}

fn tile(
    f: &mut fmt::Formatter<'_>,
    class: &str,
    what: &str,
    value: impl fmt::Display,
    small: impl fmt::Display,
) -> fmt::Result {
    writeln!(
        f,
        "<div class=\"card\"><span>{what}</span><b class=\"{class}\">{value}</b><span>{small}</span></div>"
    )
}

fn row(f: &mut fmt::Formatter<'_>, client: &Watched) -> fmt::Result {
    let (stage, moved) = (client.stage(), client.octets.moved());
    let user = stage.user.as_deref().unwrap_or("–");
    write!(f, "<tr><td>{}<td>{}<td>", stage.client, Escaped(user))?;
    if let Some(to) = stage.destination {
        write!(f, "{}", Escaped(to))?;
    }
    let small = match (stage.destination, stage.address) {
        _ if stage.is_told => "being closed".to_owned(),
        (None, _) => "in its handshake".to_owned(),
        (Some(_), None) => "being connected".to_owned(),
        (Some(to), Some(address)) if to.to_string() == address.to_string() => String::new(),
        (Some(_), Some(address)) => address.ip().to_string(),
    };
    if !small.is_empty() {
        write!(f, "<small>{small}</small>")?;
    }
    writeln!(
        f,
        "<td class=\"n\">{}<td class=\"n\">{}<td class=\"n\">{}</tr>",
        Age(client.start.elapsed()),
        Size::of(moved.to_destination),
        Size::of(moved.to_client)
    )
}

/// The most frequent first.
fn tally(
    f: &mut fmt::Formatter<'_>,
    title: &str,
    counts: impl Iterator<Item = (String, u64)>,
) -> fmt::Result {
    let mut counts: Vec<_> = counts.collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    write!(f, "<section class=\"card\"><h2>{title}</h2>")?;
    if counts.is_empty() {
        return writeln!(f, "<p class=\"soft\">none so far</p></section>");
    }
    f.write_str("<dl>\n")?;
    for (word, count) in counts {
        writeln!(f, "<dt>{word}<dd>{count}")?;
    }
    f.write_str("</dl></section>\n")
}

/// The class that holds so many of a hundred.
fn within(histogram: &Histogram, percent: u64) -> String {
    let cumulative = histogram.cumulative();
    let all = cumulative.last().map_or(0, |(_, count)| *count);
    let needed = all.saturating_mul(percent).div_ceil(100);
    match cumulative.iter().find(|(_, count)| *count >= needed) {
        _ if all == 0 => "–".to_owned(),
        Some((Some(ms), _)) if *ms < 1000 => format!("{ms} ms"),
        Some((Some(ms), _)) => format!("{} s", Duration::from_millis((*ms).into()).as_secs_f64()),
        _ => "more".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use socks_wire::{Address, Destination, Fqdn};

    use super::*;
    use crate::watched::Moved;

    fn page(clients: Vec<Arc<Watched>>) -> String {
        let view = View {
            clients,
            most: 1000,
            admitted: 0,
            waits: 0,
            moved: Moved::default(),
        };
        let page = Page {
            figures: &Figures::default(),
            view: &view,
            history: &History::default(),
        };
        page.to_string()
    }

    #[test]
    fn what_is_asked_for_is_shown_as_it_is_and_is_no_markup() {
        let client = "192.0.2.7:5555".parse().unwrap();
        let watched = Arc::new(Watched::new(client));
        assert!(page(vec![Arc::clone(&watched)]).contains("in its handshake"));
        let to = Destination {
            address: Address::Fqdn(Fqdn::new(b"<img src=x>\"'&").unwrap()),
            port: 80,
        };
        watched.requested(client, Some("<i>"), to);
        let page = page(vec![watched]);
        assert!(
            page.contains("&quot;&#39;&amp;:80<small>being connected"),
            "{page}"
        );
        assert!(!page.contains("<img") && !page.contains("<i>"), "{page}");
    }

    #[test]
    fn of_very_many_clients_the_busiest_are_shown() {
        let client = |port: u16| {
            let watched = Watched::new(([192, 0, 2, 7], port).into());
            let to_client = port.into();
            watched.octets.set(Moved {
                to_client,
                ..Moved::default()
            });
            Arc::new(watched)
        };
        let page = page((0..1000).map(client).collect());
        assert_eq!(page.matches("192.0.2.7:").count(), MOST_ROWS);
        assert!(page.contains("192.0.2.7:999<") && !page.contains("192.0.2.7:799<"));
        assert!(page.contains("and 800 more"), "{page}");
    }
}
