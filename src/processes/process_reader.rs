//! What reading processes from procfs needs: owners, and shares of CPU time and of wall time.

use std::time::{Duration, Instant};

use super::file_helper::FileHelper;
use super::owners::OwnerReader;
use super::tracking_limit::TrackingLimit;
use crate::events::{cpu_time, now};
use crate::limits::{Owner, OwnerTimeShares, SharedRate};

/// How late events may be when they are processed. Each reading waits for the file helper; on an
/// overloaded machine those of hundreds of new processes would delay all samples.
const LATE_MAX: Duration = Duration::from_secs(1);
/// The part of the processor's wall time in which it reads processes while events are late, if its
/// CPU time is limited.
const LATE_RATE: f64 = 0.2;

/// Reads processes within shares of CPU time and, while events are late, of wall time.
#[derive(Debug)]
pub(super) struct ProcessReader {
    /// Reads owners.
    pub owners: OwnerReader,
    /// CPU time for reading processes when they are sampled, the file helper's included.
    cpu: OwnerTimeShares,
    /// The rate of `cpu`, which another thread may change.
    rate: SharedRate,
    /// The rate as it was applied last.
    applied_rate: f64,
    /// Wall time for the same. An owner that has exceeded its share is refused while events are
    /// late, so that no other has to wait for it.
    wall: OwnerTimeShares,
    /// When the events that are processed become late, nanoseconds of CLOCK_MONOTONIC.
    late_at: u64,
    /// Processes read so far.
    pub count: u64,
}

/// When a piece of reading began, and the CPU time of this thread and of the file helper by then.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReadStart {
    at: Instant,
    cpu: Duration,
    helper_cpu: Duration,
}

impl ReadStart {
    /// Begins a piece of reading.
    pub fn now(file_helper: &FileHelper) -> Self {
        Self { at: Instant::now(), cpu: cpu_time(), helper_cpu: file_helper.usage().cpu }
    }

    /// Returns the wall time since.
    pub fn elapsed(&self) -> Duration {
        self.at.elapsed()
    }
}

impl ProcessReader {
    /// Limits the CPU time to a rate that another thread may change.
    pub fn limit(&mut self, rate: SharedRate) {
        self.rate = rate;
    }

    /// Begins events that were read from their rings at a time, nanoseconds of CLOCK_MONOTONIC.
    pub fn begin_events_of(&mut self, drained_at: u64) {
        self.late_at = drained_at.saturating_add(LATE_MAX.as_nanos() as u64);
    }

    /// Returns why no process of an owner may be read now, or `None` if one may.
    pub fn refusal(&mut self, owner: Owner) -> Option<TrackingLimit> {
        let (rate, at) = (self.rate.get(), Instant::now());
        if rate != self.applied_rate {
            self.cpu.set_rate(rate, at);
            self.applied_rate = rate;
        }
        if !self.cpu.has_credit(owner, at) {
            return Some(TrackingLimit::CpuTime);
        }
        let is_late = rate.is_finite() && now() > self.late_at;
        (is_late && !self.wall.has_credit(owner, at)).then_some(TrackingLimit::WallTime)
    }

    /// Charges the time since the start of a piece of reading to an owner.
    pub fn charge_since(&mut self, start: ReadStart, owner: Owner, file_helper: &FileHelper) {
        let end = ReadStart::now(file_helper);
        let helper_cpu = end.helper_cpu.saturating_sub(start.helper_cpu);
        self.cpu.charge(owner, end.cpu.saturating_sub(start.cpu) + helper_cpu, end.at);
        self.wall.charge(owner, end.at - start.at, end.at);
    }
}

impl Default for ProcessReader {
    fn default() -> Self {
        Self {
            owners: OwnerReader::default(),
            cpu: OwnerTimeShares::unlimited(),
            rate: SharedRate::unlimited(),
            applied_rate: f64::INFINITY,
            wall: OwnerTimeShares::new(LATE_RATE, Instant::now()),
            late_at: u64::MAX,
            count: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORM: Owner = Owner::User(1);
    const BYSTANDER: Owner = Owner::User(2);

    #[test]
    fn owner_of_a_storm_is_refused_while_events_are_late() {
        let mut reader = ProcessReader::default();
        reader.rate.set(1.0);
        let second = Duration::from_secs(1);
        (0..60).for_each(|_| reader.wall.charge(STORM, second, Instant::now()));
        let late_by = |by: Duration| now() - (LATE_MAX + by).as_nanos() as u64;
        reader.begin_events_of(late_by(second));
        assert_eq!(reader.refusal(STORM), Some(TrackingLimit::WallTime));
        assert_eq!(reader.refusal(BYSTANDER), None, "it has a share of its own");
        reader.begin_events_of(now());
        assert_eq!(reader.refusal(STORM), None, "no sample waits");
    }
}
