//! The time that a window covers, and what a sample in it stands for.

/// When and how a window was taken.
#[derive(Clone, Copy, Debug)]
pub struct Period {
    /// Wall-clock time of its start, nanoseconds since 1970.
    pub start_unix_ns: u64,
    /// Its start on CLOCK_BOOTTIME, in nanoseconds.
    pub start_since_boot_ns: u64,
    /// Its start on CLOCK_MONOTONIC, the clock of samples, in nanoseconds.
    pub start_monotonic_ns: u64,
    /// Nanoseconds it took.
    pub duration_ns: u64,
    /// Nanoseconds of CPU time that a sample stands for.
    pub sample_ns: u64,
}
