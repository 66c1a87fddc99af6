//! The operands of an instruction of x86-64: registers, and addresses by what the state knows.

use iced_x86::{Instruction, OpKind, Register as Name};

use super::state::State;
use super::value::{JumpTable, Symbol, TableWord, Value};
use crate::arch::Register;

/// The DWARF number of each register in the order in which instructions encode them.
const DWARF_NUMBERS: [u8; 16] = [0, 2, 1, 3, 7, 6, 4, 5, 8, 9, 10, 11, 12, 13, 14, 15];

/// An address in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Address {
    /// Relative to a symbol.
    Symbol(Symbol, i64),
    /// In the file.
    Constant(u64),
    /// In an array of the file.
    Indexed {
        /// Address of the array.
        array: u64,
        /// The register with the index.
        index: Register,
        /// Bytes that the index is multiplied by.
        scale: u32,
    },
    Unknown,
}

/// Returns the general register of which a name is a part.
pub(super) fn general(name: Name) -> Option<Register> {
    let number = (name.full_register() as usize).checked_sub(Name::RAX as usize)?;
    DWARF_NUMBERS.get(number).map(|number| Register::from_number(*number))
}

/// Returns the general register that is an operand, and its bits; `None` for its second byte.
pub(super) fn register(instruction: &Instruction, operand: u32) -> Option<(Register, u8)> {
    if instruction.op_kind(operand) != OpKind::Register {
        return None;
    }
    let name = instruction.op_register(operand);
    let is_second_byte = matches!(name, Name::AH | Name::BH | Name::CH | Name::DH);
    general(name).filter(|_| !is_second_byte).map(|register| (register, 8 * name.size() as u8))
}

/// Returns the register that is an operand of 64 bits.
pub(super) fn wide_register(instruction: &Instruction, operand: u32) -> Option<Register> {
    register(instruction, operand).filter(|(_, bits)| *bits == 64).map(|(register, _)| register)
}

/// Returns whether an operand is a constant.
pub(super) fn is_constant(instruction: &Instruction, operand: u32) -> bool {
    !matches!(instruction.op_kind(operand), OpKind::Register | OpKind::Memory)
}

/// Returns whether memory is relative to the thread.
pub(super) fn is_thread_local(segment: Name) -> bool {
    matches!(segment, Name::FS | Name::GS)
}

/// Returns the address of the memory operand.
pub(super) fn address(state: &State, instruction: &Instruction) -> Address {
    if is_thread_local(instruction.memory_segment()) {
        return Address::Unknown;
    }
    let displacement = instruction.memory_displacement64();
    let (base, index) = (instruction.memory_base(), instruction.memory_index());
    if base == Name::RIP {
        return Address::Constant(displacement); // iced adds the address of the next instruction
    }
    let value = match base {
        Name::None => Value::Constant(0),
        base if base.is_gpr64() => general(base).map_or(Value::Unknown, |base| state.get(base)),
        _ => Value::Unknown,
    };
    let value = value.plus(displacement as i64);
    let index = (index != Name::None).then(|| general(index).filter(|_| index.is_gpr64()));
    match (value, index) {
        (Value::Symbol(symbol, offset), None) => Address::Symbol(symbol, offset),
        (Value::Constant(address), None) => Address::Constant(address),
        (Value::Constant(array), Some(Some(index))) => {
            Address::Indexed { array, index, scale: instruction.memory_index_scale() }
        }
        _ => Address::Unknown,
    }
}

/// Returns the jump table that an array is if its words are such, with as many words as the index
/// can choose.
pub(super) fn jump_table(state: &State, array: u64, index: Register, word: TableWord) -> JumpTable {
    let bound = state.bound(state.get(index));
    let count = bound.and_then(|bound| u32::try_from(bound.max).ok()?.checked_add(1)).unwrap_or(0);
    let is_compared = bound.is_some_and(|bound| bound.is_compared);
    JumpTable { address: array, count, is_compared, word }
}
