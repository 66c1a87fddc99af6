//! Where one sink gets executables for its server, with a count of what became of them.

use std::fs::File;
use std::sync::Arc;

use super::Shared;
use super::queues::Life;
use crate::debug_info::{DebugInfo, UploadEnd};

/// The agent's executables, for one sink.
pub struct Counted {
    pub files: Arc<dyn DebugInfo>,
    pub life: Life,
    pub shared: Arc<Shared>,
}

impl DebugInfo for Counted {
    fn open(&self, build_id: &str) -> Option<File> {
        self.files.open(build_id)
    }

    fn dealt_with(&self, end: UploadEnd) {
        self.files.dealt_with(end);
        self.shared.queues().dealt_with(&self.life, end);
    }
}
