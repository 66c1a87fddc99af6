//! What the agent costs: CPU time and memory of all its processes, its BPF programs and maps.

use std::time::Duration;

use rustix::param::clock_ticks_per_second;
use symbolizer::Usage;

use crate::processes::proc::read_text;

/// What a window took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// CPU time of processes and BPF programs.
    pub cpu: Duration,
    /// Memory of processes and BPF maps, in bytes, now.
    pub memory: u64,
}

/// Measures from one window to the next.
#[derive(Debug, Default)]
pub struct Meter {
    before: Duration,
}

impl Meter {
    /// Gives what was spent since the last call, or since the agent began. `sampler`: time of the BPF programs so far;
    /// `map_bytes`: of BPF maps now.
    pub fn measure(&mut self, sampler: Duration, map_bytes: u64) -> Spent {
        let workers: Duration = workers().into_iter().map(cpu_of).sum();
        let all = Usage::own().cpu + cpu_of_dead_children() + workers + sampler;
        let cpu = all.saturating_sub(self.before);
        self.before = self.before.max(all);
        Spent { cpu, memory: resident().total() + map_bytes }
    }
}

/// Memory that the agent's processes have now.
#[derive(Clone, Debug, Default)]
pub struct Resident {
    /// Of this process, in bytes.
    pub own: u64,
    /// Of each worker, by the subcommand that it runs.
    workers: Vec<(String, u64)>,
}

impl Resident {
    /// Of all processes. What they share counts for each.
    pub fn total(&self) -> u64 {
        self.own + self.workers.iter().map(|(_, bytes)| bytes).sum::<u64>()
    }

    /// Of the workers that run this subcommand.
    pub fn of(&self, subcommand: &str) -> u64 {
        let alike = self.workers.iter().filter(|(name, _)| name == subcommand);
        alike.map(|(_, bytes)| bytes).sum()
    }
}

/// Measures them.
pub fn resident() -> Resident {
    let worker = |pid: u32| {
        let line = read_text(&format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let subcommand = line.split('\0').nth(1).unwrap_or_default().to_owned();
        (subcommand, rss_of(&pid.to_string()))
    };
    Resident { own: rss_of("self"), workers: workers().into_iter().map(worker).collect() }
}

/// The processes that we have started and that run.
fn workers() -> Vec<u32> {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let children = tasks.filter_map(|task| {
        read_text(&format!("/proc/self/task/{}/children", task.file_name().to_str()?)).ok()
    });
    let mut pids = Vec::new();
    for text in children {
        pids.extend(text.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
    }
    pids
}

/// CPU time of children that have ended and been waited for.
fn cpu_of_dead_children() -> Duration {
    fields("self").map_or(Duration::ZERO, |fields| ticks(&fields, 13..15))
}

fn cpu_of(pid: u32) -> Duration {
    fields(&pid.to_string()).map_or(Duration::ZERO, |fields| ticks(&fields, 11..13))
}

/// The fields of proc_pid_stat(5) after the name, which may contain anything: the first is the state.
fn fields(pid: &str) -> Option<Vec<u64>> {
    let text = read_text(&format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(')')?;
    Some(rest.split_whitespace().map(|field| field.parse().unwrap_or(0)).collect())
}

fn ticks(fields: &[u64], which: std::ops::Range<usize>) -> Duration {
    let ticks: u64 = fields.get(which).unwrap_or_default().iter().sum();
    Duration::from_nanos(ticks.saturating_mul(1_000_000_000 / clock_ticks_per_second().max(1)))
}

/// Resident memory in bytes.
fn rss_of(pid: &str) -> u64 {
    let status = read_text(&format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) << 10
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_work_is_measured_once() {
        let mut meter = Meter::default();
        meter.measure(Duration::ZERO, 0);
        let begin = Usage::own().cpu;
        let mut sum = 0u64;
        while Usage::own().cpu - begin < Duration::from_millis(30) {
            sum = sum.wrapping_mul(31).wrapping_add(7);
        }
        let spent = meter.measure(Duration::from_millis(5), 1 << 20);
        assert!(spent.cpu >= Duration::from_millis(35), "{spent:?} {sum}");
        assert!(spent.memory > 2 << 20, "{spent:?}");
        assert!(meter.measure(Duration::from_millis(5), 0).cpu < spent.cpu);
    }
}
