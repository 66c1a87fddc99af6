//! CPU time of a session by what it was for: the sampler's, and that of the processor thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::events::cpu_time;

/// CPU time since the start of a session. That of the reader and the loader is not in it: they are
/// threads with one purpose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionCpu {
    /// Ticks.
    pub ticks: u64,
    /// Time that they took in the kernel.
    pub ticks_in_kernel: Duration,
    /// Resolving and counting samples.
    pub samples: Duration,
    /// Finishing stacks from snapshots.
    pub stacks: Duration,
    /// Publishing unwind tables.
    pub tables: Duration,
    /// Process events and /proc, the reader's part included.
    pub processes: Duration,
}

impl SessionCpu {
    /// Returns what was used since an earlier measurement.
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            ticks: self.ticks.saturating_sub(earlier.ticks),
            ticks_in_kernel: self.ticks_in_kernel.saturating_sub(earlier.ticks_in_kernel),
            samples: self.samples.saturating_sub(earlier.samples),
            stacks: self.stacks.saturating_sub(earlier.stacks),
            tables: self.tables.saturating_sub(earlier.tables),
            processes: self.processes.saturating_sub(earlier.processes),
        }
    }
}

/// What the processor works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// Batches, and what has no other name.
    Batches,
    Samples,
    Stacks,
    Tables,
    Processes,
}

/// CPU time of the processor thread, which it writes and the session reads.
#[derive(Clone, Debug, Default)]
pub(super) struct ProcessorCpu(Arc<[AtomicU64; 5]>);

impl ProcessorCpu {
    /// Returns the time so far, in a measurement without ticks.
    pub fn get(&self) -> SessionCpu {
        let of = |work: Work| Duration::from_nanos(self.0[work as usize].load(Ordering::Relaxed));
        SessionCpu {
            samples: of(Work::Samples),
            stacks: of(Work::Stacks),
            tables: of(Work::Tables),
            processes: of(Work::Processes),
            ..SessionCpu::default()
        }
    }
}

/// Divides the CPU time of the calling thread by what it works on. Reads the clock only when that
/// changes: a burst of process events costs two readings.
pub(super) struct WorkTimer {
    cpu: ProcessorCpu,
    work: Work,
    since: Duration,
}

impl WorkTimer {
    /// Adds to `cpu`.
    pub fn new(cpu: ProcessorCpu) -> Self {
        Self { cpu, work: Work::Batches, since: Duration::ZERO }
    }

    /// Adds CPU time that another thread has used for process events.
    pub fn add_processes(&self, used: Duration) {
        let nanoseconds = used.as_nanos() as u64;
        self.cpu.0[Work::Processes as usize].fetch_add(nanoseconds, Ordering::Relaxed);
    }

    /// Ends the work at hand and begins another.
    pub fn begin(&mut self, work: Work) {
        if work == self.work {
            return;
        }
        let now = cpu_time();
        let used = now.saturating_sub(self.since).as_nanos() as u64;
        self.cpu.0[self.work as usize].fetch_add(used, Ordering::Relaxed);
        (self.work, self.since) = (work, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_that_of_the_work_at_hand() {
        let cpu = ProcessorCpu::default();
        let mut timer = WorkTimer::new(cpu.clone());
        timer.begin(Work::Stacks);
        let begin = cpu_time();
        while cpu_time() - begin < Duration::from_millis(5) {}
        timer.begin(Work::Samples);
        timer.begin(Work::Batches);
        let used = cpu.get();
        assert!(used.stacks >= Duration::from_millis(5), "{used:?}");
        assert!(used.samples < used.stacks && used.processes.is_zero(), "{used:?}");
    }
}
