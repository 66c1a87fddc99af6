//! What this host allows: the kernel, its settings, our permissions and limits.
//!
//! [`CHECKS`] is the one list of what profiling needs. `doctor` prints each check, the agent logs
//! each [`Limitation`] at its start and reports all of them as a metric, in the same words.

mod capabilities;
mod cgroup_limits;
mod checks;
mod kernel_limits;
mod kernel_release;
mod limitation;
mod open_files;
mod packages;
mod pid_namespace;
mod task_access;

pub use capabilities::Capabilities;
pub use cgroup_limits::{AGENT_MEMORY_LEAST, CgroupLimit, agent_memory, memory_limit};
pub use checks::CHECKS;
pub use kernel_limits::{kernel_frames_limit, max_sample_rate, ring_bytes, task_ring_bytes};
pub use limitation::{CheckResult, Limitation, LimitationReason};
pub use open_files::explain_open_files;
pub use packages::{debug_package, packages_of};
pub use pid_namespace::pid_namespace;
pub use task_access::{TaskAccess, TaskAccessError};

/// Runs all checks and returns what is missing.
pub fn limitations() -> Vec<Limitation> {
    CHECKS.iter().flat_map(|(_, check)| check().missing).collect()
}
