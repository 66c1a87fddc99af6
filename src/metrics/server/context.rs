//! What all connections of a server share.

use std::sync::{Arc, Mutex};

use super::config::{ClientLimits, ServerConfig};
use super::counts::HttpCounters;
use super::page_cache::PageCache;
use crate::limits::TimeShare;

/// What all connections share.
pub(super) struct ServerContext {
    pub pages: PageCache,
    pub host_names: Vec<String>,
    pub counters: Arc<HttpCounters>,
    pub cpu: Arc<Mutex<TimeShare>>,
    pub limits: ClientLimits,
}

impl ServerContext {
    pub fn new(config: ServerConfig, limits: ClientLimits) -> Self {
        let ServerConfig { paths, handler, host_names, counters, cpu } = config;
        let pages = PageCache::new(paths, handler, Arc::clone(&cpu));
        Self { pages, host_names, counters, cpu, limits }
    }
}
