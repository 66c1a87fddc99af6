//! Directories that cache files between runs: unwind tables, and debug info that was downloaded.

mod directory;
mod error;
mod partial;

pub use directory::{CacheKind, Directory};
pub use error::CacheError;
pub use partial::PartialFile;
