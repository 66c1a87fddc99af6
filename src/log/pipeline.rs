//! What the threads that log share with the writer thread.

use std::time::Instant;

use super::line::LineStyle;
use super::queue::Queue;
use super::throttle::Throttle;

/// What the threads that log share with the writer.
pub(super) struct LogPipeline {
    pub style: LineStyle,
    pub throttle: Throttle,
    pub queue: Queue,
}

impl LogPipeline {
    pub fn new(style: LineStyle) -> Self {
        Self { style, throttle: Throttle::default(), queue: Queue::default() }
    }

    /// Logs the counts of repeats that were left out for a minute, or all of them without `now`.
    pub fn log_suppressed(&self, now: Option<Instant>) {
        for event in self.throttle.take_suppressed(now) {
            self.queue.push(self.style.format(&event), self.style);
        }
    }
}
