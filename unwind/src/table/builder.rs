//! Builds a [`Table`] from rows in the order of their addresses.

use super::{
    BLOCK_SHIFT_MAX, BLOCK_SHIFT_MIN, BUCKET_TEXT, Block, HEADER, RULES_MAX, TEXT_MAX, Table,
    table_start,
};
use crate::rule::Rule;

/// Rows of a block, row 0 included: a row's index is 2 bytes.
const ROWS_MAX: usize = u16::MAX as usize;

/// Builds a table from rows in the order of their addresses.
///
/// ```
/// use unwind::{BLOCK_SHIFT_MAX, Rule, TableBuilder};
///
/// let mut builder = TableBuilder::new(0x1000, 0x3000, BLOCK_SHIFT_MAX);
/// builder.push(0x1010, Rule::FRAME_POINTER);
/// builder.push(0x1020, Rule::ROOT);
/// let table = builder.finish();
/// assert_eq!(table.rule_at(0x100f), Rule::NO_ROW);
/// assert_eq!(table.rule_at(0x101f), Rule::FRAME_POINTER);
/// assert_eq!(table.rule_at(0x2fff), Rule::ROOT);
/// ```
#[derive(Debug)]
pub struct TableBuilder {
    table: Table,
    end: u64,
    block: BlockBuilder,
    in_force: Encoded,
}

/// The 8 bytes of a rule, compared at once.
type Encoded = u64;

fn encode(rule: Rule) -> Encoded {
    u64::from_le_bytes(rule.encode())
}

impl TableBuilder {
    /// Starts a table of the text from `start` to `end`, at most [`TEXT_MAX`] bytes, in blocks of
    /// `1 << block_shift` bytes of text.
    pub fn new(start: u64, end: u64, block_shift: u32) -> Self {
        let block_shift = block_shift.clamp(BLOCK_SHIFT_MIN, BLOCK_SHIFT_MAX);
        let start = table_start(start);
        let end = end.clamp(start, start.saturating_add(TEXT_MAX));
        let table = Table { start, block_shift, ..Table::default() };
        let in_force = encode(Rule::NO_ROW);
        Self { table, end, block: BlockBuilder::new(in_force), in_force }
    }

    /// Adds a row: `rule` is in force from `address` on.
    ///
    /// Rows after the text or before the last row are ignored, and so are rows that change nothing.
    /// The last row before the text is in force where the text begins.
    pub fn push(&mut self, address: u64, rule: Rule) {
        let rule = encode(rule);
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
            return; // in a block that is finished
        }
        while self.table.blocks.len() < block {
            self.end_block(text);
        }
        self.in_force = rule;
        self.block.push((into % text) as u32, rule);
    }

    /// Returns the table.
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

/// The numbers of a block's rules: a hash table with linear probing.
///
/// It is not `HashMap`, whose keyed hash took a quarter of the time of reading a file: there is one
/// lookup per row. A hostile file can only make it as slow as a list of [`RULES_MAX`] rules.
#[derive(Debug)]
struct RuleNumbers {
    rules: Vec<Encoded>,
    /// A rule's number plus 1, where the rule hashes to or after it; 0 where there is none.
    index: [u16; 2 * RULES_MAX],
}

impl RuleNumbers {
    /// Returns the number of a rule, a new one if there is space. The last number is reserved for a
    /// gap.
    fn number_of(&mut self, rule: Encoded) -> Option<u8> {
        let hash = rule.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut at = (hash >> 55) as usize;
        while self.index[at] != 0 {
            let number = self.index[at] - 1;
            if self.rules[usize::from(number)] == rule {
                return Some(number as u8);
            }
            at = (at + 1) % self.index.len();
        }
        let rules_max =
            if rule == encode(Rule::NOT_EXPRESSIBLE) { RULES_MAX } else { RULES_MAX - 1 };
        if self.rules.len() >= rules_max {
            return None;
        }
        self.rules.push(rule);
        self.index[at] = self.rules.len() as u16;
        Some((self.rules.len() - 1) as u8)
    }
}

/// Builds one block.
#[derive(Debug)]
struct BlockBuilder {
    rows: Vec<u16>,
    /// Offset in the block's text of the last row.
    last: u32,
    /// Index of the first row of each bucket so far.
    first: Vec<u16>,
    rules: RuleNumbers,
    rows_omitted: u64,
}

impl BlockBuilder {
    fn new(in_force: Encoded) -> Self {
        let mut rules = RuleNumbers { rules: Vec::new(), index: [0; 2 * RULES_MAX] };
        let row = u16::from(rules.number_of(in_force).unwrap_or(0));
        Self { rows: vec![row], last: 0, first: Vec::new(), rules, rows_omitted: 0 }
    }

    /// Returns whether the block has only the row in force where it begins.
    fn is_untouched(&self) -> bool {
        self.rows.len() == 1
    }

    fn is_empty(&self) -> bool {
        self.rules.rules == [encode(Rule::NO_ROW)]
    }

    fn push(&mut self, into: u32, rule: Encoded) {
        if self.rows.len() > 1 && into <= self.last {
            if into == self.last {
                self.replace_last(rule);
            }
            return;
        }
        // A row that does not fit becomes a gap. Otherwise the rule before it would go on.
        let rule = match self.rules.number_of(rule) {
            Some(number) if self.rows.len() < ROWS_MAX - 1 => number,
            _ => {
                self.rows_omitted += 1;
                match self.rules.number_of(encode(Rule::NOT_EXPRESSIBLE)) {
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
