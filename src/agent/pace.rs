//! How the next window is sampled: the step of the budget, and a period that is never quite the same.
//!
//! What does something every 100 ms is always or never seen by a clock that ticks every 50 ms. So the period changes by up
//! to a tenth, each minute, and each CPU has another phase. A window has one period, and its profile names it.

use std::num::NonZeroU64;

use crate::budget::Step;
use crate::kernel::SamplingRate;

/// The period is changed by up to this part, up or down.
const JITTER_PARTS: u64 = 10;
/// Windows with the same period, in seconds.
const SAME_SECONDS: u64 = 60;

/// Decides on the pace of windows.
#[derive(Debug)]
pub(super) struct Pacer {
    /// The step that is in force.
    step: Step,
    /// Nanoseconds that the pace was in force for.
    age: u64,
}

impl Pacer {
    /// Begins at a step, with the very period that its frequency says.
    pub fn new(step: Step) -> Self {
        Self { step, age: 0 }
    }

    /// Gives the pace of the next window if it is another, until that is [`Self::taken`]. `window_ns`: how long the last one took.
    pub fn next(&mut self, step: Step, window_ns: u64) -> Option<SamplingRate> {
        self.age += window_ns;
        let is_old = self.age >= SAME_SECONDS * 1_000_000_000 && step.frequency > 0;
        if step == self.step && !is_old {
            return None;
        }
        Some(jittered(step.pace()))
    }

    /// Learns that a new pace is in force.
    pub fn taken(&mut self, step: Step) {
        (self.step, self.age) = (step, 0);
    }
}

fn jittered(pace: SamplingRate) -> SamplingRate {
    let jitter = |period: NonZeroU64| {
        let most = period.get() / JITTER_PARTS;
        NonZeroU64::new(period.get() - most + fastrand::u64(0..=2 * most)).unwrap_or(period)
    };
    SamplingRate { period: pace.period.map(jitter), ..pace }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(frequency: u32) -> Step {
        Step { number: 0, frequency, user_frames: 0 }
    }

    /// A window later, which is sampled as is proposed.
    fn after(pacer: &mut Pacer, step: Step, window_ns: u64) -> Option<SamplingRate> {
        let pace = pacer.next(step, window_ns)?;
        pacer.taken(step);
        Some(pace)
    }

    #[test]
    fn the_period_changes_each_minute_by_a_tenth_at_most() {
        let (mut pacer, window) = (Pacer::new(step(20)), 10_000_000_000);
        let paces: Vec<_> = (0..60).filter_map(|_| after(&mut pacer, step(20), window)).collect();
        assert_eq!(paces.len(), 10);
        let periods: Vec<u64> = paces.iter().filter_map(|pace| Some(pace.period?.get())).collect();
        assert!(
            periods.iter().all(|period| (45_000_000..=55_000_000).contains(period)),
            "{periods:?}"
        );
        assert!(periods.windows(2).any(|pair| pair[0] != pair[1]), "{periods:?}");
    }

    #[test]
    fn another_step_counts_at_once_and_a_pause_stays_one() {
        let mut pacer = Pacer::new(step(20));
        assert!(after(&mut pacer, step(10), 1).is_some());
        assert_eq!(after(&mut pacer, step(0), 1).map(|pace| pace.period), Some(None));
        assert_eq!(after(&mut pacer, step(0), u64::from(u32::MAX) * 1000), None);
    }

    #[test]
    fn what_was_not_taken_is_proposed_again() {
        let mut pacer = Pacer::new(step(20));
        assert!(pacer.next(step(10), 1).is_some());
        assert!(pacer.next(step(10), 1).is_some());
        assert!(pacer.next(step(20), 1).is_none());
    }
}
