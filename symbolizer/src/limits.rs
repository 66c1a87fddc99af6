//! Limits of the worker process on itself, which the kernel enforces.
//!
//! The process that exceeds one is killed or aborts, and the agent starts another. The agent also
//! watches each request; these limits hold when it does not, and stop an allocation at once.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};

/// Memory of this process, in KiB.
#[derive(Clone, Copy, Debug, Default)]
pub struct OwnMemory {
    /// Resident, mapped files included.
    pub resident_kib: u64,
    /// Writable memory of its own, resident or not (`VmData`).
    pub data_kib: u64,
}

/// Bounds the memory of this process for good, in bytes; mapped files do not count.
pub(crate) fn limit_process(memory_max: u64) {
    set(Resource::Data, Some(memory_max), Some(memory_max));
    set(Resource::Core, Some(0), Some(0));
}

/// Bounds what one request may take in addition to what the process has. `data_kib`: its writable
/// memory now; `memory_max`: in bytes; `cpu_seconds_max`: seconds of CPU time. 0: no limit.
pub(crate) fn limit_request(data_kib: u64, memory_max: u64, cpu_seconds_max: u32) {
    let hard = getrlimit(Resource::Data).maximum;
    let soft = (memory_max > 0).then(|| (data_kib << 10).saturating_add(memory_max));
    let soft = soft.map(|soft| soft.min(hard.unwrap_or(u64::MAX))).or(hard);
    set(Resource::Data, soft, hard);
    // The kernel counts whole seconds of the process; the rest of the current one is for free.
    let used = clock_gettime(ClockId::ProcessCPUTime).tv_sec as u64;
    let soft = (cpu_seconds_max > 0).then(|| used + 1 + u64::from(cpu_seconds_max));
    set(Resource::Cpu, soft, getrlimit(Resource::Cpu).maximum);
}

/// Sets a limit. It only protects: where it cannot be set we go on without.
fn set(resource: Resource, current: Option<u64>, maximum: Option<u64>) {
    let _ = setrlimit(resource, Rlimit { current, maximum });
}
