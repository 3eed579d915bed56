//! Lines of a table that the reader of a test run should see: written past libtest's capture.

use std::fmt::Display;
use std::io::{Write as _, stderr};

/// Collects rows, and shows them in one piece, so that tests running side by side do not mix them.
#[derive(Debug)]
pub(crate) struct Table {
    text: String,
}

impl Table {
    pub(crate) fn new(title: impl Display) -> Self {
        Self {
            text: format!("\n{title}\n"),
        }
    }

    pub(crate) fn row(&mut self, row: impl Display) {
        self.text += &format!("  {row}\n");
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        drop(stderr().write_all(self.text.as_bytes()));
    }
}
