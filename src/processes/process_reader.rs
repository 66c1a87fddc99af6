//! What reading processes from procfs needs: owners, and shares of CPU time.

use super::owners::OwnerReader;
use crate::limits::OwnerCpuShares;

/// Reads processes within shares of CPU time.
#[derive(Debug)]
pub(super) struct ProcessReader {
    /// Reads owners.
    pub owners: OwnerReader,
    /// CPU time for reading processes when they are sampled, the file helper's included.
    pub time: OwnerCpuShares,
    /// Processes read so far.
    pub count: u64,
}

impl Default for ProcessReader {
    fn default() -> Self {
        Self { owners: OwnerReader::default(), time: OwnerCpuShares::unlimited(), count: 0 }
    }
}
