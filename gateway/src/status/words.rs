//! Numbers, times and names as the page shows them.

use std::fmt;
use std::time::Duration;

/// Text of somebody else's in HTML, between tags and in quotes alike.
pub(super) struct Escaped<T>(pub(super) T);

/// `999 B`, `1.20 kB`, `35.1 MB`.
pub(super) struct Size(pub(super) f64);

/// `12 s`, `3 min 7 s`, `5 h 12 min`, `41 d 3 h`.
pub(super) struct Age(pub(super) Duration);

impl<T: fmt::Display> fmt::Display for Escaped<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for letter in self.0.to_string().chars() {
            match letter {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                other => write!(f, "{other}")?,
            }
        }
        Ok(())
    }
}

impl Size {
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    pub(super) fn of(octets: u64) -> Self {
        Self(octets as f64)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut size = self.0;
        if size < 999.5 {
            return write!(f, "{size:.0} B");
        }
        let mut unit = "";
        for next in ["kB", "MB", "GB", "TB", "PB"] {
            if size < 999.5 {
                break;
            }
            size /= 1000.0;
            unit = next;
        }
        let digits = match size {
            ..9.995 => 2,
            ..99.95 => 1,
            _ => 0,
        };
        write!(f, "{size:.digits$} {unit}")
    }
}

impl fmt::Display for Age {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
        match (days, hours, minutes) {
            (0, 0, 0) => write!(f, "{seconds} s"),
            (0, 0, _) => write!(f, "{minutes} min {} s", seconds % 60),
            (0, ..) => write!(f, "{hours} h {} min", minutes % 60),
            _ => write!(f, "{days} d {} h", hours % 24),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits() {
        for (octets, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.00 kB"),
            (9_999, "10.0 kB"),
            (99_960, "100 kB"),
            (999_499, "999 kB"),
            (999_500, "1.00 MB"),
            (35_120_000_000, "35.1 GB"),
            (u64::MAX, "18447 PB"),
        ] {
            assert_eq!(Size::of(octets).to_string(), text);
        }
    }

    #[test]
    fn ages_have_two_units() {
        for (seconds, text) in [
            (0, "0 s"),
            (60, "1 min 0 s"),
            (3_599, "59 min 59 s"),
            (18_720, "5 h 12 min"),
            (3_553_200, "41 d 3 h"),
        ] {
            assert_eq!(Age(Duration::from_secs(seconds)).to_string(), text);
        }
    }

    #[test]
    fn nothing_of_somebody_elses_is_markup() {
        let text = Escaped("<script>'&\"</script>").to_string();
        assert_eq!(text, "&lt;script&gt;&#39;&amp;&quot;&lt;/script&gt;");
    }
}
