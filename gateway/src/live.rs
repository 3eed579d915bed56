//! The configuration that is in force. It is replaced as a whole; a client keeps the one that it began with.

use std::sync::Arc;

use parking_lot::RwLock;

use crate::config::Config;

#[derive(Debug)]
pub(crate) struct Live(RwLock<Arc<Config>>);

impl Live {
    pub(crate) fn new(config: Config) -> Self {
        Self(RwLock::new(Arc::new(config)))
    }

    pub(crate) fn get(&self) -> Arc<Config> {
        Arc::clone(&self.0.read())
    }

    pub(crate) fn replace(&self, config: Config) {
        *self.0.write() = Arc::new(config);
    }
}
