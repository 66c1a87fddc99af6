//! The session that samples, within the memory budget.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::AgentError;
use crate::budget::MemoryShares;
use crate::kernel::{SamplerConfig, SamplingRate, online_cpus};
use crate::session::{ClosedWindow, ScanScope, Session, SessionCpu};
use crate::tables::{Cache, LoadingCanceller};

/// How long the samples of the last window wait for a table.
const LAST_TABLE_TIMEOUT: Duration = Duration::from_millis(200);

/// How the session starts.
#[derive(Clone, Debug)]
pub(super) struct SessionConfig {
    /// Path of this program, which is also its own worker processes.
    pub program: Box<str>,
    /// What is sampled. The memory budget sets the sizes of the ring buffers.
    pub sampler: SamplerConfig,
    /// Memory budget in bytes.
    pub memory: u64,
    /// Directory with unwind tables of earlier runs.
    pub cache: Option<PathBuf>,
}

/// The session. It lasts as long as the agent, also while CPUs come and go.
pub(super) struct Sampling(Session);

impl Sampling {
    /// Starts the session.
    ///
    /// # Errors
    /// [`AgentError`] when the kernel rejects the sampler or the memory budget is too small.
    pub fn start(config: SessionConfig) -> Result<Self, AgentError> {
        let SessionConfig { program, sampler, memory, cache } = config;
        let cpus = online_cpus()?.len() as u32;
        let too_small = AgentError::Memory(memory >> 20);
        let shares = MemoryShares::of(memory, cpus).ok_or(too_small)?;
        let cache = cache.as_deref().map(Cache::open).transpose()?;
        let sampler =
            SamplerConfig { ring_bytes: shares.ring, side_band_bytes: shares.side_band, ..sampler };
        let session =
            Session::start(&program, sampler, ScanScope::All, shares.session, cache, None)?;
        Ok(Self(session))
    }

    /// Returns the CPU time since the start, by what it was for.
    pub fn cpu(&self) -> SessionCpu {
        self.0.cpu().unwrap_or_default()
    }

    /// Returns the number of ticks of each CPU so far, indexed by CPU number.
    ///
    /// # Errors
    /// When the counters cannot be read.
    pub fn ticks_by_cpu(&self) -> io::Result<Vec<u64>> {
        self.0.ticks_by_cpu()
    }

    /// Limits the CPU time of reading unwind tables and of reading processes, in CPU seconds per
    /// second.
    pub fn limit_cpu(&self, tables: f64, processes: f64) {
        self.0.limit_cpu(tables, processes);
    }

    /// Returns what ends reading unwind tables.
    pub fn loading_canceller(&self) -> LoadingCanceller {
        self.0.loading_canceller()
    }

    /// Closes the current window. The next one is sampled at `rate`, or as before.
    ///
    /// # Errors
    /// As [`Session::close_window`] and [`Session::close_window_at_rate`].
    pub fn close_window(&mut self, rate: Option<SamplingRate>) -> io::Result<ClosedWindow> {
        match rate {
            Some(rate) => self.0.close_window_at_rate(rate),
            None => self.0.close_window(),
        }
    }

    /// Ends the session and returns its last window. Stacks whose tables are not loaded soon are
    /// cut: the agent has a deadline.
    ///
    /// # Errors
    /// As [`Session::finish_within`].
    pub fn finish(self) -> io::Result<ClosedWindow> {
        Ok(self.0.finish_within(LAST_TABLE_TIMEOUT)?.last)
    }
}
