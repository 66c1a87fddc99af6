//! Pacing of batches, and backoff after failures.

use std::time::Duration;

/// Bounds of the time between two attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pacing {
    /// Least time between two delivered batches. After an outage of an hour, 360 windows of 10 s
    /// follow within a minute.
    pub interval_min: Duration,
    /// Most bytes a second, averaged over one batch: Pyroscope takes 4 MB of uncompressed profiles
    /// a second from a tenant, and this is about a quarter of it.
    pub bytes_per_second: u64,
    /// Shortest backoff.
    pub backoff_min: Duration,
    /// Longest backoff.
    pub backoff_max: Duration,
    /// Longest backoff that a server can ask for.
    pub retry_after_max: Duration,
    /// How long the start waits for another agent to release spool and store: one that stops needs
    /// five seconds.
    pub lock_wait: Duration,
    /// How long a batch waits for CPU time at most: a window of the default length, so that a sink
    /// keeps pace however small the share of delivery is.
    pub cpu_wait_max: Duration,
    /// The same for a directory of this machine: exports read it, and a batch costs milliseconds.
    pub cpu_wait_max_local: Duration,
}

impl Default for Pacing {
    fn default() -> Self {
        Self {
            interval_min: Duration::from_millis(100),
            bytes_per_second: 1 << 20,
            backoff_min: Duration::from_millis(500),
            backoff_max: Duration::from_secs(5 * 60),
            retry_after_max: Duration::from_secs(15 * 60),
            lock_wait: Duration::from_secs(6),
            cpu_wait_max: Duration::from_secs(10),
            cpu_wait_max_local: Duration::from_secs(1),
        }
    }
}

impl Pacing {
    /// Returns the pause after a batch of this many bytes.
    pub fn pause_after(&self, bytes: u64) -> Duration {
        let ms = bytes.saturating_mul(1_000) / self.bytes_per_second.max(1);
        self.interval_min.max(Duration::from_millis(ms))
    }
}

/// Exponential backoff with jitter.
#[derive(Debug)]
pub struct Backoff {
    pacing: Pacing,
    /// Failures since the last success.
    failures: u32,
    random: fastrand::Rng,
}

impl Backoff {
    /// Creates a backoff before the first failure. `random`: source of the jitter.
    pub fn new(pacing: Pacing, random: fastrand::Rng) -> Self {
        Self { pacing, failures: 0, random }
    }

    /// Starts again at the shortest backoff, after a success.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// Returns the time to wait after another failure.
    ///
    /// It doubles with each failure and is drawn from its upper half, so that a fleet does not
    /// return at one moment. `retry_after`: what the server asks for. That value, within its bound
    /// and with up to a fifth of jitter, applies if it is longer: a server that always asks for
    /// nothing, or whose date has passed, must not receive two requests a second for ever.
    pub fn next(&mut self, retry_after: Option<Duration>) -> Duration {
        let Pacing { backoff_min, backoff_max, retry_after_max, .. } = self.pacing;
        self.failures = self.failures.saturating_add(1);
        let doubled = backoff_min.saturating_mul(1 << self.failures.min(30));
        let jitter = 1.0 - self.random.f64() / 2.0;
        let backoff = doubled.min(backoff_max).mul_f64(jitter).max(backoff_min);
        let retry_after = retry_after.unwrap_or_default().min(retry_after_max);
        backoff.max(retry_after.mul_f64(1.0 + self.random.f64() / 5.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn backoff(seed: u64) -> Backoff {
        Backoff::new(Pacing::default(), fastrand::Rng::with_seed(seed))
    }

    #[test]
    fn backoff_doubles_from_half_a_second_to_five_minutes() {
        for seed in 0..100 {
            let mut backoff = backoff(seed);
            let mut ceiling = SECOND;
            for _ in 0..40 {
                let wait = backoff.next(None);
                assert!(wait >= ceiling / 2 && wait <= ceiling, "{wait:?} of {ceiling:?}");
                ceiling = (2 * ceiling).min(300 * SECOND);
            }
            backoff.reset();
            assert!(backoff.next(None) <= SECOND);
        }
    }

    #[test]
    fn two_agents_back_off_differently() {
        assert_ne!(backoff(1).next(None), backoff(2).next(None));
    }

    #[test]
    fn retry_after_is_honoured_within_bounds() {
        for (asked, least) in [(1, 1.0), (90, 90.0), (900, 900.0), (86_400, 900.0)] {
            let wait = backoff(asked).next(Some(Duration::from_secs(asked))).as_secs_f64();
            assert!(wait >= least && wait <= 1.2 * least, "{wait} of {asked}");
        }
    }

    #[test]
    fn a_short_retry_after_does_not_limit_backoff() {
        for asked in [Duration::ZERO, Duration::from_millis(1), SECOND] {
            let mut backoff = backoff(1);
            let first = backoff.next(Some(asked));
            assert!(first <= SECOND.mul_f64(1.2), "{first:?}");
            for _ in 0..8 {
                backoff.next(Some(asked));
            }
            let tenth = backoff.next(Some(asked));
            assert!(tenth >= 150 * SECOND, "{tenth:?}");
        }
    }

    #[test]
    fn pauses_limit_batches_and_bytes() {
        let pacing = Pacing::default();
        assert_eq!(pacing.pause_after(0), Duration::from_millis(100));
        assert_eq!(pacing.pause_after(1 << 20), SECOND);
        assert!(pacing.pause_after(u64::MAX) > 1_000 * SECOND);
    }
}
