//! The session that samples, and its restart after CPUs came online.
//!
//! Each CPU has a clock and a ring of its own. The kernel removes them with the CPU and does not
//! bring them back, so a new session starts.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use profile::Cpu;

use super::AgentError;
use crate::budget::MemoryShares;
use crate::kernel::{SamplerConfig, SamplingRate, online_cpus};
use crate::session::{ClosedWindow, ScanScope, Session};
use crate::tables::Cache;

/// Minimum time between restarts, for machines where a CPU never gets a clock.
const RESTART_INTERVAL: Duration = Duration::from_secs(300);
/// A running clock has ticked in a window of this many periods.
const PERIODS: u64 = 3;

/// How sessions start.
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

/// The current session.
pub(super) struct Sampling {
    config: SessionConfig,
    /// `None` after a restart failed.
    session: Option<Session>,
    /// Sessions started before this one.
    number: u64,
    /// CPUs whose clock ran in the last window that was long enough to tell.
    clocks: BTreeSet<Cpu>,
    /// BPF CPU time of earlier sessions.
    earlier_cpu: Duration,
    restarted: Option<Instant>,
}

impl Sampling {
    /// Starts the first session.
    ///
    /// # Errors
    /// [`AgentError`] when the kernel rejects the sampler or the memory budget is too small.
    pub fn start(config: SessionConfig) -> Result<Self, AgentError> {
        let (clocks, earlier_cpu) = (BTreeSet::new(), Duration::ZERO);
        let mut this =
            Self { config, session: None, number: 0, clocks, earlier_cpu, restarted: None };
        this.start_session()?;
        Ok(this)
    }

    /// Returns the number of online CPUs.
    fn start_session(&mut self) -> Result<u32, AgentError> {
        self.session = Some(self.config.start_session()?);
        self.clocks = online_cpus()?.into_iter().collect();
        Ok(self.clocks.len() as u32)
    }

    /// Sets the frequency at which the next session starts.
    pub fn set_frequency(&mut self, frequency: u32) {
        self.config.sampler.frequency = frequency;
    }

    /// Returns the CPU time of the BPF programs, over all sessions.
    pub fn bpf_cpu(&self) -> Duration {
        let current = self.session.as_ref().and_then(|session| session.sampler_progress().ok());
        self.earlier_cpu + current.map(|progress| progress.time.total).unwrap_or_default()
    }

    /// Closes the current window. The next one is sampled at `rate`, or as before.
    ///
    /// # Errors
    /// As [`Session::close_window`] and [`Session::close_window_at_rate`].
    pub fn close_window(&mut self, rate: Option<SamplingRate>) -> io::Result<ClosedWindow> {
        let session = self.session.as_mut().ok_or_else(no_session)?;
        let closed = match rate {
            Some(rate) => session.close_window_at_rate(rate),
            None => session.close_window(),
        }?;
        self.update_clocks(&closed);
        Ok(closed)
    }

    /// Notes which clocks ran, if the window was long enough for each to tick.
    fn update_clocks(&mut self, closed: &ClosedWindow) {
        let period = &closed.period;
        if period.sample_ns > 0 && period.duration_ns >= PERIODS * period.sample_ns {
            let running = closed.ledger.cpus.iter().filter(|clock| clock.due > 0);
            self.clocks = running.map(|clock| clock.cpu).collect();
        }
    }

    /// Returns the online CPUs without a clock, unless the last restart was too recent.
    pub fn cpus_without_clock(&self) -> Vec<Cpu> {
        if self.restarted.is_some_and(|at| at.elapsed() < RESTART_INTERVAL) {
            return Vec::new();
        }
        let online = online_cpus().unwrap_or_default();
        online.into_iter().filter(|cpu| !self.clocks.contains(cpu)).collect()
    }

    /// Ends the session and returns its last window.
    ///
    /// # Errors
    /// As [`Session::finish`].
    pub fn finish(&mut self) -> io::Result<ClosedWindow> {
        self.earlier_cpu = self.bpf_cpu();
        let session = self.session.take().ok_or_else(no_session)?;
        Ok(session.finish()?.last)
    }

    /// Starts another session at the full rate. Returns the number of online CPUs.
    ///
    /// # Errors
    /// As [`Self::start`]; nothing is sampled from then on.
    pub fn restart(&mut self) -> Result<u32, AgentError> {
        self.restarted = Some(Instant::now());
        self.number += 1;
        self.start_session()
    }

    /// Returns the number of the session. Executable IDs are unique within one session only.
    pub fn session_number(&self) -> u64 {
        self.number
    }
}

fn no_session() -> io::Error {
    io::Error::other("no session is running")
}

impl SessionConfig {
    fn start_session(&self) -> Result<Session, AgentError> {
        let cpus = online_cpus()?.len() as u32;
        let too_small = AgentError::Memory(self.memory >> 20);
        let shares = MemoryShares::of(self.memory, cpus).ok_or(too_small)?;
        let cache = self.cache.as_deref().map(Cache::open).transpose()?;
        let sampler = SamplerConfig {
            ring_bytes: shares.ring,
            side_band_bytes: shares.side_band,
            ..self.sampler.clone()
        };
        Ok(Session::start(&self.program, sampler, ScanScope::All, shares.session, cache, None)?)
    }
}
