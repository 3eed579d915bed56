//! `[metrics]`: who may watch the gateway, and where. What there is to be seen, `status` shows.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use crate::config::{ConfigError, is_everybody, is_open};
use crate::policy::covers;

/// Who may watch, and where.
#[derive(Debug, Clone, Default)]
pub struct MetricsSettings {
    /// `None` for nowhere. Port 0 lets the kernel choose.
    pub listen: Option<SocketAddr>,
    /// Those who may; empty stands for all who can connect, and will do for loopback only.
    pub allow_clients: Vec<IpNet>,
}

impl MetricsSettings {
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        if let Some(everybody) = self.allow_clients.iter().find(is_everybody) {
            return Err(ConfigError::MetricsForEverybody(*everybody));
        }
        match self.listen {
            Some(address) if is_open(&&address) && self.allow_clients.is_empty() => {
                Err(ConfigError::OpenMetrics(address))
            }
            _ => Ok(()),
        }
    }

    /// Whether somebody may watch who has come to `listener`, which may be of an older configuration, or a newer one.
    pub(crate) fn allows(&self, listener: SocketAddr, client: IpAddr) -> bool {
        let nets = &self.allow_clients;
        self.listen == Some(listener) && (nets.is_empty() || covers(nets, client.to_canonical()))
    }
}
