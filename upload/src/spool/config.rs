//! Configuration of the spool.

use std::path::PathBuf;

crate::config! {
    /// The spool: profiles on disk that have not reached all of their sinks. A profile that is
    /// removed before that is counted as lost for each sink that has not received it.
    pub struct SpoolConfig {
        /// Directory of the spool. It is created if it does not exist.
        directory: PathBuf = directory().default("/var/lib/everytick/spool".into()).needs_restart(),
        /// Maximum size, each profile counted once; the oldest profiles are removed first.
        ///
        /// Counted in whole disk blocks. One more batch may exist for a moment.
        max_bytes: u64 = bytes(kib(64)..=tib(1)).default(mib(512)),
    }
}
