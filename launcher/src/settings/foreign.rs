//! The variables in which other programs are told of a SOCKS server. They count where nothing of our own
//! names a gateway. They are not written for socks6: what it cannot use in them is passed over with a word.

use std::fmt::{self, Display, Formatter};

use socks_client::Rule;

use super::{Environment, Layer, at};
use crate::say::say;

/// In order; curl reads `all_proxy` before `ALL_PROXY`, Dante and others SOCKS5_SERVER. The command must not
/// see them: it would look for the gateway through the gateway.
pub(crate) const GATEWAYS: [&str; 3] = ["all_proxy", "ALL_PROXY", SERVER];
const SERVER: &str = "SOCKS5_SERVER";
const EXCEPTIONS: [&str; 2] = ["no_proxy", "NO_PROXY"];

/// Which of them had a part in the settings.
#[derive(Debug)]
pub(crate) struct Foreign {
    pub(crate) gateway: &'static str,
    pub(crate) exceptions: Option<&'static str>,
    /// The exception is everything.
    pub(crate) is_all_direct: bool,
}

impl Display for Foreign {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "from {}", self.gateway)?;
        match self.exceptions {
            Some(name) => write!(f, ", but for what {name} names"),
            None => Ok(()),
        }
    }
}

/// What they say.
pub(super) fn layer(variable: Environment<'_>) -> Option<(Layer, Foreign)> {
    let mut gateways = GATEWAYS.into_iter().filter_map(|name| {
        let text = text(name, variable)?;
        let is_socks = match text.split_once("://") {
            Some((scheme, _)) => matches!(scheme, "socks5" | "socks5h"),
            None => name == SERVER,
        };
        if !is_socks {
            say(format_args!("{name} is no socks5:// proxy: passed over"));
        }
        is_socks.then_some((name, text))
    });
    let (gateway, url) = gateways.next()?;
    let mut foreign = Foreign {
        gateway,
        exceptions: None,
        is_all_direct: false,
    };
    let mut rules = Vec::new();
    let mut lists = EXCEPTIONS
        .into_iter()
        .filter_map(|name| Some((name, text(name, variable)?)));
    if let Some((name, list)) = lists.next() {
        foreign.exceptions = Some(name);
        for rule in Rule::parse_no_proxy(&list) {
            match rule {
                Ok(rule) => {
                    let rule = rule.to_string();
                    foreign.is_all_direct |= rule == "direct *";
                    rules.push(at(rule, name));
                }
                // What it names is relayed then.
                Err(what) => say(format_args!("{name}: {what}: passed over")),
            }
        }
    }
    let layer = Layer {
        gateway: Some(at(url, gateway)),
        rules,
        ..Layer::default()
    };
    Some((layer, foreign))
}

fn text(name: &str, variable: Environment<'_>) -> Option<String> {
    let text = variable(name)?.into_string();
    text.inspect_err(|_not_repeated| say(format_args!("{name} is not UTF-8: passed over")))
        .ok()
}
