//! The windows in a directory, and which of them have to be removed.
//!
//! Windows of this boot are ordered by the time since boot, which cannot be set. Those of earlier
//! boots are older than all of these, and ordered by the wall clock.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use profile::BootTime;

use super::agreed_time::Now;
use super::stamp::Stamp;
use crate::disk::allocated_bytes;

/// Most names read in one directory, including those of other files.
pub const NAMES_MAX: usize = 1_000_000;

/// Most windows removed for their age at once: a clock that leaps ahead makes all of them old.
const AGED_MAX: usize = 10;

/// Most headers read at once, of windows about to be removed.
const HEADERS_MAX: usize = 50;

const NS_PER_MS: u64 = 1_000_000;

/// The windows in a directory by name, and the space that they occupy.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct StoreIndex {
    windows: BTreeMap<Stamp, IndexedWindow>,
    bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct IndexedWindow {
    /// Length of the file.
    length: u64,
    start: StartOfBoot,
}

/// When a window began, on the clock of its boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartOfBoot {
    /// It is in the header of the file, which has not been read: the window counts as one of an
    /// earlier boot until it is about to be removed.
    Unread,
    /// As in the header; `None` for windows of early versions.
    Read(Option<BootTime>),
}

/// The bounds of a directory.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Most space on disk.
    pub bytes: u64,
    /// Greatest age in milliseconds.
    pub age_ms: u64,
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
                index.insert(stamp, metadata.len(), StartOfBoot::Unread);
            }
        }
        Ok(index)
    }

    /// Returns the names in order of the wall clock.
    pub fn stamps(&self) -> impl Iterator<Item = Stamp> {
        self.windows.keys().copied()
    }

    /// Returns whether there is a window of this name.
    pub fn has(&self, stamp: Stamp) -> bool {
        self.windows.contains_key(&stamp)
    }

    /// Records a file, which replaces an earlier one of its name.
    pub fn insert(&mut self, stamp: Stamp, length: u64, start: StartOfBoot) {
        self.remove(stamp);
        self.bytes += allocated_bytes(length);
        self.windows.insert(stamp, IndexedWindow { length, start });
    }

    /// Records that a file was removed.
    pub fn remove(&mut self, stamp: Stamp) {
        if let Some(window) = self.windows.remove(&stamp) {
            self.bytes -= allocated_bytes(window.length);
        }
    }

    /// Returns when the newest window began, in milliseconds since 1970; 0 without any.
    pub fn newest_unix_ms(&self) -> u64 {
        self.windows.last_key_value().map_or(0, |(stamp, _)| stamp.unix_ms)
    }

    /// Returns the windows to remove, oldest first: all until the rest fits, then a few that are
    /// too old. `spared`: the one being written. `read`: reads the start of a window from its
    /// header, which is done before it is removed.
    pub fn surplus(
        &mut self,
        bounds: Bounds,
        now: &Now,
        spared: Stamp,
        mut read: impl FnMut(Stamp) -> Option<BootTime>,
    ) -> Vec<Stamp> {
        let (mut left, mut aged, mut headers) = (self.bytes, 0, 0);
        let (mut surplus, mut younger) = (Vec::new(), Vec::new());
        for stamp in self.candidates(bounds, now, spared) {
            let Some(window) = self.windows.get_mut(&stamp) else { continue };
            if window.start == StartOfBoot::Unread {
                if headers == HEADERS_MAX {
                    break;
                }
                headers += 1;
                window.start = StartOfBoot::Read(read(stamp));
                if window.is_of_boot(now) && left > bounds.bytes {
                    younger.push((window.age_order(stamp, now), stamp));
                    continue;
                }
            }
            if left <= bounds.bytes {
                if aged == AGED_MAX {
                    break;
                }
                if !window.is_too_old(stamp, bounds, now) {
                    continue;
                }
                aged += 1;
            }
            left -= allocated_bytes(window.length);
            surplus.push(stamp);
        }
        younger.sort_unstable();
        for (_, stamp) in younger {
            if left <= bounds.bytes {
                break;
            }
            left -= self.windows.get(&stamp).map_or(0, |window| allocated_bytes(window.length));
            surplus.push(stamp);
        }
        surplus
    }

    /// Returns the windows that may have to be removed, oldest first as far as is known.
    fn candidates(&self, bounds: Bounds, now: &Now, spared: Stamp) -> Vec<Stamp> {
        let is_full = self.bytes > bounds.bytes;
        let others = self.windows.iter().filter(|(stamp, _)| **stamp != spared);
        let mut candidates: Vec<_> = others
            .filter(|(stamp, window)| is_full || window.is_too_old(**stamp, bounds, now))
            .map(|(stamp, window)| (window.age_order(*stamp, now), *stamp))
            .collect();
        candidates.sort_unstable();
        candidates.into_iter().map(|(_, stamp)| stamp).collect()
    }
}

impl IndexedWindow {
    fn is_of_boot(&self, now: &Now) -> bool {
        self.since_boot_ms(now).is_some()
    }

    /// Returns when the window began, in milliseconds since this boot; `None` if that was in
    /// another boot, or is not known.
    fn since_boot_ms(&self, now: &Now) -> Option<u64> {
        match self.start {
            StartOfBoot::Read(Some(start)) if start.boot_id == now.boot.boot_id => {
                Some(start.ns / NS_PER_MS)
            }
            _ => None,
        }
    }

    /// Returns what sorts windows from the oldest to the youngest.
    fn age_order(&self, stamp: Stamp, now: &Now) -> (bool, u64) {
        match self.since_boot_ms(now) {
            Some(since_boot_ms) => (true, since_boot_ms),
            None => (false, stamp.unix_ms),
        }
    }

    /// Whether the window is too old by the clock of this boot, or by the wall clock if it is of
    /// another boot. Never while the clocks disagree.
    fn is_too_old(&self, stamp: Stamp, bounds: Bounds, now: &Now) -> bool {
        let (now_ms, start_ms) = match self.since_boot_ms(now) {
            Some(since_boot_ms) => (now.boot.ns / NS_PER_MS, since_boot_ms),
            None if now.is_early => return false,
            None => (now.unix_ms, stamp.unix_ms),
        };
        now.is_agreed && now_ms.saturating_sub(start_ms) > bounds.age_ms
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::disk::BLOCK_BYTES;

    const BOOT: u128 = 7;

    fn stamp(unix_ms: u64) -> Stamp {
        Stamp { unix_ms, number: 0 }
    }

    fn of_boot(boot_id: u128, ms: u64) -> StartOfBoot {
        StartOfBoot::Read(Some(BootTime { boot_id, ns: ms * NS_PER_MS }))
    }

    /// Returns an index of windows of an earlier version, which occupy 8,192 bytes each.
    fn index(starts_ms: impl IntoIterator<Item = u64>) -> StoreIndex {
        let mut index = StoreIndex::default();
        for unix_ms in starts_ms {
            index.insert(stamp(unix_ms), 5_000, StartOfBoot::Read(None));
        }
        index
    }

    fn now(unix_ms: u64, boot_ms: u64) -> Now {
        let boot = BootTime { boot_id: BOOT, ns: boot_ms * NS_PER_MS };
        Now { unix_ms, boot, is_agreed: true, is_early: false }
    }

    /// Returns the surplus in milliseconds, at 1,000 ms on both clocks.
    fn surplus(index: &mut StoreIndex, bytes: u64, age_ms: u64, spared: u64) -> Vec<u64> {
        let bounds = Bounds { bytes, age_ms };
        let surplus = index.surplus(bounds, &now(1_000, 1_000), stamp(spared), |_| None);
        surplus.into_iter().map(|stamp| stamp.unix_ms).collect()
    }

    #[test]
    fn the_oldest_are_removed_until_the_rest_fits() {
        let mut five = index(1..=5);
        assert_eq!(surplus(&mut five, 5 * 8_192, 1_000, 5), Vec::<u64>::new());
        assert_eq!(surplus(&mut five, 5 * 8_192 - 1, 1_000, 5), [1]);
        assert_eq!(surplus(&mut five, 2 * 8_192, 1_000, 5), [1, 2, 3]);
    }

    #[test]
    fn old_windows_are_removed_though_they_fit() {
        assert_eq!(surplus(&mut index(1..=5), u64::MAX, 997, 5), [1, 2]);
    }

    #[test]
    fn few_are_removed_for_age_at_once() {
        let mut index = index(1..=100);
        let first = |number| (1..=number).collect::<Vec<_>>();
        assert_eq!(surplus(&mut index, u64::MAX, 0, 100), first(10));
        assert_eq!(surplus(&mut index, 100 * BLOCK_BYTES, 0, 100), first(60));
        assert_eq!(surplus(&mut index, 100 * BLOCK_BYTES, 1_000, 100), first(50));
    }

    #[test]
    fn the_window_being_written_is_spared() {
        assert_eq!(surplus(&mut index(1..=5), 8_192, 1_000, 1), [2, 3, 4, 5]);
    }

    #[test]
    fn nothing_is_too_old_while_the_clocks_disagree() {
        let bounds = Bounds { bytes: u64::MAX, age_ms: 10 };
        let mut index = index(1..=5);
        index.insert(stamp(6), 1, of_boot(BOOT, 6));
        let disagreed = Now { is_agreed: false, ..now(1_000, 1_000) };
        assert!(index.surplus(bounds, &disagreed, stamp(5), |_| None).is_empty());
        let agreed = index.surplus(bounds, &now(1_000, 1_000), stamp(5), |_| None);
        assert_eq!(agreed, [1, 2, 3, 4, 6].map(stamp));
    }

    #[test]
    fn windows_of_earlier_boots_are_spared_just_after_boot() {
        let bounds = Bounds { bytes: u64::MAX, age_ms: 10 };
        let mut index = index(1..=5);
        index.insert(stamp(6), 1, of_boot(BOOT, 6));
        let early = Now { is_early: true, ..now(1_000, 1_000) };
        assert_eq!(index.surplus(bounds, &early, stamp(5), |_| None), [stamp(6)]);
    }

    #[test]
    fn windows_of_this_boot_age_by_the_time_since_boot() {
        let mut index = StoreIndex::default();
        // Taken while the wall clock was wrong: long ago, just now, and in the future.
        for (unix_ms, boot_ms) in [(1, 950), (990, 100), (5_000, 200), (6_000, 960)] {
            index.insert(stamp(unix_ms), 1, of_boot(BOOT, boot_ms));
        }
        index.insert(stamp(980), 1, of_boot(BOOT + 1, 0));
        let of = |index: &mut StoreIndex, bytes, age_ms| surplus(index, bytes, age_ms, 0);
        assert_eq!(of(&mut index, u64::MAX, 100), [990, 5_000]);
        assert_eq!(of(&mut index, u64::MAX, 10), [980, 990, 5_000, 1, 6_000]);
        assert_eq!(of(&mut index, 3 * BLOCK_BYTES, 9_000), [980, 990]);
    }

    #[test]
    fn the_header_is_read_before_a_window_is_removed() {
        let mut index = StoreIndex::default();
        for unix_ms in 1..=200 {
            index.insert(stamp(unix_ms), 1, StartOfBoot::Unread);
        }
        // The first hundred are of this boot: the wall clock was set forward after them.
        let reads = Cell::new(0);
        let read = |stamp: Stamp| {
            reads.set(reads.get() + 1);
            let boot_id = if stamp.unix_ms <= 100 { BOOT } else { 0 };
            Some(BootTime { boot_id, ns: (900 + stamp.unix_ms / 10) * NS_PER_MS })
        };
        let bounds = Bounds { bytes: u64::MAX, age_ms: 500 };
        let removed: Vec<Vec<Stamp>> =
            (0..4).map(|_| index.surplus(bounds, &now(1_000, 1_000), stamp(200), &read)).collect();
        assert_eq!(removed[..2], [Vec::<Stamp>::new(), Vec::new()], "50 headers are read at once");
        assert_eq!(removed[2], (101..=110).map(stamp).collect::<Vec<_>>());
        assert!(reads.get() <= 120, "{}", reads.get());
        let bounds = Bounds { bytes: 195 * BLOCK_BYTES, age_ms: 9_000 };
        let full = index.surplus(bounds, &now(1_000, 1_000), stamp(200), &read);
        assert_eq!(full, (101..=105).map(stamp).collect::<Vec<_>>());
    }

    #[test]
    fn a_full_store_is_reduced_though_all_windows_are_of_this_boot() {
        let mut index = StoreIndex::default();
        for unix_ms in 1..=200 {
            index.insert(stamp(unix_ms), 1, StartOfBoot::Unread);
        }
        let read = |stamp: Stamp| Some(BootTime { boot_id: BOOT, ns: stamp.unix_ms * NS_PER_MS });
        let bounds = Bounds { bytes: 199 * BLOCK_BYTES, age_ms: 9_000 };
        let removed = index.surplus(bounds, &now(1_000, 1_000), stamp(200), read);
        assert_eq!(removed, [stamp(1)]);
    }

    #[test]
    fn a_rewritten_file_counts_once() {
        let mut index = index(1..=5);
        index.insert(stamp(5), 1, StartOfBoot::Unread);
        assert_eq!(index.bytes, 4 * 8_192 + 4_096);
        index.remove(stamp(5));
        index.remove(stamp(5));
        assert_eq!((index.bytes, index.newest_unix_ms()), (4 * 8_192, 4));
    }
}
