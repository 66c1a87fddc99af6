//! The table of one executable, in the layout that the kernel searches.
//!
//! Text is divided into blocks of 256 KiB, blocks into buckets of 256 bytes. A few files have more
//! rules in 256 KiB than a row can number; their blocks are smaller. A block is self-contained:
//!
//! ```text
//! u16 buckets, u16 rules at, u16 rows at, u16 0      (at: in units of 8 bytes from the start)
//! u16 first[buckets + 1]                             each bucket's first row
//! rules, 8 bytes each, at most 256                   see `Rule::encode`
//! rows, 2 bytes each: u8 address in the bucket, u8 rule
//! ```
//!
//! Row 0 is in force where the block begins. So if a bucket has no row at or before an address,
//! the row before the bucket's first one is in force. A row is compared as one u16, address above
//! rule. A bucket has at most 256 rows, so every search ends after 9 steps.

mod builder;

use std::ops::Range;

use crate::rule::Rule;
pub use builder::TableBuilder;

/// Bytes of text that a block covers at most, as a power of two.
pub const BLOCK_SHIFT_MAX: u32 = 18;
/// Bytes of text that a block covers at least, as a power of two.
pub const BLOCK_SHIFT_MIN: u32 = 14;
/// Bytes of text that a bucket covers.
pub const BUCKET_TEXT: u64 = 1 << 8;
/// Bytes of text that a table covers at most; larger files do not occur.
pub const TEXT_MAX: u64 = 1 << 30;
/// Rules of a block: a rule's number is 1 byte.
pub(crate) const RULES_MAX: usize = 256;
/// Bytes of a block's header.
pub(crate) const HEADER: usize = 8;

/// The bytes of one block; empty if it has no rows.
pub type Block = Box<[u8]>;

/// The table of one executable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// First address of the text, a multiple of [`BUCKET_TEXT`].
    pub start: u64,
    /// Bytes of text that a block covers, as a power of two.
    pub block_shift: u32,
    /// The blocks in the order of text.
    pub blocks: Vec<Block>,
    /// Rows in all blocks.
    pub rows: u64,
    /// Rules in all blocks.
    pub rules: u64,
    /// Rows that did not fit into their block. Compilers do not write so many.
    pub rows_omitted: u64,
}

impl Table {
    /// Returns the rule for an address.
    pub fn rule_at(&self, address: u64) -> Rule {
        let Some(into) = address.checked_sub(self.start) else { return Rule::NO_ROW };
        match self.blocks.get((into >> self.block_shift) as usize) {
            Some(block) => rule_in(block, (into & (self.block_text() - 1)) as u32),
            None => Rule::NO_ROW,
        }
    }

    /// Returns every row: an address, and the rule in force from there on.
    pub fn iter(&self) -> impl Iterator<Item = (u64, Rule)> {
        let starts = (self.start..).step_by(self.block_text() as usize);
        starts.zip(&self.blocks).flat_map(|(start, block)| rows_of(start, block))
    }

    /// Returns the rows after the start of a range, and before its end.
    pub(crate) fn rows_within(&self, range: &Range<u64>) -> impl Iterator<Item = (u64, Rule)> {
        let first = range.start.saturating_sub(self.start) >> self.block_shift;
        let starts = (self.start..).step_by(self.block_text() as usize);
        let blocks = starts.zip(&self.blocks).skip(first as usize);
        let (after, end) = (range.start, range.end);
        let within = blocks.take_while(move |(start, _)| *start < end);
        let rows = within.flat_map(|(start, block)| rows_of(start, block));
        rows.filter(move |(address, _)| (after + 1..end).contains(address))
    }

    /// Returns the bytes of text that a block covers.
    pub fn block_text(&self) -> u64 {
        1 << self.block_shift
    }

    /// Returns the bytes of all blocks.
    pub fn bytes(&self) -> usize {
        self.blocks.iter().map(|block| block.len()).sum()
    }
}

/// Returns the first address of the table of a text.
pub fn table_start(text: u64) -> u64 {
    text - text % BUCKET_TEXT
}

/// Returns the rule for an address `into` bytes into the text of a block.
pub fn rule_in(block: &[u8], into: u32) -> Rule {
    search(block, into).unwrap_or(Rule::NO_ROW)
}

fn search(block: &[u8], into: u32) -> Option<Rule> {
    let (bucket, low) = (into / BUCKET_TEXT as u32, into as u8);
    if bucket >= u32::from(u16_at(block, 0)?) {
        return None;
    }
    let rows_at = 8 * usize::from(u16_at(block, 4)?);
    let first = HEADER + 2 * bucket as usize;
    let (mut from, mut to) = (u16_at(block, first)?, u16_at(block, first + 2)?);
    // Every row before `from` is at or before the address, every row from `to` on is after it.
    while from < to {
        let middle = from + (to - from) / 2;
        let [_, address] = u16_at(block, rows_at + 2 * usize::from(middle))?.to_le_bytes();
        if address <= low { from = middle + 1 } else { to = middle }
    }
    let [rule, _] = u16_at(block, rows_at + 2 * usize::from(from.checked_sub(1)?))?.to_le_bytes();
    let at = 8 * (usize::from(u16_at(block, 2)?) + usize::from(rule));
    Some(Rule::decode(block.get(at..at + 8)?.try_into().ok()?))
}

/// Returns a copy of a block in which each gap is pending, because rows for it may be derived.
/// `None` for an empty block: published as it is, it would mean that no rows are expected.
pub fn with_pending_gaps(block: &[u8]) -> Option<Block> {
    let at = |header| Some(8 * usize::from(u16_at(block, header)?));
    let (rules, rows) = (at(2)?, at(4)?);
    let mut pending = Block::from(block);
    for rule in pending.get_mut(rules..rows)?.chunks_exact_mut(8) {
        if rule == Rule::NO_ROW.encode() {
            rule.copy_from_slice(&Rule::PENDING.encode());
        }
    }
    Some(pending)
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn rows_of(start: u64, block: &[u8]) -> impl Iterator<Item = (u64, Rule)> {
    let buckets = usize::from(u16_at(block, 0).unwrap_or(0));
    let rows_at = 8 * usize::from(u16_at(block, 4).unwrap_or(0));
    let first = |bucket: usize| u16_at(block, HEADER + 2 * bucket).unwrap_or(0);
    (0..buckets).flat_map(move |bucket| {
        (first(bucket)..first(bucket + 1)).filter_map(move |row| {
            let [_, low] = u16_at(block, rows_at + 2 * usize::from(row))?.to_le_bytes();
            let into = bucket as u64 * BUCKET_TEXT + u64::from(low);
            Some((start + into, rule_in(block, into as u32)))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::SP;
    use crate::rule::{Cfa, RegisterRule};
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

    /// Returns the rule that a table must return: the last row at or before the address.
    fn expected(rows: &[(u64, Rule)], address: u64) -> Rule {
        let before = rows.iter().rev().find(|(start, _)| *start <= address);
        before.map_or(Rule::NO_ROW, |(_, rule)| *rule)
    }

    fn build(start: u64, end: u64, rows: &[(u64, Rule)]) -> Table {
        let mut builder = TableBuilder::new(start, end, BLOCK_SHIFT_MAX);
        rows.iter().for_each(|(address, rule)| builder.push(*address, *rule));
        builder.finish()
    }

    proptest! {
        #[test]
        fn finds_the_last_row_at_or_before_an_address(
            steps in prop::collection::vec((1u64..3000, 0i32..300), 1..400),
            probes in prop::collection::vec(0u64..600_000, 50),
        ) {
            let mut address = 0x1000;
            let rows: Vec<(u64, Rule)> = steps.iter().map(|(step, offset)| {
                address += step;
                (address, rule(*offset))
            }).collect();
            let end = 0x1000 + 600_000;
            let table = build(0x1000, end, &rows);
            let rows: Vec<_> = rows.into_iter().filter(|(at, _)| *at < end).collect();
            let near = rows.iter().flat_map(|(at, _)| [at.wrapping_sub(1), *at, at + 1]);
            for probe in probes.iter().map(|probe| 0x1000 + probe).chain(near) {
                if (0x1000..end).contains(&probe) {
                    prop_assert_eq!(table.rule_at(probe), expected(&rows, probe), "{:#x}", probe);
                }
            }
        }

        #[test]
        fn any_bytes_are_searched_without_a_panic(
            block in prop::collection::vec(any::<u8>(), 0..200),
            into in 0u32..1 << 18,
        ) {
            rule_in(&block, into);
        }
    }

    #[test]
    fn rules_that_do_not_fit_a_block_are_counted_gaps() {
        let rows: Vec<(u64, Rule)> = (0..400).map(|n| (n * 16, rule(n as i32 * 8))).collect();
        let table = build(0, 1 << 14, &rows);
        let wrong = |(at, rule): &&(u64, Rule)| {
            let found = table.rule_at(*at);
            found != *rule && found != Rule::NOT_EXPRESSIBLE
        };
        assert_eq!(rows.iter().find(wrong), None);
        assert_eq!(table.rows_omitted, 400 - 254);
    }

    #[test]
    fn gaps_become_pending_and_rows_stay() {
        let rows = [(0x1000, rule(8)), (0x1010, Rule::NO_ROW), (0x1020, rule(16))];
        let table = build(0x1000, 0x2000, &rows);
        let pending = with_pending_gaps(&table.blocks[0]).expect("it has rows");
        let rules = [0, 0x10, 0x20].map(|into| rule_in(&pending, into));
        assert_eq!(rules, [rule(8), Rule::PENDING, rule(16)]);
        assert_eq!(with_pending_gaps(&[]), None);
    }

    #[test]
    fn has_no_row_outside_its_text() {
        let table = build(0x1000, 0x2000, &[(0x1000, rule(8))]);
        assert_eq!(table.rule_at(0xfff), Rule::NO_ROW);
        assert_eq!(table.rule_at(0x1fff), rule(8));
        assert_eq!(table.rule_at(0x2000), Rule::NO_ROW);
    }

    #[test]
    fn text_without_rows_takes_no_bytes() {
        assert_eq!(build(0, 1 << 20, &[]).bytes(), 0);
    }
}
