//! Converts the state at an instruction to an unwind rule.

use super::reason::Reason;
use super::state::State;
use super::value::{Symbol, Value};
use crate::arch::{BASE, FP, REGISTERS, Register, SP};
use crate::rule::{Cfa, RegisterRule, Rule};

/// Returns the rule that finds the caller from a state.
///
/// # Errors
/// The reason why there is none.
pub(super) fn rule_of(state: &State) -> Result<Rule, Reason> {
    let is_popped = state.get(SP).cfa_offset().is_some_and(|sp| sp > -8);
    if !state.is_return_address_saved() || is_popped {
        return Err(Reason::ReturnAddress);
    }
    let (cfa, fp) = (cfa_of(state)?, saved(state, FP));
    // Only the first function of a thread zeroes the frame pointer without saving it.
    if fp == RegisterRule::Undefined && state.get(FP) == Value::Constant(0) {
        return Err(Reason::Root);
    }
    Ok(Rule { cfa, fp, base: base_of(state), ra: RegisterRule::SAVED_RA })
}

/// Returns how the CFA is found. A frame pointer that is set up comes first, because a callee
/// that leaves sp elsewhere does not change it.
fn cfa_of(state: &State) -> Result<Cfa, Reason> {
    let offset = |register: Register| state.get(register).cfa_offset();
    let is_frame_pointer = offset(FP) == Some(-16)
        && state.load(Symbol::CFA, -16) == Value::Symbol(Symbol::entry(FP), 0);
    let frame_pointer = is_frame_pointer.then_some(FP);
    let others = (0..REGISTERS as u8).map(Register::from_number);
    let mut registers = frame_pointer.into_iter().chain([SP, FP, BASE]).chain(others);
    if let Some((register, offset)) = registers.find_map(|r| Some((r, offset(r)?))) {
        let offset = offset.checked_neg().and_then(|offset| i32::try_from(offset).ok());
        let offset = offset.ok_or(Reason::NotExpressible)?;
        return Ok(Cfa::Register(register, offset));
    }
    saved_cfa(state).ok_or(Reason::StackPointer)
}

/// Returns how the CFA is found by a copy of it on the stack.
fn saved_cfa(state: &State) -> Option<Cfa> {
    let copies = state.slots().iter().filter_map(|slot| Some((slot, slot.value.cfa_offset()?)));
    copies.filter(|(slot, _)| slot.base != Symbol::CFA).find_map(|(slot, cfa_offset)| {
        let by = |register: Register| match state.get(register) {
            Value::Symbol(base, offset) if base == slot.base => {
                let at = i16::try_from(slot.offset.checked_sub(offset)?).ok()?;
                let offset = i16::try_from(cfa_offset.checked_neg()?).ok()?;
                Some(Cfa::AtRegister { register, at, offset })
            }
            _ => None,
        };
        [FP, SP, BASE].into_iter().find_map(by)
    })
}

/// Returns where the caller's value of a register is.
fn saved(state: &State, register: Register) -> RegisterRule {
    let caller_value = Value::Symbol(Symbol::entry(register), 0);
    if state.is_same(register) {
        return RegisterRule::SameValue;
    }
    let mut slots = state.slots().iter().filter(|slot| slot.value == caller_value);
    let by_cfa = slots.clone().filter(|slot| slot.base == Symbol::CFA);
    if let Some(rule) = by_cfa.filter_map(|slot| RegisterRule::at_cfa(slot.offset)).next() {
        return rule;
    }
    if slots.any(|slot| state.get(FP) == Value::Symbol(slot.base, slot.offset)) {
        return RegisterRule::AtFp;
    }
    let mut others = (0..REGISTERS as u8).map(Register::from_number);
    let copy = others.find(|other| state.get(*other) == caller_value);
    copy.map_or(RegisterRule::Undefined, RegisterRule::Register)
}

/// The rule of the base register has no form for a copy at fp.
fn base_of(state: &State) -> RegisterRule {
    match saved(state, BASE) {
        RegisterRule::AtFp => RegisterRule::Undefined,
        rule => rule,
    }
}
