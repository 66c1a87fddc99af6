//! The rate limit of the server, observed here.
//!
//! Pyroscope limits the uncompressed bytes of a tenant with a token bucket and answers 429 when it
//! is empty. Our bucket is filled like the server's, but not while a request is in flight: the
//! server counts a request when it arrives, and a slow one would bring the next too close to it.

use std::time::Duration;

use tokio::time::{Instant, sleep};

/// A token bucket of bytes.
#[derive(Debug)]
pub(super) struct RateLimiter {
    bytes_per_second: f64,
    burst_bytes: f64,
    level: f64,
    since: Instant,
}

impl RateLimiter {
    /// Returns a full bucket.
    pub(super) fn new(bytes_per_second: u64, burst_bytes: u64) -> Self {
        let burst_bytes = burst_bytes.max(1) as f64;
        Self {
            bytes_per_second: bytes_per_second.max(1) as f64,
            burst_bytes,
            level: burst_bytes,
            since: Instant::now(),
        }
    }

    /// Waits until this many bytes may be sent, and takes them. More than a burst waits for a full
    /// bucket.
    pub(super) async fn take(&mut self, bytes: usize) {
        self.fill();
        let missing = (bytes as f64).min(self.burst_bytes) - self.level;
        if missing > 0.0 {
            sleep(Duration::from_secs_f64(missing / self.bytes_per_second)).await;
            self.fill();
        }
        self.level -= bytes as f64;
    }

    /// A response was received: the time in flight does not fill the bucket.
    pub(super) fn response_received(&mut self) {
        self.since = Instant::now();
    }

    /// Empties the bucket, because the server's is empty.
    pub(super) fn drain(&mut self) {
        self.level = self.level.min(0.0);
        self.since = Instant::now();
    }

    fn fill(&mut self) {
        let now = Instant::now();
        let earned = (now - self.since).as_secs_f64() * self.bytes_per_second;
        self.level = (self.level + earned).min(self.burst_bytes);
        self.since = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_sent_at_once_and_the_rest_at_the_rate() {
        let mut limiter = RateLimiter::new(4_000_000, 2_000_000);
        let start = Instant::now();
        limiter.take(2_000_000).await;
        assert_eq!(start.elapsed(), Duration::ZERO);
        for _ in 0..4 {
            limiter.take(1_000_000).await;
        }
        assert!(start.elapsed() >= Duration::from_millis(999), "{:?}", start.elapsed());
        assert!(start.elapsed() <= Duration::from_millis(1_010), "{:?}", start.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn time_in_flight_does_not_fill_the_bucket() {
        let mut limiter = RateLimiter::new(1_000, 1_000);
        limiter.take(1_000).await;
        tokio::time::advance(Duration::from_secs(5)).await;
        limiter.response_received();
        let start = Instant::now();
        limiter.take(1_000).await;
        assert!(start.elapsed() >= Duration::from_millis(999), "{:?}", start.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn more_than_a_burst_is_sent_too() {
        let mut limiter = RateLimiter::new(1_000, 1_000);
        let start = Instant::now();
        limiter.take(3_000).await;
        limiter.take(1_000).await;
        assert!(start.elapsed() >= Duration::from_millis(2_999), "{:?}", start.elapsed());
    }
}
