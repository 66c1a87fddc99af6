//! The sampling rate of the next window: the budget's, with a jittered period.
//!
//! Work that runs every 100 ms is seen always or never by a clock that ticks every 50 ms. So the
//! period changes by up to a fiftieth, once a minute, and each CPU has its own phase. A window has
//! one period, and its profile names it.

use std::num::NonZeroU64;

use crate::budget::BudgetRate;
use crate::kernel::SamplingRate;

/// Denominator of the largest jitter: a fiftieth of the period, up or down. Due ticks are counted
/// by the jittered period, and stay that close to what the configured frequency calls for.
const JITTER_PARTS: u64 = 50;
/// Seconds until the period changes.
const PERIOD_AGE_MAX: u64 = 60;

/// Chooses the sampling rate of each window.
#[derive(Debug)]
pub(super) struct RateSelector {
    /// The rate in force.
    rate: BudgetRate,
    /// How long its period has been in force, in nanoseconds.
    age: u64,
}

impl RateSelector {
    /// Starts at `rate`, with the exact period of its frequency.
    pub fn new(rate: BudgetRate) -> Self {
        Self { rate, age: 0 }
    }

    /// Returns the rate of the next window if it must change, on each call until
    /// [`Self::applied`]. `window_ns`: length of the last window.
    pub fn next(&mut self, rate: BudgetRate, window_ns: u64) -> Option<SamplingRate> {
        self.age += window_ns;
        if rate == self.rate && self.age < PERIOD_AGE_MAX * 1_000_000_000 {
            return None;
        }
        Some(jittered(rate.sampling_rate()))
    }

    /// Returns the rate of the current window.
    pub fn in_force(&self) -> BudgetRate {
        self.rate
    }

    /// Records that a rate is in force.
    pub fn applied(&mut self, rate: BudgetRate) {
        (self.rate, self.age) = (rate, 0);
    }
}

/// Changes the period a little. At the full rate that is the period by which ticks are due.
fn jittered(rate: SamplingRate) -> SamplingRate {
    let period = rate.period.get();
    let most = period / JITTER_PARTS;
    let jittered = NonZeroU64::new(period - most + fastrand::u64(0..=2 * most));
    let period = jittered.unwrap_or(rate.period);
    let full_period = if rate.lowered.is_none() { period } else { rate.full_period };
    SamplingRate { period, full_period, ..rate }
}

#[cfg(test)]
mod tests {
    use profile::NotSampled;

    use super::*;

    fn full(frequency: u32) -> BudgetRate {
        BudgetRate { frequency, full_frequency: frequency, lowered: None }
    }

    fn lowered(frequency: u32) -> BudgetRate {
        BudgetRate { frequency, full_frequency: 20, lowered: Some(NotSampled::Budget) }
    }

    /// Ends a window and applies the proposed rate.
    fn next_applied(
        rates: &mut RateSelector,
        rate: BudgetRate,
        window_ns: u64,
    ) -> Option<SamplingRate> {
        let proposed = rates.next(rate, window_ns)?;
        rates.applied(rate);
        Some(proposed)
    }

    #[test]
    fn period_changes_each_minute_by_at_most_a_fiftieth() {
        let (mut rates, window) = (RateSelector::new(full(20)), 10_000_000_000);
        let changes: Vec<_> =
            (0..60).filter_map(|_| next_applied(&mut rates, full(20), window)).collect();
        assert_eq!(changes.len(), 10);
        let periods: Vec<u64> = changes.iter().map(|rate| rate.period.get()).collect();
        assert!(
            periods.iter().all(|period| (49_000_000..=51_000_000).contains(period)),
            "{periods:?}"
        );
        assert!(periods.windows(2).any(|pair| pair[0] != pair[1]), "{periods:?}");
        assert!(changes.iter().all(|rate| rate.full_period == rate.period), "{changes:?}");
    }

    #[test]
    fn lowered_rate_applies_at_once_and_is_due_at_the_full_period() {
        let mut rates = RateSelector::new(full(20));
        let rate = next_applied(&mut rates, lowered(5), 1).expect("another rate");
        let period = rate.period.get();
        assert!((196_000_000..=204_000_000).contains(&period), "{rate:?}");
        assert_eq!((rate.full_period.get(), rate.lowered), (50_000_000, Some(NotSampled::Budget)));
        assert_eq!(next_applied(&mut rates, lowered(5), 1), None);
    }

    #[test]
    fn rate_is_proposed_until_applied() {
        let mut rates = RateSelector::new(full(20));
        assert!(rates.next(lowered(10), 1).is_some());
        assert!(rates.next(lowered(10), 1).is_some());
        assert!(rates.next(full(20), 1).is_none());
    }
}
