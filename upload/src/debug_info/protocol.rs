//! What differs from server to server: the protocol in which a file is offered.

use std::time::Duration;

use super::debug_file::{DebugFile, Quality};
use super::source::UploadStatus;

/// Delay before a failed upload is retried.
pub(crate) const RETRY_AFTER: Duration = Duration::from_secs(300);
/// Delay before another search for better debug info, or for a service that the server lacked.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_secs(3600);

/// A server's protocol for uploading debug info.
pub(crate) trait UploadProtocol: Send + 'static {
    /// Offers a file to the server, and uploads it if the server wants it.
    ///
    /// `is_better`: the server has debug info of lower quality from this agent.
    fn offer(
        &mut self,
        build_id: &str,
        file: DebugFile,
        is_better: bool,
    ) -> impl Future<Output = UploadOutcome> + Send;
}

/// Outcome of offering a file, which determines the next attempt.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum UploadOutcome {
    /// The server has this file, or another in its place.
    Stored(Quality),
    /// There is no debug info, or none better than before.
    NoDebugInfo,
    /// Not possible now, to be retried after this delay.
    Postponed(Duration),
}

impl UploadOutcome {
    pub fn status(self) -> UploadStatus {
        match self {
            Self::Stored(_) => UploadStatus::Stored,
            Self::NoDebugInfo => UploadStatus::NoDebugInfo,
            Self::Postponed(_) => UploadStatus::Postponed,
        }
    }
}
