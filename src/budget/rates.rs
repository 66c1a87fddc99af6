//! The CPU time that each cause may use now: its share, and what is left of the budget.

use super::cause::{Cause, CpuByCause};

/// A cause may use this much, however small its share is, in CPU seconds per second: one that is
/// never served would look like a failure.
const RATE_MIN: f64 = 2e-4;

/// What each cause may use, in CPU seconds per second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CauseRates([f64; Cause::ALL.len()]);

impl CauseRates {
    /// Lends the whole budget to each cause, since nothing is used yet. `allowed`: CPU seconds per
    /// second that the agent may use.
    pub fn at_start(allowed: f64) -> Self {
        Self::after(allowed, &CpuByCause::default(), 1.0)
    }

    /// Divides the budget after an interval of so many `seconds`: what was left of it may be
    /// borrowed by each cause.
    pub fn after(allowed: f64, used: &CpuByCause, seconds: f64) -> Self {
        let rate = |cause: Cause| {
            let others = used.total().saturating_sub(used[cause]).as_secs_f64();
            let left = allowed - others / seconds.max(1e-3);
            left.max(cause.share() * allowed).max(RATE_MIN)
        };
        Self(Cause::ALL.map(rate))
    }

    /// Returns the rate of a cause.
    pub fn of(&self, cause: Cause) -> f64 {
        self.0[cause as usize]
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn unused_budget_is_lent_and_a_share_is_kept() {
        let rate = |rates: CauseRates, cause| (rates.of(cause) * 1e6).round();
        let start = CauseRates::at_start(0.02);
        assert_eq!([Cause::Http, Cause::Tables].map(|c| rate(start, c)), [20_000.0; 2]);
        let mut used = CpuByCause::default();
        used[Cause::Names] = Duration::from_millis(150);
        let busy = CauseRates::after(0.02, &used, 10.0);
        assert_eq!((rate(busy, Cause::Http), rate(busy, Cause::Names)), (5_000.0, 20_000.0));
        used[Cause::Sampling] = Duration::from_secs(5);
        let exceeded = CauseRates::after(0.02, &used, 10.0);
        assert_eq!(rate(exceeded, Cause::Http), 1_000.0);
        assert_eq!(rate(exceeded, Cause::Tables), 3_000.0);
        let tiny = CauseRates::after(0.0002, &used, 10.0);
        assert_eq!(rate(tiny, Cause::Http), 200.0, "the least rate");
    }
}
