//! Limits that the kernel sets to sampling, and the sizes that follow from them.

use crate::kernel::abi::KERNEL_FRAMES_MAX;
use crate::kernel::{PERF_STACK_BYTES, online_cpus};
use crate::procfs::read_text;

/// Size of a sample record with 60 frames, from which the size of the ring buffer follows.
const RECORD_BYTES: u64 = 544;
/// The smallest ring of perf: a page.
const TASK_RING_LEAST: u32 = 4096;

/// Returns the highest sampling frequency that the kernel allows, in Hz on each CPU.
pub fn max_sample_rate() -> u32 {
    sysctl("perf_event_max_sample_rate").unwrap_or(u32::MAX)
}

/// Returns the maximum depth of kernel stacks.
pub fn kernel_frames_limit() -> u32 {
    sysctl("perf_event_max_stack").unwrap_or(KERNEL_FRAMES_MAX).min(KERNEL_FRAMES_MAX)
}

pub(super) fn sysctl(name: &str) -> Option<u32> {
    read_text(&format!("/proc/sys/kernel/{name}")).ok()?.trim().parse().ok()
}

/// Returns the size of each CPU's ring buffer for samples of tasks: two seconds of them, from 512
/// KiB to 8 MiB. `total`: given for all CPUs together.
pub fn task_ring_bytes(frequency: u32, total: Option<u32>) -> u32 {
    let cpus = online_cpus().map_or(1, |cpus| cpus.len()) as u32;
    let two_seconds = frequency.saturating_mul(2).saturating_mul(PERF_STACK_BYTES);
    let bytes = match total {
        Some(total) => (total / cpus).max(TASK_RING_LEAST),
        None => two_seconds.clamp(512 << 10, 8 << 20),
    };
    bytes.next_power_of_two()
}

/// Returns the size of a ring buffer for two seconds of all CPUs' samples, from 1 to 64 MiB.
pub fn ring_bytes(frequency: u32) -> u32 {
    let cpus = online_cpus().map_or(1, |cpus| cpus.len()) as u64;
    let two_seconds = 2 * cpus * u64::from(frequency) * RECORD_BYTES;
    two_seconds.clamp(1 << 20, 64 << 20).next_power_of_two() as u32
}
