//! What an instruction of x86-64 does to the state.
//!
//! Instructions that move the stack pointer, save registers or compute addresses are interpreted.
//! Of all others, the registers and the stack bytes that they write are lost. Two assumptions are
//! made, as by every unwinder: a called function returns with the stack pointer and the registers
//! that belong to its caller, and a store through any other pointer overwrites no saved register.

use iced_x86::{
    Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register as Name, RflagsBits,
};

use super::operands::{
    Address, address, general, is_constant, is_thread_local, jump_table, register, wide_register,
};
use super::state::{Bound, Comparison, State};
use super::value::{TableWord, Value};
use crate::arch::{FP, Register, SP};

/// Applies instructions to states.
pub(super) struct Transfer {
    info: InstructionInfoFactory,
}

impl Transfer {
    pub fn new() -> Self {
        Self { info: InstructionInfoFactory::new() }
    }

    /// Applies an instruction that does not branch, or what a call does before it jumps and after
    /// it returned.
    pub fn apply(&mut self, state: &mut State, instruction: &Instruction) {
        if state.comparison.is_some() && instruction.rflags_modified() != RflagsBits::NONE {
            state.comparison = None;
        }
        let is_known = match instruction.mnemonic() {
            Mnemonic::Push => push(state, instruction),
            Mnemonic::Pop => pop(state, instruction),
            Mnemonic::Mov => mov(state, instruction),
            Mnemonic::Lea => lea(state, instruction),
            Mnemonic::Add => add(state, instruction),
            Mnemonic::Sub => sub(state, instruction),
            Mnemonic::And => and(state, instruction),
            Mnemonic::Xor => zero(state, instruction),
            Mnemonic::Cmp => compare(state, instruction),
            Mnemonic::Xchg => exchange(state, instruction),
            Mnemonic::Movsxd | Mnemonic::Cdqe => sign_extend(state, instruction),
            Mnemonic::Movzx => zero_extend(state, instruction),
            Mnemonic::Leave => leave(state),
            Mnemonic::Enter => enter(state, instruction),
            Mnemonic::Call => {
                state.call(instruction.ip());
                true
            }
            Mnemonic::Nop | Mnemonic::Endbr64 | Mnemonic::Test | Mnemonic::Bt => true,
            _ => false,
        };
        if !is_known {
            self.lose(state, instruction);
        }
    }

    /// Loses what an instruction writes.
    fn lose(&mut self, state: &mut State, instruction: &Instruction) {
        let at = instruction.ip();
        let moves = instruction.stack_pointer_increment();
        let before = state.get(SP);
        let info = self.info.info(instruction);
        for memory in info.used_memory() {
            let is_written = is_write(memory.access());
            let is_plain = memory.index() == Name::None && memory.base() != Name::None;
            if is_written && is_plain && !is_thread_local(memory.segment()) {
                let base = general(memory.base()).map(|base| state.get(base));
                let offset = memory.displacement() as i64;
                if let Some(Value::Symbol(base, from)) = base {
                    let size = memory.memory_size().size().max(1) as u64;
                    state.store(base, from.wrapping_add(offset), size, Value::Unknown);
                }
            }
        }
        let mut is_first = true;
        for used in info.used_registers() {
            let Some(written) = general(used.register()) else { continue };
            if !is_write(used.access()) || (written == SP && moves != 0) {
                continue;
            }
            // One result of an instruction has a name.
            if is_first && written != SP {
                let value = state.define(written, at);
                if register(instruction, 0) == Some((written, 32)) {
                    state.set(written, value.low(32));
                }
            } else {
                state.set(written, Value::Unknown);
            }
            is_first = false;
        }
        if moves != 0 {
            state.set(SP, before.plus(moves.into()));
        }
    }
}

fn is_write(access: OpAccess) -> bool {
    !matches!(access, OpAccess::None | OpAccess::Read | OpAccess::CondRead | OpAccess::NoMemAccess)
}

/// Returns the 8 bytes that are loaded from the memory operand.
fn load(state: &State, instruction: &Instruction) -> Value {
    match address(state, instruction) {
        Address::Symbol(base, offset) => state.load(base, offset),
        Address::Indexed { array, index, scale: 8 } => {
            Value::TableWord(jump_table(state, array, index, TableWord::Address))
        }
        _ => Value::Unknown,
    }
}

fn store(state: &mut State, instruction: &Instruction, value: Value) {
    if let Address::Symbol(base, offset) = address(state, instruction) {
        state.store(base, offset, instruction.memory_size().size().max(1) as u64, value);
    }
}

fn push(state: &mut State, instruction: &Instruction) -> bool {
    let value = match wide_register(instruction, 0) {
        Some(register) => state.get(register),
        None if instruction.op0_kind() == OpKind::Memory => load(state, instruction),
        None => Value::Unknown,
    };
    state.push(value, -i64::from(instruction.stack_pointer_increment()));
    true
}

fn pop(state: &mut State, instruction: &Instruction) -> bool {
    let is_memory = instruction.op0_kind() == OpKind::Memory;
    let to = wide_register(instruction, 0);
    if to.is_none() && !is_memory {
        return false;
    }
    let value = state.pop(instruction.stack_pointer_increment().into());
    match to {
        Some(register) => set_loaded(state, register, value, instruction.ip()),
        None => store(state, instruction, value),
    }
    true
}

fn leave(state: &mut State) -> bool {
    state.set(SP, state.get(FP));
    let value = state.pop(8);
    state.set(FP, value);
    true
}

fn enter(state: &mut State, instruction: &Instruction) -> bool {
    state.push(state.get(FP), 8);
    state.set(FP, state.get(SP));
    let is_plain = instruction.immediate8_2nd() == 0; // else it copies frame pointers
    let size = i64::from(instruction.immediate16());
    state.set(SP, if is_plain { state.get(SP).plus(-size) } else { Value::Unknown });
    true
}

/// Sets a register to a value that was loaded; one of which nothing is known gets a name.
fn set_loaded(state: &mut State, register: Register, value: Value, at: u64) {
    match value {
        Value::Unknown => {
            state.define(register, at);
        }
        value => state.set(register, value),
    }
}

fn mov(state: &mut State, instruction: &Instruction) -> bool {
    let at = instruction.ip();
    if instruction.op0_kind() == OpKind::Memory {
        let value = match instruction.op1_kind() {
            OpKind::Register => wide_register(instruction, 1).map(|register| state.get(register)),
            _ => None,
        };
        store(state, instruction, value.unwrap_or(Value::Unknown));
        return true;
    }
    let Some((to, bits)) = register(instruction, 0).filter(|(_, bits)| *bits >= 32) else {
        return false;
    };
    let value = match instruction.op1_kind() {
        OpKind::Register => match register(instruction, 1) {
            Some((from, _)) => {
                let value = state.named(from, at);
                if bits == 64 { value } else { value.low(bits) }
            }
            None => return false,
        },
        OpKind::Memory if bits == 64 => load(state, instruction),
        OpKind::Memory => return false,
        _ => Value::Constant(instruction.immediate(1)),
    };
    set_loaded(state, to, value, at);
    true
}

fn lea(state: &mut State, instruction: &Instruction) -> bool {
    let Some(to) = wide_register(instruction, 0) else { return false };
    match address(state, instruction) {
        Address::Symbol(symbol, offset) => state.set(to, Value::Symbol(symbol, offset)),
        Address::Constant(address) => state.set(to, Value::Constant(address)),
        Address::Indexed { array: base, index, scale: 1 } => match state.get(index) {
            Value::TableWord(table) => state.set(to, Value::Target(table, base)),
            _ => return false,
        },
        _ => return false,
    }
    true
}

/// Returns the value of the second operand of 64 bits.
fn second(state: &State, instruction: &Instruction) -> Value {
    match instruction.op1_kind() {
        OpKind::Register => wide_register(instruction, 1).map_or(Value::Unknown, |r| state.get(r)),
        OpKind::Memory => Value::Unknown,
        _ => Value::Constant(instruction.immediate(1)),
    }
}

fn add(state: &mut State, instruction: &Instruction) -> bool {
    let Some(to) = wide_register(instruction, 0) else { return false };
    let sum = match (state.get(to), second(state, instruction)) {
        (Value::TableWord(table), Value::Constant(base))
        | (Value::Constant(base), Value::TableWord(table)) => Value::Target(table, base),
        (value, Value::Constant(addend)) => value.plus(addend as i64),
        (Value::Constant(addend), value) => value.plus(addend as i64),
        _ => Value::Unknown,
    };
    if sum == Value::Unknown && to != SP {
        return false;
    }
    set_loaded(state, to, sum, instruction.ip());
    true
}

fn sub(state: &mut State, instruction: &Instruction) -> bool {
    let Some(to) = wide_register(instruction, 0) else { return false };
    if register(instruction, 1) == Some((to, 64)) {
        state.set(to, Value::Constant(0));
        return true;
    }
    let difference = match second(state, instruction) {
        Value::Constant(subtrahend) => {
            (subtrahend as i64).checked_neg().map_or(Value::Unknown, |n| state.get(to).plus(n))
        }
        _ => Value::Unknown,
    };
    set_loaded(state, to, difference, instruction.ip());
    // After `sub` a conditional branch compares with 0, which bounds nothing.
    true
}

fn and(state: &mut State, instruction: &Instruction) -> bool {
    let Some((to, bits)) = register(instruction, 0) else { return false };
    if bits < 32 || !is_constant(instruction, 1) {
        return false;
    }
    let value = state.define(to, instruction.ip());
    let value = if bits == 32 { value.low(32) } else { value };
    state.set(to, value);
    let mask = instruction.immediate(1) & (u64::MAX >> (64 - bits));
    if mask < 1 << 31 {
        state.set_bound(value, Bound { max: mask, is_compared: false });
    }
    true
}

fn zero(state: &mut State, instruction: &Instruction) -> bool {
    let (one, other) = (register(instruction, 0), register(instruction, 1));
    match one.filter(|(_, bits)| *bits >= 32 && one == other) {
        Some((register, _)) => {
            state.set(register, Value::Constant(0));
            true
        }
        None => false,
    }
}

fn compare(state: &mut State, instruction: &Instruction) -> bool {
    let Some((compared, bits)) = register(instruction, 0) else { return true };
    let value = state.named(compared, instruction.ip());
    state.comparison = match (instruction.op1_kind(), register(instruction, 1)) {
        (OpKind::Register, Some((other, 64))) if bits == 64 => {
            Some(Comparison::OfRegisters(compared, other))
        }
        (OpKind::Register | OpKind::Memory, _) => None,
        _ => {
            let value = if bits == 64 { value } else { value.low(bits) };
            let limit = instruction.immediate(1) & (u64::MAX >> (64 - bits));
            Some(Comparison::WithConstant(value, limit))
        }
    };
    true
}

fn exchange(state: &mut State, instruction: &Instruction) -> bool {
    let (Some(one), Some(other)) = (wide_register(instruction, 0), wide_register(instruction, 1))
    else {
        return false;
    };
    let value = state.get(one);
    state.set(one, state.get(other));
    state.set(other, value);
    true
}

/// `movsxd` and `cdqe`: words of a table that are signed distances.
fn sign_extend(state: &mut State, instruction: &Instruction) -> bool {
    if instruction.mnemonic() == Mnemonic::Cdqe || instruction.op1_kind() != OpKind::Memory {
        return false;
    }
    let Some(to) = wide_register(instruction, 0) else { return false };
    match address(state, instruction) {
        Address::Indexed { array, index, scale: 4 } => {
            let table = jump_table(state, array, index, TableWord::Distance32);
            state.set(to, Value::TableWord(table));
            true
        }
        _ => false,
    }
}

fn zero_extend(state: &mut State, instruction: &Instruction) -> bool {
    let Some((to, _)) = register(instruction, 0).filter(|(_, bits)| *bits >= 32) else {
        return false;
    };
    let at = instruction.ip();
    if instruction.op1_kind() == OpKind::Memory
        && let Address::Indexed { array, index, scale: 2 } = address(state, instruction)
        && instruction.memory_size().size() == 2
    {
        let table = jump_table(state, array, index, TableWord::Distance16);
        state.set(to, Value::TableWord(table));
        return true;
    }
    let (value, bits) = match instruction.op1_kind() {
        OpKind::Register => match register(instruction, 1) {
            Some((from, bits)) => (state.named(from, at).low(bits), bits),
            None => return false,
        },
        _ => (Value::Unknown, 8 * instruction.memory_size().size() as u8),
    };
    let known = state.bound(value);
    let value = match value {
        Value::Unknown => state.define(to, at).low(bits),
        value => value,
    };
    state.set(to, value);
    let by_width = Bound { max: u64::MAX >> (64 - bits), is_compared: false };
    state.set_bound(value, known.unwrap_or(by_width));
    true
}
