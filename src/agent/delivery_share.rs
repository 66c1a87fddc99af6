//! The CPU time of delivery: its share of the budget, and what the other causes leave.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use upload::CpuAllowance;

use crate::limits::TimeShare;

/// The share of the threads of all sinks and of debug info.
#[derive(Debug)]
pub(super) struct DeliveryShare(Mutex<TimeShare>);

impl DeliveryShare {
    /// `rate`: CPU seconds per second.
    pub fn new(rate: f64) -> Self {
        Self(Mutex::new(TimeShare::new(rate, Instant::now())))
    }

    /// Changes the CPU seconds per second.
    pub fn set_rate(&self, rate: f64) {
        self.share().set_rate(rate, Instant::now());
    }

    fn share(&self) -> MutexGuard<'_, TimeShare> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CpuAllowance for DeliveryShare {
    fn charge(&self, used: Duration) {
        self.share().charge(used, Instant::now());
    }

    fn until_credit(&self) -> Duration {
        self.share().until_credit(Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spent_share_has_credit_again_at_a_higher_rate() {
        let share = DeliveryShare::new(0.001);
        assert!(share.until_credit().is_zero());
        share.charge(Duration::from_secs(1));
        assert!(share.until_credit() > Duration::from_secs(9), "what is owed is bounded");
        share.set_rate(1.0);
        assert!(share.until_credit() < Duration::from_secs(1));
    }
}
