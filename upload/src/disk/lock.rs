//! Locks on directories: each has one writer.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// Interval at which a lock that another process holds is tried again.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// A directory that another process writes.
#[derive(Debug, PartialEq, Eq)]
pub struct InUse(pub PathBuf);

/// Why a directory cannot be locked.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process holds the lock.
    #[error("another everytick uses it")]
    InUse,
    /// An I/O error.
    #[error(transparent)]
    Disk(#[from] io::Error),
}

/// The lock on a directory. The kernel releases it when this is dropped or the process ends,
/// however it ends (flock(2)). The file system needs no space and may be read-only.
#[derive(Debug)]
pub struct DirectoryLock(File);

impl DirectoryLock {
    /// Locks the directory itself, which leaves no file in it.
    ///
    /// `wait`: how long to wait for another process to release it.
    ///
    /// # Errors
    /// [`LockError`]; the call may be repeated.
    pub fn acquire(directory: &Path, wait: Duration) -> Result<Self, LockError> {
        Self::of(File::open(directory)?, directory, wait)
    }

    /// Locks the file `.lock` of a directory, which is created.
    ///
    /// # Errors
    /// [`LockError`]; the call may be repeated.
    pub fn acquire_by_file(directory: &Path, wait: Duration) -> Result<Self, LockError> {
        let path = directory.join(".lock");
        // Opened read-only: a disk can become read-only while the lock is held.
        let created = OpenOptions::new().create_new(true).write(true).open(&path);
        let file = File::open(&path).map_err(|error| created.err().unwrap_or(error))?;
        Self::of(file, directory, wait)
    }

    fn of(file: File, directory: &Path, wait: Duration) -> Result<Self, LockError> {
        let (start, mut is_logged) = (Instant::now(), false);
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self(file)),
                Err(TryLockError::WouldBlock) if start.elapsed() < wait => {
                    if !std::mem::replace(&mut is_logged, true) {
                        let directory = directory.display();
                        tracing::info!("waiting for another everytick to release {directory}");
                    }
                    thread::sleep(POLL_INTERVAL.min(wait));
                }
                Err(TryLockError::WouldBlock) => return Err(LockError::InUse),
                Err(TryLockError::Error(error)) => return Err(error.into()),
            }
        }
    }

    /// Returns whether the locked directory is still the one at this path. A directory that was
    /// removed and created again is another.
    pub fn is_at(&self, directory: &Path) -> bool {
        let identity = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
        match (self.0.metadata(), directory.metadata()) {
            (Ok(ours), Ok(theirs)) => identity(ours) == identity(theirs),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_one_writer_until_the_lock_is_dropped() {
        let root = tempfile::tempdir().expect("a directory");
        for acquire in [DirectoryLock::acquire, DirectoryLock::acquire_by_file] {
            let lock = acquire(root.path(), Duration::ZERO).expect("free");
            let second = acquire(root.path(), 2 * POLL_INTERVAL);
            assert!(matches!(second, Err(LockError::InUse)), "{second:?}");
            drop(lock);
            acquire(root.path(), Duration::ZERO).expect("free again");
        }
    }

    #[test]
    fn waits_for_a_writer_that_is_stopping() {
        let root = tempfile::tempdir().expect("a directory");
        let lock = DirectoryLock::acquire(root.path(), Duration::ZERO).expect("free");
        let stopping = thread::spawn(move || {
            thread::sleep(3 * POLL_INTERVAL);
            drop(lock);
        });
        DirectoryLock::acquire(root.path(), Duration::from_secs(60)).expect("released in time");
        stopping.join().expect("no panic");
    }

    #[test]
    fn a_recreated_directory_is_not_the_locked_one() {
        let root = tempfile::tempdir().expect("a directory");
        let directory = root.path().join("store");
        std::fs::create_dir(&directory).expect("created");
        let lock = DirectoryLock::acquire(&directory, Duration::ZERO).expect("free");
        assert!(lock.is_at(&directory));
        std::fs::rename(&directory, root.path().join("old")).expect("renamed");
        assert!(!lock.is_at(&directory));
        std::fs::create_dir(&directory).expect("created");
        assert!(!lock.is_at(&directory));
    }
}
