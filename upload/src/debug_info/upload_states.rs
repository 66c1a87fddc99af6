//! Upload state of each build ID, for one server.

use std::collections::HashMap;

use tokio::time::Instant;

use super::debug_file::Quality;
use super::protocol::{LOOK_AGAIN, UploadOutcome};

/// Most build IDs remembered.
const BUILD_IDS_MAX: usize = 65_536;

/// Upload states by build ID.
#[derive(Default)]
pub struct UploadStates(HashMap<String, UploadState>);

#[derive(Clone, Copy, Debug, PartialEq)]
struct UploadState {
    progress: Progress,
    /// Best debug info that the server has from this agent.
    uploaded: Option<Quality>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Progress {
    /// Queued or being uploaded.
    Pending,
    /// Due for another attempt at this time.
    RetryAt(Instant),
    /// The server has the best debug info that exists.
    Complete,
}

impl UploadStates {
    /// Marks a build ID as pending if it is new or due. Returns whether it was.
    pub fn begin(&mut self, build_id: &str, now: Instant) -> bool {
        let state = self.0.get(build_id);
        let is_due = state
            .is_none_or(|state| matches!(state.progress, Progress::RetryAt(due) if due <= now));
        if !is_due {
            return false;
        }
        let uploaded = state.and_then(|state| state.uploaded);
        if self.0.len() >= BUILD_IDS_MAX {
            // Offered again, a server declines what it has.
            self.0.retain(|_, state| state.progress == Progress::Pending);
        }
        let pending = UploadState { progress: Progress::Pending, uploaded };
        self.0.insert(build_id.to_owned(), pending);
        true
    }

    /// Returns the best debug info that the server has from this agent.
    pub fn uploaded(&self, build_id: &str) -> Option<Quality> {
        self.0.get(build_id)?.uploaded
    }

    /// Records the outcome of an upload.
    pub fn finish(&mut self, build_id: &str, outcome: UploadOutcome) {
        let retry_after = |delay| Progress::RetryAt(Instant::now() + delay);
        let (progress, uploaded) = match outcome {
            UploadOutcome::Stored(Quality::Dwarf) => (Progress::Complete, Some(Quality::Dwarf)),
            UploadOutcome::Stored(quality) => (retry_after(LOOK_AGAIN), Some(quality)),
            UploadOutcome::NoDebugInfo => (retry_after(LOOK_AGAIN), self.uploaded(build_id)),
            UploadOutcome::Postponed(delay) => (retry_after(delay), self.uploaded(build_id)),
        };
        self.0.insert(build_id.to_owned(), UploadState { progress, uploaded });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_id_begins_once_and_again_when_due() {
        let mut states = UploadStates::default();
        let now = Instant::now();
        assert!(states.begin("abcd", now));
        assert!(!states.begin("abcd", now), "it is pending");
        states.finish("abcd", UploadOutcome::Stored(Quality::Functions));
        assert!(!states.begin("abcd", Instant::now()));
        assert!(states.begin("abcd", Instant::now() + LOOK_AGAIN), "there may be better by now");
        assert_eq!(states.uploaded("abcd"), Some(Quality::Functions));
        states.finish("abcd", UploadOutcome::NoDebugInfo);
        assert_eq!(states.uploaded("abcd"), Some(Quality::Functions), "the server still has it");
        assert!(states.begin("abcd", Instant::now() + LOOK_AGAIN));
        states.finish("abcd", UploadOutcome::Stored(Quality::Dwarf));
        assert!(!states.begin("abcd", Instant::now() + 100 * LOOK_AGAIN), "nothing is better");
    }

    #[test]
    fn remembered_build_ids_are_bounded() {
        let mut states = UploadStates::default();
        for id in 0..BUILD_IDS_MAX + 10 {
            let id = format!("{id:08x}");
            assert!(states.begin(&id, Instant::now()));
            states.finish(&id, UploadOutcome::NoDebugInfo);
        }
        assert!(states.0.len() <= BUILD_IDS_MAX);
    }
}
