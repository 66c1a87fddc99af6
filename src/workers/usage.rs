//! What processes have used: CPU time and memory.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::procfs;

/// CPU time and peak memory of a process, or of several that ran one after the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// CPU time, user and system.
    pub cpu: Duration,
    /// The most resident memory that one process had, in KiB.
    pub peak_rss_kib: u64,
}

impl Usage {
    /// Measures the calling process, without its children.
    pub fn own() -> Self {
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        let cpu = Duration::new(cpu.tv_sec as u64, cpu.tv_nsec as u32);
        Self { cpu, peak_rss_kib: procfs::own_status().peak_rss_kib }
    }

    /// Reads what a process has used so far; all is 0 when it does not exist.
    pub fn of(pid: u32) -> Self {
        let cpu = procfs::stat(pid).map_or(Duration::ZERO, |stat| stat.cpu);
        Self { cpu, peak_rss_kib: procfs::status(pid).peak_rss_kib }
    }

    /// Combines two processes that ran one after the other: the sum of CPU time, the larger memory.
    pub fn and(self, other: Self) -> Self {
        Self { cpu: self.cpu + other.cpu, peak_rss_kib: self.peak_rss_kib.max(other.peak_rss_kib) }
    }
}
