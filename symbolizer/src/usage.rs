//! What a process has used: of this one, and of the workers together.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// CPU time and memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// CPU time, user and system.
    pub cpu: Duration,
    /// The most memory that a process had, in KiB.
    pub peak_rss_kib: u64,
}

impl Usage {
    /// Measures the calling process, its children not counted.
    pub fn own() -> Self {
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        let cpu = Duration::new(cpu.tv_sec as u64, cpu.tv_nsec as u32);
        Self { cpu, peak_rss_kib: own_kib("VmHWM:") }
    }

    /// Adds the time, and takes the larger memory: for processes that ran one after the other.
    pub fn and(self, other: Self) -> Self {
        Self { cpu: self.cpu + other.cpu, peak_rss_kib: self.peak_rss_kib.max(other.peak_rss_kib) }
    }
}

/// Memory of the calling process, in KiB.
pub(crate) fn resident_kib() -> u64 {
    own_kib("VmRSS:")
}

/// Reads a line of proc_pid_status(5), which counts in KiB; 0 when it is not there.
fn own_kib(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
