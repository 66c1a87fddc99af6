//! The priority of the loader thread.

use std::time::{Duration, Instant};

use crate::events::cpu_time;

/// Niceness of the thread after it has used up its burst.
const NICE: i32 = 10;
/// CPU time that the thread may use at normal priority in one burst.
const BURST_MAX: Duration = Duration::from_millis(500);
/// The thread regains CPU time at normal priority as time passes: elapsed time divided by this.
const REFILL_DIVISOR: u32 = 5;

/// The priority of the loader thread: normal for short bursts of CPU time, low beyond them.
pub(super) struct BurstPriority {
    /// CPU time left at normal priority.
    left: Duration,
    /// When `left` was last computed, and the CPU time used by then.
    measured: (Instant, Duration),
}

impl BurstPriority {
    pub fn new() -> Self {
        Self { left: BURST_MAX, measured: (Instant::now(), cpu_time()) }
    }

    /// Sets the priority that the recent work allows. Where it cannot be raised again it stays
    /// low.
    pub fn adapt(&mut self) {
        let now = (Instant::now(), cpu_time());
        let (before, used) = std::mem::replace(&mut self.measured, now);
        let refill = (now.0 - before) / REFILL_DIVISOR;
        self.left = (self.left + refill).saturating_sub(now.1 - used).min(BURST_MAX);
        let nice = if self.left.is_zero() { NICE } else { 0 };
        let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), nice);
    }
}
