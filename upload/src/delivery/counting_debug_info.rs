//! Debug info for one sink, with its uploads counted in the sink's metrics.

use std::fs::File;
use std::sync::Arc;

use super::queues::Generation;
use super::shared::Shared;
use crate::cpu_allowance::CpuAllowance;
use crate::debug_info::{DebugInfoSource, UploadStatus};

/// The agent's source of executables, for one generation of a sink.
pub struct CountingDebugInfo {
    pub source: Arc<dyn DebugInfoSource>,
    pub generation: Generation,
    pub shared: Arc<Shared>,
    pub allowance: Arc<dyn CpuAllowance>,
}

impl DebugInfoSource for CountingDebugInfo {
    fn open(&self, build_id: &str) -> Option<File> {
        self.source.open(build_id)
    }

    fn on_upload(&self, status: UploadStatus) {
        self.source.on_upload(status);
        self.shared.queues().count_upload(&self.generation, status);
    }

    fn cpu_allowance(&self) -> Arc<dyn CpuAllowance> {
        self.allowance.clone()
    }
}
