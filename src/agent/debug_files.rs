//! Executables whose debug info sinks may upload: those of the last window, as they were sampled.
//!
//! They stay open until the next window and no longer, because an open file keeps its volume from
//! being unmounted.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex, PoisonError};

use upload::DebugInfoSource;

use crate::processes::{Executable, WindowExecutables};

/// Executables by build ID in hexadecimal.
type ByBuildId = HashMap<String, Arc<Executable>>;

/// The open executables of the last window.
#[derive(Debug, Default)]
pub(super) struct DebugFiles(Mutex<ByBuildId>);

impl DebugFiles {
    /// Replaces the executables of the previous window.
    pub fn replace(&self, executables: &WindowExecutables) {
        let with_build_id = |executable: &Arc<Executable>| {
            executable.file()?;
            Some((executable.build_id.as_ref()?.to_string(), Arc::clone(executable)))
        };
        let by_build_id = executables.iter().filter_map(with_build_id).collect();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = by_build_id;
    }

    fn find(&self, build_id: &str) -> Option<Arc<Executable>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(build_id).cloned()
    }
}

impl DebugInfoSource for DebugFiles {
    fn open(&self, build_id: &str) -> Option<File> {
        let executable = self.find(build_id).filter(|executable| !executable.is_changed())?;
        // Opening it again gives the reader a file position of its own.
        File::open(format!("/proc/self/fd/{}", executable.file()?.as_raw_fd())).ok()
    }
}
