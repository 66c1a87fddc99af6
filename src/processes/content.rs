//! What tells one file's content from another's, whatever its name and wherever it lies.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use profile::BuildId;
use prost::Message;
use rustix::fs::{AtFlags, Statx, StatxFlags};
use sha2::{Digest, Sha256};

use super::elf::{Elf, Segment};
use crate::events::FileIdentity;

/// Files without a build id are read as a whole up to here.
const HASHED_MAX: u64 = 1 << 20;
const PIECE: usize = 64 << 10;

/// Size, segments and build id, which tools that rewrite a file keep; without a build id all that is in it, or when it is
/// large, which file it is and when it was written.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Content {
    bytes: u64,
    segments: Vec<Segment>,
    print: Print,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Print {
    BuildId(BuildId),
    Hash(Box<[u8]>),
    Inode(FileIdentity, Written),
}

/// What a file held when it was opened, as far as it can be told: equal for equal content, in a later run too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentId {
    /// SHA-256 of all that tells contents apart.
    pub hash: [u8; 32],
    written: Written,
}

impl ContentId {
    /// Whether the file still holds it.
    pub fn matches(&self, file: &File) -> bool {
        stat(file).is_ok_and(|found| written(&found) == self.written)
    }
}

/// When a file was written last: seconds and nanoseconds.
type Written = (i64, u32);

impl Content {
    /// Finds out of an open file. `hash`: see [`hash()`].
    ///
    /// # Errors
    /// As reading does.
    pub fn of(file: &File, elf: &Elf, hash: &[u8]) -> io::Result<Self> {
        let found = stat(file)?;
        let print = match &elf.build_id {
            Some(id) => Print::BuildId(id.clone()),
            None if !hash.is_empty() => Print::Hash(hash.into()),
            None => Print::Inode(identity_in(&found), written(&found)),
        };
        Ok(Self { bytes: found.stx_size, segments: elf.segments.clone(), print })
    }

    /// Gives what later runs know it by. A file that only its place tells apart is known by its last change, too, which
    /// nobody can set.
    ///
    /// # Errors
    /// As reading does.
    pub fn id(&self, file: &File) -> io::Result<ContentId> {
        let found = stat(file)?;
        let mut hasher = Sha256::new();
        hasher.update(self.bytes.to_le_bytes());
        hasher.update((self.segments.len() as u64).to_le_bytes());
        for segment in &self.segments {
            hasher.update(segment.encode_length_delimited_to_vec());
        }
        match &self.print {
            Print::BuildId(id) => hasher.update([&[1], id.as_bytes()].concat()),
            Print::Hash(hash) => hasher.update([&[2], &hash[..]].concat()),
            Print::Inode(FileIdentity { major, minor, inode }, written) => {
                let changed = (found.stx_ctime.tv_sec, found.stx_ctime.tv_nsec);
                hasher.update([3]);
                hasher.update([major.to_le_bytes(), minor.to_le_bytes()].concat());
                hasher.update(inode.to_le_bytes());
                for (seconds, nanoseconds) in [*written, changed] {
                    hasher.update(seconds.to_le_bytes());
                    hasher.update(nanoseconds.to_le_bytes());
                }
            }
        }
        Ok(ContentId { hash: hasher.finalize().into(), written: written(&found) })
    }
}

/// Tells which file it is.
pub(super) fn identity(file: &File) -> io::Result<FileIdentity> {
    Ok(identity_in(&stat(file)?))
}

fn identity_in(found: &Statx) -> FileIdentity {
    FileIdentity { major: found.stx_dev_major, minor: found.stx_dev_minor, inode: found.stx_ino }
}

/// Asks about a file what this machine knows: no file system is asked over a network.
fn stat(file: &File) -> io::Result<Statx> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    Ok(rustix::fs::statx(file, "", flags, StatxFlags::BASIC_STATS)?)
}

fn written(found: &Statx) -> Written {
    (found.stx_mtime.tv_sec, found.stx_mtime.tv_nsec)
}

/// Hashes all that is in a file (SHA-256); nothing of one that is too large.
pub(super) fn hash(file: &File) -> io::Result<Vec<u8>> {
    let bytes = stat(file)?.stx_size;
    if bytes > HASHED_MAX {
        return Ok(Vec::new());
    }
    let mut hasher = Sha256::new();
    let mut piece = vec![0; PIECE];
    for at in (0..bytes).step_by(PIECE) {
        let len = (bytes - at).min(PIECE as u64) as usize;
        file.read_exact_at(&mut piece[..len], at)?;
        hasher.update(&piece[..len]);
    }
    Ok(hasher.finalize().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The file goes along: once it is closed, the next one may be in its place.
    fn content(bytes: &[u8]) -> (Content, File) {
        let mut file = tempfile::tempfile().expect("a file");
        io::Write::write_all(&mut file, bytes).expect("written");
        let hash = hash(&file).expect("readable");
        (Content::of(&file, &Elf::default(), &hash).expect("readable"), file)
    }

    #[test]
    fn equal_files_are_equal_and_one_byte_tells_others_apart() {
        let mut bytes = vec![7; 3 * PIECE + 5];
        let (before, _file) = content(&bytes);
        assert_eq!(content(&bytes).0, before);
        bytes[2 * PIECE] = 8;
        assert_ne!(content(&bytes).0, before);
    }

    #[test]
    fn what_later_runs_know_a_file_by_is_told_apart_by_all_that_tells_contents_apart() {
        let bytes = vec![7; 100];
        let (one, file) = content(&bytes);
        let id = |content: &Content| content.id(&file).expect("readable").hash;
        assert_eq!(id(&one), id(&content(&bytes).0));
        let segments = |count| vec![Segment::default(); count];
        let built = |id: &[u8]| Print::BuildId(BuildId::new(id).expect("a build id"));
        let others = [
            Content { bytes: 101, ..one.clone() },
            Content { segments: segments(1), ..one.clone() },
            Content { segments: segments(2), ..one.clone() },
            Content { print: Print::Hash([8; 32].into()), ..one.clone() },
            Content { print: built(&[8; 32]), ..one.clone() },
            Content { print: built(&[8; 20]), ..one.clone() },
            content(&vec![7; HASHED_MAX as usize + 1]).0,
        ];
        let mut ids: Vec<_> = others.iter().chain([&one]).map(id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 8);
    }

    #[test]
    fn a_file_that_was_written_since_does_not_hold_what_it_held() {
        let (content, mut file) = content(&[7; 100]);
        let id = content.id(&file).expect("readable");
        assert!(id.matches(&file));
        std::thread::sleep(std::time::Duration::from_millis(20)); // the clock of file systems is coarse
        io::Write::write_all(&mut file, &[8]).expect("written");
        assert!(!id.matches(&file));
    }

    #[test]
    fn large_files_without_a_build_id_are_told_apart_by_their_place() {
        let bytes = vec![7; HASHED_MAX as usize + 1];
        let (one, other) = (content(&bytes), content(&bytes));
        assert_ne!(one.0, other.0);
    }
}
