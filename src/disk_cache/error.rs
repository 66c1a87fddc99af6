//! Why a directory cannot hold a cache.

use std::io;
use std::path::PathBuf;

/// Why a directory cannot hold the cache, with the next step.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// The directory does not exist and cannot be created.
    #[error("cannot create the cache directory {path}: {source}; give another directory")]
    Create {
        /// The directory.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The directory cannot be opened.
    #[error("cannot open the cache directory {path}: {source}; give another directory")]
    Open {
        /// The directory.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The path is a symbolic link.
    #[error("cannot use the cache directory {path}: it is a symbolic link; give its target")]
    Link {
        /// The link.
        path: PathBuf,
    },
    /// The path is something else than a directory.
    #[error("cannot use the cache directory {path}: it is not a directory; give another path")]
    NoDirectory {
        /// The path.
        path: PathBuf,
    },
    /// The directory belongs to another user, who could create tables there.
    #[error(
        "cannot use the cache directory {path}: it belongs to user {owner}; give a directory of \
         user {us}"
    )]
    Owner {
        /// The directory.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// The effective user of this process.
        us: u32,
    },
    /// Other users may write to the directory.
    #[error(
        "cannot use the cache directory {path}: other users may write there; `chmod go-w {path}` \
         or give another directory"
    )]
    Writable {
        /// The directory.
        path: PathBuf,
    },
}
