//! What a table was made of: the parts of its file that were read, and their hash.
//!
//! Whoever builds a file with the build id, size and segments of another gets the same name in the cache. Its table is
//! given to a file only if every byte that the table was made of is the same there.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use sha2::{Digest, Sha256};

/// Parts that lie closer together, in bytes, are one: so many are read at once anyway.
const GAP: u64 = 4096;
/// Parts that are noted before those that touch are joined.
const NOTED_MAX: usize = 8192;
/// Parts and bytes of a file beyond which its table is not kept.
const PARTS_MAX: usize = 4096;
const BYTES_MAX: u64 = 256 << 20;
const PIECE: usize = 256 << 10;
const HASH: usize = 32;

/// Notes which parts of a file are read.
#[derive(Debug, Default)]
pub(in crate::tables) struct Notes {
    parts: RefCell<Vec<Range<u64>>>,
    /// They are no longer noted.
    are_too_many: Cell<bool>,
}

impl Notes {
    /// Notes a part.
    pub fn add(&self, start: u64, bytes: usize) {
        if self.are_too_many.get() {
            return;
        }
        let mut parts = self.parts.borrow_mut();
        parts.push(start..start.saturating_add(bytes as u64));
        if parts.len() >= NOTED_MAX {
            join(&mut parts);
            self.are_too_many.set(parts.len() > PARTS_MAX);
        }
    }

    /// Hashes the noted parts of the file they were read from.
    ///
    /// # Errors
    /// When a part cannot be read any more, or when they are too many.
    pub fn hash(self, file: &File) -> io::Result<Evidence> {
        if self.are_too_many.get() {
            return Err(io::Error::from(io::ErrorKind::FileTooLarge));
        }
        let mut parts = self.parts.into_inner();
        join(&mut parts);
        let size = file.metadata()?.len();
        parts.iter_mut().for_each(|part| part.end = part.end.min(size)); // a read may have asked for more
        parts.retain(|part| part.start < part.end);
        let hash = hash(file, &parts)?;
        Ok(Evidence { parts, hash })
    }
}

/// Joins parts that touch or nearly do; they are in order then.
fn join(parts: &mut Vec<Range<u64>>) {
    parts.sort_unstable_by_key(|part| part.start);
    parts.dedup_by(|next, last| {
        let touches = next.start <= last.end.saturating_add(GAP);
        if touches {
            last.end = last.end.max(next.end);
        }
        touches
    });
}

fn hash(file: &File, parts: &[Range<u64>]) -> io::Result<[u8; HASH]> {
    let bytes: u64 = parts.iter().map(|part| part.end - part.start).sum();
    if parts.len() > PARTS_MAX || bytes > BYTES_MAX {
        return Err(io::Error::from(io::ErrorKind::FileTooLarge));
    }
    let (mut hasher, mut piece) = (Sha256::new(), vec![0; PIECE]);
    for part in parts {
        for start in part.clone().step_by(PIECE) {
            let piece = &mut piece[..(part.end - start).min(PIECE as u64) as usize];
            file.read_exact_at(piece, start)?;
            hasher.update(piece);
        }
    }
    Ok(hasher.finalize().into())
}

/// Parts of a file, in order, and the SHA-256 of what is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::tables) struct Evidence {
    parts: Vec<Range<u64>>,
    hash: [u8; HASH],
}

impl Evidence {
    /// Whether a file has the same in these places.
    pub fn is_in(&self, file: &File) -> bool {
        hash(file, &self.parts).is_ok_and(|found| found == self.hash)
    }

    /// Writes it: u32 parts, u64 start and end of each, the hash.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = (self.parts.len() as u32).to_le_bytes().to_vec();
        for part in &self.parts {
            bytes.extend(part.start.to_le_bytes());
            bytes.extend(part.end.to_le_bytes());
        }
        bytes.extend(self.hash);
        bytes
    }

    /// Reads it from the front of bytes, and gives the others. `None` for anything that was not written so.
    pub fn split_from(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (count, rest) = bytes.split_first_chunk()?;
        let count = u32::from_le_bytes(*count) as usize;
        let (parts, rest) = rest.split_at_checked(count.checked_mul(16)?)?;
        let (hash, rest) = rest.split_first_chunk()?;
        let number = |bytes: &[u8]| bytes.try_into().map(u64::from_le_bytes).ok();
        let part = |bytes: &[u8]| Some(number(&bytes[..8])?..number(&bytes[8..])?);
        let parts: Vec<Range<u64>> = parts.chunks_exact(16).map(part).collect::<Option<_>>()?;
        let is_in_order = parts.iter().all(|part| part.start < part.end)
            && parts.windows(2).all(|pair| pair[0].end <= pair[1].start);
        is_in_order.then_some((Self { parts, hash: *hash }, rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(bytes: &[u8]) -> File {
        let file = tempfile::tempfile().expect("a file");
        file.write_all_at(bytes, 0).expect("written");
        file
    }

    fn evidence(file: &File) -> Evidence {
        let notes = Notes::default();
        for start in (10_000..20_000).step_by(2) {
            notes.add(start, 2);
        }
        notes.add(90_000, 5);
        notes.add(0, 64);
        notes.hash(file).expect("they can be read")
    }

    #[test]
    fn only_what_was_read_has_to_be_the_same() {
        let mut bytes: Vec<u8> = (0..100_000u32).map(|at| at as u8).collect();
        let evidence = evidence(&file(&bytes));
        assert_eq!(evidence.parts, [0..64, 10_000..20_000, 90_000..90_005]);
        bytes[50_000] ^= 1;
        assert!(evidence.is_in(&file(&bytes)));
        for at in [0, 63, 10_000, 15_001, 19_999, 90_004] {
            bytes[at] ^= 1;
            assert!(!evidence.is_in(&file(&bytes)), "{at}");
            bytes[at] ^= 1;
        }
        assert!(!evidence.is_in(&file(&bytes[..90_004])), "it is shorter");
    }

    #[test]
    fn it_is_read_back_as_it_was_written_and_nothing_else_is() {
        let evidence = evidence(&file(&[1; 100_000]));
        let mut bytes = evidence.to_bytes();
        bytes.extend(b"rest");
        assert_eq!(Evidence::split_from(&bytes), Some((evidence, &b"rest"[..])));
        assert_eq!(Evidence::split_from(&bytes[..40]), None);
        bytes[..4].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(Evidence::split_from(&bytes), None);
    }

    #[test]
    fn a_file_of_which_too_much_was_read_has_none() {
        let file = file(b"");
        file.set_len(1 << 40).expect("it takes no room");
        let notes = Notes::default();
        (0..20_000).for_each(|at| notes.add(at * 100_000, 8));
        assert!(notes.hash(&file).is_err());
    }
}
