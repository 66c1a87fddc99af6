//! The agent's overhead: CPU time and memory of its processes, BPF programs and BPF maps.

use std::time::Duration;

use rustix::param::clock_ticks_per_second;
use symbolizer::Usage;

use crate::processes::proc::read_text;

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
        let workers: Duration = worker_pids().into_iter().map(cpu_of).sum();
        let total = Usage::own().cpu + cpu_of_exited_children() + workers + bpf_cpu;
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
        let worker = |pid: u32| {
            let line = read_text(&format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let subcommand = line.split('\0').nth(1).unwrap_or_default().to_owned();
            (subcommand, resident_of(&pid.to_string()))
        };
        let workers = worker_pids().into_iter().map(worker).collect();
        Self { agent: resident_of("self"), workers }
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

/// Returns the running children of all our threads.
fn worker_pids() -> Vec<u32> {
    let threads = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let children = threads.filter_map(|thread| {
        read_text(&format!("/proc/self/task/{}/children", thread.file_name().to_str()?)).ok()
    });
    let mut pids = Vec::new();
    for text in children {
        pids.extend(text.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
    }
    pids
}

fn cpu_of_exited_children() -> Duration {
    stat_fields("self").map_or(Duration::ZERO, |fields| cpu_time(&fields, 13..15))
}

fn cpu_of(pid: u32) -> Duration {
    stat_fields(&pid.to_string()).map_or(Duration::ZERO, |fields| cpu_time(&fields, 11..13))
}

/// Returns the fields of proc_pid_stat(5) after the name, from the state on. The name may contain
/// any character.
fn stat_fields(pid: &str) -> Option<Vec<u64>> {
    let text = read_text(&format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(')')?;
    Some(rest.split_whitespace().map(|field| field.parse().unwrap_or(0)).collect())
}

/// Adds up fields that count clock ticks.
fn cpu_time(fields: &[u64], range: std::ops::Range<usize>) -> Duration {
    let ticks: u64 = fields.get(range).unwrap_or_default().iter().sum();
    Duration::from_nanos(ticks.saturating_mul(1_000_000_000 / clock_ticks_per_second().max(1)))
}

fn resident_of(pid: &str) -> u64 {
    let status = read_text(&format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) << 10
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
