//! Call frames as bytes to store, and back: a later run reads them instead of the file.
//!
//! ```text
//! u64 start, u32 block shift, u32 blocks, u64 functions, u64 rows in the file
//! u64 code, short, long, bytes    of `Gaps`
//! u64 omissions[7]                by reason, in the order of the fields of `Omissions`
//! u64 ranges, u64 start and end   of each range that is not from DWARF
//! u32 bytes                       of each block
//! blocks
//! ```
//!
//! Numbers are little-endian. Each block that is read back is checked row by row, so that no
//! search, here or in the kernel, leaves it: it has the layout that `table` documents, its rows
//! ascend, and each row has the number of one of its rules. That the bytes are those that were
//! stored is for the caller to verify.

use std::ops::Range;

use crate::rule::Rule;
use crate::table::{
    BLOCK_SHIFT_MAX, BLOCK_SHIFT_MIN, BUCKET_TEXT, Block, HEADER, RULES_MAX, TEXT_MAX, Table,
    u16_at,
};
use crate::{CallFrames, Gaps, Omissions};

/// Version of the stored bytes. Raise it with every change of their layout, and of anything that
/// makes another table of the same file: the layout of blocks, the encoding of rules, the reading
/// of call frames, the code patterns.
pub const STORED_VERSION: u32 = 7;

impl CallFrames {
    /// Returns the bytes to store.
    ///
    /// ```
    /// # use std::{fs::File, os::unix::fs::FileExt};
    /// # let file = File::open("/proc/self/exe")?;
    /// # let read_at = |offset: u64, bytes: &mut [u8]| file.read_exact_at(bytes, offset).is_ok();
    /// let frames = unwind::read(&read_at)?;
    /// let bytes = frames.to_bytes();
    /// assert_eq!(unwind::CallFrames::from_bytes(&bytes), Some(frames));
    /// assert_eq!(unwind::CallFrames::from_bytes(&bytes[1..]), None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn to_bytes(&self) -> Vec<u8> {
        let Self { table, functions, file_rows, non_dwarf, omissions, gaps } = self;
        let mut bytes = Vec::with_capacity(table.bytes() + 4 * table.blocks.len() + 256);
        put(&mut bytes, [table.start]);
        bytes.extend(table.block_shift.to_le_bytes());
        bytes.extend((table.blocks.len() as u32).to_le_bytes());
        put(&mut bytes, [*functions, *file_rows]);
        put(&mut bytes, [gaps.code, gaps.short, gaps.long, gaps.long_bytes]);
        put(&mut bytes, omissions.counts());
        put(&mut bytes, [non_dwarf.len() as u64]);
        put(&mut bytes, non_dwarf.iter().flat_map(|range| [range.start, range.end]));
        bytes.extend(table.blocks.iter().flat_map(|block| (block.len() as u32).to_le_bytes()));
        table.blocks.iter().for_each(|block| bytes.extend(block));
        bytes
    }

    /// Reads what [`CallFrames::to_bytes`] returned; `None` for anything else. Allocates at most as
    /// much memory as `bytes` has.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut rest = Cursor(bytes);
        let start = rest.u64()?;
        let (block_shift, count) = (rest.u32()?, rest.u32()?);
        let (functions, file_rows) = (rest.u64()?, rest.u64()?);
        let (code, short) = (rest.u64()?, rest.u64()?);
        let gaps = Gaps { code, short, long: rest.u64()?, long_bytes: rest.u64()? };
        let mut counts = [0; 7];
        for count in &mut counts {
            *count = rest.u64()?;
        }
        let omissions = Omissions::from_counts(counts);
        let non_dwarf = rest.ranges()?;
        check_extent(start, block_shift, count)?;

        let lengths = rest.take(count as usize * 4)?.chunks_exact(4);
        let mut table = Table { start, block_shift, ..Table::default() };
        table.rows_omitted = omissions.block_full;
        table.blocks.reserve_exact(count as usize);
        let full = (table.block_text() / BUCKET_TEXT) as usize;
        for (number, length) in (1..).zip(lengths) {
            let length = u32::from_le_bytes(length.try_into().ok()?);
            let block = rest.take(length as usize)?;
            if !block.is_empty() {
                let last = number == count; // its text may end early
                let (rows, rules) =
                    rows_and_rules(block, if last { 1..=full } else { full..=full })?;
                table.rows += rows as u64;
                table.rules += rules as u64;
            }
            table.blocks.push(Block::from(block));
        }
        let frames = Self { table, functions, file_rows, non_dwarf, omissions, gaps };
        rest.0.is_empty().then_some(frames)
    }
}

fn put(bytes: &mut Vec<u8>, numbers: impl IntoIterator<Item = u64>) {
    bytes.extend(numbers.into_iter().flat_map(u64::to_le_bytes));
}

/// Checks the address of a table and the text that it can cover.
fn check_extent(start: u64, block_shift: u32, count: u32) -> Option<()> {
    let is_shift = (BLOCK_SHIFT_MIN..=BLOCK_SHIFT_MAX).contains(&block_shift);
    if !is_shift || !start.is_multiple_of(BUCKET_TEXT) {
        return None;
    }
    let before_last = u64::from(count).checked_sub(1)? << block_shift;
    (before_last < TEXT_MAX && start.checked_add(before_last).is_some()).then_some(())
}

/// Checks that a block has the layout of those that are built, and counts its rows and rules.
/// `buckets`: the number of buckets it may have.
fn rows_and_rules(
    block: &[u8],
    buckets: std::ops::RangeInclusive<usize>,
) -> Option<(usize, usize)> {
    let at = |at: usize| u16_at(block, at).map(usize::from);
    let (count, rules_at, rows_at, zero) = (at(0)?, at(2)?, at(4)?, at(6)?);
    let rules = rows_at.checked_sub(rules_at)?;
    let is_laid_out = buckets.contains(&count)
        && zero == 0
        && rules_at == (HEADER + 2 * (count + 1)).div_ceil(8)
        && (1..=RULES_MAX).contains(&rules);
    let rows = at(HEADER + 2 * count)?;
    let end = (8 * rows_at + 2 * rows).next_multiple_of(8);
    if !is_laid_out || block.len() != end {
        return None;
    }
    let is_rule =
        |bytes: &[u8]| bytes.try_into().is_ok_and(|bytes| Rule::decode(bytes).encode() == bytes);
    let rows_are_rules = block.get(8 * rules_at..8 * rows_at)?.chunks_exact(8).all(is_rule);
    let first = block.get(HEADER..HEADER + 2 * (count + 1))?;
    let all = block.get(8 * rows_at..8 * rows_at + 2 * rows)?;
    (rows_are_rules && are_rows_sound(first, all, rules)).then_some((rows, rules))
}

/// Returns whether row 0 is in force where the block begins, the rows of each bucket follow and
/// ascend, and each has the number of one of `rules` rules.
fn are_rows_sound(first: &[u8], rows: &[u8], rules: usize) -> bool {
    let numbers = |bytes: &[u8]| -> Vec<[u8; 2]> { bytes.as_chunks().0.to_vec() };
    let rows = numbers(rows);
    if rows.iter().any(|[rule, _]| usize::from(*rule) >= rules) || rows.first() != Some(&[0, 0]) {
        return false;
    }
    let first: Vec<u16> = numbers(first).into_iter().map(u16::from_le_bytes).collect();
    let is_bucket = |ends: &[u16]| {
        let bucket = rows.get(usize::from(ends[0])..usize::from(ends[1]));
        bucket.is_some_and(|rows| rows.is_sorted_by(|[_, one], [_, next]| one < next))
    };
    first.first() == Some(&1) && first.windows(2).all(is_bucket)
}

/// The bytes that have not been read yet.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    fn ranges(&mut self) -> Option<Vec<Range<u64>>> {
        let count = usize::try_from(self.u64()?).ok()?;
        let mut ranges = Cursor(self.take(count.checked_mul(16)?)?);
        let mut next = || Some(ranges.u64()?..ranges.u64()?);
        Some(std::iter::from_fn(&mut next).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::SP;
    use crate::rule::{Cfa, RegisterRule};
    use crate::{TableBuilder, rule_in};
    use proptest::prelude::*;

    fn rule(offset: i32) -> Rule {
        let cfa = Cfa::Register(SP, offset);
        Rule {
            cfa,
            fp: RegisterRule::SameValue,
            base: RegisterRule::Undefined,
            ra: RegisterRule::SAVED_RA,
        }
    }

    fn frames(start: u64, text: u64, shift: u32, steps: &[(u64, i32)]) -> CallFrames {
        let mut builder = TableBuilder::new(start, start + text, shift);
        let mut address = start;
        for (step, offset) in steps {
            address += step;
            builder.push(address, rule(*offset));
        }
        let table = builder.finish();
        let omissions =
            Omissions { block_full: table.rows_omitted, limit: 3, ..Omissions::default() };
        let non_dwarf = vec![start..start + 4, start + 8..start + 9];
        let gaps = Gaps { code: 1000, short: 1, long: 2, long_bytes: 300 };
        CallFrames { table, functions: 7, file_rows: 9, non_dwarf, omissions, gaps }
    }

    fn any_frames() -> impl Strategy<Value = CallFrames> {
        let steps = prop::collection::vec((0u64..4000, 0i32..400), 0..600);
        (0u64..1 << 40, 1u64..1 << 20, 13u32..20, steps)
            .prop_map(|(start, text, shift, steps)| frames(start, text, shift, &steps))
    }

    proptest! {
        #[test]
        fn call_frames_survive_being_stored(frames in any_frames()) {
            prop_assert_eq!(CallFrames::from_bytes(&frames.to_bytes()), Some(frames));
        }

        #[test]
        fn rejects_truncated_bytes(frames in any_frames(), cut in any::<prop::sample::Index>()) {
            let bytes = frames.to_bytes();
            prop_assert_eq!(CallFrames::from_bytes(&bytes[..cut.index(bytes.len())]), None);
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = CallFrames::from_bytes(&bytes);
        }

        /// Bytes that are accepted despite changes are searched within their bounds, as the kernel
        /// would.
        #[test]
        fn searches_of_accepted_bytes_stay_in_bounds(
            frames in any_frames(),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        ) {
            let mut bytes = frames.to_bytes();
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            if let Some(CallFrames { table, .. }) = CallFrames::from_bytes(&bytes) {
                for block in table.blocks.iter().filter(|block| !block.is_empty()) {
                    assert_searches_stay_within(block);
                }
            }
        }
    }

    /// Searches a block as the kernel does, which relies on nothing but these bounds.
    fn assert_searches_stay_within(block: &[u8]) {
        let at = |at: usize| usize::from(u16_at(block, at).expect("within the block"));
        let (buckets, rules_at, rows_at) = (at(0), at(2), at(4));
        for bucket in 0..buckets {
            let (first, end) = (at(HEADER + 2 * bucket), at(HEADER + 2 * bucket + 2));
            assert!(first >= 1 && end - first <= 256, "{first}..{end}");
            for row in first - 1..end {
                let rule = at(8 * rows_at + 2 * row) & 255;
                assert!(rules_at + rule < rows_at);
            }
            rule_in(block, bucket as u32 * 256);
        }
    }

    #[test]
    fn rejects_tables_that_no_builder_makes() {
        let good = frames(0x1000, 1 << 19, BLOCK_SHIFT_MAX, &[(16, 8), (16, 16), (0x40000, 8)]);
        let is_rejected = |change: &dyn Fn(&mut CallFrames)| {
            let mut frames = good.clone();
            change(&mut frames);
            CallFrames::from_bytes(&frames.to_bytes()).is_none()
        };
        assert!(!is_rejected(&|_| ()));
        assert!(is_rejected(&|frames| frames.table.start += 1));
        assert!(is_rejected(&|frames| frames.table.start = 0u64.wrapping_sub(256)));
        assert!(is_rejected(&|frames| frames.table.block_shift = 17));
        assert!(is_rejected(&|frames| frames.table.block_shift = 63));
        assert!(is_rejected(&|frames| frames.table.blocks.clear()));
        assert!(is_rejected(&|frames| frames.table.blocks = vec![Block::default(); 5000]));
        let rows_at = 8 * usize::from(u16_at(&good.table.blocks[0], 4).expect("a header"));
        // Header, the first bucket's first row, a rule's operation, the first row's rule, the
        // second row's address.
        for (at, byte) in [
            (0, 1),
            (2, 1),
            (4, 0),
            (6, 1),
            (8, 0),
            (10, 0),
            (8 * 258 + 4, 0xff),
            (rows_at, 9),
            (rows_at + 5, 0),
        ] {
            let rejected = is_rejected(&|frames| frames.table.blocks[0][at] = byte);
            assert!(rejected, "byte {at}");
        }
    }
}
