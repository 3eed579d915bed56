//! How many look-ups are under way in each zone. getaddrinfo(3) keeps its thread until it knows, whether the client is still
//! there or not, and where name servers are silent that takes as long as resolv.conf says. Names that end alike are answered
//! alike: so a silent zone gets so many threads and no more, and names of other zones do not wait for it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use parking_lot::{Condvar, Mutex};

/// Look-ups at a time of names whose last two labels are the same. Whatever is further to the left costs nothing to vary.
const MOST: usize = 256;

/// Of those the ones whose last three are: a domain below `co.uk` is not to stop its neighbours.
const MOST_BELOW: usize = 64;

/// One more waits so long for its turn; if there has been no answer for so long, not at all.
const PATIENCE: Duration = Duration::from_secs(2);

/// Those in which a look-up is under way, by what their names end in.
#[derive(Debug, Default)]
pub(crate) struct Zones(Mutex<HashMap<Vec<u8>, Zone>>);

#[derive(Debug)]
struct Zone {
    under_way: usize,
    waiting: usize,
    /// The last time; before the first one, when it was first asked.
    answered: Instant,
    changed: Arc<Condvar>,
}

/// One look-up, until this is dropped: its place in each zone that it is in.
#[derive(Debug)]
pub(crate) struct Turn<'a>(Vec<Place<'a>>);

#[derive(Debug)]
struct Place<'a> {
    zones: &'a Zones,
    zone: Vec<u8>,
    is_answered: bool,
}

impl Zones {
    /// Waits until this name may be looked up. `None` if its zone is silent, or too slow for all those who ask.
    pub(crate) fn take_turn(&self, name: &[u8]) -> Option<Turn<'_>> {
        let name = name.strip_suffix(b".").unwrap_or(name).to_ascii_lowercase();
        let labels: Vec<&[u8]> = name.split(|octet| *octet == b'.').collect();
        let mut places = Vec::with_capacity(2);
        // The narrow one first: who waits for the wide one then keeps out neighbours in the narrow one alone.
        if let [.., _, _, _] = labels[..] {
            places.push(self.place(last(3, &labels), MOST_BELOW)?);
        }
        places.push(self.place(last(2, &labels), MOST)?);
        Some(Turn(places))
    }

    /// The same for the name of an address, which is in the hands of whoever has a network of about this size.
    pub(crate) fn take_reverse_turn(&self, ip: IpAddr) -> Option<Turn<'_>> {
        let prefix = if ip.is_ipv4() { 16 } else { 32 };
        let net = IpNet::new(ip, prefix).map_or_else(|_too_long| ip.into(), |net| net.trunc());
        let place = self.place(net.to_string().into_bytes(), MOST_BELOW)?;
        Some(Turn(vec![place]))
    }

    fn place(&self, zone: Vec<u8>, most: usize) -> Option<Place<'_>> {
        let begin = Instant::now();
        let mut zones = self.0.lock();
        loop {
            let it = zones
                .entry(zone.clone())
                .or_insert_with(|| Zone::new(begin));
            if it.under_way < most {
                it.under_way = it.under_way.saturating_add(1);
                return Some(Place {
                    zones: self,
                    zone,
                    is_answered: false,
                });
            }
            let until = begin.min(it.answered).checked_add(PATIENCE)?;
            if Instant::now() >= until {
                return None;
            }
            it.waiting = it.waiting.saturating_add(1);
            let changed = Arc::clone(&it.changed);
            changed.wait_until(&mut zones, until);
            // Still there: whoever waits keeps it.
            if let Some(it) = zones.get_mut(&zone) {
                it.waiting = it.waiting.saturating_sub(1);
            }
        }
    }
}

/// What a name's last `count` labels are, or all of it. Single labels are one zone, that of the search list.
fn last(count: usize, labels: &[&[u8]]) -> Vec<u8> {
    match labels {
        [_single] => Vec::new(),
        _ => {
            let skipped = labels.len().saturating_sub(count);
            labels.get(skipped..).unwrap_or_default().join(&b'.')
        }
    }
}

impl Zone {
    fn new(now: Instant) -> Self {
        Self {
            under_way: 0,
            waiting: 0,
            answered: now,
            changed: Arc::default(),
        }
    }
}

impl Turn<'_> {
    /// The zone is there, whatever it has said.
    pub(crate) fn answered(&mut self) {
        for place in &mut self.0 {
            place.is_answered = true;
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut zones = self.zones.0.lock();
        let Some(it) = zones.get_mut(&self.zone) else {
            return;
        };
        it.under_way = it.under_way.saturating_sub(1);
        if self.is_answered {
            it.answered = Instant::now();
        }
        it.changed.notify_one();
        if it.under_way == 0 && it.waiting == 0 {
            zones.remove(&self.zone);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    /// So many turns, as one of each of these names after the other.
    fn take<'z>(zones: &'z Zones, count: usize, name: impl Fn(usize) -> String) -> Vec<Turn<'z>> {
        let turns = (0..count).map(|number| zones.take_turn(name(number).as_bytes()));
        turns.collect::<Option<_>>().unwrap()
    }

    fn is_refused_at_once(zones: &Zones, name: &str) -> bool {
        let start = Instant::now();
        zones.take_turn(name.as_bytes()).is_none() && start.elapsed() < Duration::from_secs(1)
    }

    #[test]
    fn a_silent_zone_has_so_many_turns_and_others_have_theirs() {
        let zones = Zones::default();
        let mut turns = take(&zones, MOST_BELOW, |number| {
            format!("{number}.Silent.co.uk")
        });
        let start = Instant::now();
        assert!(zones.take_turn(b"one.more.silent.co.uk.").is_none());
        assert!(start.elapsed() < PATIENCE.saturating_mul(3));
        assert!(is_refused_at_once(&zones, "www.silent.co.uk"));
        for other in ["www.example.co.uk", "www.silent.uk", "uk", "co.uk"] {
            assert!(zones.take_turn(other.as_bytes()).is_some(), "{other}");
        }
        turns.pop();
        assert!(zones.take_turn(b"www.silent.co.uk").is_some());
        drop(turns);
        assert!(zones.0.lock().is_empty());
    }

    /// Whoever has a zone has names of any depth in it, and a search list goes with names of one label.
    #[test]
    fn no_number_of_labels_is_a_way_round() {
        let names: [fn(usize) -> String; 4] = [
            |number| format!("www.{number}.silent.test"),
            |number| format!("a.b.c.{number}.d.{number}.silent.test"),
            |_| "silent.test".to_owned(),
            |number| format!("host{number}"),
        ];
        thread::scope(|scope| {
            for name in names {
                scope.spawn(move || {
                    let zones = Zones::default();
                    let turns = take(&zones, MOST, name);
                    assert!(zones.take_turn(name(MOST).as_bytes()).is_none());
                    assert!(is_refused_at_once(&zones, &name(MOST)));
                    assert!(zones.take_turn(b"www.other.test").is_some());
                    drop(turns);
                    assert!(zones.0.lock().is_empty());
                });
            }
        });
    }

    #[test]
    fn addresses_have_the_zones_of_their_networks() {
        let zones = Zones::default();
        let address = |number: usize| IpAddr::from([192, 0, 2, u8::try_from(number).unwrap()]);
        let turns: Vec<_> = (0..MOST_BELOW)
            .map(|number| zones.take_reverse_turn(address(number)).unwrap())
            .collect();
        assert!(zones.take_reverse_turn(address(200)).is_none());
        assert!(zones.take_reverse_turn([198, 51, 100, 1].into()).is_some());
        drop(turns);
        assert!(zones.0.lock().is_empty());
    }

    /// A turn is handed from each to the next one as long as there are answers; without them nobody waits.
    #[test]
    fn where_look_ups_are_answered_others_wait_for_their_turn() {
        let zones = Zones::default();
        let mut turns = take(&zones, MOST_BELOW, |_| "www.busy.test".to_owned());
        thread::sleep(PATIENCE);
        assert!(is_refused_at_once(&zones, "www.busy.test"));
        turns.pop().unwrap().answered();
        thread::scope(|scope| {
            for _ in 0..6 {
                scope.spawn(|| {
                    let mut turn = zones.take_turn(b"www.busy.test").unwrap();
                    thread::sleep(Duration::from_millis(250));
                    turn.answered();
                });
            }
        });
    }
}
