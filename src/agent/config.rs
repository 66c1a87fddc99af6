//! How the agent runs.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use profile::Labels;
use upload::StartError;
use upload::delivery::DeliveryConfig;

use crate::budget::BudgetLimits;
use crate::kernel::SamplerConfig;

/// The agent's configuration. A reload can change the first group of fields; the second group takes
/// effect at the next start.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// Sampling frequency in ticks per second on each CPU.
    pub frequency: u32,
    /// Length of a window.
    pub window: Duration,
    /// Bounds of the agent's own overhead. Memory is divided among its parts at the start.
    pub limits: BudgetLimits,
    /// Labels that all series carry.
    pub labels: Arc<Labels>,
    /// Maximum number of series in one window.
    pub series_max: usize,
    /// The sinks and the spool.
    pub delivery: DeliveryConfig,

    /// What is sampled. The memory budget sets the sizes of the ring buffers.
    pub sampler: SamplerConfig,
    /// Directory with unwind tables of earlier runs.
    pub cache: Option<PathBuf>,
    /// Address that serves health and metrics.
    pub listen: Option<SocketAddr>,
}

/// Puts a configuration that was read again into effect, or returns why the current one stays.
pub type ApplyConfig<'a> = dyn FnMut(AgentConfig) -> Result<(), StartError> + 'a;
