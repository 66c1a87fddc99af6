//! The log of CPUs that come and go: one line for the first change, then one a minute at most.

use std::time::{Duration, Instant};

/// Interval between two lines.
const INTERVAL: Duration = Duration::from_secs(60);

/// Changes that are not logged yet.
#[derive(Debug, Default)]
pub(super) struct CpuLog {
    came_online: u64,
    went_offline: u64,
    /// Why a CPU has no sampling clock: the last error.
    error: Option<String>,
    written: Option<Instant>,
}

impl CpuLog {
    /// Adds CPUs that went offline.
    pub fn went_offline(&mut self, cpus: usize) {
        self.went_offline += cpus as u64;
    }

    /// Adds a CPU that came online and is sampled.
    pub fn came_online(&mut self) {
        self.came_online += 1;
    }

    /// Adds an online CPU that is not sampled.
    pub fn has_no_clock(&mut self, error: String) {
        self.error = Some(error);
    }

    /// Logs the changes since the last line, unless that is too recent.
    pub fn write(&mut self) {
        if !self.is_due(Instant::now()) {
            return;
        }
        let Self { came_online, went_offline, error, .. } = std::mem::take(self);
        self.written = Some(Instant::now());
        match error {
            None => tracing::info!(came_online, went_offline, "CPUs came online or went offline"),
            Some(error) => tracing::warn!(
                came_online,
                went_offline,
                error,
                "an online CPU has no sampling clock, its time is not sampled"
            ),
        }
    }

    fn is_due(&self, now: Instant) -> bool {
        let has_changes = self.came_online + self.went_offline > 0 || self.error.is_some();
        has_changes && self.written.is_none_or(|written| now >= written + INTERVAL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_of_a_minute_make_one_line() {
        let (mut log, start) = (CpuLog::default(), Instant::now());
        assert!(!log.is_due(start));
        log.went_offline(1);
        assert!(log.is_due(start));
        log.write();
        assert!(!log.is_due(start + 2 * INTERVAL), "there is nothing to log");
        log.came_online();
        assert!(!log.is_due(start + INTERVAL / 2));
        assert!(log.is_due(Instant::now() + INTERVAL));
    }
}
