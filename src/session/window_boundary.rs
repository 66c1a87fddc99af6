//! The boundary between two windows, as the sampler counts: what lies between two boundaries
//! belongs to one window.

use std::io;
use std::num::NonZeroU64;
use std::time::Instant;

use profile::{CaptureLedger, Cpu, CpuTicks, Loss, NotSampled, TickOutcome};

use super::sampler_time::SamplerTime;
use crate::events::{RawSample, now, since_boot_ns, unix_ns};
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
    since_boot_ns: u64,
    /// Every sample before the boundary is older than this, nanoseconds of CLOCK_MONOTONIC.
    pub read_at: u64,
    /// Process events up to this time were not reported: the side bands were off.
    pub missed_events_until: Option<u64>,
    /// The clocks were stopped here: their next tick is a whole period away.
    pub are_clocks_restarted: bool,
}

/// The clock of one CPU at that moment.
#[derive(Clone, Copy, Debug, Default)]
struct ClockReading {
    cpu: Cpu,
    /// The CPU has a clock.
    has_clock: bool,
    /// Nanoseconds since the session began for which the CPU was online.
    online_ns: u64,
    /// Nanoseconds of `online_ns` for which its clock was on.
    on_ns: u64,
    /// Ticks that have ended; another one may be under way.
    ticks: u64,
    remainder: Remainder,
}

/// Nanoseconds of a clock's time for which no tick was due yet. Negative after a tick more than the
/// time allows, which two clocks read at slightly different moments can show: that tick is due in
/// its window and not in the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Remainder {
    /// At the period in force.
    in_force_ns: i64,
    /// At the period of the configured frequency.
    full_ns: i64,
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
            since_boot_ns: since_boot_ns(),
            read_at: now(),
            missed_events_until: None,
            are_clocks_restarted: false,
        }
    }

    /// Reads the sampler's counters and clocks. `rate`: from here on. `started`: the session.
    ///
    /// # Errors
    /// When a counter or a clock cannot be read.
    pub fn read(sampler: &Sampler, rate: SamplingRate, started: Instant) -> io::Result<Self> {
        let (at, unix_ns, since_boot_ns) = (Instant::now(), unix_ns(), since_boot_ns());
        let counters = sampler.counters()?;
        let online_ns = (at - started).as_nanos() as u64;
        let reading = |(cpu, on_ns): (Cpu, u64)| {
            let ticks = counters.get(cpu.0 as usize).map_or(0, |cpu| cpu.outcomes.iter().sum());
            let remainder = Remainder::default();
            ClockReading { cpu, has_clock: true, online_ns, on_ns, ticks, remainder }
        };
        let clocks = sampler.times()?.into_iter().map(reading).collect();
        Ok(Self { at, unix_ns, since_boot_ns, ..Self::new(counters, clocks, rate) })
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
            clock.remainder = clock.ticks_since(begin).1;
        }
    }

    /// Adds to the ledger of the window from `begin` to here what only the sampler knows.
    pub fn complete_ledger(&self, begin: &Self, ledger: &mut CaptureLedger) {
        for outcome in TickOutcome::ALL {
            ledger.outcomes[*outcome as usize] = self.outcome(*outcome) - begin.outcome(*outcome);
        }
        ledger.lost[Loss::RingFull as usize] = ledger.outcome(TickOutcome::LostRingFull);
        ledger.cpus = self.clocks.iter().map(|clock| clock.ticks_since(begin).0).collect();
    }

    fn outcome(&self, outcome: TickOutcome) -> u64 {
        self.counters.iter().map(|cpu| cpu.outcomes[outcome as usize]).sum()
    }

    /// Returns when and how the window from `begin` to here was sampled.
    pub fn period_since(&self, begin: &Self) -> Period {
        Period {
            start_unix_ns: begin.unix_ns,
            start_since_boot_ns: begin.since_boot_ns,
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
    fn ticks_since(&self, begin: &WindowBoundary) -> (CpuTicks, Remainder) {
        let before = begin.clocks.iter().find(|before| before.cpu == self.cpu);
        let before = before.copied().unwrap_or_default();
        let ticks = self.ticks.saturating_sub(before.ticks);
        let on_ns = self.on_ns.saturating_sub(before.on_ns);
        let SamplingRate { period, full_period, lowered, .. } = begin.rate;

        // What the clock was set to take, at the period in force.
        let mut remainder = before.remainder;
        let due = period.map_or(0, |period| ticks_in(remainder.in_force_ns, on_ns, period));
        let due = due.max(ticks);
        let due_ns = due * period.map_or(0, NonZeroU64::get);
        remainder.in_force_ns += on_ns as i64 - due_ns as i64;
        let mut counted = CpuTicks::at_full_rate(self.cpu, due, ticks);

        // What it would have taken at the configured frequency.
        match lowered {
            Some(reason) => {
                let full = ticks_in(remainder.full_ns, on_ns, full_period).max(due);
                remainder.full_ns += on_ns as i64 - (full * full_period.get()) as i64;
                counted.add_not_sampled(reason, full - due);
            }
            None => remainder.full_ns = remainder.in_force_ns,
        }

        // What an online CPU would have taken while no clock ran on it.
        let online_ns = self.online_ns.saturating_sub(before.online_ns);
        let ticks_off = online_ns.saturating_sub(on_ns) / full_period;
        let had_clock = self.has_clock && (before.has_clock || before.online_ns == 0);
        let reason =
            if had_clock { lowered.unwrap_or(NotSampled::Gap) } else { NotSampled::NoClock };
        counted.add_not_sampled(reason, ticks_off);
        (counted, remainder)
    }
}

/// Returns the ticks due in a clock's time.
fn ticks_in(remainder_ns: i64, on_ns: u64, period: NonZeroU64) -> u64 {
    (remainder_ns + on_ns as i64).max(0) as u64 / period
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
        with_pauses(on_ns, 0, ticks)
    }

    /// A boundary at which the clock has been on, and off, for so many nanoseconds.
    fn with_pauses(on_ns: u64, off_ns: u64, ticks: u64) -> WindowBoundary {
        let clock = ClockReading {
            has_clock: true,
            online_ns: on_ns + off_ns,
            on_ns,
            ticks,
            ..ClockReading::default()
        };
        WindowBoundary { clocks: vec![clock], ..boundary_after(&[ticks]) }
    }

    /// Lowers the rate from a boundary on, from 100 Hz to 20.
    fn lower(boundary: &mut WindowBoundary) {
        let lowered = Some(NotSampled::Budget);
        let full_period = boundary.rate.full_period;
        boundary.rate = SamplingRate { full_period, lowered, ..SamplingRate::from_hz(20) };
    }

    fn ledger(begin: &WindowBoundary, end: &WindowBoundary) -> CaptureLedger {
        let mut ledger = CaptureLedger::default();
        end.complete_ledger(begin, &mut ledger);
        ledger
    }

    fn due(begin: &WindowBoundary, end: &WindowBoundary) -> u64 {
        ledger(begin, end).due()
    }

    #[test]
    fn lowered_rate_leaves_due_ticks_not_sampled() {
        let mut begin = with_clock(0, 0);
        lower(&mut begin);
        let mut middle = with_clock(1_005_000_000, 19);
        middle.carry_remainder(&begin);
        lower(&mut middle);
        let first = ledger(&begin, &middle);
        assert_eq!((first.due(), first.missed()), (100, 1));
        assert_eq!(first.not_sampled(NotSampled::Budget), 80);
        let second = ledger(&middle, &with_clock(2_000_000_000, 39));
        assert_eq!((second.due(), second.missed()), (100, 0), "5 ms are carried over");
        assert_eq!(second.not_sampled(NotSampled::Budget), 80);
    }

    #[test]
    fn stopped_clock_is_a_gap_once_it_takes_a_period() {
        let begin = with_clock(0, 0);
        assert_eq!(ledger(&begin, &with_pauses(1_000_000_000, 9_000_000, 100)).due(), 100);
        let stopped = ledger(&begin, &with_pauses(1_000_000_000, 55_000_000, 100));
        assert_eq!((stopped.due(), stopped.not_sampled(NotSampled::Gap)), (105, 5));
        assert_eq!(stopped.missed(), 0);
    }

    #[test]
    fn online_cpu_without_a_clock_owes_all_its_ticks() {
        let begin = with_clock(0, 0);
        let mut end = with_pauses(0, 1_000_000_000, 0);
        end.clocks[0].has_clock = false;
        let ledger = ledger(&begin, &end);
        assert_eq!((ledger.due(), ledger.not_sampled(NotSampled::NoClock)), (100, 100));
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
