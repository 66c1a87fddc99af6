//! What the sampler is told before it is loaded, and what can change while it runs.

use std::num::NonZeroU64;

use super::abi::{COMM_LEN, CgroupKey, CommKey, KERNEL_FRAMES_MAX};
use super::{SIDE_BAND_BYTES, Unwinder};

/// After this time a tick cuts its stack.
const TICK_LIMIT_NS: u32 = 150_000;
/// The ring of a sampler at usual frequencies.
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
    /// Take the idle task too.
    pub idle: bool,
    /// Follow the process that [`super::Sampler::launch`] starts, and its children.
    pub command: bool,
    /// Have perf write its own record of each tick with a user stack: see [`super::PerfSamples`].
    pub perf_samples: bool,
    /// Whom to take.
    pub filters: Filters,
    /// Inode number of the agent's pid namespace when it is not the first.
    pub pid_namespace: Option<u32>,
    /// The agent's pid in its namespace.
    pub own_pid: u32,
    /// Frames of a kernel stack at which it counts as cut, at most 127.
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
    /// Kernel and user stacks of the whole machine, as this kernel can walk them.
    pub fn machine(frequency: u32) -> Self {
        let unwinder = Unwinder::of_this_kernel();
        Self {
            frequency,
            kernel_stacks: true,
            user_stacks: true,
            idle: false,
            command: false,
            perf_samples: false,
            filters: Filters::default(),
            pid_namespace: None,
            own_pid: std::process::id(),
            kernel_frames_limit: KERNEL_FRAMES_MAX,
            unwinder,
            user_frames_limit: unwinder.frames_max(),
            tick_limit: TICK_LIMIT_NS,
            ring_bytes: RING_BYTES,
            side_band_bytes: SIDE_BAND_BYTES,
        }
    }
}

/// How much is sampled, which can change while it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SamplingRate {
    /// Nanoseconds of a CPU's time between its ticks; `None` while nothing is sampled.
    pub period: Option<NonZeroU64>,
    /// Frames of a user stack, where that is less than the settings allow; 0 for as many as they allow.
    pub user_frames: u32,
}

impl SamplingRate {
    /// So many ticks a second on each CPU, at least one, and stacks as deep as the settings allow.
    pub fn from_hz(frequency: u32) -> Self {
        let period = 1_000_000_000 / u64::from(frequency.max(1));
        Self { period: NonZeroU64::new(period), user_frames: 0 }
    }
}

/// Filters in the kernel. Those of one kind widen each other, kinds narrow each other;
/// a kind without entries does not filter.
#[derive(Clone, Debug, Default)]
pub struct Filters {
    /// Processes: pid in the agent's namespace, start time in clock ticks since boot.
    pub processes: Vec<(u32, u64)>,
    /// Cgroups with all below them.
    pub cgroups: Vec<CgroupKey>,
    /// Names of threads or processes.
    pub comms: Vec<CommKey>,
}

impl CommKey {
    /// Makes the key of a name as the kernel would keep it: cut to 15 bytes.
    pub fn new(name: &str) -> Self {
        let mut key = Self { name: [0; COMM_LEN] };
        let kept = name.len().min(COMM_LEN - 1);
        key.name[..kept].copy_from_slice(&name.as_bytes()[..kept]);
        key
    }
}
