//! How fast batches follow one another, and how long a sink that failed is left alone.

use std::time::Duration;

/// Bounds of time between attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Least time between two batches that were delivered. After an outage of an hour, 360
    /// windows of 10 s follow within a minute.
    pub between: Duration,
    /// Most bytes a second, on average over one batch: Pyroscope takes 4 MB of
    /// uncompressed profiles a second from a tenant, of which this is about a quarter.
    pub bytes_per_second: u64,
    /// Least and longest wait after a failure.
    pub wait_min: Duration,
    /// See above.
    pub wait_max: Duration,
    /// Longest wait that a server can ask for.
    pub asked_max: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            between: Duration::from_millis(100),
            bytes_per_second: 1 << 20,
            wait_min: Duration::from_millis(500),
            wait_max: Duration::from_secs(5 * 60),
            asked_max: Duration::from_secs(15 * 60),
        }
    }
}

impl Pace {
    /// Time to rest after a batch that took so many bytes.
    pub fn rest(&self, bytes: u64) -> Duration {
        let ms = bytes.saturating_mul(1_000) / self.bytes_per_second.max(1);
        self.between.max(Duration::from_millis(ms))
    }
}

/// Waits that grow from failure to failure.
#[derive(Debug)]
pub struct BackOff {
    pace: Pace,
    /// Failures since the last success.
    failures: u32,
    random: fastrand::Rng,
}

impl BackOff {
    /// Nothing has failed yet. `random`: where the jitter comes from.
    pub fn new(pace: Pace, random: fastrand::Rng) -> Self {
        Self { pace, failures: 0, random }
    }

    /// Something went well: the next wait is a short one.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// How long to wait after another failure.
    ///
    /// Doubles each time, at random between the half and the whole, so that a fleet does not
    /// come back all at once. `asked`: what the server asked for, which counts within bounds,
    /// and at random up to a fifth more, if that is longer: one that always asks for nothing, or
    /// whose date has passed, is not asked twice a second for ever.
    pub fn next(&mut self, asked: Option<Duration>) -> Duration {
        let Pace { wait_min, wait_max, asked_max, .. } = self.pace;
        self.failures = self.failures.saturating_add(1);
        let doubled = wait_min.saturating_mul(1 << self.failures.min(30));
        let own = doubled.min(wait_max).mul_f64(1.0 - self.random.f64() / 2.0).max(wait_min);
        let asked = asked.unwrap_or_default().min(asked_max);
        own.max(asked.mul_f64(1.0 + self.random.f64() / 5.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn back_off(seed: u64) -> BackOff {
        BackOff::new(Pace::default(), fastrand::Rng::with_seed(seed))
    }

    #[test]
    fn waits_double_from_half_a_second_to_five_minutes() {
        for seed in 0..100 {
            let mut back_off = back_off(seed);
            let mut ceiling = SECOND;
            for _ in 0..40 {
                let wait = back_off.next(None);
                assert!(wait >= ceiling / 2 && wait <= ceiling, "{wait:?} of {ceiling:?}");
                ceiling = (2 * ceiling).min(300 * SECOND);
            }
            back_off.reset();
            assert!(back_off.next(None) <= SECOND);
        }
    }

    #[test]
    fn two_agents_wait_differently() {
        assert_ne!(back_off(1).next(None), back_off(2).next(None));
    }

    #[test]
    fn what_a_server_asks_for_counts_within_bounds() {
        for (asked, least) in [(1, 1.0), (90, 90.0), (900, 900.0), (86_400, 900.0)] {
            let wait = back_off(asked).next(Some(Duration::from_secs(asked))).as_secs_f64();
            assert!(wait >= least && wait <= 1.2 * least, "{wait} of {asked}");
        }
    }

    #[test]
    fn a_server_that_always_asks_for_little_is_left_alone_for_longer_and_longer() {
        for asked in [Duration::ZERO, Duration::from_millis(1), SECOND] {
            let mut back_off = back_off(1);
            let first = back_off.next(Some(asked));
            assert!(first <= SECOND.mul_f64(1.2), "{first:?}");
            for _ in 0..8 {
                back_off.next(Some(asked));
            }
            let tenth = back_off.next(Some(asked));
            assert!(tenth >= 150 * SECOND, "{tenth:?}");
        }
    }

    #[test]
    fn batches_keep_their_distance_by_number_and_by_bytes() {
        let pace = Pace::default();
        assert_eq!(pace.rest(0), Duration::from_millis(100));
        assert_eq!(pace.rest(1 << 20), SECOND);
        assert!(pace.rest(u64::MAX) > 1_000 * SECOND);
    }
}
