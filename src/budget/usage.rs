//! The agent's overhead: CPU time by cause, and memory of its processes and BPF maps.

use std::collections::BTreeMap;
use std::time::Duration;

use super::cause::{Cause, CpuByCause};
use crate::procfs;
use crate::session::SessionCpu;
use crate::workers::Usage;

/// Resources that the agent used since it was measured last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResourceUsage {
    /// CPU time of processes and BPF programs.
    pub cpu: CpuByCause,
    /// Part of it that each tick costs, on average; 0 if there was none.
    pub cpu_per_tick: Duration,
    /// Memory of processes and BPF maps at the end, in bytes.
    pub memory: u64,
}

/// Measures the overhead from one time to the next.
#[derive(Debug, Default)]
pub struct UsageMeter {
    /// CPU time of the running threads, by id.
    threads: BTreeMap<u32, (Cause, Duration)>,
    /// CPU time of the running workers, by pid.
    workers: BTreeMap<u32, (Cause, Duration)>,
    own: Duration,
    reaped_children: Duration,
    session: SessionCpu,
}

impl UsageMeter {
    /// Returns the usage since the last call, or since the agent started. `session`: CPU time of
    /// all sessions so far; `bpf_map_bytes`: size of the BPF maps now.
    pub fn measure(&mut self, session: SessionCpu, bpf_map_bytes: u64) -> ResourceUsage {
        let mut cpu = self.measure_threads();
        cpu += self.measure_workers();
        let new = session.since(&self.session);
        self.session = session;
        // The processor does the work of several causes.
        for (cause, time) in [
            (Cause::Stacks, new.stacks),
            (Cause::Tables, new.tables),
            (Cause::Processes, new.processes),
        ] {
            let time = time.min(cpu[Cause::Sampling]);
            cpu[Cause::Sampling] -= time;
            cpu[cause] += time;
        }
        cpu[Cause::Sampling] += new.ticks_in_kernel;
        let ticks = u32::try_from(new.ticks).unwrap_or(u32::MAX);
        let cpu_of_ticks = new.ticks_in_kernel + new.samples + new.stacks;
        ResourceUsage {
            cpu,
            cpu_per_tick: cpu_of_ticks.checked_div(ticks).unwrap_or_default(),
            memory: ResidentMemory::measure().total() + bpf_map_bytes,
        }
    }

    fn measure_threads(&mut self) -> CpuByCause {
        let mut cpu = CpuByCause::default();
        let mut threads = BTreeMap::new();
        for tid in procfs::own_thread_ids() {
            let Some((name, used)) = procfs::own_thread(tid) else { continue };
            let cause = Cause::of_thread(&name);
            let before = self.threads.get(&tid).filter(|(earlier, _)| *earlier == cause);
            cpu[cause] += used.saturating_sub(before.map_or(Duration::ZERO, |(_, before)| *before));
            threads.insert(tid, (cause, used));
        }
        let own = Usage::own().cpu;
        // What threads used that have ended since: those that search for debug info end soonest.
        let ended = self.threads.iter().find(|(tid, _)| !threads.contains_key(tid));
        let cause_of_ended = ended.map_or(Cause::Delivery, |(_, (cause, _))| *cause);
        let unseen = own.saturating_sub(self.own).saturating_sub(cpu.total());
        cpu[cause_of_ended] += unseen;
        (self.threads, self.own) = (threads, own);
        cpu
    }

    fn measure_workers(&mut self) -> CpuByCause {
        let mut cpu = CpuByCause::default();
        let mut workers = BTreeMap::new();
        for pid in procfs::child_pids() {
            let Some(stat) = procfs::stat(pid) else { continue };
            let known = self.workers.get(&pid).copied();
            let cause = known
                .map_or_else(|| Cause::of_worker(&procfs::argument(pid, 1)), |(cause, _)| cause);
            let before = known.map_or(Duration::ZERO, |(_, before)| before);
            cpu[cause] += stat.cpu.saturating_sub(before);
            workers.insert(pid, (cause, stat.cpu));
        }
        let own = procfs::stat(std::process::id());
        let reaped = own.map_or(self.reaped_children, |stat| stat.reaped_children_cpu);
        let gone: Vec<(Cause, Duration)> = self
            .workers
            .iter()
            .filter(|(pid, _)| !workers.contains_key(pid))
            .map(|(_, worker)| *worker)
            .collect();
        let counted: Duration = gone.iter().map(|(_, counted)| counted).sum();
        let only_helpers = !gone.is_empty() && gone.iter().all(|(c, _)| *c == Cause::Processes);
        // A worker that lived shorter than this interval read symbols: those are killed.
        let cause_of_gone = if only_helpers { Cause::Processes } else { Cause::Names };
        cpu[cause_of_gone] += reaped.saturating_sub(self.reaped_children + counted);
        (self.workers, self.reaped_children) = (workers, reaped);
        cpu
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
    use std::thread;

    use super::*;
    use crate::events::cpu_time;

    /// Uses CPU time in a thread of this name.
    fn spin(name: &str, time: Duration) {
        let run = move || {
            let (begin, mut sum) = (cpu_time(), 0u64);
            while cpu_time() - begin < time {
                sum = sum.wrapping_mul(31).wrapping_add(7);
            }
            std::hint::black_box(sum);
            thread::sleep(Duration::from_millis(300)); // it is measured while it lives
        };
        thread::Builder::new().name(name.into()).spawn(run).expect("a thread");
    }

    #[test]
    fn cpu_time_counts_once_and_for_its_cause() {
        let mut meter = UsageMeter::default();
        meter.measure(SessionCpu::default(), 0);
        let names = [("loader", Cause::Tables), ("publisher", Cause::Names)];
        names.iter().for_each(|(name, _)| spin(name, Duration::from_millis(30)));
        thread::sleep(Duration::from_millis(200));
        let session = SessionCpu {
            ticks: 5,
            ticks_in_kernel: Duration::from_millis(5),
            ..SessionCpu::default()
        };
        let usage = meter.measure(session, 1 << 20);
        for (_, cause) in names {
            assert!(usage.cpu[cause] >= Duration::from_millis(10), "{cause:?} of {usage:?}");
        }
        assert_eq!(usage.cpu_per_tick, Duration::from_millis(1));
        assert!(usage.cpu[Cause::Sampling] >= Duration::from_millis(5), "{usage:?}");
        assert!(usage.memory > 2 << 20, "{usage:?}");
        let after = meter.measure(session, 0);
        assert!(after.cpu[Cause::Sampling] < usage.cpu[Cause::Sampling], "{after:?}");
    }
}
