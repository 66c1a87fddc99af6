//! The targets of an indirect jump through a table.

use iced_x86::{Instruction, OpKind};

use super::operands::{self, Address};
use super::program::Program;
use super::state::State;
use super::value::{JumpTable, TableWord, Value};

/// Words of a table; switch statements with more do not occur.
const WORDS_MAX: u32 = 1 << 14;
/// Words that are read of a table of which the length is unknown.
const OPEN_WORDS_MAX: u32 = 1 << 9;
/// Words at the beginning of a table that may not belong to it: hand-written code indexes tables of
/// block sizes by their logarithm, and there are none of size 1.
pub(super) const UNUSED_MAX: u32 = 2;

/// Where an indirect jump leads.
pub(super) struct Targets {
    /// The targets, each with the index of its word.
    pub addresses: Vec<(u32, u64)>,
    /// Whether the number of words is known.
    pub is_certain: bool,
    /// Address of the table.
    pub table: u64,
    /// Where the next data begins that is known, which ends the table.
    pub next: u64,
}

/// Returns the addresses that an indirect jump can lead to; `None` if they are unknown: the jump
/// leaves by no table, or by one whose length is unknown.
pub(super) fn targets(program: &Program<'_>, state: &State, jump: &Instruction) -> Option<Targets> {
    let (table, base) = table_of(state, jump)?;
    let size = table.word.size();
    let (end, next) = extent(program, &table)?;
    let bytes = program.elf.loaded(table.address..end)?;
    let mut addresses = Vec::new();
    for (index, word) in (0..).zip(bytes.chunks_exact(size as usize)) {
        let at = table.address.wrapping_add(size * u64::from(index));
        let target = match *word {
            [a, b] => base.wrapping_add(u16::from_le_bytes([a, b]).into()),
            [a, b, c, d] => base.wrapping_add_signed(i32::from_le_bytes([a, b, c, d]).into()),
            _ => match program.image.relocated_word(at) {
                Some(target) => target,
                None => u64::from_le_bytes(word.try_into().ok()?),
            },
        };
        if program.code.contains(target) {
            addresses.push((index, target));
        } else if table.is_compared {
            return None;
        } else if index >= UNUSED_MAX {
            break;
        }
    }
    let is_certain = table.is_compared;
    (!addresses.is_empty()).then_some(Targets { addresses, is_certain, table: table.address, next })
}

/// Returns the end of the bytes to read of a table, and where the next known data begins.
///
/// Compilers omit the comparison of an index that has no other values, and words for what cannot
/// happen. So a table also ends where other data begins.
fn extent(program: &Program<'_>, table: &JumpTable) -> Option<(u64, u64)> {
    let size = table.word.size();
    let next = program.mentions.data_after(table.address);
    let count = match (table.count, next) {
        (0, Some(_)) if program.follows_open_tables => OPEN_WORDS_MAX,
        (0, _) => return None,
        (count, None) if !table.is_compared || count > WORDS_MAX => return None,
        (count, _) => count.min(WORDS_MAX),
    };
    let end = table.address.checked_add(size * u64::from(count))?;
    let next = next.unwrap_or(end);
    // The next table may have unused words, too, which then belong to this one.
    let unused = if program.is_hand_written { size * u64::from(UNUSED_MAX) } else { 0 };
    let first = table.address.checked_add(size)?;
    Some((end.min(next.max(first).saturating_add(unused)), next))
}

/// Returns the table that a jump goes by, and what is added to its words.
fn table_of(state: &State, jump: &Instruction) -> Option<(JumpTable, u64)> {
    if jump.op0_kind() == OpKind::Memory {
        let Address::Indexed { array, index, scale: 8 } = operands::address(state, jump) else {
            return None;
        };
        return Some((operands::jump_table(state, array, index, TableWord::Address), 0));
    }
    match state.get(operands::wide_register(jump, 0)?) {
        Value::TableWord(table) if table.word == TableWord::Address => Some((table, 0)),
        Value::Target(table, base) if table.word != TableWord::Address => Some((table, base)),
        _ => None,
    }
}
