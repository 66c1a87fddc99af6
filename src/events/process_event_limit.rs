//! Limits the CPU time that process events take. A program can cause a million of them in a second.

use std::time::{Duration, Instant};

use crate::limits::{SharedRate, TimeShare};

/// The share of CPU time for process events: to read them, and to apply them.
///
/// While it is used up, events are skipped: they are counted, and the processes that they are of
/// are stale until they are read from /proc, when they are sampled.
pub struct ProcessEventLimit {
    share: TimeShare,
    rate: SharedRate,
    /// Returns the CPU time for which events have been read and applied so far.
    used: Box<dyn Fn() -> Duration + Send>,
    charged: Duration,
}

impl ProcessEventLimit {
    /// Creates a full share. `used`: returns the CPU time that process events have taken so far.
    pub fn new(rate: SharedRate, used: impl Fn() -> Duration + Send + 'static) -> Self {
        let (share, charged) = (TimeShare::new(rate.get(), Instant::now()), Duration::ZERO);
        Self { share, rate, used: Box::new(used), charged }
    }

    /// Charges what process events have taken since the last call. Returns whether the share is
    /// used up.
    pub(super) fn is_exceeded(&mut self) -> bool {
        let (rate, now) = (self.rate.get(), Instant::now());
        let used = (self.used)();
        let since = used.saturating_sub(std::mem::replace(&mut self.charged, used));
        if rate.is_infinite() {
            return false;
        }
        self.share.set_rate(rate, now);
        self.share.charge(since, now);
        !self.share.has_credit(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[test]
    fn time_of_process_events_is_charged_and_the_rate_can_change() {
        let used = Arc::new(AtomicU64::new(0));
        let (shared, rate) = (Arc::clone(&used), SharedRate::unlimited());
        rate.set(0.001);
        let used_time = move || Duration::from_millis(shared.load(Ordering::Relaxed));
        let mut limit = ProcessEventLimit::new(rate.clone(), used_time);
        assert!(!limit.is_exceeded());
        used.store(15, Ordering::Relaxed);
        assert!(limit.is_exceeded(), "15 ms of 10 ms of credit");
        rate.set(f64::INFINITY);
        assert!(!limit.is_exceeded());
    }
}
