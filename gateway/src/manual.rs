//! The manual pages. socks6-gateway(1) is what clap knows of the command line; socks6-gateway.toml(5) is those sections of
//! docs/gateway.md that have a table of keys, so that there is one text of each key.

mod markdown;

use clap::{Command, ValueEnum};
use clap_mangen::Man;
use roff::{Roff, bold, roman};

use crate::manual::markdown::{Block, blocks};

const GUIDE: &str = include_str!("../../docs/gateway.md");

/// A page of the manual.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Page {
    /// socks6-gateway(1)
    Gateway,
    /// socks6-gateway-passwd(1)
    Passwd,
    /// socks6-gateway.toml(5): the configuration file
    Toml,
}

impl Page {
    /// The page as man(1) takes it.
    pub(crate) fn text(self, command: Command) -> String {
        match self {
            Self::Gateway => of_command(command),
            Self::Passwd => {
                let passwd = command.find_subcommand("passwd").cloned();
                of_command(passwd.unwrap_or(command).name("socks6-gateway-passwd"))
            }
            Self::Toml => of_guide(),
        }
    }
}

fn of_command(command: Command) -> String {
    let mut page = Vec::new();
    // A vector takes all that is written to it.
    let _infallible = Man::new(command).render(&mut page);
    String::from_utf8(page).unwrap_or_default()
}

fn of_guide() -> String {
    let mut page = Roff::new();
    let version = concat!("socks6-gateway ", env!("CARGO_PKG_VERSION"));
    page.control("TH", ["socks6-gateway.toml", "5", "", version]);
    page.control("SH", ["NAME"]);
    page.text([roman(
        "socks6-gateway.toml - configuration of socks6-gateway",
    )]);
    page.control("SH", ["SYNOPSIS"]);
    page.text([
        bold("socks6-gateway"),
        roman(" "),
        bold("--config"),
        roman(" FILE"),
    ]);
    for section in sections() {
        for block in section {
            block.write(&mut page);
        }
    }
    page.control("SH", ["SEE ALSO"]);
    page.text([bold("socks6-gateway"), roman("(1)")]);
    page.render()
}

/// Those with keys: each is a heading and what stands below it.
fn sections() -> Vec<Vec<Block>> {
    let mut sections: Vec<Vec<Block>> = Vec::new();
    for block in blocks(GUIDE) {
        match (&block, sections.last_mut()) {
            (Block::Heading(_), _) | (_, None) => sections.push(vec![block]),
            (_, Some(section)) => section.push(block),
        }
    }
    sections.retain(|section| section.iter().any(|block| block.keys().is_some()));
    sections
}

#[cfg(test)]
mod tests;
