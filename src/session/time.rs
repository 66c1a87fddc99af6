//! What the sampler says of its own time.

use std::time::Duration;

use crate::kernel::abi::{Counters, TIME_CLASSES_PER_POWER};

/// Time that the sampler spent in ticks, by its own clock, over all CPUs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SamplerTime {
    /// Ticks, skipped ones included.
    pub ticks: u64,
    /// All of them together.
    pub total: Duration,
    /// The longest.
    pub max: Duration,
    /// 999 of 1,000 took at most this, to a quarter of a power of two.
    pub p999: Duration,
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
        }
    }

    /// The mean.
    pub fn per_tick(&self) -> Duration {
        self.total.checked_div(u32::try_from(self.ticks).unwrap_or(u32::MAX)).unwrap_or_default()
    }
}

/// Gives the end of the class in which the `rank`-th shortest tick lies.
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

/// First nanosecond of a class: the inverse of `time_class` in `bpf/sampler.bpf.c`.
fn class_start(class: u32) -> u64 {
    let (power, quarter) = (class / TIME_CLASSES_PER_POWER, class % TIME_CLASSES_PER_POWER);
    match power {
        0 => u64::from(class),
        _ => u64::from(TIME_CLASSES_PER_POWER + quarter) << (power - 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_a_quarter_of_a_power_of_two() {
        let starts: Vec<u64> = (0..14).map(class_start).collect();
        assert_eq!(starts, [0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20]);
    }
}
