//! The ticks that each CPU owes between two window boundaries, and what became of them.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;

use profile::{Cpu, CpuTicks, NotSampled};

use super::cpu_times::CpuTime;
use crate::kernel::SamplingRate;

/// The time of one clock. A CPU that goes offline and comes back gets another clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct ClockTime {
    /// Identifies the clock.
    pub number: u64,
    pub cpu: Cpu,
    /// Nanoseconds for which it has run.
    pub on_ns: u64,
}

/// The clocks and the times of all CPUs at a window boundary.
#[derive(Clone, Debug, Default)]
pub(super) struct CpuReadings {
    clocks: Vec<ClockReading>,
    /// Final times of clocks that have ended with their CPU since the boundary before.
    retired: Vec<ClockTime>,
    times: BTreeMap<Cpu, CpuTime>,
}

#[derive(Clone, Copy, Debug)]
struct ClockReading {
    time: ClockTime,
    remainder: Remainder,
}

/// Nanoseconds of a clock's time for which no tick was due yet. Negative if one tick too many was
/// counted, because the two clocks are read at slightly different moments; that tick is due in its
/// own window and not in the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Remainder {
    /// At the period in force.
    in_force_ns: i64,
    /// At the period of the configured frequency.
    full_ns: i64,
}

impl CpuReadings {
    /// `clocks`: the clocks that exist. `retired`: those that have ended since the boundary before.
    pub fn new(
        clocks: Vec<ClockTime>,
        retired: Vec<ClockTime>,
        times: BTreeMap<Cpu, CpuTime>,
    ) -> Self {
        let reading = |time| ClockReading { time, remainder: Remainder::default() };
        Self { clocks: clocks.into_iter().map(reading).collect(), retired, times }
    }

    /// Returns the ticks of each CPU since `begin`. `rate`: in force since then. `ticks`: those
    /// that each CPU has taken, of CPUs from 0 on.
    pub fn ticks_since(&self, begin: &Self, rate: SamplingRate, ticks: &[u64]) -> Vec<CpuTicks> {
        let clocks = self.clocks.iter().map(|clock| clock.time.cpu);
        let retired = self.retired.iter().map(|time| time.cpu);
        let online = self.times.keys().copied().filter(|cpu| self.time_since(begin, *cpu).0 > 0);
        let numbered = (0..).map(Cpu).zip(ticks);
        let ticked = numbered.filter(|(_, ticks)| **ticks > 0).map(|(cpu, _)| cpu);
        let cpus: BTreeSet<Cpu> = clocks.chain(retired).chain(online).chain(ticked).collect();
        cpus.into_iter().map(|cpu| self.ticks_of(cpu, begin, rate, ticks).0).collect()
    }

    /// Carries the time since `begin` for which no tick was due yet over to the next window.
    pub fn carry_remainder(&mut self, begin: &Self, rate: SamplingRate, ticks: &[u64]) {
        let remainder_of =
            |clock: &ClockReading| self.ticks_of(clock.time.cpu, begin, rate, ticks).1;
        let remainders: Vec<Remainder> = self.clocks.iter().map(remainder_of).collect();
        for (clock, remainder) in self.clocks.iter_mut().zip(remainders) {
            clock.remainder = remainder;
        }
    }

    /// Returns the ticks of a CPU since `begin`, and the time of its clock for which none was due
    /// yet.
    ///
    /// Each clock's time is divided by the period on its own: the first tick of a clock comes a
    /// period after its start, whatever was left of the time of the one before.
    fn ticks_of(
        &self,
        cpu: Cpu,
        begin: &Self,
        rate: SamplingRate,
        ticks: &[u64],
    ) -> (CpuTicks, Remainder) {
        let ticks = ticks.get(cpu.0 as usize).copied().unwrap_or_default();
        let mut sums = DueSums::new(rate, ticks);
        for time in self.retired.iter().filter(|time| time.cpu == cpu) {
            let (on_ns, remainder) = begin.time_until(*time);
            sums.add_retired(on_ns, remainder);
        }
        let mut remainder = Remainder::default();
        if let Some(clock) = self.clocks.iter().find(|clock| clock.time.cpu == cpu) {
            let (on_ns, before) = begin.time_until(clock.time);
            remainder = sums.add_live(on_ns, before);
        }
        let due = sums.in_force.max(ticks);
        let mut counted = CpuTicks::at_full_rate(cpu, due, ticks);
        if let Some(reason) = rate.lowered {
            counted.add_not_sampled(reason, sums.full.saturating_sub(due));
        }
        // What an online CPU would have taken while no clock ran on it.
        let (online_ns, without_clock_ns) = self.time_since(begin, cpu);
        let off_ns = online_ns.saturating_sub(sums.on_ns);
        let no_clock_ns = without_clock_ns.min(off_ns);
        counted.add_not_sampled(NotSampled::NoClock, no_clock_ns / rate.full_period);
        let stopped = (off_ns - no_clock_ns) / rate.full_period;
        counted.add_not_sampled(rate.lowered.unwrap_or(NotSampled::Gap), stopped);
        (counted, remainder)
    }

    /// Returns how long a clock has run from this boundary to a later time of it, in nanoseconds,
    /// and the time before for which no tick was due.
    fn time_until(&self, end: ClockTime) -> (u64, Remainder) {
        match self.clocks.iter().find(|before| before.time.number == end.number) {
            Some(before) => (end.on_ns.saturating_sub(before.time.on_ns), before.remainder),
            None => (end.on_ns, Remainder::default()),
        }
    }

    /// Returns for how many nanoseconds since `begin` a CPU was online, and online without a clock.
    fn time_since(&self, begin: &Self, cpu: Cpu) -> (u64, u64) {
        let at = |readings: &Self| readings.times.get(&cpu).copied().unwrap_or_default();
        let (begin, end) = (at(begin), at(self));
        (
            end.online_ns.saturating_sub(begin.online_ns),
            end.without_clock_ns.saturating_sub(begin.without_clock_ns),
        )
    }
}

/// Sums over the clocks that a CPU had in a window.
struct DueSums {
    rate: SamplingRate,
    /// Ticks that the CPU has taken.
    ticks: u64,
    /// Nanoseconds for which a clock ran.
    on_ns: u64,
    /// Ticks due at the period in force.
    in_force: u64,
    /// Ticks due at the period of the configured frequency, if the rate is lower.
    full: u64,
}

impl DueSums {
    fn new(rate: SamplingRate, ticks: u64) -> Self {
        Self { rate, ticks, on_ns: 0, in_force: 0, full: 0 }
    }

    fn add_retired(&mut self, on_ns: u64, before: Remainder) {
        let SamplingRate { period, full_period, .. } = self.rate;
        self.on_ns += on_ns;
        self.in_force += ticks_in(before.in_force_ns, on_ns, period);
        self.full += ticks_in(before.full_ns, on_ns, full_period);
    }

    /// Adds the clock that goes on. Ticks that no clock's time allows were due in its time. Returns
    /// its time for which no tick was due.
    fn add_live(&mut self, on_ns: u64, before: Remainder) -> Remainder {
        let SamplingRate { period, full_period, lowered, .. } = self.rate;
        self.on_ns += on_ns;
        let mut remainder = before;
        let due = ticks_in(before.in_force_ns, on_ns, period);
        let due = due.max(self.ticks.saturating_sub(self.in_force));
        remainder.in_force_ns += on_ns as i64 - (due * period.get()) as i64;
        self.in_force += due;
        if lowered.is_none() {
            remainder.full_ns = remainder.in_force_ns;
            return remainder;
        }
        let full = ticks_in(before.full_ns, on_ns, full_period);
        let full = full.max(self.in_force.saturating_sub(self.full));
        remainder.full_ns += on_ns as i64 - (full * full_period.get()) as i64;
        self.full += full;
        remainder
    }
}

/// Returns the ticks due in a clock's time.
fn ticks_in(remainder_ns: i64, on_ns: u64, period: NonZeroU64) -> u64 {
    (remainder_ns + on_ns as i64).max(0) as u64 / period
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    /// Readings of CPU 0 at a boundary: its clocks by number and milliseconds, those that have
    /// ended, and for how many milliseconds it was online, and online without a clock.
    fn readings(
        clocks: &[(u64, u64)],
        retired: &[(u64, u64)],
        online_ms: u64,
        without_clock_ms: u64,
    ) -> CpuReadings {
        let times = |clocks: &[(u64, u64)]| {
            let time = |(number, ms): &(u64, u64)| ClockTime {
                number: *number,
                cpu: Cpu(0),
                on_ns: ms * MS,
            };
            clocks.iter().map(time).collect()
        };
        let time = CpuTime { online_ns: online_ms * MS, without_clock_ns: without_clock_ms * MS };
        CpuReadings::new(times(clocks), times(retired), BTreeMap::from([(Cpu(0), time)]))
    }

    /// Readings of a CPU that was always online and has had one clock.
    fn with_clock(ms: u64) -> CpuReadings {
        readings(&[(0, ms)], &[], ms, 0)
    }

    fn at_100_hz() -> SamplingRate {
        SamplingRate::from_hz(100)
    }

    /// 20 Hz instead of 100.
    fn lowered() -> SamplingRate {
        let full_period = at_100_hz().full_period;
        SamplingRate { full_period, lowered: Some(NotSampled::Budget), ..SamplingRate::from_hz(20) }
    }

    fn ticks(begin: &CpuReadings, end: &CpuReadings, rate: SamplingRate, ticks: u64) -> CpuTicks {
        let all = end.ticks_since(begin, rate, &[ticks]);
        assert_eq!(all.len(), 1);
        all[0]
    }

    fn due(begin: &CpuReadings, end: &CpuReadings, taken: u64) -> u64 {
        ticks(begin, end, at_100_hz(), taken).due
    }

    #[test]
    fn lowered_rate_leaves_due_ticks_not_sampled() {
        let (begin, mut middle) = (with_clock(0), with_clock(1005));
        let first = ticks(&begin, &middle, lowered(), 19);
        assert_eq!((first.due, first.missed()), (100, 1));
        assert_eq!(first.not_sampled[NotSampled::Budget as usize], 80);
        middle.carry_remainder(&begin, lowered(), &[19]);
        let second = ticks(&middle, &with_clock(2000), lowered(), 20);
        assert_eq!((second.due, second.missed()), (100, 0), "5 ms are carried over");
        assert_eq!(second.not_sampled[NotSampled::Budget as usize], 80);
    }

    #[test]
    fn stopped_clock_is_a_gap_once_it_takes_a_period() {
        let begin = with_clock(0);
        assert_eq!(due(&begin, &readings(&[(0, 1000)], &[], 1009, 0), 100), 100);
        let stopped = ticks(&begin, &readings(&[(0, 1000)], &[], 1055, 0), at_100_hz(), 100);
        assert_eq!((stopped.due, stopped.not_sampled[NotSampled::Gap as usize]), (105, 5));
        assert_eq!(stopped.missed(), 0);
    }

    #[test]
    fn online_cpu_without_a_clock_owes_all_its_ticks() {
        let end = readings(&[], &[], 1000, 1000);
        let counted = ticks(&CpuReadings::default(), &end, at_100_hz(), 0);
        assert_eq!((counted.due, counted.not_sampled[NotSampled::NoClock as usize]), (100, 100));
    }

    #[test]
    fn cpu_that_comes_back_owes_ticks_while_it_is_online() {
        // Online for 300 ms, offline, online for 700 ms of which 100 ms without a clock.
        let end = readings(&[(1, 600)], &[(0, 300)], 1000, 100);
        let counted = ticks(&with_clock(0), &end, at_100_hz(), 88);
        assert_eq!((counted.due, counted.missed()), (100, 2));
        assert_eq!(counted.not_sampled[NotSampled::NoClock as usize], 10);
        assert_eq!(counted.not_sampled[NotSampled::Gap as usize], 0);
    }

    #[test]
    fn cpu_that_stays_offline_owes_nothing() {
        let (begin, end) = (readings(&[], &[], 500, 0), readings(&[], &[], 500, 0));
        assert_eq!(end.ticks_since(&begin, at_100_hz(), &[0]), []);
    }

    #[test]
    fn each_clock_starts_with_a_whole_period() {
        let mut begin = with_clock(5);
        begin.carry_remainder(&with_clock(0), at_100_hz(), &[0]);
        let end = readings(&[], &[(0, 26)], 26, 0);
        assert_eq!(due(&begin, &end, 1), 2, "21 ms, and 5 carried over; one tick is missed");
        let mut end = readings(&[(1, 19)], &[(0, 26)], 45, 0);
        assert_eq!(due(&begin, &end, 3), 3, "two of the first clock and one of the second");
        end.carry_remainder(&begin, at_100_hz(), &[3]);
        assert_eq!(due(&end, &readings(&[(1, 20)], &[], 46, 0), 1), 1, "9 ms are carried over");
    }

    #[test]
    fn every_tick_has_a_cpu() {
        let end = CpuReadings::default().ticks_since(&CpuReadings::default(), at_100_hz(), &[0, 2]);
        assert_eq!(end, [CpuTicks::at_full_rate(Cpu(1), 2, 2)]);
    }

    #[test]
    fn time_without_a_due_tick_is_carried_over() {
        let (begin, mut middle) = (with_clock(0), with_clock(15));
        assert_eq!(due(&begin, &middle, 1), 1);
        middle.carry_remainder(&begin, at_100_hz(), &[1]);
        assert_eq!(due(&middle, &with_clock(20), 1), 1);
    }

    #[test]
    fn early_tick_is_due_in_its_window_only() {
        let (begin, mut middle) = (with_clock(0), with_clock(19));
        assert_eq!(due(&begin, &middle, 2), 2);
        middle.carry_remainder(&begin, at_100_hz(), &[2]);
        assert_eq!(due(&middle, &with_clock(29), 0), 0);
    }
}
