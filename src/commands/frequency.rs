//! The sampling frequency on the command line and in the configuration.

use anyhow::{Result, ensure};

use crate::host::max_sample_rate;

/// Checks a sampling frequency against the kernel's limit.
pub fn check_frequency(frequency: u32) -> Result<()> {
    let allowed = max_sample_rate();
    ensure!(
        frequency <= allowed,
        "cannot sample at {frequency} Hz: this kernel allows at most {allowed}; lower the \
         frequency, or raise kernel.perf_event_max_sample_rate",
    );
    Ok(())
}
