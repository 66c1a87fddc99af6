//! What lies in the directory of windows, and what has to go.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use super::stamp::Stamp;

/// What a file takes at least: a file system gives room in blocks.
const BLOCK: u64 = 4096;

/// Most names looked at in one directory, whatever they are.
pub const NAMES_MAX: usize = 1_000_000;

/// Most files that go for their age at once: a clock that leaps ahead makes all of them old.
const AGED_MAX: usize = 10;

/// Bytes that a file of this length takes on the disk.
pub fn on_disk(length: u64) -> u64 {
    length.max(1).next_multiple_of(BLOCK)
}

/// The windows in a directory by their names, and how much room they take.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Kept {
    lengths: BTreeMap<Stamp, u64>,
    bytes: u64,
}

impl Kept {
    /// Lists a directory.
    ///
    /// # Errors
    /// As the system answers for the directory. A file that is gone again is left out.
    pub fn list(directory: &Path) -> io::Result<Self> {
        let mut kept = Self::default();
        for entry in fs::read_dir(directory)?.take(NAMES_MAX) {
            let entry = entry?;
            let Some(stamp) = entry.file_name().to_str().and_then(Stamp::parse) else { continue };
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_file() {
                kept.insert(stamp, metadata.len());
            }
        }
        Ok(kept)
    }

    /// The names in order of time.
    pub fn stamps(&self) -> impl Iterator<Item = Stamp> {
        self.lengths.keys().copied()
    }

    /// Whether there is a window of this name.
    pub fn has(&self, stamp: Stamp) -> bool {
        self.lengths.contains_key(&stamp)
    }

    /// Notes a file, in place of an earlier one of its name.
    pub fn insert(&mut self, stamp: Stamp, length: u64) {
        self.remove(stamp);
        self.bytes += on_disk(length);
        self.lengths.insert(stamp, length);
    }

    /// Notes that a file is gone.
    pub fn remove(&mut self, stamp: Stamp) {
        if let Some(length) = self.lengths.remove(&stamp) {
            self.bytes -= on_disk(length);
        }
    }

    /// When the newest began, in milliseconds since 1970; 0 without any.
    pub fn newest_unix_ms(&self) -> u64 {
        self.lengths.last_key_value().map_or(0, |(stamp, _)| stamp.unix_ms)
    }

    /// Those that have to go, oldest first: all until at most `bytes_max` are left, then
    /// [`AGED_MAX`] that began before `oldest_unix_ms`. `spared`: the one that is being written.
    pub fn beyond(&self, bytes_max: u64, oldest_unix_ms: u64, spared: Stamp) -> Vec<Stamp> {
        let (mut left, mut aged) = (self.bytes, 0);
        let mut gone = Vec::new();
        for (stamp, length) in self.lengths.iter().filter(|(stamp, _)| **stamp != spared) {
            if left <= bytes_max {
                if stamp.unix_ms >= oldest_unix_ms || aged == AGED_MAX {
                    break;
                }
                aged += 1;
            }
            left -= on_disk(*length);
            gone.push(*stamp);
        }
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(unix_ms: u64) -> Stamp {
        Stamp { unix_ms, number: 0 }
    }

    fn kept() -> Kept {
        let mut kept = Kept::default();
        for unix_ms in 1..=5 {
            kept.insert(stamp(unix_ms), 5_000); // 8,192 on the disk
        }
        kept
    }

    #[test]
    fn the_oldest_go_until_the_rest_fits() {
        assert_eq!(kept().beyond(5 * 8_192, 0, stamp(5)), []);
        assert_eq!(kept().beyond(5 * 8_192 - 1, 0, stamp(5)), [stamp(1)]);
        assert_eq!(kept().beyond(2 * 8_192, 0, stamp(5)), [stamp(1), stamp(2), stamp(3)]);
    }

    #[test]
    fn what_is_too_old_goes_although_it_would_fit() {
        assert_eq!(kept().beyond(u64::MAX, 3, stamp(5)), [stamp(1), stamp(2)]);
    }

    #[test]
    fn few_go_for_their_age_at_once_and_all_that_must_for_their_size() {
        let mut kept = Kept::default();
        (1..=100).for_each(|unix_ms| kept.insert(stamp(unix_ms), 1));
        let first = |number| (1..=number).map(stamp).collect::<Vec<_>>();
        assert_eq!(kept.beyond(u64::MAX, 1_000, stamp(100)), first(10));
        assert_eq!(kept.beyond(50 * BLOCK, 1_000, stamp(100)), first(60));
        assert_eq!(kept.beyond(50 * BLOCK, 0, stamp(100)), first(50));
    }

    #[test]
    fn the_one_that_is_being_written_is_spared_even_when_it_is_the_oldest() {
        assert_eq!(kept().beyond(8_192, 0, stamp(1)), [stamp(2), stamp(3), stamp(4), stamp(5)]);
    }

    #[test]
    fn a_file_written_again_counts_once() {
        let mut kept = kept();
        kept.insert(stamp(5), 1);
        assert_eq!(kept.bytes, 4 * 8_192 + 4_096);
        kept.remove(stamp(5));
        kept.remove(stamp(5));
        assert_eq!((kept.bytes, kept.newest_unix_ms()), (4 * 8_192, 4));
    }
}
