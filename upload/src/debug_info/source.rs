//! The agent's side: opens executables, and receives the result of each upload.

use std::fs::File;
use std::sync::Arc;

use crate::cpu_allowance::{CpuAllowance, Unlimited};

/// Opens executables by build ID. The agent implements it.
///
/// A sink must cope without the file: an executable may be gone by the time its batch is delivered,
/// and a batch from the spool may belong to an earlier boot.
pub trait DebugInfoSource: Send + Sync {
    /// Opens the executable with this build ID for reading, at offset 0.
    ///
    /// `build_id`: hexadecimal, as in the mappings of a batch. Returns `None` if the executable is
    /// not available. May block on the file system for as long as opening a file may, so callers
    /// use a thread that delays nothing else.
    fn open(&self, build_id: &str) -> Option<File>;

    /// Called with the result of each attempt to upload a file.
    fn on_upload(&self, _status: UploadStatus) {}

    /// Returns the CPU time that reading and uploading may use.
    fn cpu_allowance(&self) -> Arc<dyn CpuAllowance> {
        Arc::new(Unlimited)
    }
}

/// Result of an attempt to upload debug info.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UploadStatus {
    /// The server has the debug info, from this agent or another.
    Stored,
    /// There is no debug info, or none better than what this agent has uploaded.
    NoDebugInfo,
    /// The upload is not possible now.
    Postponed,
}
