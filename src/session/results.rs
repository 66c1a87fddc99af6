//! What a session produces.

use crate::workers::Usage;
use profile::{CaptureLedger, Window};

use super::cpu_times::NoClockReason;
use super::sampler_time::SamplerTime;
use crate::processes::{LabelCounts, Processes, RefusalCounts, WindowExecutables};
use crate::runtimes::RuntimeCounts;
use crate::symbolization::Period;
use crate::tables::TableCounts;

/// A window that is complete.
pub struct ClosedWindow {
    /// The counted stacks.
    pub window: Window,
    /// What became of every tick.
    pub ledger: CaptureLedger,
    /// When and how it was sampled.
    pub period: Period,
    /// The executables that the window has frames in.
    pub executables: WindowExecutables,
    /// Counts of the session up to its end.
    pub counts: SessionCounts,
}

/// What remains of a session after its end.
pub struct Recording {
    /// Its last window.
    pub last: ClosedWindow,
    /// The processes and executables known at the end.
    pub processes: Processes,
}

/// Losses and overhead of the sampler so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct SamplerProgress {
    /// Samples lost because the ring was full.
    pub lost_samples: u64,
    /// Overhead.
    pub time: SamplerTime,
}

/// CPUs with and without a sampling clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct CpuCounts {
    /// CPUs with a clock now.
    pub sampled: u64,
    /// Online CPUs without a clock now, indexed by [`NoClockReason`].
    pub without_clock: [u64; NoClockReason::ALL.len()],
    /// Times that a CPU came online and was sampled from then on.
    pub came_online: u64,
    /// Times that a sampled CPU went offline.
    pub went_offline: u64,
}

/// What happened to clocks of tasks.
#[derive(Clone, Copy, Debug, Default)]
pub struct TaskCounts {
    /// Times that the kernel stopped a clock for a while, because it ticked too often.
    pub throttled: u64,
    /// Threads that may have no clock, because they began while clocks were opened.
    pub maybe_missing: u64,
}

/// Counts since the start of a session, unless they say otherwise.
#[derive(Clone, Copy, Debug, Default)]
pub struct SessionCounts {
    /// Overhead of the sampler.
    pub sampler: SamplerTime,
    /// CPUs with and without a sampling clock.
    pub cpus: CpuCounts,
    /// Clocks of tasks, if the session has such.
    pub tasks: TaskCounts,
    /// Child processes of COMMAND beyond the number that can be followed.
    pub not_followed: u64,
    /// Bytes of kernel memory in BPF maps now.
    pub map_bytes: u64,
    /// Process events that did not fit into their ring.
    pub side_band_lost: u64,
    /// Process events that were skipped because their share of CPU time was used up.
    pub process_events_skipped: u64,
    /// Unwind tables.
    pub tables: TableCounts,
    /// Stacks that the agent finished from a snapshot.
    pub finished: u64,
    /// Processes known now.
    pub processes: u64,
    /// Executables known now.
    pub executables: u64,
    /// Resources that the file helper and the deriver have used.
    pub file_helper: Usage,
    /// How labels of processes were found.
    pub labels: LabelCounts,
    /// Bytes that processes, mappings and executables take now.
    pub process_bytes: u64,
    /// Bytes that perf maps and jitdumps take now, with the names that samples have.
    pub perf_map_bytes: u64,
    /// Processes by the interpreter that they run.
    pub runtimes: RuntimeCounts,
    /// Processes read from /proc because they were sampled or forked.
    pub processes_read: u64,
    /// What is not known about processes, by the limit that was reached.
    pub refusals: RefusalCounts,
}
