//! The configuration of a directory of windows.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::Conflict;

crate::config! {
    /// A directory with a pprof file for each window.
    pub struct Config {
        /// The directory. It is created if it does not exist.
        directory: PathBuf = directory().required("\"/PATH\""),
        /// The bounds of the directory.
        retention: Retention = flattened(),
    }
}

crate::config! {
    /// The bounds of a directory of windows.
    pub struct Retention {
        /// Maximum size on disk; the oldest windows are removed first.
        max_bytes: u64 = bytes(kib(64)..=tib(1024)).default(gib(1)),
        /// Maximum age. Older windows are removed, at most ten for each new one, and none while the
        /// wall clock disagrees with the time since boot, for a day at most.
        max_age: Duration = duration(hours(1)..=days(3660)).default(days(7)),
    }
}

impl Config {
    /// Returns the settings that contradict each other.
    pub fn conflicts(&self) -> Vec<Conflict> {
        Vec::new()
    }
}
