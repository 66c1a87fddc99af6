//! The CPU time of the loader: a rate for all files, of which one owner has half at most.

use std::time::{Duration, Instant};

use crate::limits::{Owner, OwnerTimeShares, SharedRate};

/// Time whose CPU time may be used at once after the start, when all tables are new.
const CREDIT_AT_START: Duration = Duration::from_secs(60);

/// What the loader may use, and has used.
pub(super) struct LoaderCpu {
    rate: SharedRate,
    shares: OwnerTimeShares,
    /// CPU time that is left of the start's; `None` while there is no limit.
    left_at_start: Option<Duration>,
}

impl LoaderCpu {
    /// `rate`: CPU seconds per second, which another thread may change at any time.
    pub fn new(rate: SharedRate) -> Self {
        Self { rate, shares: OwnerTimeShares::unlimited(), left_at_start: None }
    }

    /// Whether files of an owner may be read now.
    pub fn has_credit(&mut self, owner: Owner) -> bool {
        let rate = self.rate.get();
        if !rate.is_finite() {
            return true;
        }
        let left = self.left_at_start.get_or_insert_with(|| CREDIT_AT_START.mul_f64(rate));
        if !left.is_zero() {
            return true;
        }
        let now = self.apply_rate();
        self.shares.has_credit(owner, now)
    }

    /// Takes CPU time that was used for a file of an owner.
    pub fn charge(&mut self, owner: Owner, used: Duration) {
        let Some(left) = &mut self.left_at_start else { return };
        let free = used.min(*left);
        *left -= free;
        if used > free {
            let now = self.apply_rate();
            self.shares.charge(owner, used - free, now);
        }
    }

    /// Applies the rate as it is now. Returns the time.
    fn apply_rate(&mut self) -> Instant {
        let now = Instant::now();
        self.shares.set_rate(self.rate.get(), now);
        now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOG: Owner = Owner::User(1000);

    #[test]
    fn one_owner_cannot_use_the_cpu_time_of_another() {
        let rate = SharedRate::unlimited();
        let mut cpu = LoaderCpu::new(rate.clone());
        cpu.charge(HOG, Duration::from_secs(3600));
        assert!(cpu.has_credit(HOG), "there is no limit yet");
        rate.set(1e-3);
        assert!(cpu.has_credit(HOG));
        cpu.charge(HOG, Duration::from_millis(59)); // of the start's 60
        assert!(cpu.has_credit(HOG));
        cpu.charge(HOG, Duration::from_millis(30));
        assert!(!cpu.has_credit(HOG));
        assert!(cpu.has_credit(Owner::SYSTEM));
    }
}
