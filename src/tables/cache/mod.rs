//! Tables of earlier runs, on disk: what was read of a file once need not be read again.
//!
//! A cache is only ever a shortcut. What is not there, damaged, or of another version is read from its file as if there
//! were none, and it may be deleted at any time. A file of it:
//!
//! ```text
//! "EVTABLE\n", u32 format, u32 version of what follows    see `unwind::STORED_VERSION`
//! key, 32 bytes                                           also its name, see `key`
//! u64 bytes that follow, SHA-256 of all but itself
//! what the table was made of                              see `Evidence::to_bytes`
//! call frames                                             see `CallFrames::to_bytes`
//! ```
//!
//! The hash finds what has rotted. Only its owner can put files there, and yet what they hold is checked as if anybody
//! could: no file leads a walk out of its table.

mod directory;
mod evidence;

use std::fs::File;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest, Sha256};
use unwind::{CallFrames, STORED_VERSION};

pub use directory::CacheError;
use directory::{Directory, FILE_MAX};
pub(super) use evidence::{Evidence, Notes};

/// Bytes of all tables.
const BUDGET: u64 = 256 << 20;
/// Rows from which on a table is kept. Reading the file of a smaller one takes 0.2 ms, and so does keeping it.
const ROWS_MIN: u64 = 1000;
const MAGIC: [u8; 8] = *b"EVTABLE\n";
const FORMAT: u32 = 2;
const HEAD: usize = 16 + 32 + 8;
const HASH: usize = 32;

type Key = [u8; 32];

/// What came of a cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheCounts {
    /// Tables that were taken from it.
    pub taken: u64,
    /// Files in it that were no whole tables.
    pub damaged: u64,
    /// Tables of other files that are named alike: what they were made of is not what the file holds.
    pub foreign: u64,
    /// Tables that it could not keep.
    pub unkept: u64,
    /// Number of the error for the last of those.
    pub errno: i32,
}

/// Counts that the loader's thread writes and others read.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts(Arc<Mutex<CacheCounts>>);

impl Counts {
    /// Reads them.
    pub fn get(&self) -> CacheCounts {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, count: impl FnOnce(&mut CacheCounts)) {
        count(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// A table to be kept, in bytes.
#[derive(Debug)]
pub(super) struct Kept {
    /// See [`Evidence::to_bytes`].
    pub evidence: Vec<u8>,
    /// See [`CallFrames::to_bytes`].
    pub frames: Vec<u8>,
}

/// A directory of tables. Several processes may use it at the same time.
#[derive(Debug)]
pub struct Cache {
    directory: Directory,
    pub(super) counts: Counts,
}

impl Cache {
    /// Opens the cache in a directory, which is made if it is not there.
    ///
    /// # Errors
    /// [`CacheError`] where others could put tables, and where there is no directory to be had.
    pub fn open(path: &Path) -> Result<Self, CacheError> {
        Ok(Self { directory: Directory::open(path, BUDGET)?, counts: Counts::default() })
    }

    /// Gives what was kept of a file with this content, see `ContentId`, if it was made of the same bytes.
    pub(super) fn take(&self, content: &[u8; 32], file: &File) -> Option<CallFrames> {
        let key = key(content);
        let read = || match self.directory.read(&name(&key)) {
            Ok(None) => Some(None),
            Ok(Some(bytes)) => unpack(&bytes, &key).map(Some),
            Err(_) => None,
        };
        let found = catch_unwind(AssertUnwindSafe(read)).unwrap_or_default();
        if found.is_none() {
            self.counts.add(|counts| counts.damaged += 1);
            self.directory.remove(&name(&key));
        }
        let (evidence, frames) = found.flatten()?;
        if !evidence.is_in(file) {
            self.counts.add(|counts| counts.foreign += 1);
            return None;
        }
        self.counts.add(|counts| counts.taken += 1);
        Some(frames)
    }

    /// Whether it would keep these.
    pub(super) fn is_worth(frames: &CallFrames) -> bool {
        frames.table.rows >= ROWS_MIN && frames.table.bytes() < FILE_MAX / 2
    }

    /// Keeps call frames for later runs, and what they were made of.
    pub(super) fn keep(&mut self, content: &[u8; 32], Kept { evidence, frames }: &Kept) {
        let key = key(content);
        let head = pack(&key, evidence, frames);
        if let Err(error) = self.directory.write(&name(&key), &[&head, evidence, frames]) {
            self.counts.add(|counts| {
                counts.unkept += 1;
                counts.errno = error.raw_os_error().unwrap_or_default();
            });
        }
    }
}

impl CacheCounts {
    /// Why tables could not be kept.
    pub fn error(&self) -> io::Error {
        io::Error::from_raw_os_error(self.errno)
    }
}

/// Gives what a table is known by: the content of its file, and what makes tables of it.
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

/// Gives what comes before these bytes in their file.
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

/// Reads what is in the file of a key; `None` if it is not just what was written for it.
fn unpack(bytes: &[u8], key: &Key) -> Option<(Evidence, CallFrames)> {
    let (head, body) = bytes.split_at_checked(HEAD + HASH)?;
    // The head says nothing that is not known beforehand, so it is made again and compared.
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

    /// What the tables of all files in tests/corpus/elf hash to, for this [`STORED_VERSION`].
    const CORPUS: (u32, &str) =
        (1, "4f61faf945248e284a8d19e542c66d76146d15c9fa2ba11eacae3a6e2419c089");

    const ONE: [u8; 32] = [1; 32];
    const OTHER: [u8; 32] = [2; 32];

    const FILE: &str = "debug_frame_compressed";

    /// The call frames of a small file.
    fn frames() -> CallFrames {
        read(FILE)
    }

    fn file() -> File {
        File::open(corpus().join(FILE)).expect("it is in the corpus")
    }

    fn corpus() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/elf")
    }

    /// What is kept of that file.
    fn kept() -> Kept {
        let notes = Notes::default();
        notes.add(0, 64);
        let evidence = notes.hash(&file()).expect("it has a header").to_bytes();
        Kept { evidence, frames: frames().to_bytes() }
    }

    fn packed(key: &Key, Kept { evidence, frames }: &Kept) -> Vec<u8> {
        [&pack(key, evidence, frames)[..], evidence, frames].concat()
    }

    fn read(name: &str) -> CallFrames {
        let bytes = fs::read(corpus().join(name)).expect("it is in the corpus");
        let at = |from: u64, into: &mut [u8]| {
            let found = bytes.get(from as usize..).and_then(|rest| rest.get(..into.len()));
            found.map(|found| into.copy_from_slice(found)).is_some()
        };
        unwind::read(&at).expect("it has call frames")
    }

    fn cache(place: &tempfile::TempDir) -> Cache {
        Cache::open(&place.path().join("cache")).expect("a directory of ours")
    }

    fn path(place: &tempfile::TempDir, content: &[u8; 32]) -> PathBuf {
        place.path().join("cache").join(name(&key(content)) + ".table")
    }

    #[test]
    fn what_is_kept_is_taken_by_another_run_and_for_no_other_content() {
        let place = tempfile::tempdir().expect("a place");
        cache(&place).keep(&ONE, &kept());
        let next = cache(&place);
        assert_eq!(next.take(&ONE, &file()), Some(frames()));
        assert_eq!(next.take(&OTHER, &file()), None);
        assert_eq!(next.counts.get(), CacheCounts { taken: 1, ..CacheCounts::default() });
    }

    #[test]
    fn a_file_that_another_was_made_to_look_like_gets_its_own_table() {
        let place = tempfile::tempdir().expect("a place");
        let mut cache = cache(&place);
        cache.keep(&ONE, &kept());
        let other = File::open(corpus().join("go")).expect("it is in the corpus");
        assert_eq!(cache.take(&ONE, &other), None);
        assert_eq!(cache.take(&ONE, &file()), Some(frames()));
        let counts = cache.counts.get();
        assert_eq!((counts.taken, counts.foreign, counts.damaged), (1, 1, 0));
    }

    #[test]
    fn no_flipped_bit_and_no_part_of_a_file_is_taken() {
        let key = key(&ONE);
        let mut bytes = packed(&key, &kept());
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
        assert!(unpack(&bytes, &key).is_none(), "a byte too many");
    }

    #[test]
    fn a_right_hash_does_not_make_a_table_of_anything() {
        let key = key(&ONE);
        let mut kept = kept();
        let last = kept.frames.len() - 20;
        kept.frames[last] = 0xff; // a row of a rule that is not there
        assert!(unpack(&packed(&key, &kept), &key).is_none());
    }

    #[test]
    fn what_is_damaged_or_another_files_is_counted_removed_and_made_anew() {
        let place = tempfile::tempdir().expect("a place");
        let mut cache = cache(&place);
        cache.keep(&OTHER, &kept());
        let whole = fs::read(path(&place, &OTHER)).expect("it is there");
        let mut older = whole.clone();
        older[8] += 1;
        let bad: [&[u8]; 4] = [&whole, &older, b"", &whole[..whole.len() - 1]];
        for (times, bad) in (1..).zip(bad) {
            fs::write(path(&place, &ONE), bad).expect("written");
            assert_eq!(cache.take(&ONE, &file()), None);
            assert_eq!(cache.counts.get().damaged, times);
            assert!(!path(&place, &ONE).exists());
        }
        cache.keep(&ONE, &kept());
        assert_eq!(cache.take(&ONE, &file()), Some(frames()));
    }

    #[test]
    fn what_is_no_file_or_too_large_is_not_read() {
        let place = tempfile::tempdir().expect("a place");
        let cache = cache(&place);
        let path = path(&place, &ONE);
        fs::create_dir(&path).expect("made");
        assert_eq!(cache.take(&ONE, &file()), None);
        fs::remove_dir(&path).expect("removed");
        std::os::unix::fs::symlink("/dev/zero", &path).expect("made");
        assert_eq!(cache.take(&ONE, &file()), None);
        let large = fs::File::create(&path).expect("made"); // the link was removed
        large.set_len(1 << 40).expect("it takes no room");
        assert_eq!(cache.take(&ONE, &file()), None);
        assert_eq!(cache.counts.get().damaged, 3);
    }

    #[test]
    fn what_cannot_be_kept_is_counted_with_the_reason() {
        let place = tempfile::tempdir().expect("a place");
        let mut cache = cache(&place);
        fs::remove_dir(place.path().join("cache")).expect("removed");
        cache.keep(&ONE, &kept());
        assert_eq!(cache.take(&ONE, &file()), None);
        let counts = cache.counts.get();
        assert_eq!((counts.taken, counts.damaged, counts.unkept), (0, 0, 1));
        assert_eq!(counts.error().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn other_tables_have_another_number() {
        let files = ["debug_frame_compressed", "eh_frame", "go", "no_section_headers", "odd"];
        let all: Vec<u8> = files.iter().flat_map(|name| read(name).to_bytes()).collect();
        let found = name(&hash(&[&all]));
        assert_eq!(
            CORPUS,
            (STORED_VERSION, &*found),
            "other tables are made of the same files: raise STORED_VERSION, then change CORPUS, or caches of this \
             version's earlier builds go on giving the old ones"
        );
    }
}
