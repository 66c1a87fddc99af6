//! Messages between the loader and the deriver.

use std::ops::Range;

use prost::Message;
use unwind::Rule;
use unwind::derived::DerivedRows;

/// Asks for the rows of the file that comes along, or of a part of its code.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct DeriveRequest {
    /// First address of the part.
    #[prost(uint64, tag = "1")]
    start: u64,
    /// Address after the part; 0 for the whole file.
    #[prost(uint64, tag = "2")]
    end: u64,
    /// Whether call frames are ignored.
    #[prost(bool, tag = "3")]
    is_hidden: bool,
}

/// Which rows of a file are derived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::tables) enum DerivedExtent {
    /// Those of code without call frames.
    Gaps,
    /// Those of code without call frames in a part.
    Part(Range<u64>),
    /// Those of all code, as if it had no call frames.
    All,
}

impl DeriveRequest {
    pub fn new(extent: &DerivedExtent) -> Self {
        let part = match extent {
            DerivedExtent::Part(part) => part.clone(),
            DerivedExtent::Gaps | DerivedExtent::All => 0..0,
        };
        let is_hidden = *extent == DerivedExtent::All;
        Self { start: part.start, end: part.end, is_hidden }
    }

    pub fn extent(&self) -> DerivedExtent {
        match (self.is_hidden, self.start < self.end) {
            (true, _) => DerivedExtent::All,
            (false, true) => DerivedExtent::Part(self.start..self.end),
            (false, false) => DerivedExtent::Gaps,
        }
    }
}

/// The rows of a file; all empty if it cannot be read.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct DeriveResponse {
    /// First address of each range, ascending.
    #[prost(uint64, repeated, tag = "1")]
    starts: Vec<u64>,
    /// Address after each range.
    #[prost(uint64, repeated, tag = "2")]
    ends: Vec<u64>,
    /// The encoded rule of each range, little-endian.
    #[prost(fixed64, repeated, tag = "3")]
    rules: Vec<u64>,
    /// Offset in the file and number of the bytes that were read, in turn.
    #[prost(uint64, repeated, tag = "4")]
    read: Vec<u64>,
}

impl DeriveResponse {
    /// Encodes rows, and what of the file was read for them.
    pub fn new(rows: &DerivedRows, read: &[(u64, u64)]) -> Self {
        let ranges = rows.ranges.iter();
        Self {
            starts: ranges.clone().map(|(range, _)| range.start).collect(),
            ends: ranges.clone().map(|(range, _)| range.end).collect(),
            rules: ranges.map(|(_, rule)| u64::from_le_bytes(rule.encode())).collect(),
            read: read.iter().flat_map(|(offset, bytes)| [*offset, *bytes]).collect(),
        }
    }

    /// Decodes the rows; `None` if they are not ascending.
    pub fn rows(&self) -> Option<DerivedRows> {
        let bounds = self.starts.iter().zip(&self.ends).map(|(start, end)| *start..*end);
        let rules = self.rules.iter().map(|rule| Rule::decode(rule.to_le_bytes()));
        let ranges: Vec<(Range<u64>, Rule)> = bounds.zip(rules).collect();
        let is_ascending = ranges.iter().all(|(range, _)| range.start < range.end)
            && ranges.is_sorted_by(|(one, _), (next, _)| one.end <= next.start);
        is_ascending.then_some(DerivedRows { ranges })
    }

    /// Returns the offset and number of the bytes of the file that were read.
    pub fn read(&self) -> impl Iterator<Item = (u64, u64)> {
        self.read.as_chunks().0.iter().map(|[offset, bytes]| (*offset, *bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_survive_the_way() {
        let ranges = vec![(0x10..0x20, Rule::NO_ROW), (0x20..0x28, Rule::ROOT)];
        let rows = DerivedRows { ranges };
        let response = DeriveResponse::new(&rows, &[(64, 100)]);
        assert_eq!(response.rows(), Some(rows));
        assert_eq!(response.read().collect::<Vec<_>>(), [(64, 100)]);
        let reversed = DeriveResponse { starts: vec![0x20, 0x10], ..response };
        assert_eq!(reversed.rows(), None);
    }
}
