//! How the agent runs.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use profile::Labels;
use upload::StartError;
use upload::delivery::DeliveryConfig;

use crate::budget::BudgetLimits;
use crate::debuginfod::ServerList;
use crate::kernel::SamplerConfig;
use crate::symbolization::SymbolizeMode;

/// The agent's configuration. Each field says whether a reload changes it or only the next start.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// Sampling frequency in ticks per second on each CPU. Changed by a reload.
    pub frequency: u32,
    /// Length of a window. Changed by a reload.
    pub window: Duration,
    /// Bounds of the agent's own overhead. Changed by a reload, but memory is divided among its
    /// parts at the start.
    pub limits: BudgetLimits,
    /// Labels that all series carry. Changed by a reload.
    pub labels: Arc<Labels>,
    /// Maximum number of series in one window. Changed by a reload.
    pub series_max: usize,
    /// The sinks and the spool. Changed by a reload.
    pub delivery: DeliveryConfig,
    /// What is sampled. The memory budget sets the sizes of the ring buffers. Fixed at the start.
    pub sampler: SamplerConfig,
    /// Directory with unwind tables of earlier runs. Fixed at the start.
    pub cache: Option<PathBuf>,
    /// Servers that are asked for debug info. Fixed at the start.
    pub debuginfod: Option<ServerList>,
    /// How much is looked up for frames. Fixed at the start.
    pub symbolize: SymbolizeMode,
    /// Address that serves health and metrics. Fixed at the start.
    pub listen: Option<SocketAddr>,
    /// Names of this machine in the `Host` header of requests. Fixed at the start.
    pub host_names: Vec<String>,
}

/// Puts a configuration that was read again into effect, or returns why the current one stays.
pub type ApplyConfig<'a> = dyn FnMut(AgentConfig) -> Result<(), StartError> + 'a;
