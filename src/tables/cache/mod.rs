//! The cache: tables on disk, so that a file read by an earlier run need not be read again.
//!
//! The cache is a shortcut and nothing else. A table that is missing, damaged or of another version
//! is read from its file, and the cache may be deleted at any time. Each of its files holds one
//! table:
//!
//! ```text
//! "EVTABLE\n", u32 format, u32 version of the rest    see `unwind::STORED_VERSION`
//! key, 32 bytes                                       also the file's name, see `key`
//! u64 bytes of the rest, SHA-256 of everything but itself
//! evidence                                            see `Evidence::to_bytes`
//! call frames                                         see `CallFrames::to_bytes`
//! ```
//!
//! The hash detects bit rot. Only the owner can create files in the directory. Their content is
//! checked nevertheless as if anyone could: no file leads a walk out of its table.

mod evidence;

use std::fs::File;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest, Sha256};
use unwind::{CallFrames, STORED_VERSION};

use crate::disk_cache::{CacheError, CacheKind, Directory};
pub(super) use evidence::{Evidence, ReadRanges};

/// Most bytes of one table.
const FILE_MAX: usize = 64 << 20;
const KIND: CacheKind =
    CacheKind { suffix: ".table", file_max: FILE_MAX as u64, bytes_max: 256 << 20 };
/// Rows from which on a table is stored. Reading the file of a smaller one takes 0.2 ms, as long
/// as storing it.
const ROWS_MIN: u64 = 1000;
const MAGIC: [u8; 8] = *b"EVTABLE\n";
const FORMAT: u32 = 2;
const HEAD: usize = 16 + 32 + 8;
const HASH: usize = 32;

type Key = [u8; 32];

/// What became of lookups and writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheCounts {
    /// Tables loaded from the cache.
    pub loaded: u64,
    /// Damaged files found in the cache.
    pub damaged: u64,
    /// Tables found under the right key but made of another file's bytes.
    pub mismatched: u64,
    /// Tables that could not be stored.
    pub store_failed: u64,
    /// The last `errno` of those.
    pub errno: i32,
}

/// Counts written by the loader thread and read by others.
#[derive(Clone, Debug, Default)]
pub(super) struct SharedCacheCounts(Arc<Mutex<CacheCounts>>);

impl SharedCacheCounts {
    pub fn get(&self) -> CacheCounts {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn update(&self, count: impl FnOnce(&mut CacheCounts)) {
        count(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// A table in bytes.
#[derive(Debug)]
pub(super) struct SerializedTable {
    /// See [`Evidence::to_bytes`].
    pub evidence: Vec<u8>,
    /// See [`CallFrames::to_bytes`].
    pub frames: Vec<u8>,
}

/// A directory of tables. Several processes may use it at the same time.
#[derive(Debug)]
pub struct Cache {
    directory: Directory,
    pub(super) counts: SharedCacheCounts,
}

impl Cache {
    /// Opens the cache in a directory, which is created if it does not exist.
    ///
    /// # Errors
    /// [`CacheError`] where other users could create tables, or when there is no directory.
    pub fn open(path: &Path) -> Result<Self, CacheError> {
        Ok(Self { directory: Directory::open(path, KIND)?, counts: SharedCacheCounts::default() })
    }

    /// Returns the table stored for this content, see `ContentId`, if it was made of the bytes that
    /// `file` has.
    pub(super) fn load(&self, content: &[u8; 32], file: &File) -> Option<CallFrames> {
        let key = key(content);
        let read = || match self.directory.read(&name(&key)) {
            Ok(None) => Some(None),
            Ok(Some(bytes)) => unpack(&bytes, &key).map(Some),
            Err(_) => None,
        };
        let found = catch_unwind(AssertUnwindSafe(read)).unwrap_or_default();
        if found.is_none() {
            self.counts.update(|counts| counts.damaged += 1);
            self.directory.remove(&name(&key));
        }
        let (evidence, frames) = found.flatten()?;
        if !evidence.is_in(file) {
            self.counts.update(|counts| counts.mismatched += 1);
            return None;
        }
        self.counts.update(|counts| counts.loaded += 1);
        Some(frames)
    }

    /// Whether storing these call frames saves time later.
    pub(super) fn is_worthwhile(frames: &CallFrames) -> bool {
        frames.table.rows >= ROWS_MIN && frames.table.bytes() < FILE_MAX / 2
    }

    /// Stores a table for later runs; a failure is counted.
    pub(super) fn store(&mut self, content: &[u8; 32], table: &SerializedTable) {
        let SerializedTable { evidence, frames } = table;
        let key = key(content);
        let head = pack(&key, evidence, frames);
        if let Err(error) = self.directory.write(&name(&key), &[&head, evidence, frames]) {
            self.counts.update(|counts| {
                counts.store_failed += 1;
                counts.errno = error.raw_os_error().unwrap_or_default();
            });
        }
    }
}

impl CacheCounts {
    /// Returns why the last table could not be stored.
    pub fn error(&self) -> io::Error {
        io::Error::from_raw_os_error(self.errno)
    }
}

/// Returns the key of a table: the content of its file, and the version of the code that made it.
fn key(content: &[u8; 32]) -> Key {
    let mut hasher = Sha256::new();
    hasher.update(MAGIC);
    hasher.update(FORMAT.to_le_bytes());
    hasher.update(STORED_VERSION.to_le_bytes());
    for part in [env!("CARGO_PKG_VERSION"), std::env::consts::ARCH] {
        hasher.update(part);
        hasher.update([0]);
    }
    hasher.update(content);
    hasher.finalize().into()
}

fn name(key: &Key) -> String {
    key.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns the part of a file before these bytes.
fn pack(key: &Key, evidence: &[u8], frames: &[u8]) -> Vec<u8> {
    let mut head = Vec::with_capacity(HEAD + HASH);
    head.extend(MAGIC);
    head.extend(FORMAT.to_le_bytes());
    head.extend(STORED_VERSION.to_le_bytes());
    head.extend(key);
    head.extend(((evidence.len() + frames.len()) as u64).to_le_bytes());
    let hash = hash(&[&head, evidence, frames]);
    head.extend(hash);
    head
}

/// Reads the file of a key; `None` unless it is exactly what was written for that key.
fn unpack(bytes: &[u8], key: &Key) -> Option<(Evidence, CallFrames)> {
    let (head, body) = bytes.split_at_checked(HEAD + HASH)?;
    // Everything in the head is known beforehand, so it is built again and compared.
    if head != pack(key, body, &[]) {
        return None;
    }
    let (evidence, frames) = Evidence::split_from(body)?;
    Some((evidence, CallFrames::from_bytes(frames)?))
}

fn hash(parts: &[&[u8]]) -> [u8; HASH] {
    parts.iter().fold(Sha256::new(), |hasher, part| hasher.chain_update(part)).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::PathBuf;

    /// [`STORED_VERSION`], and the hash of the tables of all files in tests/corpus/elf.
    const CORPUS: (u32, &str) =
        (7, "8b75fede7979e717e4dfaed0739cb03de0a3b46cd3c4c30459cc9c6c56f13e9c");

    const ONE: [u8; 32] = [1; 32];
    const OTHER: [u8; 32] = [2; 32];

    const FILE: &str = "debug_frame_compressed";

    /// The call frames of a small file.
    fn frames() -> CallFrames {
        read(FILE)
    }

    fn file() -> File {
        File::open(corpus().join(FILE)).expect("a file of the corpus")
    }

    fn corpus() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/elf")
    }

    /// The table of that file.
    fn table() -> SerializedTable {
        let ranges = ReadRanges::default();
        ranges.add(0, 64);
        let evidence = ranges.hash(&file()).expect("a file with a header").to_bytes();
        SerializedTable { evidence, frames: frames().to_bytes() }
    }

    fn packed(key: &Key, table: &SerializedTable) -> Vec<u8> {
        let SerializedTable { evidence, frames } = table;
        [&pack(key, evidence, frames)[..], evidence, frames].concat()
    }

    fn read(name: &str) -> CallFrames {
        let bytes = fs::read(corpus().join(name)).expect("a file of the corpus");
        let at = |from: u64, into: &mut [u8]| {
            let found = bytes.get(from as usize..).and_then(|rest| rest.get(..into.len()));
            found.map(|found| into.copy_from_slice(found)).is_some()
        };
        unwind::read(&at).expect("call frames")
    }

    fn open_cache(directory: &tempfile::TempDir) -> Cache {
        Cache::open(&directory.path().join("cache")).expect("a writable directory")
    }

    fn path(directory: &tempfile::TempDir, content: &[u8; 32]) -> PathBuf {
        directory.path().join("cache").join(name(&key(content)) + ".table")
    }

    #[test]
    fn stored_table_is_loaded_by_the_next_run() {
        let directory = tempfile::tempdir().expect("a directory");
        open_cache(&directory).store(&ONE, &table());
        let next = open_cache(&directory);
        assert_eq!(next.load(&ONE, &file()), Some(frames()));
        assert_eq!(next.load(&OTHER, &file()), None);
        assert_eq!(next.counts.get(), CacheCounts { loaded: 1, ..CacheCounts::default() });
    }

    #[test]
    fn table_of_a_look_alike_file_is_not_loaded() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut cache = open_cache(&directory);
        cache.store(&ONE, &table());
        let other = File::open(corpus().join("go")).expect("a file of the corpus");
        assert_eq!(cache.load(&ONE, &other), None);
        assert_eq!(cache.load(&ONE, &file()), Some(frames()));
        let counts = cache.counts.get();
        assert_eq!((counts.loaded, counts.mismatched, counts.damaged), (1, 1, 0));
    }

    #[test]
    fn flipped_bits_and_truncation_are_detected() {
        let key = key(&ONE);
        let mut bytes = packed(&key, &table());
        assert!(unpack(&bytes, &key).is_some());
        for end in 0..bytes.len() {
            assert!(unpack(&bytes[..end], &key).is_none(), "{end} bytes");
        }
        for at in 0..8 * bytes.len() {
            bytes[at / 8] ^= 1 << (at % 8);
            assert!(unpack(&bytes, &key).is_none(), "bit {at}");
            bytes[at / 8] ^= 1 << (at % 8);
        }
        bytes.push(0);
        assert!(unpack(&bytes, &key).is_none(), "an additional byte");
    }

    #[test]
    fn malformed_table_with_a_right_hash_is_rejected() {
        let key = key(&ONE);
        let mut table = table();
        let last = table.frames.len() - 20;
        table.frames[last] = 0xff; // a row whose rule does not exist
        assert!(unpack(&packed(&key, &table), &key).is_none());
    }

    #[test]
    fn damaged_file_is_counted_removed_and_replaced() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut cache = open_cache(&directory);
        cache.store(&OTHER, &table());
        let whole = fs::read(path(&directory, &OTHER)).expect("a stored file");
        let mut older = whole.clone();
        older[8] += 1;
        let bad: [&[u8]; 4] = [&whole, &older, b"", &whole[..whole.len() - 1]];
        for (times, bad) in (1..).zip(bad) {
            fs::write(path(&directory, &ONE), bad).expect("written");
            assert_eq!(cache.load(&ONE, &file()), None);
            assert_eq!(cache.counts.get().damaged, times);
            assert!(!path(&directory, &ONE).exists());
        }
        cache.store(&ONE, &table());
        assert_eq!(cache.load(&ONE, &file()), Some(frames()));
    }

    #[test]
    fn directories_links_and_huge_files_are_not_read() {
        let directory = tempfile::tempdir().expect("a directory");
        let cache = open_cache(&directory);
        let path = path(&directory, &ONE);
        fs::create_dir(&path).expect("created");
        assert_eq!(cache.load(&ONE, &file()), None);
        fs::remove_dir(&path).expect("removed");
        std::os::unix::fs::symlink("/dev/zero", &path).expect("created");
        assert_eq!(cache.load(&ONE, &file()), None);
        let large = fs::File::create(&path).expect("created"); // the link was removed
        large.set_len(1 << 40).expect("a sparse file");
        assert_eq!(cache.load(&ONE, &file()), None);
        assert_eq!(cache.counts.get().damaged, 3);
    }

    #[test]
    fn failed_store_is_counted_with_its_error() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut cache = open_cache(&directory);
        fs::remove_dir(directory.path().join("cache")).expect("removed");
        cache.store(&ONE, &table());
        assert_eq!(cache.load(&ONE, &file()), None);
        let counts = cache.counts.get();
        assert_eq!((counts.loaded, counts.damaged, counts.store_failed), (0, 0, 1));
        assert_eq!(counts.error().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn changed_tables_need_another_stored_version() {
        let files =
            ["debug_frame_compressed", "eh_frame", "go", "go_merged", "no_section_headers", "odd"];
        let all: Vec<u8> = files.iter().flat_map(|name| read(name).to_bytes()).collect();
        let found = name(&hash(&[&all]));
        assert_eq!(
            CORPUS,
            (STORED_VERSION, &*found),
            "the same files make other tables: raise STORED_VERSION, then change CORPUS, or caches \
             of earlier builds keep returning the old tables"
        );
    }
}
