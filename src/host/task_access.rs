//! What a user without capabilities may sample of own processes.

use std::io;

use super::kernel_limits::sysctl;
use crate::kernel::task_clock_opens;

/// The most of `kernel.perf_event_paranoid` at which Linux lets users sample own processes. Debian
/// and Ubuntu have added higher values, at which they may not.
const PARANOID_MAX: u32 = 2;

/// What the kernel lets this user sample of own processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskAccess {
    /// Kernel code, too: `kernel.perf_event_paranoid` is 1 or less.
    pub samples_kernel: bool,
}

/// Why this user may not sample own processes.
#[derive(Debug, thiserror::Error)]
pub enum TaskAccessError {
    /// The kernel's setting.
    #[error("kernel.perf_event_paranoid is {0}")]
    Paranoid(u32),
    /// Something else.
    #[error("the kernel denies perf_event_open(2): {0}")]
    Denied(io::Error),
}

impl TaskAccess {
    /// Opens a clock of this thread, to find out what works.
    ///
    /// # Errors
    /// [`TaskAccessError`] when nothing does.
    pub fn probe() -> Result<Self, TaskAccessError> {
        if task_clock_opens(true).is_ok() {
            return Ok(Self { samples_kernel: true });
        }
        match task_clock_opens(false) {
            Ok(()) => Ok(Self { samples_kernel: false }),
            Err(error) => Err(match sysctl("perf_event_paranoid") {
                Some(paranoid) if paranoid > PARANOID_MAX => TaskAccessError::Paranoid(paranoid),
                _ => TaskAccessError::Denied(error.source),
            }),
        }
    }
}

impl TaskAccessError {
    /// Returns the next step.
    pub fn next_step(&self) -> &'static str {
        match self {
            Self::Paranoid(_) => {
                "let users profile own processes: `sudo sysctl kernel.perf_event_paranoid=2`"
            }
            Self::Denied(_) => "allow perf_event_open in the seccomp profile",
        }
    }
}
