//! What a server answers, and its limits for clients.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::client_rate::Rate;
use super::connections::ConnectionLimits;
use super::counts::HttpCounters;
use super::page::{Handler, PagePath};
use crate::limits::TimeShare;

/// What a server answers, and within which bounds.
#[derive(Clone)]
pub struct ServerConfig {
    /// The pages.
    pub paths: &'static [PagePath],
    /// Builds them.
    pub handler: Arc<Handler>,
    /// Names of this machine in the `Host` header, beside addresses and private names.
    pub host_names: Vec<String>,
    /// Where requests are counted.
    pub counters: Arc<HttpCounters>,
    /// The server's CPU time.
    pub cpu: Arc<Mutex<TimeShare>>,
}

/// Limits for clients.
#[derive(Clone, Copy, Debug)]
pub(super) struct ClientLimits {
    /// Concurrent connections. One beyond the limit replaces one that waits.
    pub connections: ConnectionLimits,
    /// Connections per second of one client.
    pub client_rate: Rate,
    /// Connections per second of all clients.
    pub rate: Rate,
    /// Time for which a connection beyond its rate waits before its request is read: a client that
    /// waits for answers cannot send more than one in this time on each connection.
    pub delay: Duration,
    /// Time until the request head is complete.
    pub head_time: Duration,
    /// Time until the response is sent, request head included.
    pub connection_time: Duration,
}

impl Default for ClientLimits {
    fn default() -> Self {
        Self {
            connections: ConnectionLimits { open: 64, pages: 16, pages_of_client: 8 },
            client_rate: Rate { per_second: 20.0, burst: 40.0 },
            rate: Rate { per_second: 50.0, burst: 100.0 },
            delay: Duration::from_millis(500),
            head_time: Duration::from_secs(5),
            connection_time: Duration::from_secs(15),
        }
    }
}
