//! What has to be true of whatever stands in a configuration file. The parsers are private, so what fuzz/ asks of them
//! stands here; a target panics where it is not so.

#![allow(
    clippy::panic,
    reason = "a target's way of saying that something is wrong"
)]

use std::path::Path;

use socks_client::{Config, Variables};

use crate::import;
use crate::settings;

/// A proxychains.conf or torsocks.conf is refused with a line of it, or becomes a file that the launcher understands and
/// can say in the shim's words.
pub fn foreign(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else {
        return;
    };
    match import::draft(text) {
        Err((line, what)) => {
            let lines = text.lines().count();
            assert!(line.is_none_or(|line| (1..=lines).contains(&line)));
            assert!(!what.is_empty());
        }
        Ok(draft) => {
            let ours = draft.text();
            match flat_of(&ours) {
                Ok(_) => {}
                Err(error) => panic!("{error}\n{ours}"),
            }
        }
    }
}

/// A configuration of the launcher's is refused with its place, or has a form in the shim's file that says the same.
pub fn settings(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else {
        return;
    };
    // It would be read, whatever file it is.
    if text.contains("password-file") {
        return;
    }
    if let Err(error) = flat_of(text) {
        assert!(error.contains("config.toml:"), "{error}");
    }
}

/// What the shim reads and the launcher writes again means the same.
pub fn flat(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else {
        return;
    };
    match Config::build(Some(text), &Variables::default()) {
        Err(error) => assert!(error.place.starts_with("line "), "{error}"),
        Ok(config) => match settings::flat::render(&config) {
            Ok(_) => {}
            Err(error) => panic!("{error}: {config:?}"),
        },
    }
}

fn flat_of(toml: &str) -> Result<String, String> {
    settings::flat_of(Path::new("/config.toml"), toml).map_err(|error| error.to_string())
}
