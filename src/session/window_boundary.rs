//! The boundary between two windows, as the sampler counts: what lies between two boundaries
//! belongs to one window.

use std::io;
use std::num::NonZeroU64;
use std::time::Instant;

use profile::{CaptureLedger, Cpu, CpuTicks, Loss, TickOutcome};

use super::sampler_time::SamplerTime;
use crate::events::{RawSample, now, unix_ns};
use crate::kernel::{Sampler, SamplingRate, abi::Counters};
use crate::symbolization::Period;

/// The sampler's counters at one moment. Each CPU numbers its samples, and the boundary lies
/// between two of them.
pub(super) struct WindowBoundary {
    counters: Vec<Counters>,
    clocks: Vec<ClockReading>,
    /// The rate from here on.
    rate: SamplingRate,
    at: Instant,
    unix_ns: u64,
    /// Every sample before the boundary is older than this, nanoseconds of CLOCK_MONOTONIC.
    pub read_at: u64,
    /// Process events up to this time were not reported: the side bands were off.
    pub missed_events_until: Option<u64>,
    /// The clocks were stopped here: their next tick is a whole period away.
    pub are_clocks_restarted: bool,
}

/// The clock of one CPU at that moment.
#[derive(Clone, Copy, Debug)]
struct ClockReading {
    cpu: Cpu,
    /// Nanoseconds for which it was on.
    on_ns: u64,
    /// Ticks that have ended; another one may be under way.
    ticks: u64,
    /// Nanoseconds of `on_ns` for which no tick was due yet. Negative after a tick more than the
    /// time allows, which two clocks read at slightly different moments can show: that tick is
    /// due in its window and not in the next.
    remainder_ns: i64,
}

impl WindowBoundary {
    /// Returns the boundary before the first sample.
    pub fn start(rate: SamplingRate) -> Self {
        Self::new(Vec::new(), Vec::new(), rate)
    }

    fn new(counters: Vec<Counters>, clocks: Vec<ClockReading>, rate: SamplingRate) -> Self {
        Self {
            counters,
            clocks,
            rate,
            at: Instant::now(),
            unix_ns: unix_ns(),
            read_at: now(),
            missed_events_until: None,
            are_clocks_restarted: false,
        }
    }

    /// Reads the sampler's counters and clocks. `rate`: from here on.
    ///
    /// # Errors
    /// When a counter or a clock cannot be read.
    pub fn read(sampler: &Sampler, rate: SamplingRate) -> io::Result<Self> {
        let (at, unix_ns, counters) = (Instant::now(), unix_ns(), sampler.counters()?);
        let reading = |(cpu, on_ns): (Cpu, u64)| {
            let ticks = counters.get(cpu.0 as usize).map_or(0, |cpu| cpu.outcomes.iter().sum());
            ClockReading { cpu, on_ns, ticks, remainder_ns: 0 }
        };
        let clocks = sampler.times()?.into_iter().map(reading).collect();
        Ok(Self { at, unix_ns, ..Self::new(counters, clocks, rate) })
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
        if self.are_clocks_restarted {
            return;
        }
        for clock in &mut self.clocks {
            clock.remainder_ns = clock.due_since(begin).1;
        }
    }

    /// Adds to the ledger of the window from `begin` to here what only the sampler knows.
    pub fn complete_ledger(&self, begin: &Self, ledger: &mut CaptureLedger) {
        for outcome in TickOutcome::ALL {
            ledger.outcomes[*outcome as usize] = self.outcome(*outcome) - begin.outcome(*outcome);
        }
        ledger.lost[Loss::RingFull as usize] = ledger.outcome(TickOutcome::LostRingFull);
        ledger.cpus = self.clocks.iter().map(|clock| clock.due_since(begin).0).collect();
    }

    fn outcome(&self, outcome: TickOutcome) -> u64 {
        self.counters.iter().map(|cpu| cpu.outcomes[outcome as usize]).sum()
    }

    /// Returns when and how the window from `begin` to here was sampled.
    pub fn period_since(&self, begin: &Self) -> Period {
        Period {
            start_unix_ns: begin.unix_ns,
            duration_ns: (self.at - begin.at).as_nanos() as u64,
            sample_ns: begin.rate.period.map_or(0, NonZeroU64::get),
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

impl ClockReading {
    /// Returns the ticks since `begin`, and the time for which none was due yet.
    fn due_since(&self, begin: &WindowBoundary) -> (CpuTicks, i64) {
        let before = begin.clocks.iter().find(|before| before.cpu == self.cpu);
        let (on_ns, ticks, remainder_ns) =
            before.map_or((0, 0, 0), |clock| (clock.on_ns, clock.ticks, clock.remainder_ns));
        let ticks = self.ticks - ticks;
        let time_ns = (self.on_ns - on_ns) as i64 + remainder_ns;
        let Some(period) = begin.rate.period else {
            return (CpuTicks { cpu: self.cpu, due: ticks, ticks }, 0);
        };
        let due = (time_ns.max(0) as u64 / period).max(ticks);
        let remainder_ns = time_ns - (due * period.get()) as i64;
        (CpuTicks { cpu: self.cpu, due, ticks }, remainder_ns)
    }
}

/// Counts the samples to which a CPU gave a sequence number.
fn emitted(cpu: &Counters) -> u64 {
    cpu.outcomes[TickOutcome::Delivered as usize] + cpu.outcomes[TickOutcome::LostRingFull as usize]
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use zerocopy::FromZeros;

    /// A boundary at which each CPU has taken the given number of samples.
    pub fn boundary_after(samples: &[u64]) -> WindowBoundary {
        let counters = samples.iter().map(|samples| {
            let mut counters = Counters::new_zeroed();
            counters.outcomes[TickOutcome::Delivered as usize] = *samples;
            counters
        });
        WindowBoundary::new(counters.collect(), Vec::new(), SamplingRate::from_hz(100))
    }

    fn with_clock(on_ns: u64, ticks: u64) -> WindowBoundary {
        let clock = ClockReading { cpu: Cpu(0), on_ns, ticks, remainder_ns: 0 };
        WindowBoundary { clocks: vec![clock], ..boundary_after(&[ticks]) }
    }

    fn due(begin: &WindowBoundary, end: &WindowBoundary) -> u64 {
        let mut ledger = CaptureLedger::default();
        end.complete_ledger(begin, &mut ledger);
        ledger.due()
    }

    #[test]
    fn time_without_a_due_tick_is_carried_over() {
        let begin = with_clock(0, 0);
        let mut middle = with_clock(15_000_000, 1);
        middle.carry_remainder(&begin);
        assert_eq!(due(&begin, &middle), 1);
        assert_eq!(due(&middle, &with_clock(20_000_000, 2)), 1);
    }

    #[test]
    fn early_tick_is_due_in_its_window_only() {
        let begin = with_clock(0, 0);
        let mut middle = with_clock(19_000_000, 2);
        middle.carry_remainder(&begin);
        assert_eq!(due(&begin, &middle), 2);
        assert_eq!(due(&middle, &with_clock(29_000_000, 2)), 0);
    }

    #[test]
    fn restarted_clock_carries_nothing_over() {
        let begin = with_clock(0, 0);
        let mut middle = with_clock(15_000_000, 1);
        middle.are_clocks_restarted = true;
        middle.carry_remainder(&begin);
        assert_eq!(due(&middle, &with_clock(20_000_000, 1)), 0);
    }
}
