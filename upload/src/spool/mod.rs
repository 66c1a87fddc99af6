//! The spool: batches on disk, waiting for their sinks.
//!
//! ```text
//! DIRECTORY/.lock              held by one agent at a time
//! DIRECTORY/.instance          the number of that agent
//! DIRECTORY/.x7Kq2a.tmp        a batch that is being written
//! DIRECTORY/SINK/*.pprof.zst   batches that wait for SINK; their names are in `name.rs`
//! DIRECTORY/SINK/damaged/      quarantine, the newest few files
//! ```
//!
//! A batch is written once and synced, then hard-linked into the directory of each sink, and each
//! of those directories is synced. After a crash or a power loss, a sink therefore has a batch
//! whole or not at all. A batch occupies disk space once, until the last sink removes its link.
//!
//! Removals are not synced: a batch that was delivered in the last seconds before a power loss may
//! reappear, and is then delivered twice.
//!
//! This module handles files only. Which batch waits for which sink, and how much may wait, is
//! tracked in memory by [`crate::delivery`].

mod codec;
mod config;
mod name;
mod quarantine;

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tempfile::NamedTempFile;

use crate::batch::{self, Batch};
use crate::disk::{self, DirectoryLock, LockError};

pub(crate) use codec::{TooLarge, encode};
pub use config::SpoolConfig;
pub(crate) use name::BatchName;

/// Permissions of directories and files, less the umask: private to the agent.
const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// Name of the file with the number of the agent.
const INSTANCE: &str = ".instance";

/// Most directory entries read for one sink.
const FILES_MAX: usize = 1_000_000;

/// `errno` of a disk that does not respond, or has a bad block.
const EIO: i32 = 5;

/// The spool directory, and the lock on it.
#[derive(Debug)]
pub(crate) struct Spool {
    directory: PathBuf,
    /// Held until the spool is dropped.
    lock: Mutex<Option<DirectoryLock>>,
    /// Read when it is needed first.
    instance: Mutex<Option<u64>>,
}

/// Why a batch cannot be read from the spool.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpoolReadError {
    /// The file does not exist.
    #[error("its file is missing")]
    Missing,
    /// The file is damaged.
    #[error(transparent)]
    Damaged(#[from] codec::Damage),
    /// The device reports an error: a bad block, or the whole disk is unavailable.
    #[error(transparent)]
    Device(io::Error),
    /// Another, temporary I/O error.
    #[error(transparent)]
    Disk(io::Error),
}

/// A directory with batches for a sink that is not configured.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct OrphanedDirectory {
    /// Name of the sink.
    pub sink: String,
    /// Batches that stay until the sink is configured again.
    pub batches: usize,
    /// Size of all their files.
    pub bytes: u64,
}

impl Spool {
    /// Creates a handle without touching the disk.
    pub fn new(directory: PathBuf) -> Self {
        Self { directory, lock: Mutex::default(), instance: Mutex::default() }
    }

    /// Returns the spool directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Creates the directory if needed, locks it for this process and removes the temporary files
    /// of a killed one. Does nothing when the lock is held already. `wait`: how long to wait for
    /// another process to release it.
    ///
    /// # Errors
    /// [`LockError`]; the call may be repeated.
    pub fn lock(&self, wait: Duration) -> Result<(), LockError> {
        let mut lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        if lock.is_some() {
            return Ok(());
        }
        disk::create_directory(&self.directory, DIRECTORY_MODE)?;
        *lock = Some(DirectoryLock::acquire_by_file(&self.directory, wait)?);
        disk::remove_temporaries(&self.directory);
        Ok(())
    }

    /// Returns the number by which the agent of this spool is distinguished from others. It is
    /// stored in the spool; where that fails, it lasts as long as the process.
    pub fn instance(&self) -> u64 {
        let mut instance = self.instance.lock().unwrap_or_else(PoisonError::into_inner);
        *instance.get_or_insert_with(|| {
            let path = self.directory.join(INSTANCE);
            let stored = read_instance(&path);
            stored.unwrap_or_else(|| {
                let new = fastrand::u64(..);
                let text = format!("{new:016x}\n");
                let written = disk::write_temporary(&self.directory, FILE_MODE, text.as_bytes());
                if let Ok(file) = written {
                    let _ = file.persist(path);
                }
                new
            })
        })
    }

    /// Lists the batches of a sink with their lengths in bytes, unordered. Other files are ignored.
    pub fn batches_of(&self, sink: &str) -> io::Result<Vec<(BatchName, u64)>> {
        match batches_in(&self.directory.join(sink)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            listed => listed,
        }
    }

    /// Lists the readable directories with batches whose sink is not configured.
    pub fn orphaned_directories(
        &self,
        is_configured: impl Fn(&str) -> bool,
    ) -> Vec<OrphanedDirectory> {
        let entries = fs::read_dir(&self.directory).into_iter().flatten().flatten();
        let mut orphaned = Vec::new();
        for entry in entries.take(FILES_MAX) {
            let sink = entry.file_name().to_string_lossy().into_owned();
            let Ok(batches) = batches_in(&entry.path()) else { continue };
            if !batches.is_empty() && !is_configured(&sink) {
                let bytes = batches.iter().map(|(_, bytes)| bytes).sum();
                orphaned.push(OrphanedDirectory { sink, batches: batches.len(), bytes });
            }
        }
        orphaned
    }

    /// Writes an encoded batch to a synced temporary file.
    ///
    /// # Errors
    /// Any I/O error; no file remains.
    pub fn write(&self, bytes: &[u8]) -> io::Result<NamedTempFile> {
        disk::create_directory(&self.directory, DIRECTORY_MODE)?;
        disk::write_temporary(&self.directory, FILE_MODE, bytes)
    }

    /// Links a written batch into the directory of a sink and syncs that directory.
    ///
    /// # Errors
    /// Any I/O error; the sink does not have the batch.
    pub fn link(&self, file: &NamedTempFile, sink: &str, name: BatchName) -> io::Result<()> {
        let directory = self.directory.join(sink);
        disk::create_directory(&directory, DIRECTORY_MODE)?;
        let path = directory.join(name.to_string());
        // A batch of this name was delivered or lost before, but could not be removed.
        disk::remove(&path)?;
        fs::hard_link(file.path(), &path)?;
        disk::sync_directory(&directory).inspect_err(|_| {
            let _ = disk::remove(&path);
        })
    }

    /// Reads a batch and verifies all of it.
    pub fn read(&self, sink: &str, name: BatchName) -> Result<Batch, SpoolReadError> {
        let path = self.path_of(sink, name);
        let bytes = read_bounded(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => SpoolReadError::Missing,
            _ if error.raw_os_error() == Some(EIO) => SpoolReadError::Device(error),
            _ => SpoolReadError::Disk(error),
        })?;
        Ok(codec::decode(&bytes, name)?)
    }

    /// Removes a sink's link to a batch. A missing file is no error.
    pub fn remove(&self, sink: &str, name: BatchName) -> io::Result<()> {
        disk::remove(&self.path_of(sink, name))
    }

    /// Moves a damaged file into quarantine.
    pub fn quarantine(&self, sink: &str, name: BatchName) -> io::Result<()> {
        quarantine::quarantine(&self.directory.join(sink), &name.to_string(), DIRECTORY_MODE)
    }

    fn path_of(&self, sink: &str, name: BatchName) -> PathBuf {
        self.directory.join(sink).join(name.to_string())
    }
}

fn read_instance(path: &Path) -> Option<u64> {
    let mut text = String::new();
    File::open(path).ok()?.take(64).read_to_string(&mut text).ok()?;
    u64::from_str_radix(text.trim(), 16).ok()
}

fn batches_in(directory: &Path) -> io::Result<Vec<(BatchName, u64)>> {
    let mut batches = Vec::new();
    for entry in fs::read_dir(directory)?.take(FILES_MAX) {
        let entry = entry?;
        let Some(name) = entry.file_name().to_str().and_then(BatchName::parse) else { continue };
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.is_file() {
            batches.push((name, metadata.len()));
        }
    }
    Ok(batches)
}

/// Reads a file up to the largest length of a batch. A longer file is truncated, which its checksum
/// reveals.
fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(batch::BYTES_MAX as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::tests::batch;

    const NAME: BatchName = BatchName::new(7, 7, None);

    fn spool() -> (tempfile::TempDir, Spool) {
        let root = tempfile::tempdir().expect("a directory");
        let spool = Spool::new(root.path().join("spool"));
        spool.lock(Duration::ZERO).expect("free");
        (root, spool)
    }

    #[test]
    fn sinks_share_one_file_and_remove_their_own_link() {
        use std::os::unix::fs::MetadataExt;
        let (_root, spool) = spool();
        let batch = batch(7, &[(&[("comm", "a")], 1)]);
        let file = spool.write(&encode(&batch).expect("small")).expect("written");
        spool.link(&file, "a", NAME).expect("linked");
        spool.link(&file, "b", NAME).expect("linked");
        drop(file);
        let links = || fs::metadata(spool.path_of("b", NAME)).expect("exists").nlink();
        assert_eq!(links(), 2);
        spool.remove("a", NAME).expect("removed");
        assert_eq!(links(), 1);
        assert!(matches!(spool.read("a", NAME), Err(SpoolReadError::Missing)));
        assert_eq!(spool.read("b", NAME).expect("intact"), batch);
        assert_eq!(spool.batches_of("b").expect("readable").len(), 1);
        assert_eq!(spool.batches_of("unknown").expect("empty"), []);
    }

    #[test]
    fn two_agents_cannot_lock_one_spool() {
        let (root, spool) = spool();
        let other = Spool::new(root.path().join("spool"));
        assert!(matches!(other.lock(Duration::ZERO), Err(LockError::InUse)));
        drop(spool);
        other.lock(Duration::ZERO).expect("free again");
    }

    #[test]
    fn the_instance_lasts_as_long_as_the_spool() {
        let (root, spool) = spool();
        let instance = spool.instance();
        assert_eq!(spool.instance(), instance);
        let again = |path: &Path| Spool::new(path.to_owned()).instance();
        assert_eq!(again(spool.directory()), instance);
        fs::write(spool.directory().join(INSTANCE), "damaged").expect("written");
        let new = again(spool.directory());
        assert_ne!(new, instance);
        assert_eq!(again(spool.directory()), new);
        assert_ne!(again(&root.path().join("nowhere")), new);
    }

    #[test]
    fn lock_removes_temporaries_and_orphans_are_listed() {
        let root = tempfile::tempdir().expect("a directory");
        let spool = Spool::new(root.path().to_owned());
        let file = spool.write(b"half").expect("written");
        spool.link(&file, "gone", NAME).expect("linked");
        file.keep().expect("kept, as after a kill");
        fs::create_dir(root.path().join("lost+found")).expect("created");
        spool.lock(Duration::ZERO).expect("free");
        let entries = fs::read_dir(root.path()).expect("readable").flatten();
        assert_eq!(entries.filter(|e| e.path().extension().is_some()).count(), 0);
        let orphaned = spool.orphaned_directories(|sink| sink == "other");
        assert_eq!(orphaned, [OrphanedDirectory { sink: "gone".into(), batches: 1, bytes: 4 }]);
        assert_eq!(spool.orphaned_directories(|sink| sink == "gone"), []);
    }

    #[test]
    fn a_damaged_file_is_detected_and_quarantined() {
        let (_root, spool) = spool();
        let file = spool.write(b"no batch").expect("written");
        spool.link(&file, "a", NAME).expect("linked");
        assert!(matches!(spool.read("a", NAME), Err(SpoolReadError::Damaged(_))));
        spool.quarantine("a", NAME).expect("moved");
        assert_eq!(spool.batches_of("a").expect("readable"), []);
    }
}
