//! The configuration of the sampler: what is fixed once it is loaded, and what can change.

use std::collections::BTreeSet;
use std::num::NonZeroU64;

use profile::{Cpu, NotSampled};

use super::abi::{COMM_LEN, CgroupKey, CommKey, KERNEL_FRAMES_MAX};
use super::{SIDE_BAND_BYTES, Unwinder};

/// The default of [`SamplerConfig::tick_limit`].
const TICK_LIMIT_NS: u32 = 150_000;
/// The default of [`SamplerConfig::ring_bytes`], enough at usual frequencies.
const RING_BYTES: u32 = 4 << 20;

/// How to sample. Fixed once the programs are loaded.
#[derive(Clone, Debug)]
pub struct SamplerConfig {
    /// Ticks a second on each CPU.
    pub frequency: u32,
    /// Take kernel stacks.
    pub kernel_stacks: bool,
    /// Take user stacks.
    pub user_stacks: bool,
    /// Sample the idle task too.
    pub idle: bool,
    /// Follow the process that [`super::Sampler::launch`] starts, and its descendants.
    pub follows_command: bool,
    /// Sample all processes even if there is a COMMAND.
    pub whole_machine: bool,
    /// Have perf write its own record of each tick with a user stack: see [`super::PerfSamples`].
    pub perf_samples: bool,
    /// Walk the interpreter frames of processes whose runtime is published.
    pub runtimes: bool,
    /// Which ticks to sample.
    pub filters: Filters,
    /// Which CPUs have a clock.
    pub cpus: CpuSelection,
    /// Inode number of the agent's pid namespace, unless it is the initial one.
    pub pid_namespace: Option<u32>,
    /// Frames at which a kernel stack counts as cut, at most 127.
    pub kernel_frames_limit: u32,
    /// How user stacks are walked.
    pub unwinder: Unwinder,
    /// Frames of a user stack, at most [`Unwinder::frames_max`].
    pub user_frames_limit: u32,
    /// Nanoseconds after which a tick cuts its stack.
    pub tick_limit: u32,
    /// Bytes of the ring: a power of two, and whole pages.
    pub ring_bytes: u32,
    /// Bytes of each CPU's ring of process events: a power of two, and whole pages.
    pub side_band_bytes: u32,
}

impl SamplerConfig {
    /// Returns whether processes or threads are selected, by number or as COMMAND.
    pub(super) fn selects_processes(&self) -> bool {
        let Filters { processes, threads, .. } = &self.filters;
        let is_selective = self.follows_command || !processes.is_empty() || !threads.is_empty();
        is_selective && !self.whole_machine
    }

    /// Returns whether the frames of interpreters are walked.
    pub(super) fn walks_interpreters(&self) -> bool {
        self.runtimes && self.user_stacks
    }

    /// Returns the configuration for kernel and user stacks of the whole machine, with the best
    /// unwinder of this kernel.
    pub fn machine(frequency: u32) -> Self {
        let unwinder = Unwinder::of_this_kernel();
        Self {
            frequency,
            kernel_stacks: true,
            user_stacks: true,
            idle: false,
            follows_command: false,
            whole_machine: false,
            perf_samples: false,
            runtimes: true,
            filters: Filters::default(),
            cpus: CpuSelection::default(),
            pid_namespace: None,
            kernel_frames_limit: KERNEL_FRAMES_MAX,
            unwinder,
            user_frames_limit: unwinder.frames_max(),
            tick_limit: TICK_LIMIT_NS,
            ring_bytes: RING_BYTES,
            side_band_bytes: SIDE_BAND_BYTES,
        }
    }
}

/// How often to sample. Can change while the sampler runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SamplingRate {
    /// Nanoseconds of a CPU's time between its ticks.
    pub period: NonZeroU64,
    /// The period that the configured frequency calls for.
    pub full_period: NonZeroU64,
    /// Why the rate is lower than that.
    pub lowered: Option<NotSampled>,
}

impl SamplingRate {
    /// Returns the rate of `frequency` ticks a second on each CPU, at least one.
    pub fn from_hz(frequency: u32) -> Self {
        let period = 1_000_000_000 / u64::from(frequency.max(1));
        let period = NonZeroU64::new(period).unwrap_or(NonZeroU64::MIN);
        Self { period, full_period: period, lowered: None }
    }
}

/// Filters in the kernel. A tick must match one filter of each kind; a kind without filters matches
/// everything.
#[derive(Clone, Debug, Default)]
pub struct Filters {
    /// Processes: pid in the agent's namespace, and start time in clock ticks since boot.
    pub processes: Vec<(u32, u64)>,
    /// Threads, selected beside the processes: tid in the agent's namespace, and start time in
    /// clock ticks since boot.
    pub threads: Vec<(u32, u64)>,
    /// Cgroups, including all below them.
    pub cgroups: Vec<CgroupKey>,
    /// Names of threads or processes.
    pub comms: Vec<CommKey>,
}

/// The CPUs that are sampled: all, or the given ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuSelection(Option<BTreeSet<Cpu>>);

impl CpuSelection {
    /// Selects these CPUs only.
    pub fn only(cpus: impl IntoIterator<Item = Cpu>) -> Self {
        Self(Some(cpus.into_iter().collect()))
    }

    /// Returns whether a CPU is selected.
    pub fn contains(&self, cpu: Cpu) -> bool {
        self.0.as_ref().is_none_or(|cpus| cpus.contains(&cpu))
    }
}

impl CommKey {
    /// Returns the key of a name, truncated to 15 bytes as the kernel does.
    pub fn new(name: &str) -> Self {
        let mut key = Self { name: [0; COMM_LEN] };
        let bytes = name.len().min(COMM_LEN - 1);
        key.name[..bytes].copy_from_slice(&name.as_bytes()[..bytes]);
        key
    }
}
