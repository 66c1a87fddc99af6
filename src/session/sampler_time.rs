//! The sampler's own overhead, from its counters.

use std::time::Duration;

use crate::kernel::abi::{Counters, TIME_CLASSES, TIME_CLASSES_PER_POWER};

/// Upper bounds of the histogram, as powers of two of nanoseconds: 512 ns to 16.8 ms.
const POWERS: std::ops::Range<u32> = 9..25;

/// Time that the sampler spent in ticks on all CPUs, by its own clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SamplerTime {
    /// Ticks, skipped ones included.
    pub ticks: u64,
    /// Total time.
    pub total: Duration,
    /// Longest tick.
    pub max: Duration,
    /// 99.9th percentile, to a quarter of a power of two.
    pub p999: Duration,
    /// Ticks that took less than 2 to the power of each of [`POWERS`], in nanoseconds.
    below: [u64; POWERS.end as usize - POWERS.start as usize],
    /// Ticks whose time was recorded: the kernel counts a tick first, then its time.
    timed: u64,
}

impl SamplerTime {
    /// Sums the counters of all CPUs.
    pub fn of(counters: &[Counters]) -> Self {
        let ticks = counters.iter().map(|cpu| cpu.ticks).sum();
        let max = counters.iter().map(|cpu| cpu.time_max).max().unwrap_or(0);
        Self {
            ticks,
            total: Duration::from_nanos(counters.iter().map(|cpu| cpu.time_total).sum()),
            max: Duration::from_nanos(max),
            p999: Duration::from_nanos(percentile(counters, ticks - ticks / 1000).min(max)),
            below: std::array::from_fn(|at| {
                classes_below(counters, first_class(POWERS.start + at as u32))
            }),
            timed: classes_below(counters, TIME_CLASSES),
        }
    }

    /// Returns a cumulative histogram: rising bounds, and the ticks that took less than each.
    pub fn below(&self) -> impl ExactSizeIterator<Item = (Duration, u64)> {
        let bound = |at: usize| Duration::from_nanos(1 << (POWERS.start as usize + at));
        self.below.iter().enumerate().map(move |(at, ticks)| (bound(at), *ticks))
    }

    /// Returns the number of ticks whose time was recorded.
    pub fn timed(&self) -> u64 {
        self.timed
    }

    /// Returns the mean time of a tick.
    pub fn per_tick(&self) -> Duration {
        self.total.checked_div(u32::try_from(self.ticks).unwrap_or(u32::MAX)).unwrap_or_default()
    }
}

/// Returns the upper bound of the class that holds the `rank`-th shortest tick.
fn percentile(counters: &[Counters], rank: u64) -> u64 {
    let classes = counters.first().map_or(0, |cpu| cpu.time_classes.len());
    let mut below = 0;
    for class in 0..classes {
        below += counters.iter().map(|cpu| cpu.time_classes[class]).sum::<u64>();
        if below >= rank && below > 0 {
            return class_start(class as u32 + 1);
        }
    }
    0
}

/// Counts the ticks in the classes below `class`.
fn classes_below(counters: &[Counters], class: usize) -> u64 {
    counters.iter().map(|cpu| cpu.time_classes[..class].iter().sum::<u64>()).sum()
}

/// Returns the class that begins at a power of two of nanoseconds, from 4 ns on.
fn first_class(power: u32) -> usize {
    ((power - 1) * TIME_CLASSES_PER_POWER) as usize
}

/// Returns the first nanosecond of a class: the inverse of `time_class` in `bpf/sampler.bpf.c`.
fn class_start(class: u32) -> u64 {
    let (power, quarter) = (class / TIME_CLASSES_PER_POWER, class % TIME_CLASSES_PER_POWER);
    match power {
        0 => u64::from(class),
        _ => u64::from(TIME_CLASSES_PER_POWER + quarter) << (power - 1),
    }
}

#[cfg(test)]
mod tests {
    use zerocopy::FromZeros;

    use super::*;

    #[test]
    fn classes_are_quarters_of_powers_of_two() {
        let starts: Vec<u64> = (0..14).map(class_start).collect();
        assert_eq!(starts, [0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20]);
    }

    #[test]
    fn histogram_bounds_lie_between_classes() {
        for power in POWERS {
            assert_eq!(class_start(first_class(power) as u32), 1 << power);
        }
        assert!(first_class(POWERS.end) <= TIME_CLASSES);
    }

    #[test]
    fn histogram_is_cumulative() {
        let counters =
            [cpu(&[(class(600), 5), (class(1 << 20), 2)]), cpu(&[(class(513), 1), (127, 1)])];
        let time = SamplerTime::of(&counters);
        let below = |bound: u64| {
            time.below().find(|(at, _)| *at == Duration::from_nanos(bound)).expect("a bound").1
        };
        assert_eq!([512, 1024, 1 << 20, 1 << 21, 1 << 24].map(below), [0, 6, 6, 8, 8]);
        assert_eq!(time.timed(), 9);
    }

    /// Finds the class of a time by trying all of them.
    fn class(ns: u64) -> usize {
        (0..TIME_CLASSES).rev().find(|class| class_start(*class as u32) <= ns).expect("a class")
    }

    fn cpu(classes: &[(usize, u64)]) -> Counters {
        let mut counters = Counters::new_zeroed();
        classes.iter().for_each(|(class, ticks)| counters.time_classes[*class] = *ticks);
        counters
    }
}
