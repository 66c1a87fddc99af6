//! Sends no faster than the server takes.
//!
//! Pyroscope counts the uncompressed bytes of a tenant with a token bucket, and answers 429 when it is
//! empty. Ours is filled as theirs is, but not while a request is under way: theirs counts a request
//! when it arrives, and one that was long on its way would bring the next too close to it.

use std::time::Duration;

use tokio::time::{Instant, sleep};

/// A token bucket of bytes.
#[derive(Debug)]
pub(super) struct Pace {
    bytes_per_second: f64,
    burst_bytes: f64,
    level: f64,
    since: Instant,
}

impl Pace {
    /// A full bucket.
    pub(super) fn new(bytes_per_second: u64, burst_bytes: u64) -> Self {
        let burst_bytes = burst_bytes.max(1) as f64;
        Self {
            bytes_per_second: bytes_per_second.max(1) as f64,
            burst_bytes,
            level: burst_bytes,
            since: Instant::now(),
        }
    }

    /// Waits until this many bytes may be sent, and takes them. More than a burst waits for a full bucket.
    pub(super) async fn take(&mut self, bytes: usize) {
        self.fill();
        let missing = (bytes as f64).min(self.burst_bytes) - self.level;
        if missing > 0.0 {
            sleep(Duration::from_secs_f64(missing / self.bytes_per_second)).await;
            self.fill();
        }
        self.level -= bytes as f64;
    }

    /// A request was answered: the time that it took fills nothing.
    pub(super) fn answered(&mut self) {
        self.since = Instant::now();
    }

    /// The server's bucket is empty, so ours is.
    pub(super) fn empty(&mut self) {
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
    async fn a_burst_goes_at_once_and_the_rest_at_the_rate() {
        let mut pace = Pace::new(4_000_000, 2_000_000);
        let start = Instant::now();
        pace.take(2_000_000).await;
        assert_eq!(start.elapsed(), Duration::ZERO);
        for _ in 0..4 {
            pace.take(1_000_000).await;
        }
        assert!(start.elapsed() >= Duration::from_millis(999), "{:?}", start.elapsed());
        assert!(start.elapsed() <= Duration::from_millis(1_010), "{:?}", start.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn time_under_way_fills_nothing() {
        let mut pace = Pace::new(1_000, 1_000);
        pace.take(1_000).await;
        tokio::time::advance(Duration::from_secs(5)).await;
        pace.answered();
        let start = Instant::now();
        pace.take(1_000).await;
        assert!(start.elapsed() >= Duration::from_millis(999), "{:?}", start.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn more_than_a_burst_is_sent_all_the_same() {
        let mut pace = Pace::new(1_000, 1_000);
        let start = Instant::now();
        pace.take(3_000).await;
        pace.take(1_000).await;
        assert!(start.elapsed() >= Duration::from_millis(2_999), "{:?}", start.elapsed());
    }
}
