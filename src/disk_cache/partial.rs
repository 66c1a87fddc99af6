//! A file of a cache that is not complete yet.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, Mode, OFlags, openat, unlinkat};

/// Name of a file until it is complete: this, then a unique number.
pub(super) const PARTIAL: &str = ".begun-";
pub(super) const FILE_FLAGS: OFlags = OFlags::NOFOLLOW.union(OFlags::CLOEXEC);

/// A file that is being written. It is removed when it is dropped.
#[derive(Debug)]
pub struct PartialFile {
    /// The file, for writing and reading.
    pub file: File,
    directory: Arc<OwnedFd>,
    /// Empty once it is stored.
    name: String,
}

impl PartialFile {
    pub(super) fn create(directory: Arc<OwnedFd>) -> io::Result<Self> {
        static CREATED: AtomicU64 = AtomicU64::new(0);
        let number = CREATED.fetch_add(1, Ordering::Relaxed);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let name = format!("{PARTIAL}{}-{now:x}-{number}", std::process::id());
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | FILE_FLAGS;
        let file = openat(&directory, &name, flags, Mode::RUSR | Mode::WUSR)?.into();
        Ok(Self { file, directory, name })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Records that it has another name now.
    pub(super) fn mark_stored(mut self) {
        self.name.clear();
    }
}

impl Drop for PartialFile {
    fn drop(&mut self) {
        if !self.name.is_empty() {
            let _ = unlinkat(&self.directory, &self.name, AtFlags::empty());
        }
    }
}
