//! Why the agent cannot start.

use std::io;

use upload::StartError;

use crate::budget::MemoryShares;
use crate::debuginfod::DownloadsError;
use crate::disk_cache::CacheError;
use crate::kernel::LoadError;
use crate::metrics::server::ServerError;

/// Why the agent cannot start.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The kernel rejects the sampler.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The directory with unwind tables cannot be used.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// Debug info cannot be downloaded.
    #[error(transparent)]
    Downloads(#[from] DownloadsError),
    /// The spool or a sink cannot be used.
    #[error(transparent)]
    Delivery(#[from] StartError),
    /// The address for health and metrics cannot be served.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The memory budget is below the minimum. In MiB.
    #[error(
        "a memory budget of {0} MiB is too small; give at least {least} MiB",
        least = MemoryShares::LEAST >> 20
    )]
    Memory(u64),
    /// The system call for a thread, a signal handler or the list of CPUs failed.
    #[error("{0}")]
    Io(#[from] io::Error),
}
