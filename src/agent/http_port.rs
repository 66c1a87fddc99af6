//! The HTTP port of the running agent, and its share of the CPU budget.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::status::{self, AgentStatus};
use crate::budget::{BudgetLimits, Cause};
use crate::kernel::online_cpus;
use crate::limits::CpuShare;
use crate::metrics;
use crate::metrics::server::{Server, ServerConfig, ServerError};

/// The least CPU time of the port, in CPU seconds per second: for a probe and a scrape now and
/// then, however small the budget is.
const RATE_LEAST: f64 = 0.0005;

/// The port. It is closed when it is dropped.
pub(super) struct HttpPort {
    /// Serves until it is dropped.
    _server: Server,
    cpu: Arc<Mutex<CpuShare>>,
}

impl HttpPort {
    /// Serves health and metrics at `address`.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub fn start(
        address: SocketAddr,
        host_names: &[String],
        limits: BudgetLimits,
        status: &Arc<AgentStatus>,
    ) -> Result<Self, ServerError> {
        let cpu = Arc::new(Mutex::new(CpuShare::new(rate(limits), Instant::now())));
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

    /// Sets the limits of the configuration.
    pub fn set_limits(&self, limits: BudgetLimits) {
        let mut cpu = self.cpu.lock().unwrap_or_else(PoisonError::into_inner);
        cpu.set_rate(rate(limits), Instant::now());
    }
}

/// Returns the CPU seconds per second that the port may use.
fn rate(limits: BudgetLimits) -> f64 {
    let cpus = online_cpus().map_or(1, |cpus| cpus.len());
    (Cause::Http.share() * limits.cpu_percent / 100.0 * cpus as f64).max(RATE_LEAST)
}
