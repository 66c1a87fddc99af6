//! Executables without debug info on this machine, and whether it was downloaded since.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use profile::ExecutableId;

use super::client::SymbolRequest;
use crate::debuginfod::Downloads;
use crate::limits::Owner;
use crate::processes::{Executable, ExecutableOrigin};

/// Requests debug info of executables that have none, for as long as others hold them.
#[derive(Default)]
pub(super) struct DebugInfoRequests {
    /// `None`: nothing is requested.
    downloads: Option<Arc<Downloads>>,
    executables: HashMap<ExecutableId, BareExecutable>,
}

/// An executable that was symbolized without debug info.
struct BareExecutable {
    executable: Weak<Executable>,
    owner: Owner,
    /// Samples in it when it was symbolized.
    samples: u64,
    /// It was symbolized again after its debug info was there. What was downloaded may have symbol
    /// tables alone, so it is not symbolized again for ever.
    is_renewed: bool,
}

impl DebugInfoRequests {
    /// Returns one that requests debug info from servers.
    pub fn new(downloads: Option<Arc<Downloads>>) -> Self {
        Self { downloads, executables: HashMap::new() }
    }

    /// Records whether an executable was symbolized without debug info, and requests it then.
    pub fn symbolized(&mut self, request: &SymbolRequest, no_debug_info: bool) {
        let Some(downloads) = &self.downloads else { return };
        let SymbolRequest { id, executable, owner, samples, .. } = request;
        let is_file = matches!(executable.origin, ExecutableOrigin::File(_));
        let Some(build_id) = executable.build_id.as_ref().filter(|_| no_debug_info && is_file)
        else {
            self.executables.remove(id);
            return;
        };
        downloads.request(build_id, *owner, *samples);
        self.executables.entry(*id).or_insert_with(|| BareExecutable {
            executable: Arc::downgrade(executable),
            owner: *owner,
            samples: *samples,
            is_renewed: false,
        });
    }

    /// Requests again what is due, and returns the executables whose debug info is on disk since
    /// they were symbolized: each once. `pending`: one whose answer will still be without.
    pub fn take_arrived(&mut self, pending: Option<ExecutableId>) -> Vec<ExecutableId> {
        let Some(downloads) = &self.downloads else { return Vec::new() };
        let mut arrived = Vec::new();
        self.executables.retain(|id, bare| {
            let Some(executable) = bare.executable.upgrade() else { return false };
            let Some(build_id) = &executable.build_id else { return false };
            let is_waiting = !bare.is_renewed && pending != Some(*id);
            if is_waiting && downloads.request(build_id, bare.owner, bare.samples) {
                bare.is_renewed = true;
                arrived.push(*id);
            }
            true
        });
        arrived
    }
}
