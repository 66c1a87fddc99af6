//! The boundary between two windows, as the sampler counts: what lies between two boundaries
//! belongs to one window.

use std::io;
use std::time::Instant;

use profile::{CaptureLedger, ClockScope, Loss, NotSampled, TickOutcome};

use super::cpu_ticks::CpuReadings;
use super::results::{CpuCounts, TaskCounts};
use super::sampler_time::SamplerTime;
use crate::events::{RawSample, now, since_boot_ns, unix_ns};
use crate::kernel::{Sampler, SamplingRate, abi::Counters};
use crate::symbolization::Period;

/// The part of a boundary that only clocks of tasks have.
#[derive(Clone, Copy, Debug, Default)]
pub struct TaskBoundary {
    /// Why ticks do not come; `None` if they are missed.
    pub missed: Option<NotSampled>,
    pub counts: TaskCounts,
}

/// The sampler's counters at one moment. Each CPU numbers its samples, and the boundary lies
/// between two of them.
pub struct WindowBoundary {
    counters: Vec<Counters>,
    /// The clocks and times of the CPUs.
    cpus: CpuReadings,
    /// CPUs with and without a clock.
    pub cpu_counts: CpuCounts,
    /// What only clocks of tasks have; `None` for those of CPUs.
    tasks: Option<TaskBoundary>,
    /// The rate from here on.
    rate: SamplingRate,
    at: Instant,
    unix_ns: u64,
    since_boot_ns: u64,
    /// Every sample before the boundary is older than this, nanoseconds of CLOCK_MONOTONIC.
    pub read_at: u64,
    /// The clocks were stopped here: their next tick is a whole period away.
    pub are_clocks_restarted: bool,
}

impl WindowBoundary {
    /// Returns the boundary before the first sample.
    pub fn start(rate: SamplingRate) -> Self {
        Self::new(Vec::new(), rate)
    }

    fn new(counters: Vec<Counters>, rate: SamplingRate) -> Self {
        Self {
            counters,
            cpus: CpuReadings::default(),
            cpu_counts: CpuCounts::default(),
            tasks: None,
            rate,
            at: Instant::now(),
            unix_ns: unix_ns(),
            since_boot_ns: since_boot_ns(),
            read_at: now(),
            are_clocks_restarted: false,
        }
    }

    /// Reads the sampler's counters, then the CPUs' clocks by `read_cpus`, which gets the time of
    /// the boundary in nanoseconds of CLOCK_MONOTONIC. `rate`: from here on.
    ///
    /// # Errors
    /// When a counter or a clock cannot be read.
    pub(super) fn read(
        sampler: &Sampler,
        rate: SamplingRate,
        read_cpus: impl FnOnce(u64) -> io::Result<CpuReadings>,
    ) -> io::Result<Self> {
        let (at, unix_ns, since_boot_ns) = (Instant::now(), unix_ns(), since_boot_ns());
        let (now, counters) = (now(), sampler.counters()?);
        let cpus = read_cpus(now)?;
        Ok(Self { at, unix_ns, since_boot_ns, cpus, ..Self::new(counters, rate) })
    }

    /// Returns the boundary at which clocks of tasks were stopped just now. Their rings are not
    /// drained yet, so [`Self::set_task_counts`] follows.
    pub fn of_stopped_tasks(rate: SamplingRate) -> Self {
        Self::new(Vec::new(), rate)
    }

    /// Sets what the clocks of tasks have counted. `counters`: by CPU.
    pub(super) fn set_task_counts(
        &mut self,
        counters: Vec<Counters>,
        cpus: CpuReadings,
        tasks: TaskBoundary,
    ) {
        (self.counters, self.cpus, self.tasks) = (counters, cpus, Some(tasks));
    }

    /// Returns the number of each CPU's next sample, indexed by CPU.
    pub fn next_sequences(&self) -> Vec<u64> {
        self.counters.iter().map(emitted).collect()
    }

    /// Whether the counters include a sample: it was taken before the boundary. A CPU without
    /// counters had taken none.
    pub fn has_counted(&self, sample: &RawSample) -> bool {
        let counters = self.counters.get(sample.cpu.0 as usize);
        counters.is_some_and(|counters| sample.sequence < emitted(counters))
    }

    /// Carries the time since `begin` for which no tick was due yet over to the next window.
    pub fn carry_remainder(&mut self, begin: &Self) {
        if !self.are_clocks_restarted {
            let ticks = self.ticks_since(begin);
            self.cpus.carry_remainder(&begin.cpus, begin.rate, &ticks);
        }
    }

    /// Adds to the ledger of the window from `begin` to here what only the sampler knows.
    pub fn complete_ledger(&self, begin: &Self, ledger: &mut CaptureLedger) {
        for outcome in TickOutcome::ALL {
            ledger.outcomes[*outcome as usize] = self.outcome(*outcome) - begin.outcome(*outcome);
        }
        ledger.lost[Loss::RingFull as usize] = ledger.outcome(TickOutcome::LostRingFull);
        ledger.cpus = self.cpus.ticks_since(&begin.cpus, begin.rate, &self.ticks_since(begin));
        if let Some(TaskBoundary { missed, .. }) = self.tasks {
            ledger.clocks = ClockScope::Tasks;
            if let Some(reason) = missed {
                ledger.cpus.iter_mut().for_each(|cpu| cpu.attribute_missed(reason));
            }
        }
    }

    /// Returns what happened to clocks of tasks.
    pub fn task_counts(&self) -> TaskCounts {
        self.tasks.unwrap_or_default().counts
    }

    fn outcome(&self, outcome: TickOutcome) -> u64 {
        self.counters.iter().map(|cpu| cpu.outcomes[outcome as usize]).sum()
    }

    /// Returns the ticks of each CPU since `begin` that have ended; another one may be under way.
    fn ticks_since(&self, begin: &Self) -> Vec<u64> {
        let ticks = |cpu: &Counters| cpu.outcomes.iter().sum::<u64>();
        let before = begin.counters.iter().map(ticks).chain(std::iter::repeat(0));
        self.counters.iter().zip(before).map(|(cpu, before)| ticks(cpu) - before).collect()
    }

    /// Returns when and how the window from `begin` to here was sampled.
    pub fn period_since(&self, begin: &Self) -> Period {
        Period {
            start_unix_ns: begin.unix_ns,
            start_since_boot_ns: begin.since_boot_ns,
            start_monotonic_ns: begin.read_at,
            duration_ns: (self.at - begin.at).as_nanos() as u64,
            sample_ns: begin.rate.period.get(),
        }
    }

    /// Returns the overhead of the sampler up to here.
    pub fn sampler_time(&self) -> SamplerTime {
        SamplerTime::of(&self.counters)
    }

    /// Returns how many of COMMAND's descendants up to here could not be followed.
    pub fn not_followed(&self) -> u64 {
        self.counters.iter().map(|cpu| cpu.descendants_missed).sum()
    }
}

/// Counts the samples to which a CPU gave a sequence number.
fn emitted(cpu: &Counters) -> u64 {
    cpu.outcomes[TickOutcome::Delivered as usize] + cpu.outcomes[TickOutcome::LostRingFull as usize]
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;

    use profile::Cpu;
    use zerocopy::FromZeros;

    use super::super::cpu_ticks::ClockTime;
    use super::*;

    /// A boundary at which each CPU has taken the given number of samples.
    pub fn boundary_after(samples: &[u64]) -> WindowBoundary {
        let counters = samples.iter().map(|samples| {
            let mut counters = Counters::new_zeroed();
            counters.outcomes[TickOutcome::Delivered as usize] = *samples;
            counters
        });
        WindowBoundary::new(counters.collect(), SamplingRate::from_hz(100))
    }

    fn with_clock(on_ns: u64, ticks: u64) -> WindowBoundary {
        let clock = ClockTime { number: 0, cpu: Cpu(0), on_ns };
        let cpus = CpuReadings::new(vec![clock], Vec::new(), BTreeMap::new());
        WindowBoundary { cpus, ..boundary_after(&[ticks]) }
    }

    fn due(begin: &WindowBoundary, end: &WindowBoundary) -> u64 {
        let mut ledger = CaptureLedger::default();
        end.complete_ledger(begin, &mut ledger);
        ledger.due()
    }

    #[test]
    fn restarted_clock_carries_nothing_over() {
        let begin = with_clock(0, 0);
        let middle = |are_clocks_restarted| {
            let mut middle = with_clock(15_000_000, 1);
            middle.are_clocks_restarted = are_clocks_restarted;
            middle.carry_remainder(&begin);
            middle
        };
        assert_eq!(due(&middle(false), &with_clock(20_000_000, 1)), 1);
        assert_eq!(due(&middle(true), &with_clock(20_000_000, 1)), 0);
    }
}
