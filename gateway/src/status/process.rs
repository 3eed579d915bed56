//! What the kernel says of this process. What it does not say is left out.

use std::fs;
use std::time::Duration;

use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Resource, getrlimit};

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Process {
    pub(super) threads: Option<u64>,
    pub(super) resident_octets: Option<u64>,
    pub(super) cpu: Option<Duration>,
    pub(super) descriptors: Option<u64>,
    pub(super) most_descriptors: Option<u64>,
}

impl Process {
    pub(super) fn look() -> Self {
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let descriptors = fs::read_dir("/proc/self/fd").ok();
        Self {
            // Without the one that reads the folder.
            descriptors: descriptors.map(|entries| {
                u64::try_from(entries.count())
                    .unwrap_or(0)
                    .saturating_sub(1)
            }),
            most_descriptors: getrlimit(Resource::Nofile).current,
            ..Self::of(&stat)
        }
    }

    /// proc_pid_stat(5). The name, in brackets, may have brackets and blanks of its own.
    fn of(stat: &str) -> Self {
        let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
        // The first of these fields is the third one of the manual page.
        let field = |number: usize| -> Option<u64> {
            let mut fields = fields.split_ascii_whitespace();
            fields.nth(number.checked_sub(3)?)?.parse().ok()
        };
        let ticks = field(14)
            .zip(field(15))
            .map(|(user, system)| user.saturating_add(system));
        let ms_of = |ticks: u64| {
            ticks
                .saturating_mul(1000)
                .checked_div(clock_ticks_per_second())
        };
        let pages = field(24);
        Self {
            threads: field(20),
            resident_octets: pages
                .zip(u64::try_from(page_size()).ok())
                .map(|(pages, octets)| pages.saturating_mul(octets)),
            cpu: ticks.and_then(ms_of).map(Duration::from_millis),
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_seen_as_it_is() {
        let process = Process::look();
        assert!(process.threads.unwrap() >= 2, "{process:?}");
        assert!(process.resident_octets.unwrap() > 100_000, "{process:?}");
        assert!(process.descriptors.unwrap() >= 3, "{process:?}");
        let stat = "7 (a) b) S 1 7 7 0 -1 4 1 0 0 0 250 50 0 0 20 0 3 0 9 9 2 0";
        let process = Process::of(stat);
        assert_eq!(process.threads, Some(3));
        assert_eq!(process.cpu, Some(Duration::from_secs(3)));
        assert_eq!(process.resident_octets, Some(2 * page_size() as u64));
    }
}
