//! What is known of each range of code, from all functions that were followed.

use std::collections::BTreeMap;
use std::ops::Range;

/// Ranges of addresses, each with a value, ascending and disjoint.
#[derive(Debug)]
pub(super) struct Rows<T> {
    /// End and value by start.
    ranges: BTreeMap<u64, (u64, T)>,
    /// The value where functions disagree.
    conflict: T,
}

impl<T: Copy + PartialEq> Rows<T> {
    pub fn new(conflict: T) -> Self {
        Self { ranges: BTreeMap::new(), conflict }
    }

    /// Returns the value at an address.
    pub fn get(&self, address: u64) -> Option<T> {
        let (_, (end, value)) = self.ranges.range(..=address).next_back()?;
        (address < *end).then_some(*value)
    }

    /// Returns the end of the range that an address is in.
    pub fn end_at(&self, address: u64) -> Option<u64> {
        let (_, (end, _)) = self.ranges.range(..=address).next_back()?;
        (address < *end).then_some(*end)
    }

    /// Returns all ranges.
    pub fn iter(&self) -> impl Iterator<Item = (Range<u64>, T)> {
        self.ranges.iter().map(|(start, (end, value))| (*start..*end, *value))
    }

    /// Returns whether nothing else than a value is known of a range.
    pub fn agrees(&self, range: &Range<u64>, value: T) -> bool {
        let before = self.ranges.range(..=range.start).next_back();
        let within = self.ranges.range(range.start..range.end);
        before
            .into_iter()
            .chain(within)
            .all(|(_, (end, known))| *end <= range.start || *known == value)
    }

    /// Adds a value for a range. Where another is there already, neither stays.
    pub fn insert(&mut self, range: Range<u64>, value: T) {
        let mut at = range.start;
        while at < range.end {
            let before = self.ranges.range(..=at).next_back().map(|(start, row)| (*start, *row));
            match before.filter(|(_, (end, _))| *end > at) {
                Some((start, (end, known))) => {
                    let until = end.min(range.end);
                    if known != value {
                        self.replace(start..end, at..until, known);
                    }
                    at = until;
                }
                None => {
                    let next = self.ranges.range(at..).next().map_or(u64::MAX, |(next, _)| *next);
                    let until = next.min(range.end);
                    self.ranges.insert(at, (until, value));
                    at = until;
                }
            }
        }
    }

    /// Replaces a part of a range by the conflict.
    fn replace(&mut self, whole: Range<u64>, part: Range<u64>, value: T) {
        self.ranges.remove(&whole.start);
        if whole.start < part.start {
            self.ranges.insert(whole.start, (part.start, value));
        }
        self.ranges.insert(part.start, (part.end, self.conflict));
        if part.end < whole.end {
            self.ranges.insert(part.end, (whole.end, value));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_disagree_are_a_conflict() {
        let mut rows = Rows::new('!');
        rows.insert(10..20, 'a');
        rows.insert(5..12, 'a');
        rows.insert(15..25, 'b');
        rows.insert(30..40, 'c');
        rows.insert(24..31, 'b');
        let all: Vec<_> = rows.iter().collect();
        let expected = [
            (5..10, 'a'),
            (10..15, 'a'),
            (15..20, '!'),
            (20..25, 'b'),
            (25..30, 'b'),
            (30..31, '!'),
            (31..40, 'c'),
        ];
        assert_eq!(all, expected);
        assert_eq!((rows.get(9), rows.get(29), rows.get(40)), (Some('a'), Some('b'), None));
    }
}
