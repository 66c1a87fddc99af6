//! The CPU time that a cause may use, set by one thread and read by another.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// CPU seconds per second that a cause of cost may use. The budget sets it while the agent runs;
/// the cause reads it when it is about to work.
#[derive(Clone, Debug)]
pub struct SharedRate(Arc<AtomicU64>);

impl SharedRate {
    /// Creates a rate without a limit.
    pub fn unlimited() -> Self {
        Self(Arc::new(AtomicU64::new(f64::INFINITY.to_bits())))
    }

    /// Sets the rate, more than 0.
    pub fn set(&self, rate: f64) {
        self.0.store(rate.to_bits(), Ordering::Relaxed);
    }

    /// Returns the rate.
    pub fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_have_the_same_rate() {
        let rate = SharedRate::unlimited();
        let copy = rate.clone();
        assert_eq!(copy.get(), f64::INFINITY);
        rate.set(0.01);
        assert_eq!(copy.get(), 0.01);
    }
}
