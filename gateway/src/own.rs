//! The addresses of the gateway's own host, kept for a moment so that not every dial asks the kernel
//! for its interfaces. The policy decides what follows from them.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::sys;

/// How long an address may be in use before it is known as our own.
const FRESH: Duration = Duration::from_secs(2);

#[derive(Debug, Default)]
pub(crate) struct OwnAddresses(Mutex<Option<(Instant, Arc<[IpAddr]>)>>);

impl OwnAddresses {
    pub(crate) fn addresses(&self) -> Arc<[IpAddr]> {
        let mut known = self.0.lock();
        if let Some((at, addresses)) = &*known
            && at.elapsed() < FRESH
        {
            return Arc::clone(addresses);
        }
        match sys::own_addresses() {
            Ok(addresses) => {
                let addresses: Arc<[IpAddr]> = addresses.into();
                *known = Some((Instant::now(), Arc::clone(&addresses)));
                addresses
            }
            // Out of memory or descriptors: what was true a moment ago is the best guess, and a
            // connection that answers from its own address is noticed in any case.
            Err(_) => known
                .as_ref()
                .map(|(_, old)| Arc::clone(old))
                .unwrap_or_default(),
        }
    }
}
