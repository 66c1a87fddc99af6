//! What unwinding knows at an instruction, and a made-up thread that fits it.

use std::collections::HashMap;

use super::report::DerivedDifference;
use crate::arch::{BASE, FP, REGISTERS, Register, SP};
use crate::derived::reason::Reason;
use crate::derived::rule::rule_of;
use crate::derived::state::{Slot, State};
use crate::derived::value::{Symbol, Value};
use crate::dwarf::{DwarfStep, RowStep};
use crate::{Registers, Rule, Step, step};

/// What of a state bears on unwinding.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Frame {
    registers: [Value; REGISTERS],
    slots: Vec<Slot>,
    pub rule: Result<Rule, Reason>,
}

/// Frames by number: each is stored once.
pub(super) struct Frames {
    numbers: HashMap<Frame, u32>,
    all: Vec<Frame>,
}

impl Frames {
    /// The number of the frame of code on which functions disagree.
    pub const CONFLICT: u32 = 0;

    pub fn new() -> Self {
        let conflict = Frame {
            registers: [Value::Unknown; REGISTERS],
            slots: Vec::new(),
            rule: Err(Reason::Conflict),
        };
        Self { numbers: HashMap::new(), all: vec![conflict] }
    }

    pub fn get(&self, number: u32) -> &Frame {
        &self.all[number as usize]
    }

    /// Returns the number of the frame of a state.
    pub fn number_of(&mut self, state: &State) -> u32 {
        let frame = Frame::of(state);
        if let Some(number) = self.numbers.get(&frame) {
            return *number;
        }
        let number = self.all.len() as u32;
        self.all.push(frame.clone());
        self.numbers.insert(frame, number);
        number
    }
}

impl Frame {
    fn of(state: &State) -> Self {
        let slots = state.slots().to_vec();
        let is_base = |base: Symbol| base == Symbol::CFA || slots.iter().any(|s| s.base == base);
        let mut registers = [Value::Unknown; REGISTERS];
        for (number, kept) in (0..).zip(&mut registers) {
            let register = Register::from_number(number);
            let value = state.get(register);
            if state.is_same(register) || matches!(value, Value::Symbol(base, _) if is_base(base)) {
                *kept = value;
            }
        }
        Self { registers, slots, rule: rule_of(state) }
    }

    /// Compares the caller that a rule finds with the one that DWARF finds, in a thread made up so
    /// that it fits the frame. Returns `None` if DWARF finds none.
    pub fn compare(
        &self,
        address: u64,
        rule: &Rule,
        dwarf: RowStep<'_>,
    ) -> Option<Result<(), DerivedDifference>> {
        let mut all = [0; REGISTERS];
        for (number, (value, known)) in (1..).zip(all.iter_mut().zip(&self.registers)) {
            *value = made_up(*known).unwrap_or(0x5000_0000_0000 + (mix(number) & 0xff_fff8));
        }
        let read = |at: u64| {
            let is_at = |slot: &&Slot| made_up(Value::Symbol(slot.base, slot.offset)) == Some(at);
            let slot = self.slots.iter().find(is_at).and_then(|slot| made_up(slot.value));
            slot.unwrap_or_else(|| 0x7e00_0000_0000 + (mix(at) & 0xff_ffff_fff8))
        };
        let theirs = dwarf(address, &all, &read);
        let ours = step(&Registers::interrupted(address, all), rule, |at| Some(read(at)));
        match is_same(&ours, &theirs)? {
            true => Some(Ok(())),
            false => Some(Err(DerivedDifference { address, rule: *rule, ours, theirs })),
        }
    }
}

/// Returns whether both steps find the same caller; `None` if DWARF finds none. What the derived
/// rule leaves undefined is not compared.
fn is_same(ours: &Step, theirs: &DwarfStep) -> Option<bool> {
    match (ours, theirs) {
        (_, DwarfStep::NoFunction | DwarfStep::Failed) => None,
        (Step::Caller(caller), DwarfStep::Caller(answer)) => {
            let value = |register: Register| answer.registers[usize::from(register.number())];
            let is_same = value(SP) == Some(caller.sp)
                && caller.ip == answer.ra
                && (caller.fp.is_none() || caller.fp == value(FP))
                && (caller.base.is_none() || caller.base == value(BASE));
            Some(is_same)
        }
        _ => Some(false),
    }
}

/// Returns a number for a value that is known; equal values have equal numbers. All are above sp
/// and far apart.
fn made_up(value: Value) -> Option<u64> {
    let (symbol_at, offset) = match value {
        Value::Symbol(Symbol::CFA, offset) => (0x7000_0000_0000, offset),
        Value::Symbol(symbol, offset) => {
            (0x7100_0000_0000 + (mix(symbol.number()) & 0xff_ffff_f000), offset)
        }
        _ => return None,
    };
    Some(u64::wrapping_add_signed(symbol_at, offset))
}

/// Scatters a number: the finalizer of SplitMix64.
fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
