//! The session that samples. It is begun anew when CPUs have come online: each has a clock and a ring of its own, which the
//! kernel takes down with it and does not put back.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use profile::Cpu;

use super::AgentError;
use crate::budget::Shares;
use crate::kernel::{self, SamplingRate, online_cpus};
use crate::session::{ClosedWindow, ScanScope, Session};
use crate::tables::Cache;

/// Shortest time from one beginning to the next: where a clock cannot be had, this is not tried all the time.
const ANEW_EVERY: Duration = Duration::from_secs(300);
/// A clock that ran in a window of so many periods has ticked.
const PERIODS: u64 = 3;

/// How sessions are begun.
#[derive(Clone, Debug)]
pub(super) struct How {
    /// Everytick itself, which is also its own workers.
    pub program: Box<str>,
    /// What is sampled. How much memory its rings take, the budget says.
    pub sampler: kernel::SamplerConfig,
    /// The budget of memory, in bytes.
    pub memory: u64,
    /// Where tables of earlier runs are.
    pub cache: Option<PathBuf>,
}

/// The session, and those before it.
pub(super) struct Sampling {
    how: How,
    /// None: no other could be begun.
    session: Option<Session>,
    number: u64,
    /// CPUs whose clock ran in the last window that can tell.
    clocks: BTreeSet<Cpu>,
    /// What the samplers before have cost.
    past: Duration,
    /// When a session was last begun anew.
    anew: Option<Instant>,
}

impl Sampling {
    /// Begins.
    ///
    /// # Errors
    /// [`AgentError`] when the kernel refuses, or the budget is too small.
    pub fn start(how: How) -> Result<Self, AgentError> {
        let (clocks, past) = (BTreeSet::new(), Duration::ZERO);
        let mut this = Self { how, session: None, number: 0, clocks, past, anew: None };
        this.begin()?;
        Ok(this)
    }

    /// Gives the number of CPUs.
    fn begin(&mut self) -> Result<u32, AgentError> {
        self.session = Some(self.how.session()?);
        self.clocks = online_cpus()?.into_iter().collect();
        Ok(self.clocks.len() as u32)
    }

    /// Learns of another full pace: that at which a session begins.
    pub fn change(&mut self, frequency: u32) {
        self.how.sampler.frequency = frequency;
    }

    /// What all samplers have cost so far.
    pub fn cost(&self) -> Duration {
        let now = self.session.as_ref().and_then(|session| session.lost_and_cost().ok());
        self.past + now.map(|(_, cost)| cost.total).unwrap_or_default()
    }

    /// Ends the window that is filled and begins the next, at another `pace` if there is one.
    ///
    /// # Errors
    /// As [`Session::cut`] and [`Session::cut_to`].
    pub fn cut(&mut self, pace: Option<SamplingRate>) -> io::Result<ClosedWindow> {
        let session = self.session.as_mut().ok_or_else(ended)?;
        let closed = match pace {
            Some(pace) => session.cut_to(pace),
            None => session.cut(),
        }?;
        self.learn(&closed);
        Ok(closed)
    }

    /// Learns which clocks run, from a window that was sampled for long enough.
    fn learn(&mut self, closed: &ClosedWindow) {
        let period = &closed.period;
        if period.sample_ns > 0 && period.duration_ns >= PERIODS * period.sample_ns {
            let ran = closed.ledger.cpus.iter().filter(|clock| clock.due > 0);
            self.clocks = ran.map(|clock| clock.cpu).collect();
        }
    }

    /// CPUs that are online and have no clock, if it is time to do something about that.
    pub fn without_clock(&self) -> Vec<Cpu> {
        if self.anew.is_some_and(|anew| anew.elapsed() < ANEW_EVERY) {
            return Vec::new();
        }
        let online = online_cpus().unwrap_or_default();
        online.into_iter().filter(|cpu| !self.clocks.contains(cpu)).collect()
    }

    /// Ends the session; gives its last window.
    ///
    /// # Errors
    /// As [`Session::finish`].
    pub fn finish(&mut self) -> io::Result<ClosedWindow> {
        self.past = self.cost();
        let session = self.session.take().ok_or_else(ended)?;
        Ok(session.finish()?.last)
    }

    /// Begins another session, at the full pace. Gives the number of CPUs.
    ///
    /// # Errors
    /// As [`Self::start`]; nothing is sampled any more then.
    pub fn begin_anew(&mut self) -> Result<u32, AgentError> {
        self.anew = Some(Instant::now());
        self.number += 1;
        self.begin()
    }

    /// The number of the session. Ids of executables mean something within one.
    pub fn number(&self) -> u64 {
        self.number
    }
}

fn ended() -> io::Error {
    io::Error::other("nothing is sampled any more")
}

impl How {
    fn session(&self) -> Result<Session, AgentError> {
        let cpus = online_cpus()?.len() as u32;
        let too_small = AgentError::Memory(self.memory >> 20);
        let shares = Shares::of(self.memory, cpus).ok_or(too_small)?;
        let cache = self.cache.as_deref().map(Cache::open).transpose()?;
        let sampler = kernel::SamplerConfig {
            ring_bytes: shares.ring,
            side_band_bytes: shares.side_band,
            ..self.sampler.clone()
        };
        Ok(Session::start(&self.program, sampler, ScanScope::All, shares.session, cache, None)?)
    }
}
