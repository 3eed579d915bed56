//! The last ten minutes, for rates: a sample every five seconds.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::figures::Figures;
use crate::relays::View;
use crate::watched::Moved;

const EVERY: Duration = Duration::from_secs(5);

/// Ten minutes, and the one before them.
const MOST_SAMPLES: usize = 121;

/// What a rate is taken over, in samples: a minute.
const RATE_SAMPLES: usize = 12;

#[derive(Debug, Default)]
pub(super) struct History(VecDeque<Sample>);

#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    at: Instant,
    moved: Moved,
    accepted: u64,
    failed: u64,
}

/// What goes on in a second.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Rates {
    pub(super) to_destination: f64,
    pub(super) to_client: f64,
    pub(super) accepted: f64,
    pub(super) failed: f64,
}

impl History {
    /// When the next sample is due.
    pub(super) fn due(&self) -> Option<Instant> {
        let last = self.0.back()?;
        last.at.checked_add(EVERY)
    }

    pub(super) fn push(&mut self, sample: Sample) {
        if self.0.len() >= MOST_SAMPLES {
            self.0.pop_front();
        }
        self.0.push_back(sample);
    }

    /// Of the last minute, or as long as there is.
    pub(super) fn rates(&self, now: &Sample) -> Rates {
        let first = self.0.len().saturating_sub(RATE_SAMPLES);
        let then = self.0.get(first);
        then.map(|then| then.rates_until(now)).unwrap_or_default()
    }

    /// From sample to sample, the oldest first.
    pub(super) fn steps(&self) -> impl Iterator<Item = Rates> {
        let later = self.0.iter().skip(1);
        self.0
            .iter()
            .zip(later)
            .map(|(from, to)| from.rates_until(to))
    }
}

impl Sample {
    pub(super) fn now(figures: &Figures, view: &View) -> Self {
        Self {
            at: Instant::now(),
            moved: view.moved,
            accepted: view.admitted,
            failed: figures.failed.sum(),
        }
    }

    fn rates_until(&self, later: &Self) -> Rates {
        // Two looks at once are none.
        let seconds = later
            .at
            .saturating_duration_since(self.at)
            .as_secs_f64()
            .max(0.1);
        #[expect(clippy::cast_precision_loss, reason = "a rate is read in three digits")]
        let rate = |from: u64, to: u64| to.saturating_sub(from) as f64 / seconds;
        Rates {
            to_destination: rate(self.moved.to_destination, later.moved.to_destination),
            to_client: rate(self.moved.to_client, later.moved.to_client),
            accepted: rate(self.accepted, later.accepted),
            failed: rate(self.failed, later.failed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_those_of_the_last_minute_and_ten_minutes_are_kept() {
        let start = Instant::now();
        let sample = |number: u64| Sample {
            at: start + Duration::from_secs(5 * number),
            moved: Moved {
                to_destination: if number < 100 {
                    0
                } else {
                    (number - 100) * 1000
                },
                to_client: 0,
            },
            accepted: number * 10,
            failed: 0,
        };
        let mut history = History::default();
        for number in 0..200 {
            history.push(sample(number));
        }
        let rates = history.rates(&sample(200));
        assert!((rates.to_destination - 200.0).abs() < 0.01, "{rates:?}");
        assert!((rates.accepted - 2.0).abs() < 0.01, "{rates:?}");
        let steps: Vec<_> = history.steps().map(|it| it.to_destination > 0.0).collect();
        assert_eq!(steps.len(), 120);
        assert_eq!(steps.iter().filter(|it| **it).count(), 99);
    }
}
