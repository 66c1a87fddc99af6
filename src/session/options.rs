//! What a session looks at before it starts, and what it may use.

use profile::Pid;

use crate::tables::RowSource;

/// Limits of a session: memory in bytes, what its rows come from, and whether it reads labels.
#[derive(Clone, Copy, Debug)]
pub struct SessionLimits {
    /// The window of counted stacks.
    pub window: usize,
    /// The times of the samples of a window; 0 if they are not kept.
    pub times: usize,
    /// Unwind tables and mappings in the kernel; at least one slab.
    pub unwind: u64,
    /// Call frames of files that are being read.
    pub reading: usize,
    /// What the deriver takes for one file.
    pub deriving: u64,
    /// Stack snapshots that wait for tables.
    pub waiting: usize,
    /// Processes, their mappings and executables, and a quarter of it for their perf maps.
    pub tracking: u64,
    /// Where unwind rows come from.
    pub row_source: RowSource,
    /// Read the labels of sampled processes: some system calls for each.
    pub labels: bool,
    /// Read the command lines of sampled processes instead of labels.
    pub command_lines: bool,
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self {
            window: 64 << 20,
            times: 0,
            unwind: 128 << 20,
            reading: 24 << 20,
            deriving: 256 << 20,
            waiting: 16 << 20,
            tracking: 256 << 20,
            row_source: RowSource::All,
            labels: false,
            command_lines: false,
        }
    }
}

/// Which processes are read from /proc before the clocks start.
#[derive(Clone, Debug)]
pub enum ScanScope {
    /// All of them.
    All,
    /// These: nothing else is sampled, or the side band reports the rest.
    Only(Vec<Pid>),
}
