//! Where sinks get the executables that a batch's mappings name, for stores that
//! find symbols on their own.

mod file;
pub(crate) mod uploads;

pub(crate) use file::DebugFile;

use std::fs::File;

/// Opens executables by their build id.
///
/// The agent implements it; sinks ask it for those that their server wants. A sink must
/// do well without: an executable may be gone by the time its batch is delivered, and
/// one that was delivered from the spool may belong to an earlier boot.
pub trait DebugInfo: Send + Sync {
    /// Opens the executable with this build id, for reading, at its start.
    ///
    /// `build_id`: as in the batch's mappings, hexadecimal. `None` when it is not at
    /// hand. May block on the file system for as long as opening a file may, so that
    /// callers do it where nobody waits for them.
    fn open(&self, build_id: &str) -> Option<File>;

    /// Learns what became of a file, each time that a sink has dealt with one.
    fn dealt_with(&self, _end: UploadEnd) {}
}

/// What became of a file that a server may want.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UploadEnd {
    /// The server has its debug info, from us or from others.
    Held,
    /// There is no debug info, or none better than what the server has from us.
    Nothing,
    /// It could not be uploaded now.
    Postponed,
}
