//! The spool: where batches wait on the disk for their sinks.
//!
//! ```text
//! DIRECTORY/.lock                                                one agent at a time
//! DIRECTORY/.x7Kq2a.tmp                                          a batch that is being written
//! DIRECTORY/SINK/01795571040123456789-000000.pprof.zst           one that waits
//! DIRECTORY/SINK/damaged/                                        files that are no batches, the newest few
//! ```
//!
//! A batch is written once and synced, then linked into the directory of each sink, and
//! each of those is synced. So after a crash or a power loss a sink has it whole or not at all,
//! and it takes its room once, until the last sink has let go of it.
//!
//! Removals are not synced: a batch that was delivered in the last seconds before a power
//! loss may be there again, and is then delivered twice.
//!
//! This module knows files. What waits for whom, and how much of it may, is kept in memory by
//! the delivery.

mod aside;
mod name;
mod stored;

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::Deserialize;
use tempfile::NamedTempFile;

use crate::batch::{self, Batch};
use crate::disk;

pub(crate) use name::Name;
pub(crate) use stored::{TooLarge, encode};

/// Permissions of the directories and files, less the umask: nobody else reads them.
const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// Most files looked at in the directory of one sink.
const FILES_MAX: usize = 1_000_000;

/// Linux's number for a disk that gives no answer, or not for this block.
const EIO: i32 = 5;

/// Where batches wait, and how many.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The directory. It is made when it is not there.
    pub directory: PathBuf,
    /// Most bytes of all batches, each counted once and in whole blocks of the disk.
    /// For a moment there is one more.
    #[serde(rename = "max_bytes")]
    pub bytes_max: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { directory: "/var/lib/everytick/spool".into(), bytes_max: 512 << 20 }
    }
}

/// The directories and files of the spool.
#[derive(Debug)]
pub(crate) struct Spool {
    directory: PathBuf,
    /// Held as long as we live.
    lock: Mutex<Option<File>>,
}

/// Why the spool cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotTaken {
    /// Another process has it.
    #[error("another everytick uses it")]
    InUse,
    /// As the system answers.
    #[error(transparent)]
    Disk(#[from] io::Error),
}

/// Why a batch cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreadable {
    /// Its file is gone.
    #[error("its file is gone")]
    Gone,
    /// Its file is damaged.
    #[error(transparent)]
    Damaged(#[from] stored::Damage),
    /// The disk does not give it: a block of it is bad, or the whole disk is away.
    #[error(transparent)]
    Device(io::Error),
    /// Not now, as the system answers.
    #[error(transparent)]
    Disk(io::Error),
}

/// A directory of the spool that no sink has.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Left {
    /// The name of the sink that had it.
    pub sink: String,
    /// Batches in it.
    pub batches: usize,
    /// Their bytes.
    pub bytes: u64,
}

impl Spool {
    /// Names a spool. Touches no file.
    pub fn new(directory: PathBuf) -> Self {
        Self { directory, lock: Mutex::new(None) }
    }

    /// Where it is.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Makes the directory where it is not there yet, takes it for this process and
    /// removes what a killed process was writing.
    ///
    /// # Errors
    /// [`NotTaken`]; it may be tried again.
    pub fn take(&self) -> Result<(), NotTaken> {
        let mut lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        if lock.is_some() {
            return Ok(());
        }
        disk::create_directory(&self.directory, DIRECTORY_MODE)?;
        let file = open_lock(&self.directory.join(".lock"))?;
        match file.try_lock() {
            Ok(()) => *lock = Some(file),
            Err(TryLockError::WouldBlock) => return Err(NotTaken::InUse),
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
        disk::remove_temporaries(&self.directory);
        Ok(())
    }

    /// Lists the batches of a sink and their lengths in bytes, in any order. Files that
    /// are no batches by their names are passed over.
    ///
    /// # Errors
    /// As the system answers.
    pub fn batches_of(&self, sink: &str) -> io::Result<Vec<(Name, u64)>> {
        match batches_in(&self.directory.join(sink)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            listed => listed,
        }
    }

    /// Finds directories with batches that none of these sinks has.
    pub fn left_by_others(&self, is_ours: impl Fn(&str) -> bool) -> Vec<Left> {
        let entries = fs::read_dir(&self.directory).into_iter().flatten().flatten();
        let mut left = Vec::new();
        for entry in entries.take(FILES_MAX) {
            let sink = entry.file_name().to_string_lossy().into_owned();
            let Ok(batches) = batches_in(&entry.path()) else { continue };
            if !batches.is_empty() && !is_ours(&sink) {
                let bytes = batches.iter().map(|(_, bytes)| bytes).sum();
                left.push(Left { sink, batches: batches.len(), bytes });
            }
        }
        left
    }

    /// Writes the bytes of a batch to the disk, under no name that anybody reads.
    ///
    /// # Errors
    /// As the system answers; then nothing is left of it.
    pub fn write(&self, bytes: &[u8]) -> io::Result<NamedTempFile> {
        disk::create_directory(&self.directory, DIRECTORY_MODE)?;
        disk::write_temporary(&self.directory, FILE_MODE, bytes)
    }

    /// Gives a written batch to a sink, for good: the name is on the disk as well.
    ///
    /// # Errors
    /// As the system answers; then the sink does not have it.
    pub fn link(&self, file: &NamedTempFile, sink: &str, name: Name) -> io::Result<()> {
        let directory = self.directory.join(sink);
        disk::create_directory(&directory, DIRECTORY_MODE)?;
        let path = directory.join(name.to_string());
        // One of this name was delivered or lost before, but could not be removed.
        disk::remove(&path)?;
        fs::hard_link(file.path(), &path)?;
        disk::sync_directory(&directory).inspect_err(|_| {
            let _ = disk::remove(&path);
        })
    }

    /// Reads a batch and checks it whole.
    ///
    /// # Errors
    /// [`Unreadable`].
    pub fn read(&self, sink: &str, name: Name) -> Result<Batch, Unreadable> {
        let path = self.path_of(sink, name);
        let bytes = read_bounded(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Unreadable::Gone,
            _ if error.raw_os_error() == Some(EIO) => Unreadable::Device(error),
            _ => Unreadable::Disk(error),
        })?;
        Ok(stored::decode(&bytes, name)?)
    }

    /// Takes a batch from a sink. One that is gone already is fine.
    ///
    /// # Errors
    /// As the system answers.
    pub fn remove(&self, sink: &str, name: Name) -> io::Result<()> {
        disk::remove(&self.path_of(sink, name))
    }

    /// Moves a damaged file out of the way.
    ///
    /// # Errors
    /// As the system answers.
    pub fn set_aside(&self, sink: &str, name: Name) -> io::Result<()> {
        aside::set_aside(&self.directory.join(sink), &name.to_string(), DIRECTORY_MODE)
    }

    fn path_of(&self, sink: &str, name: Name) -> PathBuf {
        self.directory.join(sink).join(name.to_string())
    }
}

/// Opens the file that is locked. For reading: what waits on a read-only disk can still be
/// delivered, and a disk can be made read-only while we have it.
fn open_lock(path: &Path) -> io::Result<File> {
    let made = OpenOptions::new().create_new(true).write(true).open(path);
    File::open(path).map_err(|error| made.err().unwrap_or(error))
}

fn batches_in(directory: &Path) -> io::Result<Vec<(Name, u64)>> {
    let mut batches = Vec::new();
    for entry in fs::read_dir(directory)?.take(FILES_MAX) {
        let entry = entry?;
        let Some(name) = entry.file_name().to_str().and_then(Name::parse) else { continue };
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.is_file() {
            batches.push((name, metadata.len()));
        }
    }
    Ok(batches)
}

/// Reads a file of at most the largest length that a batch has; a longer one is cut,
/// which its checksum will show.
fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(batch::BYTES_MAX as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::tests::batch;

    const NAME: Name = Name { start_unix_ns: 7, number: 0 };

    fn spool() -> (tempfile::TempDir, Spool) {
        let root = tempfile::tempdir().expect("a directory");
        let spool = Spool::new(root.path().join("spool"));
        spool.take().expect("free");
        (root, spool)
    }

    #[test]
    fn a_batch_takes_its_room_once_and_each_sink_lets_go_of_its_own() {
        use std::os::unix::fs::MetadataExt;
        let (_root, spool) = spool();
        let batch = batch(7, &[(&[("comm", "a")], 1)]);
        let file = spool.write(&encode(&batch).expect("small")).expect("written");
        spool.link(&file, "a", NAME).expect("linked");
        spool.link(&file, "b", NAME).expect("linked");
        drop(file);
        let links = || fs::metadata(spool.path_of("b", NAME)).expect("there").nlink();
        assert_eq!(links(), 2);
        spool.remove("a", NAME).expect("removed");
        assert_eq!(links(), 1);
        assert!(matches!(spool.read("a", NAME), Err(Unreadable::Gone)));
        assert_eq!(spool.read("b", NAME).expect("whole"), batch);
        assert_eq!(spool.batches_of("b").expect("there").len(), 1);
        assert_eq!(spool.batches_of("never seen").expect("none"), []);
    }

    #[test]
    fn two_agents_do_not_share_a_spool() {
        let (root, spool) = spool();
        let other = Spool::new(root.path().join("spool"));
        assert!(matches!(other.take(), Err(NotTaken::InUse)));
        drop(spool);
        other.take().expect("free again");
    }

    #[test]
    fn what_a_killed_writer_left_goes_and_what_others_left_is_told() {
        let root = tempfile::tempdir().expect("a directory");
        let spool = Spool::new(root.path().to_owned());
        let file = spool.write(b"half").expect("written");
        spool.link(&file, "gone", NAME).expect("linked");
        file.keep().expect("as if killed");
        fs::create_dir(root.path().join("lost+found")).expect("made");
        spool.take().expect("free");
        let temporaries = fs::read_dir(root.path()).expect("there").flatten();
        assert_eq!(temporaries.filter(|e| e.path().extension().is_some()).count(), 0);
        let left = spool.left_by_others(|sink| sink == "other");
        assert_eq!(left, [Left { sink: "gone".into(), batches: 1, bytes: 4 }]);
        assert_eq!(spool.left_by_others(|sink| sink == "gone"), []);
    }

    #[test]
    fn a_damaged_file_is_told_from_a_good_one() {
        let (_root, spool) = spool();
        let file = spool.write(b"no batch").expect("written");
        spool.link(&file, "a", NAME).expect("linked");
        assert!(matches!(spool.read("a", NAME), Err(Unreadable::Damaged(_))));
        spool.set_aside("a", NAME).expect("moved");
        assert_eq!(spool.batches_of("a").expect("there"), []);
    }
}
