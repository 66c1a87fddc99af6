//! Files whose debug information sinks may upload: those of the last window, open as they were sampled.
//!
//! They are kept until the next one and no longer: a file that is held open keeps its volume from being unmounted.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex, PoisonError};

use upload::DebugInfoSource;

use crate::processes::{Executable, WindowExecutables};

/// Executables by build id in hexadecimal.
type ByBuildId = HashMap<String, Arc<Executable>>;

/// The executables of the last window.
#[derive(Debug, Default)]
pub(super) struct DebugFiles(Mutex<ByBuildId>);

impl DebugFiles {
    /// Learns the executables of a window, and forgets those of the one before.
    pub fn learn(&self, executables: &WindowExecutables) {
        let named = |executable: &Arc<Executable>| {
            executable.file()?;
            Some((executable.build_id.as_ref()?.to_string(), Arc::clone(executable)))
        };
        let found = executables.iter().filter_map(named).collect();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = found;
    }

    fn find(&self, build_id: &str) -> Option<Arc<Executable>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(build_id).cloned()
    }
}

impl DebugInfoSource for DebugFiles {
    fn open(&self, build_id: &str) -> Option<File> {
        let executable = self.find(build_id)?;
        // A descriptor with a position of its own.
        File::open(format!("/proc/self/fd/{}", executable.file()?.as_raw_fd())).ok()
    }
}
