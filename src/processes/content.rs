//! Identifies the content of a file, whatever its name and place.
//!
//! Size, segments and build ID are what a file says of itself: tools that rewrite a file keep them,
//! and anyone can copy them. So two files that agree in these are taken for one only if they are
//! one inode, or their bytes are equal ([`is_same`]).

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use profile::BuildId;
use prost::Message;
use rustix::fs::{AtFlags, Statx, StatxFlags};
use sha2::{Digest, Sha256};

use super::elf::{Elf, Segment};
use crate::events::FileIdentity;

/// Files without a build ID are hashed up to this size, in bytes.
const HASHED_MAX: u64 = 1 << 20;
/// Bytes read at a time.
const PIECE: usize = 64 << 10;

/// Files with a build ID are compared up to this size, in bytes. Larger ones are one only if they
/// are one inode.
const COMPARED_MAX: u64 = 16 << 20;
/// How long two files are compared.
const COMPARE_TIME_MAX: Duration = Duration::from_millis(200);

/// What distinguishes files: size, segments, a fingerprint, and the user that owns the file, whose
/// processes must not decide what others get of theirs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Content {
    user: u32,
    bytes: u64,
    segments: Vec<Segment>,
    fingerprint: Fingerprint,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Fingerprint {
    /// Size and segments count as well, because tools that rewrite a file keep its build ID.
    BuildId(BuildId),
    /// Of the whole file, if it has no build ID.
    Hash(Box<[u8]>),
    /// Which file it is and when it was written, if it is too large to be hashed.
    Inode(FileIdentity, WriteTime),
}

/// Identifies the content of a file as of when it was opened, and the time of its last write. Equal
/// contents have equal hashes, also in later runs. `==` compares the write times, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentId {
    /// SHA-256 of size, segments and fingerprint.
    pub hash: [u8; 32],
    bytes: u64,
    written: WriteTime,
}

impl ContentId {
    /// Returns whether the file still has this content.
    pub fn matches(&self, file: &File) -> bool {
        stat(file).is_ok_and(|attributes| {
            attributes.stx_size == self.bytes && write_time(&attributes) == self.written
        })
    }
}

/// When a file was last written: seconds and nanoseconds.
type WriteTime = (i64, u32);

impl Content {
    /// Identifies the content of an open file. `hash`: see [`hash()`].
    ///
    /// # Errors
    /// As reading does.
    pub fn of(file: &File, elf: &Elf, hash: &[u8]) -> io::Result<Self> {
        let attributes = stat(file)?;
        let fingerprint = match &elf.build_id {
            Some(id) => Fingerprint::BuildId(id.clone()),
            None if !hash.is_empty() => Fingerprint::Hash(hash.into()),
            None => Fingerprint::Inode(identity_in(&attributes), write_time(&attributes)),
        };
        let (user, bytes) = (attributes.stx_uid, attributes.stx_size);
        Ok(Self { user, bytes, segments: elf.segments.clone(), fingerprint })
    }

    /// Returns whether equal contents are of equal bytes, which a build ID does not prove.
    pub fn is_proof(&self) -> bool {
        !matches!(self.fingerprint, Fingerprint::BuildId(_))
    }

    /// Returns the ID for later runs. That of a file identified by its inode includes the time of
    /// its last status change, which no program can set.
    ///
    /// # Errors
    /// As reading does.
    pub fn id(&self, file: &File) -> io::Result<ContentId> {
        let attributes = stat(file)?;
        let mut hasher = Sha256::new();
        hasher.update(self.bytes.to_le_bytes());
        hasher.update((self.segments.len() as u64).to_le_bytes());
        for segment in &self.segments {
            hasher.update(segment.encode_length_delimited_to_vec());
        }
        match &self.fingerprint {
            Fingerprint::BuildId(id) => hasher.update([&[1], id.as_bytes()].concat()),
            Fingerprint::Hash(hash) => hasher.update([&[2], &hash[..]].concat()),
            Fingerprint::Inode(FileIdentity { major, minor, inode }, written) => {
                let changed = (attributes.stx_ctime.tv_sec, attributes.stx_ctime.tv_nsec);
                hasher.update([3]);
                hasher.update([major.to_le_bytes(), minor.to_le_bytes()].concat());
                hasher.update(inode.to_le_bytes());
                for (seconds, nanoseconds) in [*written, changed] {
                    hasher.update(seconds.to_le_bytes());
                    hasher.update(nanoseconds.to_le_bytes());
                }
            }
        }
        let (hash, written) = (hasher.finalize().into(), write_time(&attributes));
        Ok(ContentId { hash, bytes: self.bytes, written })
    }
}

/// Returns which file this is.
pub(super) fn identity(file: &File) -> io::Result<FileIdentity> {
    Ok(identity_in(&stat(file)?))
}

/// Returns whether a file is the one at a path in our own root.
pub fn is_at(file: &File, path: &Path) -> bool {
    let (own, found) = (identity(file), identity_at(path));
    own.ok().zip(found.ok()).is_some_and(|(own, found)| own == found)
}

/// Returns which file is at a path, as our own root has it.
fn identity_at(path: &Path) -> io::Result<FileIdentity> {
    let flags = AtFlags::STATX_DONT_SYNC;
    Ok(identity_in(&rustix::fs::statx(rustix::fs::CWD, path, flags, StatxFlags::BASIC_STATS)?))
}

fn identity_in(attributes: &Statx) -> FileIdentity {
    FileIdentity {
        major: attributes.stx_dev_major,
        minor: attributes.stx_dev_minor,
        inode: attributes.stx_ino,
    }
}

/// Reads the cached attributes of a file: a network file system sends no request.
fn stat(file: &File) -> io::Result<Statx> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    Ok(rustix::fs::statx(file, "", flags, StatxFlags::BASIC_STATS)?)
}

fn write_time(attributes: &Statx) -> WriteTime {
    (attributes.stx_mtime.tv_sec, attributes.stx_mtime.tv_nsec)
}

/// Returns whether two open files are one, perhaps through two mounts: number, size and times of
/// the inode are equal. No program can set the time of the last status change.
pub(super) fn is_one_inode(one: &File, other: &File) -> bool {
    let inode = |file| {
        let found = stat(file).ok()?;
        let changed = (found.stx_ctime.tv_sec, found.stx_ctime.tv_nsec);
        Some((found.stx_ino, found.stx_size, write_time(&found), changed))
    };
    inode(one).is_some_and(|one| inode(other) == Some(one))
}

/// Returns whether two files have equal bytes, as far as that can be found out at once: not if they
/// are large, or reading them takes long.
///
/// # Errors
/// As reading does.
pub(super) fn is_same(one: &File, other: &File) -> io::Result<bool> {
    let (bytes, begin) = (stat(one)?.stx_size, Instant::now());
    if bytes > COMPARED_MAX || bytes != stat(other)?.stx_size {
        return Ok(false);
    }
    let (mut left, mut right) = (vec![0; PIECE], vec![0; PIECE]);
    for at in (0..bytes).step_by(PIECE) {
        let len = (bytes - at).min(PIECE as u64) as usize;
        one.read_exact_at(&mut left[..len], at)?;
        other.read_exact_at(&mut right[..len], at)?;
        if left[..len] != right[..len] || begin.elapsed() > COMPARE_TIME_MAX {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Hashes a whole file (SHA-256); returns nothing for one that is too large.
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

    /// Returns the file as well: once it is closed, the next one may get its inode.
    fn content(bytes: &[u8]) -> (Content, File) {
        let mut file = tempfile::tempfile().expect("a file");
        io::Write::write_all(&mut file, bytes).expect("written");
        let hash = hash(&file).expect("readable");
        (Content::of(&file, &Elf::default(), &hash).expect("readable"), file)
    }

    #[test]
    fn one_byte_distinguishes_files() {
        let mut bytes = vec![7; 3 * PIECE + 5];
        let (before, _file) = content(&bytes);
        assert_eq!(content(&bytes).0, before);
        bytes[2 * PIECE] = 8;
        assert_ne!(content(&bytes).0, before);
    }

    #[test]
    fn files_are_the_same_only_if_every_byte_is() {
        let written = |bytes: &[u8]| {
            let mut file = tempfile::tempfile().expect("a file");
            io::Write::write_all(&mut file, bytes).expect("written");
            file
        };
        let mut bytes = vec![7; 2 * PIECE + 5];
        let (one, copy) = (written(&bytes), written(&bytes));
        assert!(is_same(&one, &copy).expect("readable"));
        assert!(is_one_inode(&one, &one) && !is_one_inode(&one, &copy));
        assert!(!is_same(&one, &written(&bytes[1..])).expect("readable"));
        bytes[PIECE + 1] = 8;
        assert!(!is_same(&one, &written(&bytes)).expect("readable"));
        let large = vec![7; COMPARED_MAX as usize + 1];
        assert!(!is_same(&written(&large), &written(&large)).expect("readable"));
    }

    #[test]
    fn the_id_differs_with_each_part_of_the_content() {
        let bytes = vec![7; 100];
        let (one, file) = content(&bytes);
        let id = |content: &Content| content.id(&file).expect("readable").hash;
        assert_eq!(id(&one), id(&content(&bytes).0));
        let segments = |count| vec![Segment::default(); count];
        let built = |id: &[u8]| Fingerprint::BuildId(BuildId::new(id).expect("a build id"));
        let others = [
            Content { bytes: 101, ..one.clone() },
            Content { segments: segments(1), ..one.clone() },
            Content { segments: segments(2), ..one.clone() },
            Content { fingerprint: Fingerprint::Hash([8; 32].into()), ..one.clone() },
            Content { fingerprint: built(&[8; 32]), ..one.clone() },
            Content { fingerprint: built(&[8; 20]), ..one.clone() },
            content(&vec![7; HASHED_MAX as usize + 1]).0,
        ];
        let mut ids: Vec<_> = others.iter().chain([&one]).map(id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 8);
    }

    #[test]
    fn a_written_file_no_longer_matches() {
        let (content, mut file) = content(&[7; 100]);
        let id = content.id(&file).expect("readable");
        assert!(id.matches(&file));
        // The clock of file systems is coarse.
        std::thread::sleep(std::time::Duration::from_millis(20));
        io::Write::write_all(&mut file, &[8]).expect("written");
        assert!(!id.matches(&file));
    }

    #[test]
    fn a_truncated_file_no_longer_matches_whatever_its_times() {
        let (content, file) = content(&[7; 100]);
        let id = content.id(&file).expect("readable");
        let written = file.metadata().and_then(|found| found.modified()).expect("readable");
        file.set_len(99).and_then(|()| file.set_modified(written)).expect("changed");
        assert!(!id.matches(&file));
    }

    #[test]
    fn large_files_without_a_build_id_differ_by_inode() {
        let bytes = vec![7; HASHED_MAX as usize + 1];
        let (one, other) = (content(&bytes), content(&bytes));
        assert_ne!(one.0, other.0);
    }
}
