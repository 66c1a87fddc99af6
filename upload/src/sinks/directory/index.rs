//! The windows in a directory, and which of them have to be removed.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use super::stamp::Stamp;
use crate::disk::allocated_bytes;

/// Most names read in one directory, including those of other files.
pub const NAMES_MAX: usize = 1_000_000;

/// Most windows removed for their age at once: a clock that leaps ahead makes all of them old.
const AGED_MAX: usize = 10;

/// The windows in a directory by name, and the space that they occupy.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct StoreIndex {
    lengths: BTreeMap<Stamp, u64>,
    bytes: u64,
}

impl StoreIndex {
    /// Lists a directory.
    ///
    /// # Errors
    /// The system's error for the directory. A file that no longer exists is left out.
    pub fn list(directory: &Path) -> io::Result<Self> {
        let mut index = Self::default();
        for entry in fs::read_dir(directory)?.take(NAMES_MAX) {
            let entry = entry?;
            let Some(stamp) = entry.file_name().to_str().and_then(Stamp::parse) else { continue };
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_file() {
                index.insert(stamp, metadata.len());
            }
        }
        Ok(index)
    }

    /// Returns the names in order of time.
    pub fn stamps(&self) -> impl Iterator<Item = Stamp> {
        self.lengths.keys().copied()
    }

    /// Returns whether there is a window of this name.
    pub fn has(&self, stamp: Stamp) -> bool {
        self.lengths.contains_key(&stamp)
    }

    /// Records a file, which replaces an earlier one of its name.
    pub fn insert(&mut self, stamp: Stamp, length: u64) {
        self.remove(stamp);
        self.bytes += allocated_bytes(length);
        self.lengths.insert(stamp, length);
    }

    /// Records that a file was removed.
    pub fn remove(&mut self, stamp: Stamp) {
        if let Some(length) = self.lengths.remove(&stamp) {
            self.bytes -= allocated_bytes(length);
        }
    }

    /// Returns when the newest window began, in milliseconds since 1970; 0 without any.
    pub fn newest_unix_ms(&self) -> u64 {
        self.lengths.last_key_value().map_or(0, |(stamp, _)| stamp.unix_ms)
    }

    /// Returns the windows to remove, oldest first: all until at most `bytes_max` are left, then at
    /// most [`AGED_MAX`] that began before `oldest_unix_ms`. `spared`: the one being written.
    pub fn surplus(&self, bytes_max: u64, oldest_unix_ms: u64, spared: Stamp) -> Vec<Stamp> {
        let (mut left, mut aged) = (self.bytes, 0);
        let mut surplus = Vec::new();
        for (stamp, length) in self.lengths.iter().filter(|(stamp, _)| **stamp != spared) {
            if left <= bytes_max {
                if stamp.unix_ms >= oldest_unix_ms || aged == AGED_MAX {
                    break;
                }
                aged += 1;
            }
            left -= allocated_bytes(*length);
            surplus.push(*stamp);
        }
        surplus
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::BLOCK_BYTES;

    fn stamp(unix_ms: u64) -> Stamp {
        Stamp { unix_ms, number: 0 }
    }

    fn five_windows() -> StoreIndex {
        let mut index = StoreIndex::default();
        for unix_ms in 1..=5 {
            index.insert(stamp(unix_ms), 5_000); // 8,192 on the disk
        }
        index
    }

    #[test]
    fn the_oldest_are_removed_until_the_rest_fits() {
        assert_eq!(five_windows().surplus(5 * 8_192, 0, stamp(5)), []);
        assert_eq!(five_windows().surplus(5 * 8_192 - 1, 0, stamp(5)), [stamp(1)]);
        assert_eq!(five_windows().surplus(2 * 8_192, 0, stamp(5)), [stamp(1), stamp(2), stamp(3)]);
    }

    #[test]
    fn old_windows_are_removed_though_they_fit() {
        assert_eq!(five_windows().surplus(u64::MAX, 3, stamp(5)), [stamp(1), stamp(2)]);
    }

    #[test]
    fn few_are_removed_for_age_at_once() {
        let mut index = StoreIndex::default();
        (1..=100).for_each(|unix_ms| index.insert(stamp(unix_ms), 1));
        let first = |number| (1..=number).map(stamp).collect::<Vec<_>>();
        assert_eq!(index.surplus(u64::MAX, 1_000, stamp(100)), first(10));
        assert_eq!(index.surplus(50 * BLOCK_BYTES, 1_000, stamp(100)), first(60));
        assert_eq!(index.surplus(50 * BLOCK_BYTES, 0, stamp(100)), first(50));
    }

    #[test]
    fn the_window_being_written_is_spared() {
        assert_eq!(
            five_windows().surplus(8_192, 0, stamp(1)),
            [stamp(2), stamp(3), stamp(4), stamp(5)]
        );
    }

    #[test]
    fn a_rewritten_file_counts_once() {
        let mut index = five_windows();
        index.insert(stamp(5), 1);
        assert_eq!(index.bytes, 4 * 8_192 + 4_096);
        index.remove(stamp(5));
        index.remove(stamp(5));
        assert_eq!((index.bytes, index.newest_unix_ms()), (4 * 8_192, 4));
    }
}
