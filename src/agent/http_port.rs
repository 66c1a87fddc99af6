//! The HTTP port of the running agent, and its share of the CPU budget.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::status::{self, AgentStatus};
use crate::limits::TimeShare;
use crate::metrics;
use crate::metrics::server::{Server, ServerConfig, ServerError};

/// The least CPU time of the port, in CPU seconds per second: for a probe and a scrape now and
/// then, however small the budget is.
const RATE_LEAST: f64 = 0.0005;

/// The port. It is closed when it is dropped.
pub(super) struct HttpPort {
    /// Serves until it is dropped.
    _server: Server,
    cpu: Arc<Mutex<TimeShare>>,
}

impl HttpPort {
    /// Serves health and metrics at `address`. `rate`: CPU seconds per second that the port may
    /// use.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub fn start(
        address: SocketAddr,
        host_names: &[String],
        rate: f64,
        status: &Arc<AgentStatus>,
    ) -> Result<Self, ServerError> {
        let cpu = TimeShare::new(rate.max(RATE_LEAST), Instant::now());
        let cpu = Arc::new(Mutex::new(cpu));
        let server = Server::start(
            address,
            ServerConfig {
                paths: &metrics::PATHS,
                handler: status::http_handler(status),
                host_names: host_names.to_vec(),
                counters: status.http_counters(),
                cpu: Arc::clone(&cpu),
            },
        )?;
        tracing::info!(address = %server.address(), "serving health and metrics");
        Ok(Self { _server: server, cpu })
    }

    /// Sets the CPU seconds per second that the port may use.
    pub fn set_rate(&self, rate: f64) {
        let mut cpu = self.cpu.lock().unwrap_or_else(PoisonError::into_inner);
        cpu.set_rate(rate.max(RATE_LEAST), Instant::now());
    }
}
