//! Configuration of the spool.

use std::path::PathBuf;

use serde::Deserialize;

/// Directory and size of the spool.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SpoolConfig {
    /// The directory. It is created if missing.
    pub directory: PathBuf,
    /// Limit of all batches in bytes, each counted once and in whole disk blocks. One more batch
    /// may exist for a moment.
    #[serde(rename = "max_bytes")]
    pub bytes_max: u64,
}

impl Default for SpoolConfig {
    fn default() -> Self {
        Self { directory: "/var/lib/everytick/spool".into(), bytes_max: 512 << 20 }
    }
}
