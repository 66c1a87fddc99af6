//! A profile goes somewhere: sinks, one folder each.
//!
//! - [`output`]: files for a person, whole or not at all.
//! - [`Batch`]: one closed window on its way to the sinks of the agent.
//! - [`delivery`]: batches to sinks, none lost.
//! - [`spool`]: where batches wait on the disk.
//! - [`sinks`]: the sinks, a folder each; [`transport`] is how their servers are reached.
#![forbid(unsafe_code)]

mod batch;
mod debug_info;
pub mod delivery;
mod disk;
pub mod output;
pub mod sinks;
pub mod spool;
pub mod transport;

pub use batch::{Answer, BYTES_MAX, Batch, Failure, Series, subset};
pub use debug_info::{DebugInfoSource, UploadStatus};
pub use sinks::{SinkSettings, StartError, Symbolize};
