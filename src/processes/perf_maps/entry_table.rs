//! What a perf map or a jitdump says of addresses: ranges that never overlap, and what was there
//! before.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use profile::CodeNameId;

use super::text::MapEntry;
use crate::limits::Charge;

/// Bytes that an entry takes besides its name: a node of the map has space for 11, and is half full
/// at least.
const ENTRY_BYTES: u64 = 112;
/// Replaced ranges that are retained: samples that wait for an unwind table are older than those.
const REPLACED_MAX: usize = 4096;

/// The name of a range of addresses.
#[derive(Clone, Debug)]
pub(super) struct NamedRange {
    end: u64,
    pub name: Arc<str>,
    /// When it was read, or the code was there as far as that is known, in nanoseconds of
    /// CLOCK_MONOTONIC.
    since: u64,
    /// The key of its name, once a sample has it.
    pub id: Option<CodeNameId>,
}

impl NamedRange {
    fn bytes(&self) -> u64 {
        ENTRY_BYTES + self.name.len() as u64
    }
}

/// A range that was replaced.
#[derive(Debug)]
struct ReplacedRange {
    start: u64,
    range: NamedRange,
    /// When it ended, in nanoseconds of CLOCK_MONOTONIC; `u64::MAX` if it may still have been there
    /// when it was replaced.
    until: u64,
}

impl ReplacedRange {
    /// Returns whether an address had this name at a time or later.
    fn covers(&self, address: u64, time: u64) -> bool {
        (self.start..self.range.end).contains(&address) && time < self.until
    }
}

/// Entries by address. A later one replaces what it covers of the earlier ones.
#[derive(Debug)]
pub(super) struct EntryTable {
    by_start: BTreeMap<u64, NamedRange>,
    /// What was replaced, oldest first.
    replaced: VecDeque<ReplacedRange>,
    /// The time of the last entry.
    last: u64,
    charge: Charge,
}

impl EntryTable {
    /// Returns an empty table whose entries are added to `charge`.
    pub fn new(charge: Charge) -> Self {
        Self { by_start: BTreeMap::new(), replaced: VecDeque::new(), last: 0, charge }
    }

    /// Replaces all entries by none, at a time in nanoseconds of CLOCK_MONOTONIC. `is_end`: they
    /// name nothing from then on.
    pub fn clear(&mut self, time: u64, is_end: bool) {
        self.last = 0;
        for (start, range) in std::mem::take(&mut self.by_start) {
            self.retire(start, range, time, u64::MAX);
        }
        for replaced in self.replaced.iter_mut().filter(|_| is_end) {
            replaced.until = replaced.until.min(time);
        }
    }

    /// Adds an entry that was read at a time in nanoseconds of CLOCK_MONOTONIC. Returns false if it
    /// does not fit; what it covers is replaced nevertheless, also if it is of moved code whose
    /// name is not known.
    pub fn insert(&mut self, entry: MapEntry, time: u64) -> bool {
        let MapEntry { start, end, name, moved_from, time: own_time } = entry;
        // What the process says of times is limited by what is known: the order, and the present.
        let time = if own_time == 0 { time } else { own_time.max(self.last).min(time) };
        self.last = time;
        let named = match moved_from {
            None => Some((name.into(), None)),
            Some(from) => self.take(from..from.saturating_add(end.saturating_sub(start)), time),
        };
        self.replace_range(start..end, time, if named.is_some() { u64::MAX } else { time });
        let Some((name, id)) = named else { return true };
        let range = NamedRange { end, name, since: time, id };
        let fits = self.grow(range.bytes());
        if fits {
            self.by_start.insert(start, range);
        }
        fits
    }

    /// Returns the entry of an address as of a time; if it had none then, the first one after it.
    pub fn find(&mut self, address: u64, time: u64) -> Option<&mut NamedRange> {
        let current = self.by_start.range_mut(..=address).next_back().map(|(_, range)| range);
        let current = current.filter(|range| address < range.end);
        if current.as_ref().is_some_and(|range| range.since <= time) {
            return current;
        }
        let before = self.replaced.iter_mut().filter(|replaced| replaced.covers(address, time));
        let all = before.map(|replaced| &mut replaced.range).chain(current);
        // Those of its time first, the latest of them; then the earliest of the others.
        all.min_by_key(|range| match range.since <= time {
            true => (0, u64::MAX - range.since),
            false => (1, range.since),
        })
    }

    /// Returns the entry of an address that was read last.
    pub fn current(&self, address: u64) -> Option<&NamedRange> {
        let (_, range) = self.by_start.range(..=address).next_back()?;
        (address < range.end).then_some(range)
    }

    /// Returns the number of entries.
    pub fn count(&self) -> usize {
        self.by_start.len()
    }

    /// Replaces a range by nothing. Returns the name of the entry that begins there.
    fn take(&mut self, range: Range<u64>, time: u64) -> Option<(Arc<str>, Option<CodeNameId>)> {
        let first = self.by_start.get(&range.start);
        let named = first.map(|first| (Arc::clone(&first.name), first.id));
        self.replace_range(range, time, time);
        named
    }

    /// Replaces a range by nothing: an entry that reaches beyond it keeps the rest. `until`: when
    /// what is replaced ended.
    fn replace_range(&mut self, Range { start, end }: Range<u64>, time: u64, until: u64) {
        if let Some((_, before)) = self.by_start.range_mut(..start).next_back()
            && before.end > start
        {
            let covered = before.clone();
            before.end = start;
            if self.grow(covered.bytes()) {
                self.by_start.insert(start, covered);
            }
        }
        while let Some((at, covered)) = self.by_start.range(start..end).next() {
            let (at, mut covered) = (*at, covered.clone());
            self.by_start.remove(&at);
            if covered.end > end && self.grow(covered.bytes()) {
                self.by_start.insert(end, covered.clone());
                covered.end = end;
            }
            self.retire(at, covered, time, until);
        }
    }

    /// Retains a range that was replaced, unless it was read only then.
    fn retire(&mut self, start: u64, range: NamedRange, time: u64, until: u64) {
        if range.since == time {
            return self.charge.shrink(range.bytes());
        }
        self.replaced.push_back(ReplacedRange { start, range, until });
        if self.replaced.len() > REPLACED_MAX {
            self.forget_oldest();
        }
    }

    /// Charges more; forgets what was replaced if there is no space else.
    fn grow(&mut self, bytes: u64) -> bool {
        while !self.charge.grow(bytes) {
            if !self.forget_oldest() {
                return false;
            }
        }
        true
    }

    fn forget_oldest(&mut self) -> bool {
        let oldest = self.replaced.pop_front();
        oldest.inspect(|replaced| self.charge.shrink(replaced.range.bytes())).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{Owner, SharedPool};

    fn table(bytes: u64) -> (SharedPool, EntryTable) {
        let pool = SharedPool::new(bytes);
        let table = EntryTable::new(pool.empty_charge(Owner::User(1)));
        (pool, table)
    }

    fn insert(table: &mut EntryTable, start: u64, end: u64, name: &str) -> bool {
        table.insert(MapEntry::new(start, end, name.into()), 1)
    }

    fn names(table: &mut EntryTable, addresses: std::ops::Range<u64>) -> String {
        let name = |at| table.current(at).map_or("-".into(), |entry| entry.name.to_string());
        addresses.map(name).collect()
    }

    #[test]
    fn the_later_entry_wins_where_entries_overlap() {
        let (pool, mut table) = table(1 << 20);
        insert(&mut table, 0, 9, "a");
        insert(&mut table, 2, 4, "b");
        assert_eq!(names(&mut table, 0..10), "aabbaaaaa-");
        insert(&mut table, 3, 6, "c");
        assert_eq!(names(&mut table, 0..10), "aabcccaaa-");
        insert(&mut table, 1, 7, "d");
        assert_eq!(names(&mut table, 0..10), "addddddaa-");
        insert(&mut table, 0, 20, "e");
        assert_eq!((names(&mut table, 0..10), table.count()), ("eeeeeeeeee".into(), 1));
        assert_eq!(pool.used(), ENTRY_BYTES + 1);
        table.clear(1, false);
        assert_eq!((pool.used(), table.current(3).is_none()), (0, true));
    }

    /// Compares with an array that has a name for each address.
    #[test]
    fn overlapping_entries_equal_a_simple_model() {
        let (pool, mut table) = table(1 << 24);
        let (mut model, mut state) = (vec!["-".to_owned(); 64], 1_u64);
        for number in 0..5_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let (start, length) = ((state >> 33) % 60, 1 + (state >> 50) % 20);
            let end = (start + length).min(64);
            let name = char::from(b'a' + (number % 26) as u8).to_string();
            let entry = MapEntry::new(start, end, name.clone());
            assert!(table.insert(entry, number / 3));
            model[start as usize..end as usize].fill(name);
            assert_eq!(names(&mut table, 0..64), model.concat());
        }
        let ranges = table.count() + table.replaced.len();
        assert_eq!(pool.used(), ranges as u64 * (ENTRY_BYTES + 1));
        assert_eq!(table.replaced.len(), REPLACED_MAX);
    }

    #[test]
    fn a_sample_has_the_entry_of_its_time() {
        let (_, mut table) = table(1 << 20);
        let insert = |table: &mut EntryTable, start, end, name: &str, time| {
            assert!(table.insert(MapEntry::new(start, end, name.into()), time));
        };
        insert(&mut table, 0, 8, "a", 10);
        insert(&mut table, 2, 4, "b", 20);
        insert(&mut table, 0, 8, "never", 30);
        insert(&mut table, 0, 8, "c", 30);
        table.clear(40, false);
        insert(&mut table, 2, 3, "d", 50);
        let at = |table: &mut EntryTable, address, time| {
            table.find(address, time).map_or("-".into(), |range| range.name.to_string())
        };
        let of_two: String =
            [1, 10, 19, 20, 29, 30, 49, 50, 99].map(|time| at(&mut table, 2, time)).concat();
        assert_eq!(of_two, "aaabbccdd");
        assert_eq!((at(&mut table, 1, 25), at(&mut table, 1, 60)), ("a".into(), "c".into()));
        table.clear(70, true);
        let found = [1, 2].map(|address| [69, 70].map(|time| at(&mut table, address, time)));
        assert_eq!(found.concat().concat(), "c-d-", "nothing has a name from then on");
        assert_eq!(at(&mut table, 9, 25), "-");
    }

    #[test]
    fn moved_code_takes_its_name_along() {
        let (pool, mut table) = table(1 << 20);
        insert(&mut table, 0, 4, "a");
        insert(&mut table, 4, 8, "b");
        let move_code = |table: &mut EntryTable, from, start, end| {
            let moved = MapEntry::new(start, end, String::new());
            assert!(table.insert(MapEntry { moved_from: Some(from), ..moved }, 1));
        };
        move_code(&mut table, 0, 6, 10);
        assert_eq!(names(&mut table, 0..12), "----bbaaaa--");
        move_code(&mut table, 6, 5, 9); // into itself
        assert_eq!(names(&mut table, 0..12), "----baaaa---");
        move_code(&mut table, 40, 4, 6); // what was there is not known
        assert_eq!(names(&mut table, 0..12), "------aaa---");
        assert_eq!(pool.used(), ENTRY_BYTES + 1);
    }

    #[test]
    fn code_that_was_moved_is_no_longer_where_it_was() {
        let (_, mut table) = table(1 << 20);
        insert(&mut table, 0, 4, "a");
        insert(&mut table, 8, 12, "b");
        let moved = |from, start, end| MapEntry {
            moved_from: Some(from),
            ..MapEntry::new(start, end, String::new())
        };
        assert!(table.insert(moved(0, 4, 8), 10) && table.insert(moved(40, 8, 12), 20));
        let mut at = |address, time| {
            table.find(address, time).map_or("-".into(), |range| range.name.to_string())
        };
        let found = [(0, 9), (0, 10), (4, 10), (8, 19), (8, 20)].map(|(a, time)| at(a, time));
        assert_eq!(found.concat(), "a-ab-");
    }

    #[test]
    fn an_entry_counts_from_its_own_time_if_that_is_possible() {
        let (_, mut table) = table(1 << 20);
        for (name, own_time) in [("a", 10), ("b", 20), ("c", 15), ("d", 99), ("e", 40)] {
            let entry = MapEntry::new(0, 8, name.into());
            assert!(table.insert(MapEntry { time: own_time, ..entry }, 50));
        }
        let at = |time| table.find(4, time).map_or("-".into(), |range| range.name.to_string());
        let found: String = [9, 10, 19, 20, 49, 50].map(at).concat();
        assert_eq!(found, "aaacce", "c came after b, and e after d");
    }

    #[test]
    fn an_entry_that_does_not_fit_leaves_no_wrong_name() {
        let (_, mut table) = table(2 * (ENTRY_BYTES + 8));
        assert!(insert(&mut table, 0, 4, "a"));
        assert!(!insert(&mut table, 2, 4, &"b".repeat(1000)));
        assert_eq!(names(&mut table, 0..4), "aa--");
    }
}
