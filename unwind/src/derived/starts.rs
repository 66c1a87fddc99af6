//! Where functions begin, and where rows come from another source.

use std::collections::BTreeMap;
use std::ops::{Bound, Range};

/// What is known of an address at which a function may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// A function: a symbol, a call, or a jump of another function that has left its frame leads
    /// here; or it is proven by its own code.
    Function,
    /// A function or a part of one.
    Boundary,
    /// A part of another function.
    Part,
}

/// Where functions begin.
#[derive(Debug, Default)]
pub(super) struct Starts {
    known: BTreeMap<u64, Start>,
    /// Ranges with rows of another source, ascending and disjoint.
    covered: Vec<Range<u64>>,
    /// Linkage tables, whose rows have another source, too.
    linkage: Vec<Range<u64>>,
}

impl Starts {
    /// Starts without functions. `covered`: ranges with rows of another source, ascending and
    /// disjoint.
    pub fn new(covered: Vec<Range<u64>>, linkage: Vec<Range<u64>>) -> Self {
        Self { known: BTreeMap::new(), covered, linkage }
    }

    /// Returns what is known of an address.
    pub fn get(&self, address: u64) -> Option<Start> {
        self.known.get(&address).copied()
    }

    pub fn insert(&mut self, address: u64, start: Start) {
        self.known.insert(address, start);
    }

    /// Records that a call or jump leads to an address as to a function. Returns whether it is one:
    /// a part of another function stays that.
    pub fn insert_called(&mut self, address: u64) -> bool {
        let start = self.known.entry(address).or_insert(Start::Function);
        if *start == Start::Boundary {
            *start = Start::Function;
        }
        *start == Start::Function
    }

    /// Returns the addresses at which functions begin, ascending.
    pub fn functions(&self) -> impl Iterator<Item = u64> {
        let functions = self.known.iter().filter(|(_, start)| **start == Start::Function);
        functions.map(|(address, _)| *address)
    }

    /// Returns whether something is known to begin at an address.
    pub fn contains(&self, address: u64) -> bool {
        self.known.contains_key(&address)
    }

    /// Returns the first address after another at which something is known to begin, or rows have
    /// another source; `u64::MAX` if there is none.
    pub fn next(&self, address: u64) -> u64 {
        let next = self.known.range((Bound::Excluded(address), Bound::Unbounded)).next();
        let covered = self.covered.partition_point(|range| range.start <= address);
        let next_covered = self.covered.get(covered).map(|range| range.start);
        next.map(|(next, _)| *next).into_iter().chain(next_covered).min().unwrap_or(u64::MAX)
    }

    /// Returns the last address up to another at which a function is known to begin; that address
    /// if there is none.
    pub fn last_before(&self, address: u64) -> u64 {
        let before = self.known.range(..=address).rev();
        let mut functions = before.filter(|(_, start)| **start == Start::Function);
        functions.next().map_or(address, |(start, _)| *start)
    }

    /// Returns whether the rows of an address have another source.
    pub fn is_covered(&self, address: u64) -> bool {
        let after = self.covered.partition_point(|range| range.start <= address);
        (after > 0 && self.covered[after - 1].contains(&address))
            || self.linkage.iter().any(|range| range.contains(&address))
    }

    /// Returns the stretches of a range between those with rows of another source.
    pub fn gaps(&self, range: Range<u64>) -> Vec<Range<u64>> {
        let from = self.covered.partition_point(|covered| covered.end <= range.start);
        let to = self.covered.partition_point(|covered| covered.start < range.end);
        let mut gaps = Vec::new();
        let mut start = range.start;
        for covered in self.covered.get(from..to).unwrap_or_default() {
            gaps.push(start..covered.start);
            start = covered.end;
        }
        gaps.push(start..range.end);
        gaps.retain(|gap| gap.start < gap.end);
        gaps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_lie_between_covered_ranges() {
        let starts = Starts::new(vec![10..20, 30..40, 40..50], Vec::new());
        assert_eq!(starts.gaps(15..60), [20..30, 50..60]);
        assert_eq!(starts.gaps(0..30), [0..10, 20..30]);
        assert!(starts.is_covered(10) && starts.is_covered(49) && !starts.is_covered(20));
    }
}
