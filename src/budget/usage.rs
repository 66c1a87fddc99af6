//! The agent's overhead: CPU time and memory of its processes, BPF programs and BPF maps.

use std::time::Duration;

use crate::procfs;
use crate::workers::Usage;

/// Resources that the agent used for one window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResourceUsage {
    /// CPU time of processes and BPF programs.
    pub cpu: Duration,
    /// Memory of processes and BPF maps at the end of the window, in bytes.
    pub memory: u64,
}

/// Measures the overhead from window to window.
#[derive(Debug, Default)]
pub struct UsageMeter {
    cpu_before: Duration,
}

impl UsageMeter {
    /// Returns the usage since the last call, or since the agent started. `bpf_cpu`: time of the
    /// BPF programs so far; `bpf_map_bytes`: size of the BPF maps now.
    pub fn measure(&mut self, bpf_cpu: Duration, bpf_map_bytes: u64) -> ResourceUsage {
        let own = procfs::stat(std::process::id());
        let exited_workers = own.map_or(Duration::ZERO, |stat| stat.reaped_children_cpu);
        let workers = procfs::child_pids().into_iter().filter_map(procfs::stat);
        let workers: Duration = workers.map(|stat| stat.cpu).sum();
        let total = Usage::own().cpu + exited_workers + workers + bpf_cpu;
        let cpu = total.saturating_sub(self.cpu_before);
        self.cpu_before = self.cpu_before.max(total);
        ResourceUsage { cpu, memory: ResidentMemory::measure().total() + bpf_map_bytes }
    }
}

/// Resident memory of the agent's processes, in bytes.
#[derive(Clone, Debug, Default)]
pub struct ResidentMemory {
    /// This process.
    pub agent: u64,
    /// Each worker process, with the subcommand that it runs.
    workers: Vec<(String, u64)>,
}

impl ResidentMemory {
    /// Reads the memory of this process and of its workers from /proc.
    pub fn measure() -> Self {
        let resident = |pid| procfs::status(pid).rss_kib << 10;
        let worker = |pid| (procfs::argument(pid, 1), resident(pid));
        let workers = procfs::child_pids().into_iter().map(worker).collect();
        Self { agent: resident(std::process::id()), workers }
    }

    /// Returns the sum of all processes. Shared pages count for each of them.
    pub fn total(&self) -> u64 {
        self.agent + self.workers.iter().map(|(_, bytes)| bytes).sum::<u64>()
    }

    /// Returns the sum of the workers that run `subcommand`.
    pub fn of_workers(&self, subcommand: &str) -> u64 {
        let workers = self.workers.iter().filter(|(name, _)| name == subcommand);
        workers.map(|(_, bytes)| bytes).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_cpu_time_counts_once() {
        let mut meter = UsageMeter::default();
        meter.measure(Duration::ZERO, 0);
        let begin = Usage::own().cpu;
        let mut sum = 0u64;
        while Usage::own().cpu - begin < Duration::from_millis(30) {
            sum = sum.wrapping_mul(31).wrapping_add(7);
        }
        let usage = meter.measure(Duration::from_millis(5), 1 << 20);
        assert!(usage.cpu >= Duration::from_millis(35), "{usage:?} {sum}");
        assert!(usage.memory > 2 << 20, "{usage:?}");
        assert!(meter.measure(Duration::from_millis(5), 0).cpu < usage.cpu);
    }
}
