//! A part of a table, made again with rows that were derived for it alone.

use std::ops::Range;

use crate::CallFrames;
use crate::derived::DerivedRows;
use crate::layers::is_padding;
use crate::rule::Rule;
use crate::table::{BLOCK_SHIFT_MAX, Table, TableBuilder};

impl CallFrames {
    /// Returns a table of one block: a part of the text, with derived rows where the file has none.
    /// `part`: at most `1 << BLOCK_SHIFT_MAX` bytes from a multiple of [`BUCKET_TEXT`]. Its rules
    /// say where the base register is saved even if no rule of the file needs it.
    ///
    /// [`BUCKET_TEXT`]: crate::BUCKET_TEXT
    pub fn part(&self, part: Range<u64>, derived: &DerivedRows) -> Table {
        let (derived, _) = derived.layer(true);
        let derived = Vec::from(derived.pending);
        let mut builder = TableBuilder::new(part.start, part.end, BLOCK_SHIFT_MAX);
        for (range, rule) in ranges(&self.table, &part) {
            if rule != Rule::NO_ROW {
                builder.push(range.start, rule);
                continue;
            }
            let mut at = range.start;
            let first = derived.partition_point(|(next, _)| next.end <= range.start);
            let within = derived.iter().skip(first).take_while(|(next, _)| next.start < range.end);
            for (next, rule) in within {
                let (start, end) = (next.start.max(at), next.end.min(range.end));
                if at < start && (at == range.start || !is_padding(at, start)) {
                    builder.push(at, Rule::NO_ROW);
                }
                if start < end {
                    builder.push(start, *rule);
                    at = end;
                }
            }
            if at < range.end && (at == range.start || !is_padding(at, range.end)) {
                builder.push(at, Rule::NO_ROW);
            }
        }
        builder.finish()
    }
}

impl DerivedRows {
    /// Returns the rows of a table that consists of derived rows.
    pub fn of_table(table: &Table) -> Self {
        let end = table.start + table.blocks.len() as u64 * table.block_text();
        Self { ranges: ranges(table, &(table.start..end)).collect() }
    }
}

/// Returns the ranges of a part of a table, each with its rule.
fn ranges(table: &Table, part: &Range<u64>) -> impl Iterator<Item = (Range<u64>, Rule)> {
    let first = (part.start, table.rule_at(part.start));
    let rows: Vec<_> = [first].into_iter().chain(table.rows_within(part)).collect();
    let ends = rows.iter().skip(1).map(|(address, _)| *address).chain([part.end]);
    let ends: Vec<u64> = ends.collect();
    rows.into_iter().zip(ends).map(|((start, rule), end)| (start..end, rule))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rule::{Cfa, Gap};

    #[test]
    fn derived_rows_fill_the_gaps_of_a_part() {
        let mut builder = TableBuilder::new(0x1000, 0x9000, BLOCK_SHIFT_MAX);
        for (address, rule) in [
            (0x1000, Rule::ROOT),
            (0x2000, Rule::NO_ROW),
            (0x3000, Rule::SIGNAL),
            (0x3010, Rule::NO_ROW),
        ] {
            builder.push(address, rule);
        }
        let frames = CallFrames { table: builder.finish(), ..CallFrames::default() };
        let ranges = vec![
            (0x1800..0x2100, Rule::FRAME_POINTER),
            (0x2100..0x2200, Rule::NO_ROW),
            (0x2f00..0x3800, Rule::FRAME_POINTER),
        ];
        let derived = DerivedRows { ranges };
        let part = frames.part(0x1f00..0x3200, &derived);
        let rows: Vec<_> = part.iter().map(|(address, rule)| (address, rule.cfa)).collect();
        let expected = [
            (0x1f00, Cfa::Root),
            (0x2000, Cfa::FramePointer),
            (0x2100, Cfa::Gap(Gap::NoRow)),
            (0x2f00, Cfa::FramePointer),
            (0x3000, Cfa::Signal),
            (0x3010, Cfa::FramePointer),
        ];
        assert_eq!((part.start, part.blocks.len(), rows), (0x1f00, 1, expected.to_vec()));

        let of_gap = CallFrames::default().part(0x1f00..0x3200, &derived);
        let stored = DerivedRows::of_table(&of_gap);
        assert_eq!(frames.part(0x1f00..0x3200, &stored), part);
    }
}
