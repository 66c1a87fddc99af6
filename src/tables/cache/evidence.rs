//! Evidence of what a table was made of: the ranges of its file that were read, and their hash.
//!
//! A file built with the build ID, size and segments of another has the same key in the cache. A
//! cached table is used for a file only if every byte that it was made of is the same there.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use sha2::{Digest, Sha256};

/// Ranges that are closer together than this, in bytes, are joined: a read takes as much anyway.
const GAP: u64 = 4096;
/// Ranges recorded before adjacent ones are joined.
const RECORDED_MAX: usize = 8192;
/// Ranges and bytes of a file beyond which its table is not cached.
const RANGES_MAX: usize = 4096;
const BYTES_MAX: u64 = 256 << 20;
const CHUNK: usize = 256 << 10;
const HASH: usize = 32;

/// Records which ranges of a file are read.
#[derive(Debug, Default)]
pub(in crate::tables) struct ReadRanges {
    ranges: RefCell<Vec<Range<u64>>>,
    /// There were too many, and no more are recorded.
    has_overflowed: Cell<bool>,
}

impl ReadRanges {
    /// Records a range.
    pub fn add(&self, start: u64, bytes: usize) {
        if self.has_overflowed.get() {
            return;
        }
        let mut ranges = self.ranges.borrow_mut();
        ranges.push(start..start.saturating_add(bytes as u64));
        if ranges.len() >= RECORDED_MAX {
            join(&mut ranges);
            self.has_overflowed.set(ranges.len() > RANGES_MAX);
        }
    }

    /// Hashes the recorded ranges of the file from which they were read.
    ///
    /// # Errors
    /// When a range cannot be read any more, or when there are too many.
    pub fn hash(self, file: &File) -> io::Result<Evidence> {
        if self.has_overflowed.get() {
            return Err(io::Error::from(io::ErrorKind::FileTooLarge));
        }
        let mut ranges = self.ranges.into_inner();
        join(&mut ranges);
        let size = file.metadata()?.len();
        // A read may have reached beyond the end of the file.
        ranges.iter_mut().for_each(|range| range.end = range.end.min(size));
        ranges.retain(|range| range.start < range.end);
        let hash = hash(file, &ranges)?;
        Ok(Evidence { ranges, hash })
    }
}

/// Sorts ranges, and joins those that touch or nearly do.
fn join(ranges: &mut Vec<Range<u64>>) {
    ranges.sort_unstable_by_key(|range| range.start);
    ranges.dedup_by(|next, last| {
        let touches = next.start <= last.end.saturating_add(GAP);
        if touches {
            last.end = last.end.max(next.end);
        }
        touches
    });
}

fn hash(file: &File, ranges: &[Range<u64>]) -> io::Result<[u8; HASH]> {
    let bytes: u64 = ranges.iter().map(|range| range.end - range.start).sum();
    if ranges.len() > RANGES_MAX || bytes > BYTES_MAX {
        return Err(io::Error::from(io::ErrorKind::FileTooLarge));
    }
    let (mut hasher, mut chunk) = (Sha256::new(), vec![0; CHUNK]);
    for range in ranges {
        for start in range.clone().step_by(CHUNK) {
            let chunk = &mut chunk[..(range.end - start).min(CHUNK as u64) as usize];
            file.read_exact_at(chunk, start)?;
            hasher.update(chunk);
        }
    }
    Ok(hasher.finalize().into())
}

/// Ranges of a file in ascending order, and the SHA-256 of their bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::tables) struct Evidence {
    ranges: Vec<Range<u64>>,
    hash: [u8; HASH],
}

impl Evidence {
    /// Whether a file has the same bytes in these ranges.
    pub fn is_in(&self, file: &File) -> bool {
        hash(file, &self.ranges).is_ok_and(|found| found == self.hash)
    }

    /// Serializes as u32 count of ranges, u64 start and end of each, the hash.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = (self.ranges.len() as u32).to_le_bytes().to_vec();
        for range in &self.ranges {
            bytes.extend(range.start.to_le_bytes());
            bytes.extend(range.end.to_le_bytes());
        }
        bytes.extend(self.hash);
        bytes
    }

    /// Reads evidence from the front of `bytes`; returns it and the rest. `None` for anything that
    /// [`Self::to_bytes`] does not write.
    pub fn split_from(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (count, rest) = bytes.split_first_chunk()?;
        let count = u32::from_le_bytes(*count) as usize;
        let (ranges, rest) = rest.split_at_checked(count.checked_mul(16)?)?;
        let (hash, rest) = rest.split_first_chunk()?;
        let number = |bytes: &[u8]| bytes.try_into().map(u64::from_le_bytes).ok();
        let range = |bytes: &[u8]| Some(number(&bytes[..8])?..number(&bytes[8..])?);
        let ranges: Vec<Range<u64>> = ranges.chunks_exact(16).map(range).collect::<Option<_>>()?;
        let is_ascending = ranges.iter().all(|range| range.start < range.end)
            && ranges.windows(2).all(|pair| pair[0].end <= pair[1].start);
        is_ascending.then_some((Self { ranges, hash: *hash }, rest))
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
        let ranges = ReadRanges::default();
        for start in (10_000..20_000).step_by(2) {
            ranges.add(start, 2);
        }
        ranges.add(90_000, 5);
        ranges.add(0, 64);
        ranges.hash(file).expect("readable ranges")
    }

    #[test]
    fn only_ranges_that_were_read_must_match() {
        let mut bytes: Vec<u8> = (0..100_000u32).map(|at| at as u8).collect();
        let evidence = evidence(&file(&bytes));
        assert_eq!(evidence.ranges, [0..64, 10_000..20_000, 90_000..90_005]);
        bytes[50_000] ^= 1;
        assert!(evidence.is_in(&file(&bytes)));
        for at in [0, 63, 10_000, 15_001, 19_999, 90_004] {
            bytes[at] ^= 1;
            assert!(!evidence.is_in(&file(&bytes)), "{at}");
            bytes[at] ^= 1;
        }
        assert!(!evidence.is_in(&file(&bytes[..90_004])), "a shorter file");
    }

    #[test]
    fn serialized_evidence_is_read_back() {
        let evidence = evidence(&file(&[1; 100_000]));
        let mut bytes = evidence.to_bytes();
        bytes.extend(b"rest");
        assert_eq!(Evidence::split_from(&bytes), Some((evidence, &b"rest"[..])));
        assert_eq!(Evidence::split_from(&bytes[..40]), None);
        bytes[..4].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(Evidence::split_from(&bytes), None);
    }

    #[test]
    fn too_many_ranges_are_no_evidence() {
        let file = file(b"");
        file.set_len(1 << 40).expect("a sparse file");
        let ranges = ReadRanges::default();
        (0..20_000).for_each(|at| ranges.add(at * 100_000, 8));
        assert!(ranges.hash(&file).is_err());
    }
}
