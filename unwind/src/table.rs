//! The table of one executable, in the shape in which the kernel searches it.
//!
//! Text is cut into blocks of 256 KiB, blocks into buckets of 256 bytes. A few files have so many
//! rules in one place that a row cannot name them all; their blocks are smaller. A block is one piece
//! of bytes that needs nothing outside itself:
//!
//! ```text
//! u16 buckets, u16 rules at, u16 rows at, u16 0      (at: in units of 8 bytes from the start)
//! u16 first[buckets + 1]                             each bucket's first row
//! rules, 8 bytes each, at most 256                   see `Rule::encode`
//! rows, 2 bytes each: u8 address in the bucket, u8 rule
//! ```
//!
//! Row 0 is what is in force where the block begins, so a bucket that has no row at or before an
//! address finds the right one just before its first. A row is compared as one u16, address above
//! rule. A bucket has at most 256 rows, so 8 steps end every search.

use crate::rule::Rule;

/// Bytes of text that a block covers at most, as a power of two.
pub const BLOCK_SHIFT_MAX: u32 = 18;
/// Bytes of text that a block covers at least, as a power of two.
pub const BLOCK_SHIFT_MIN: u32 = 14;
/// Bytes of text that a bucket covers.
pub const BUCKET_TEXT: u64 = 1 << 8;
/// Text covered by one table; larger files do not occur.
pub const TEXT_MAX: u64 = 1 << 30;
/// Rows of a block, row 0 included: an index is 2 bytes.
const ROWS_MAX: usize = u16::MAX as usize;
pub(crate) const RULES_MAX: usize = 256;
pub(crate) const HEADER: usize = 8;

/// The rows of one block as bytes; empty when there are none.
pub type Block = Box<[u8]>;

/// The table of one executable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// First address of its text, a multiple of [`BUCKET_TEXT`].
    pub start: u64,
    /// Bytes of text that a block covers, as a power of two.
    pub block_shift: u32,
    /// Its blocks in the order of text.
    pub blocks: Vec<Block>,
    /// Rows in all blocks.
    pub rows: u64,
    /// Rules in all blocks.
    pub rules: u64,
    /// Rows that found no room in their block: more than any compiler makes.
    pub rows_omitted: u64,
}

impl Table {
    /// Finds the rule for an address.
    pub fn rule_at(&self, address: u64) -> Rule {
        let Some(into) = address.checked_sub(self.start) else { return Rule::NO_ROW };
        match self.blocks.get((into >> self.block_shift) as usize) {
            Some(block) => rule_in(block, (into & (self.block_text() - 1)) as u32),
            None => Rule::NO_ROW,
        }
    }

    /// Gives every row: the address from which a rule is in force.
    pub fn iter(&self) -> impl Iterator<Item = (u64, Rule)> {
        let starts = (self.start..).step_by(self.block_text() as usize);
        starts.zip(&self.blocks).flat_map(|(start, block)| rows_of(start, block))
    }

    /// Bytes of text that a block covers.
    pub fn block_text(&self) -> u64 {
        1 << self.block_shift
    }

    /// Bytes of all blocks.
    pub fn bytes(&self) -> usize {
        self.blocks.iter().map(|block| block.len()).sum()
    }
}

/// Finds the rule for an address so far into the text of a block.
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
    // Every row before `from` is at or before the address, every row from `to` on behind it.
    while from < to {
        let middle = from + (to - from) / 2;
        let [_, address] = u16_at(block, rows_at + 2 * usize::from(middle))?.to_le_bytes();
        if address <= low { from = middle + 1 } else { to = middle }
    }
    let [rule, _] = u16_at(block, rows_at + 2 * usize::from(from.checked_sub(1)?))?.to_le_bytes();
    let at = 8 * (usize::from(u16_at(block, 2)?) + usize::from(rule));
    Some(Rule::decode(block.get(at..at + 8)?.try_into().ok()?))
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

/// Makes a table out of rows that come in the order of their addresses.
#[derive(Debug)]
pub struct TableBuilder {
    table: Table,
    end: u64,
    block: BlockBuilder,
    in_force: Encoded,
}

/// A rule as its 8 bytes, which are compared at once.
type Encoded = u64;

fn encoded(rule: Rule) -> Encoded {
    u64::from_le_bytes(rule.encode())
}

/// Gives where the table of a text begins.
pub fn table_start(text: u64) -> u64 {
    text - text % BUCKET_TEXT
}

impl TableBuilder {
    /// Starts the table of the text from `start` to before `end`, at most [`TEXT_MAX`] bytes, in
    /// blocks of `1 << block_shift` bytes.
    pub fn new(start: u64, end: u64, block_shift: u32) -> Self {
        let block_shift = block_shift.clamp(BLOCK_SHIFT_MIN, BLOCK_SHIFT_MAX);
        let start = table_start(start);
        let end = end.clamp(start, start.saturating_add(TEXT_MAX));
        let table = Table { start, block_shift, ..Table::default() };
        let in_force = encoded(Rule::NO_ROW);
        Self { table, end, block: BlockBuilder::new(in_force), in_force }
    }

    /// Adds a row: from this address on `rule` is in force. Rows behind the text or before
    /// the last one are ignored, and so are those that change nothing. The last of those before the
    /// text is in force where it begins.
    pub fn push(&mut self, address: u64, rule: Rule) {
        let rule = encoded(rule);
        if rule == self.in_force || address >= self.end {
            return;
        }
        let Some(into) = address.checked_sub(self.table.start) else {
            if self.block.is_untouched() && self.table.blocks.is_empty() {
                self.block = BlockBuilder::new(rule);
                self.in_force = rule;
            }
            return;
        };
        let text = self.table.block_text();
        let block = (into / text) as usize;
        if block < self.table.blocks.len() {
            return; // behind us
        }
        while self.table.blocks.len() < block {
            self.end_block(text);
        }
        self.in_force = rule;
        self.block.push((into % text) as u32, rule);
    }

    /// Ends the table.
    pub fn finish(mut self) -> Table {
        let text = self.table.block_text();
        let blocks = (self.end - self.table.start).div_ceil(text) as usize;
        while self.table.blocks.len() < blocks {
            let start = self.table.start + self.table.blocks.len() as u64 * text;
            self.end_block((self.end - start).min(text));
        }
        self.table
    }

    fn end_block(&mut self, text: u64) {
        let next = BlockBuilder::new(self.in_force);
        let block = std::mem::replace(&mut self.block, next);
        self.table.rows_omitted += block.rows_omitted;
        if block.is_empty() {
            self.table.blocks.push(Block::default());
            return;
        }
        self.table.rows += block.rows.len() as u64;
        self.table.rules += block.rules.rules.len() as u64;
        self.table.blocks.push(block.finish(text));
    }
}

/// The numbers of a block's rules. A hash table of our own: this is asked once for each row,
/// and the library's keyed hash took a quarter of the time of reading a file. There are at most
/// [`RULES_MAX`] rules, so a hostile file can only make it as slow as a list of them.
#[derive(Debug)]
struct RuleNumbers {
    rules: Vec<Encoded>,
    /// Number and 1, where a rule hashes to or in the slots after it.
    slots: [u16; 2 * RULES_MAX],
}

impl RuleNumbers {
    /// Numbers a rule, if there is room; the last number is kept for a gap.
    fn number_of(&mut self, rule: Encoded) -> Option<u8> {
        let hash = rule.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut slot = (hash >> 55) as usize;
        while self.slots[slot] != 0 {
            let number = self.slots[slot] - 1;
            if self.rules[usize::from(number)] == rule {
                return Some(number as u8);
            }
            slot = (slot + 1) % self.slots.len();
        }
        let most = if rule == encoded(Rule::NOT_EXPRESSIBLE) { RULES_MAX } else { RULES_MAX - 1 };
        if self.rules.len() >= most {
            return None;
        }
        self.rules.push(rule);
        self.slots[slot] = self.rules.len() as u16;
        Some((self.rules.len() - 1) as u8)
    }
}

#[derive(Debug)]
struct BlockBuilder {
    rows: Vec<u16>,
    last: u32,
    /// Of each bucket begun so far, its first row.
    first: Vec<u16>,
    rules: RuleNumbers,
    rows_omitted: u64,
}

impl BlockBuilder {
    fn new(in_force: Encoded) -> Self {
        let mut rules = RuleNumbers { rules: Vec::new(), slots: [0; 2 * RULES_MAX] };
        let row = u16::from(rules.number_of(in_force).unwrap_or(0));
        Self { rows: vec![row], last: 0, first: Vec::new(), rules, rows_omitted: 0 }
    }

    /// Whether all that it has is the row in force where it begins.
    fn is_untouched(&self) -> bool {
        self.rows.len() == 1
    }

    fn is_empty(&self) -> bool {
        self.rules.rules == [encoded(Rule::NO_ROW)]
    }

    fn push(&mut self, into: u32, rule: Encoded) {
        if self.rows.len() > 1 && into <= self.last {
            if into == self.last {
                self.replace_last(rule);
            }
            return;
        }
        // What finds no room leaves a gap behind, not the rule before it.
        let rule = match self.rules.number_of(rule) {
            Some(number) if self.rows.len() < ROWS_MAX - 1 => number,
            _ => {
                self.rows_omitted += 1;
                match self.rules.number_of(encoded(Rule::NOT_EXPRESSIBLE)) {
                    Some(number) if self.rows.len() < ROWS_MAX => number,
                    _ => return,
                }
            }
        };
        self.begin_buckets(into / BUCKET_TEXT as u32 + 1);
        self.last = into;
        self.rows.push(u16::from_le_bytes([rule, into as u8]));
    }

    fn replace_last(&mut self, rule: Encoded) {
        if let (Some(number), Some(row)) = (self.rules.number_of(rule), self.rows.last_mut()) {
            *row = u16::from_le_bytes([number, row.to_le_bytes()[1]]);
        }
    }

    fn begin_buckets(&mut self, count: u32) {
        while self.first.len() < count as usize {
            self.first.push(self.rows.len() as u16);
        }
    }

    fn finish(mut self, text: u64) -> Block {
        let buckets = text.div_ceil(BUCKET_TEXT) as u32;
        self.begin_buckets(buckets + 1);
        let rules_at = (HEADER + 2 * self.first.len()).div_ceil(8);
        let rows_at = rules_at + self.rules.rules.len();
        let size = (8 * rows_at + 2 * self.rows.len()).next_multiple_of(8);

        let mut bytes = Vec::with_capacity(size);
        let header = [buckets as u16, rules_at as u16, rows_at as u16, 0];
        bytes.extend(header.iter().chain(&self.first).flat_map(|number| number.to_le_bytes()));
        bytes.resize(8 * rules_at, 0);
        bytes.extend(self.rules.rules.iter().flat_map(|rule| rule.to_le_bytes()));
        bytes.extend(self.rows.iter().flat_map(|row| row.to_le_bytes()));
        bytes.resize(size, 0);
        bytes.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::{SAVED_RA, SP};
    use crate::rule::{Cfa, RegisterRule};
    use proptest::prelude::*;

    fn rule(offset: i32) -> Rule {
        let cfa = Cfa::Register(SP, offset);
        Rule { cfa, fp: RegisterRule::SameValue, base: RegisterRule::Undefined, ra: SAVED_RA }
    }

    /// What a table must answer: the last row at or before the address.
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
        fn every_address_finds_the_last_row_before_it(
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
        fn any_bytes_are_searched_without_harm(block in prop::collection::vec(any::<u8>(), 0..200), into in 0u32..1 << 18) {
            rule_in(&block, into);
        }
    }

    #[test]
    fn a_block_with_more_rules_than_a_row_can_name_has_gaps_and_counts_them() {
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
    fn a_table_says_nothing_outside_its_text() {
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
