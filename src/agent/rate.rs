//! The sampling rate of the next window: the budget's step, with a jittered period.
//!
//! Work that runs every 100 ms is seen always or never by a clock that ticks every 50 ms. So the
//! period changes by up to a fiftieth, once a minute, and each CPU has its own phase. A window has one
//! period, and its profile names it.

use std::num::NonZeroU64;

use crate::budget::Step;
use crate::kernel::SamplingRate;

/// Denominator of the largest jitter: a fiftieth of the period, up or down. Due ticks are counted
/// by the jittered period, and stay that close to what the configured frequency calls for.
const JITTER_PARTS: u64 = 50;
/// Seconds until the period changes.
const PERIOD_AGE_MAX: u64 = 60;

/// Chooses the sampling rate of each window.
#[derive(Debug)]
pub(super) struct RateSelector {
    /// The step in force.
    step: Step,
    /// How long the rate has been in force, in nanoseconds.
    age: u64,
}

impl RateSelector {
    /// Starts at `step`, with the exact period of its frequency.
    pub fn new(step: Step) -> Self {
        Self { step, age: 0 }
    }

    /// Returns the rate of the next window if it must change, on each call until
    /// [`Self::applied`]. `window_ns`: length of the last window.
    pub fn next(&mut self, step: Step, window_ns: u64) -> Option<SamplingRate> {
        self.age += window_ns;
        let is_old = self.age >= PERIOD_AGE_MAX * 1_000_000_000 && step.frequency > 0;
        if step == self.step && !is_old {
            return None;
        }
        Some(jittered(step.rate()))
    }

    /// Records that the rate for `step` is in force.
    pub fn applied(&mut self, step: Step) {
        (self.step, self.age) = (step, 0);
    }
}

fn jittered(rate: SamplingRate) -> SamplingRate {
    let jitter = |period: NonZeroU64| {
        let most = period.get() / JITTER_PARTS;
        NonZeroU64::new(period.get() - most + fastrand::u64(0..=2 * most)).unwrap_or(period)
    };
    let period = rate.period.map(jitter);
    let full_period = match (rate.lowered, period) {
        (None, Some(period)) => period,
        _ => rate.full_period,
    };
    SamplingRate { period, full_period, ..rate }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(frequency: u32) -> Step {
        Step { number: 0, frequency, full_frequency: 20, user_frames: 0, lowered: None }
    }

    /// Ends a window and applies the proposed rate.
    fn next_applied(rates: &mut RateSelector, step: Step, window_ns: u64) -> Option<SamplingRate> {
        let rate = rates.next(step, window_ns)?;
        rates.applied(step);
        Some(rate)
    }

    #[test]
    fn period_changes_each_minute_by_at_most_a_fiftieth() {
        let (mut rates, window) = (RateSelector::new(step(20)), 10_000_000_000);
        let changes: Vec<_> =
            (0..60).filter_map(|_| next_applied(&mut rates, step(20), window)).collect();
        assert_eq!(changes.len(), 10);
        let periods: Vec<u64> =
            changes.iter().filter_map(|rate| Some(rate.period?.get())).collect();
        assert!(
            periods.iter().all(|period| (49_000_000..=51_000_000).contains(period)),
            "{periods:?}"
        );
        assert!(periods.windows(2).any(|pair| pair[0] != pair[1]), "{periods:?}");
    }

    #[test]
    fn step_change_applies_at_once_and_a_pause_lasts() {
        let mut rates = RateSelector::new(step(20));
        assert!(next_applied(&mut rates, step(10), 1).is_some());
        assert_eq!(next_applied(&mut rates, step(0), 1).map(|rate| rate.period), Some(None));
        assert_eq!(next_applied(&mut rates, step(0), u64::from(u32::MAX) * 1000), None);
    }

    #[test]
    fn rate_is_proposed_until_applied() {
        let mut rates = RateSelector::new(step(20));
        assert!(rates.next(step(10), 1).is_some());
        assert!(rates.next(step(10), 1).is_some());
        assert!(rates.next(step(20), 1).is_none());
    }
}
