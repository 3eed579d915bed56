//! The variables in which other programs are told of a SOCKS server. They count where nothing of our own
//! names a gateway.

use std::ffi::OsString;

use super::{At, Layer, at, no_proxy, wrong};
use crate::error::LaunchError;

/// In order; curl reads `all_proxy` before `ALL_PROXY`, Dante and others SOCKS5_SERVER.
const GATEWAYS: [&str; 3] = ["all_proxy", "ALL_PROXY", SERVER];
const SERVER: &str = "SOCKS5_SERVER";
const EXCEPTIONS: [&str; 2] = ["no_proxy", "NO_PROXY"];

/// What they say, and which of them the command must not see: it would look for the gateway through the
/// gateway.
///
/// # Errors
/// [`LaunchError::Setting`] for a proxy that is none for SOCKS.
pub(super) fn layer(
    variable: &dyn Fn(&str) -> Option<OsString>,
) -> Result<Option<(Layer, Vec<&'static str>)>, LaunchError> {
    let Some(gateway) = first(&GATEWAYS, variable)? else {
        return Ok(None);
    };
    if !gateway.value.contains("://") && gateway.place != SERVER {
        let what = "without socks5:// it is an HTTP proxy, which cannot be used";
        return wrong(&gateway.place, &what);
    }
    let layer = Layer {
        gateway: Some(gateway),
        rules: no_proxy(first(&EXCEPTIONS, variable)?)?,
        ..Layer::default()
    };
    Ok(Some((layer, GATEWAYS.to_vec())))
}

fn first(
    names: &[&str],
    variable: &dyn Fn(&str) -> Option<OsString>,
) -> Result<Option<At<String>>, LaunchError> {
    for name in names {
        match variable(name).map(OsString::into_string) {
            Some(Ok(text)) => return Ok(Some(at(text, name))),
            Some(Err(_not_repeated)) => return wrong(name, &"not UTF-8"),
            None => {}
        }
    }
    Ok(None)
}
