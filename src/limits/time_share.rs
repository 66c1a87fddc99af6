//! The CPU time or wall time that one cause of overhead may use: a token bucket.

use std::time::{Duration, Instant};

/// At most the share of this time is saved while it is not used.
const CREDIT_MAX: Duration = Duration::from_secs(10);
/// At most the share of this time is owed: a cause that used too much waits no longer than this. A
/// piece of work that takes longer is not paid off in full.
const DEBT_MAX: Duration = Duration::from_secs(40);

/// The time that one cause of overhead may use: CPU time, or wall time of a thread.
///
/// The owner asks [`TimeShare::has_credit`] before it begins a piece of work, and charges what the
/// work took afterwards. So a share is exceeded by one piece at most, which is paid off later.
#[derive(Clone, Debug)]
pub struct TimeShare {
    /// Seconds per second. Infinite without a limit.
    rate: f64,
    /// Seconds that may be used now; negative: owed.
    credit: f64,
    /// When `credit` was computed.
    at: Instant,
}

impl TimeShare {
    /// Creates a full share. `rate`: seconds per second, more than 0.
    pub fn new(rate: f64, now: Instant) -> Self {
        Self { rate, credit: rate * CREDIT_MAX.as_secs_f64(), at: now }
    }

    /// Creates a share without a limit.
    pub fn unlimited() -> Self {
        Self::new(f64::INFINITY, Instant::now())
    }

    /// Changes the rate. What is saved or owed stays, within the bounds of the new rate.
    pub fn set_rate(&mut self, rate: f64, now: Instant) {
        self.refill(now);
        self.rate = rate;
        self.bound();
    }

    /// Takes time that was used.
    pub fn charge(&mut self, used: Duration, now: Instant) {
        self.refill(now);
        self.credit -= used.as_secs_f64();
        self.bound();
    }

    /// Whether time may be used now.
    pub fn has_credit(&mut self, now: Instant) -> bool {
        self.refill(now);
        self.credit > 0.0
    }

    /// Returns the time until some may be used again, if nothing is charged until then.
    pub fn until_credit(&mut self, now: Instant) -> Duration {
        if self.has_credit(now) {
            return Duration::ZERO;
        }
        Duration::from_secs_f64(-self.credit / self.rate) + Duration::from_millis(1)
    }

    fn refill(&mut self, now: Instant) {
        if self.rate.is_finite() {
            self.credit += self.rate * now.saturating_duration_since(self.at).as_secs_f64();
        }
        self.at = self.at.max(now);
        self.bound();
    }

    fn bound(&mut self) {
        let [owed, saved] = [DEBT_MAX, CREDIT_MAX].map(|time| self.rate * time.as_secs_f64());
        // The credit of a share without a limit may be infinite, and a limit set later bounds it.
        self.credit = self.credit.clamp(-owed, saved);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One hundredth of a CPU: 0.1 s of credit.
    fn share() -> (TimeShare, Instant) {
        let now = Instant::now();
        (TimeShare::new(0.01, now), now)
    }

    #[test]
    fn share_that_is_spent_has_credit_again_after_its_time() {
        let (mut share, now) = share();
        assert!(share.has_credit(now));
        share.charge(Duration::from_millis(150), now); // 0.05 s are owed, 5 s of the share
        let wait = share.until_credit(now + Duration::from_secs(2));
        assert!((2990..3010).contains(&wait.as_millis()), "{wait:?}");
        assert!(!share.has_credit(now + Duration::from_millis(4990)));
        assert!(share.has_credit(now + Duration::from_secs(2) + wait));
    }

    #[test]
    fn debt_and_credit_are_bounded() {
        let (mut share, now) = share();
        share.charge(Duration::from_secs(3600), now);
        assert!(share.until_credit(now) <= DEBT_MAX + Duration::from_millis(1));
        let later = now + Duration::from_secs(3600);
        share.charge(Duration::from_millis(101), later);
        assert!(!share.has_credit(later), "an hour of rest saves no more than the bound");
    }

    #[test]
    fn share_without_a_limit_always_has_credit_and_can_get_one() {
        let mut share = TimeShare::unlimited();
        let now = Instant::now();
        share.charge(Duration::from_secs(3600), now);
        assert!(share.has_credit(now) && share.until_credit(now).is_zero());
        share.set_rate(0.01, now);
        share.charge(Duration::from_millis(101), now);
        assert!(!share.has_credit(now));
    }
}
