//! Upload of debug info, for servers that symbolize themselves.
//!
//! ```text
//! batch -> Uploader: build IDs not offered yet -> queue -> task
//!            task: find the file with the best debug info (find.rs)
//!                  reduce it to debug info               (debug_file)
//!                  offer it in the server's protocol     (UploadProtocol, one per sink)
//! ```
//!
//! Uploads run beside the delivery of batches and never delay it.

mod debug_file;
mod find;
mod protocol;
mod read_ahead;
mod source;
mod upload_states;
mod uploader;

pub(crate) use debug_file::DebugFile;
pub(crate) use protocol::{LOOK_AGAIN, RETRY_AFTER, UploadOutcome, UploadProtocol};
pub(crate) use read_ahead::read_ahead;
pub use source::{DebugInfoSource, UploadStatus};
pub(crate) use uploader::{PARALLEL, Uploader};
