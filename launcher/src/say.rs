//! What the launcher itself has to say, in whole lines.

use std::fmt::Display;
use std::io::{self, Write as _};

/// Says one line on stderr, in one write. Nothing can be done about a stderr that does not take it.
pub(crate) fn say(line: impl Display) {
    let line = format!("socks6: {line}\n");
    let _written = io::stderr().write_all(line.as_bytes());
}

/// Prints one line of a command's result.
pub(crate) fn print(line: impl Display) {
    let _written = writeln!(io::stdout(), "{line}");
}
