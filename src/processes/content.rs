//! What tells one file's content from another's, whatever its name and wherever it lies.

use std::fs::File;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::LazyLock;

use profile::BuildId;
use rustix::fs::{AtFlags, Statx, StatxFlags};

use super::elf::{Elf, Segment};

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
    Hash(u64),
    Inode { device: (u32, u32), inode: u64, written: Written },
}

/// When a file was written last: seconds and nanoseconds.
pub(super) type Written = (i64, u32);

impl Content {
    /// Finds out of an open file.
    ///
    /// # Errors
    /// As reading does.
    pub fn of(file: &File, elf: &Elf) -> io::Result<Self> {
        let found = stat(file)?;
        let print = match &elf.build_id {
            Some(id) => Print::BuildId(id.clone()),
            None if found.stx_size <= HASHED_MAX => Print::Hash(hash(file, found.stx_size)?),
            None => Print::Inode {
                device: (found.stx_dev_major, found.stx_dev_minor),
                inode: found.stx_ino,
                written: written(&found),
            },
        };
        Ok(Self { bytes: found.stx_size, segments: elf.segments.clone(), print })
    }
}

/// Tells when a file was last written, as far as this machine knows: no file system is asked over a network.
pub(super) fn last_written(file: &File) -> io::Result<Written> {
    Ok(written(&stat(file)?))
}

fn stat(file: &File) -> io::Result<Statx> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    Ok(rustix::fs::statx(file, "", flags, StatxFlags::BASIC_STATS)?)
}

fn written(found: &Statx) -> Written {
    (found.stx_mtime.tv_sec, found.stx_mtime.tv_nsec)
}

/// Hashes so many bytes, with a key that is another one in each run.
fn hash(file: &File, bytes: u64) -> io::Result<u64> {
    static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    let mut hasher = KEY.build_hasher();
    let mut piece = vec![0; PIECE];
    for at in (0..bytes).step_by(PIECE) {
        let len = (bytes - at).min(PIECE as u64) as usize;
        file.read_exact_at(&mut piece[..len], at)?;
        hasher.write(&piece[..len]);
    }
    Ok(hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The file goes along: once it is closed, the next one may be in its place.
    fn content(bytes: &[u8]) -> (Content, File) {
        let mut file = tempfile::tempfile().expect("a file");
        io::Write::write_all(&mut file, bytes).expect("written");
        (Content::of(&file, &Elf::default()).expect("readable"), file)
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
    fn large_files_without_a_build_id_are_told_apart_by_their_place() {
        let bytes = vec![7; HASHED_MAX as usize + 1];
        let (one, other) = (content(&bytes), content(&bytes));
        assert_ne!(one.0, other.0);
    }
}
