//! Debug info from servers that speak the protocol of debuginfod: `GET /buildid/ID/debuginfo`.
//!
//! [`Downloads`] is asked for a build ID and answers at once with what is on disk; a thread of its
//! own, at low priority, looks up the rest. No window waits for it. Nothing is sent unless servers
//! are configured.
//!
//! 1. [`Downloads::request`] queues a build ID, once, within the limits of its owner: containers
//!    choose build IDs.
//! 2. The thread gets the file from the first server that has it, within limits of time and bytes.
//! 3. A file counts only if it is an ELF file with that build ID, and debug info or a symbol table.
//!    Then it appears in the cache directory, whole.
//! 4. Every lookup ends with a [`DownloadOutcome`], which is counted. One that failed is tried
//!    again after a time.

mod downloads;
mod fetcher;
mod lookups;
mod outcome;
mod quota;
mod server;
mod server_list;
mod shared;
mod storage;
#[cfg(test)]
mod tests;

pub use downloads::{Downloads, DownloadsError};
pub use outcome::{DownloadCounts, DownloadOutcome};
pub use server_list::{ServerList, ServerListError};
pub use storage::{default_directory, directory_below};
