//! What is known of the registers and the stack of a function at one instruction.

use crate::arch::{FP, REGISTERS, Register, SP};

use super::value::{Symbol, Value};

/// Words of the stack that are tracked; functions save at most six registers and some copies of
/// the stack pointer.
const SLOTS_MAX: usize = 24;
/// Bounds of values that are tracked.
const BOUNDS_MAX: usize = 4;

/// A word of the stack whose value is of use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Slot {
    /// The base of its address: the CFA, or an sp that was aligned or came from elsewhere.
    pub base: Symbol,
    /// Bytes from the base.
    pub offset: i64,
    pub value: Value,
}

/// A comparison whose result is in the flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    /// A value, unsigned, with a constant.
    WithConstant(Value, u64),
    /// Two registers.
    OfRegisters(Register, Register),
}

/// The largest number that a value can be, unsigned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bound {
    pub max: u64,
    /// Whether the value was compared with it, and not just cut to a width.
    pub is_compared: bool,
}

/// What is known at one instruction, before it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct State {
    registers: [Value; REGISTERS],
    slots: Vec<Slot>,
    bounds: Vec<(Value, Bound)>,
    pub comparison: Option<Comparison>,
}

impl State {
    /// Returns the state at the first instruction of a function.
    pub fn at_entry() -> Self {
        let mut registers = [Value::Unknown; REGISTERS];
        for (number, value) in (0..).zip(&mut registers) {
            *value = Value::Symbol(Symbol::entry(Register::from_number(number)), 0);
        }
        registers[usize::from(SP.number())] = Value::CFA.plus(-8);
        let value = Value::Symbol(Symbol::RETURN_ADDRESS, 0);
        let slots = vec![Slot { base: Symbol::CFA, offset: -8, value }];
        Self { registers, slots, bounds: Vec::new(), comparison: None }
    }

    /// Returns the state at the entry point of a file, which nothing calls.
    pub fn at_root() -> Self {
        let mut state = Self::at_entry();
        state.slots.clear();
        state
    }

    pub fn get(&self, register: Register) -> Value {
        self.registers[usize::from(register.number())]
    }

    pub fn set(&mut self, register: Register, value: Value) {
        self.registers[usize::from(register.number())] = value;
    }

    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// Returns whether a register holds its caller's value.
    pub fn is_same(&self, register: Register) -> bool {
        self.get(register) == Value::Symbol(Symbol::entry(register), 0)
    }

    /// Returns whether the function could begin here: the return address is on top of the stack,
    /// and registers that belong to the caller hold its values.
    pub fn is_entry(&self) -> bool {
        self.get(SP) == Value::CFA.plus(-8)
            && self.is_return_address_saved()
            && Register::SAVED_BY_CALLEE.iter().all(|register| self.is_same(*register))
    }

    /// Returns whether the return address is where the call has put it.
    pub fn is_return_address_saved(&self) -> bool {
        self.load(Symbol::CFA, -8) == Value::Symbol(Symbol::RETURN_ADDRESS, 0)
    }

    /// Sets a register to the unknown result of an instruction, and returns the value.
    pub fn define(&mut self, register: Register, address: u64) -> Value {
        let symbol = Symbol::result(address);
        self.forget(symbol);
        self.set(register, Value::Symbol(symbol, 0));
        Value::Symbol(symbol, 0)
    }

    /// Returns the value of a register; one of which nothing is known gets a name here.
    pub fn named(&mut self, register: Register, address: u64) -> Value {
        match self.get(register) {
            Value::Unknown => self.define(register, address),
            value => value,
        }
    }

    /// Removes what is known by a symbol, because its instruction runs again.
    fn forget(&mut self, symbol: Symbol) {
        for value in &mut self.registers {
            if value.names(symbol) {
                *value = Value::Unknown;
            }
        }
        self.slots.retain(|slot| slot.base != symbol && !slot.value.names(symbol));
        self.bounds.retain(|(value, _)| !value.names(symbol));
        if matches!(self.comparison, Some(Comparison::WithConstant(v, _)) if v.names(symbol)) {
            self.comparison = None;
        }
    }

    /// Returns the 8 bytes at an address of the stack.
    pub fn load(&self, base: Symbol, offset: i64) -> Value {
        let slot = self.slots.iter().find(|slot| slot.base == base && slot.offset == offset);
        slot.map_or(Value::Unknown, |slot| slot.value)
    }

    /// Stores bytes to an address of the stack. Their value is kept if there are eight and it
    /// helps to find a caller.
    pub fn store(&mut self, base: Symbol, offset: i64, bytes: u64, value: Value) {
        let end = offset.saturating_add_unsigned(bytes);
        let is_overwritten =
            |slot: &Slot| slot.base == base && slot.offset < end && offset < slot.offset + 8;
        self.slots.retain(|slot| !is_overwritten(slot));
        let is_stack = base == Symbol::CFA || self.get(SP).names(base) || self.get(FP).names(base);
        let is_useful = match value {
            Value::Symbol(Symbol::CFA, _) => true,
            Value::Symbol(symbol, offset) => {
                symbol.is_entry() && offset == 0 || self.get(SP).names(symbol)
            }
            _ => false,
        };
        let is_within = self.slots.len() < SLOTS_MAX && offset.unsigned_abs() < 1 << 32;
        if bytes == 8 && is_stack && is_useful && is_within {
            self.slots.push(Slot { base, offset, value });
            self.slots.sort_unstable_by_key(|slot| (slot.base, slot.offset));
        }
    }

    /// Moves sp down by some bytes and stores a value there.
    pub fn push(&mut self, value: Value, bytes: i64) {
        let sp = self.get(SP).plus(-bytes);
        self.set(SP, sp);
        if let Value::Symbol(base, offset) = sp {
            self.store(base, offset, bytes.unsigned_abs(), value);
        }
    }

    /// Returns the value on top of the stack, and moves sp up by some bytes.
    pub fn pop(&mut self, bytes: i64) -> Value {
        let sp = self.get(SP);
        self.set(SP, sp.plus(bytes));
        match sp {
            Value::Symbol(base, offset) if bytes == 8 => self.load(base, offset),
            _ => Value::Unknown,
        }
    }

    /// Applies what a called function may do: registers that belong to it are lost, and so is the
    /// stack below sp.
    pub fn call(&mut self, address: u64) {
        for number in 0..REGISTERS as u8 {
            let register = Register::from_number(number);
            if register != SP && !Register::SAVED_BY_CALLEE.contains(&register) {
                self.set(register, Value::Unknown);
            }
        }
        if let Value::Symbol(base, offset) = self.get(SP) {
            self.slots.retain(|slot| slot.base != base || slot.offset >= offset);
        }
        self.comparison = None;
        self.define(Register::RESULT, address);
    }

    /// Returns the largest number that a value can be, if it is known.
    pub fn bound(&self, value: Value) -> Option<Bound> {
        match value {
            Value::Constant(max) => Some(Bound { max, is_compared: true }),
            value => self.bounds.iter().find(|(bounded, _)| *bounded == value).map(|(_, b)| *b),
        }
    }

    /// Records the largest number that a value can be.
    pub fn set_bound(&mut self, value: Value, bound: Bound) {
        if !matches!(value, Value::Symbol(..) | Value::Low(..)) {
            return;
        }
        match self.bounds.iter_mut().find(|(bounded, _)| *bounded == value) {
            Some((_, known)) if known.max <= bound.max && known.is_compared => {}
            Some((_, known)) => *known = bound,
            None => {
                if self.bounds.len() == BOUNDS_MAX {
                    self.bounds.remove(0);
                }
                self.bounds.push((value, bound));
            }
        }
    }

    /// Keeps only what also holds in another state, from which the same instruction is reached.
    /// Returns whether anything was lost.
    pub fn join(&mut self, other: &Self) -> bool {
        let mut is_changed = false;
        for (value, other) in self.registers.iter_mut().zip(&other.registers) {
            if *value != *other && *value != Value::Unknown {
                *value = Value::Unknown;
                is_changed = true;
            }
        }
        let count = self.slots.len();
        self.slots.retain(|slot| other.slots.contains(slot));
        is_changed |= self.slots.len() != count;
        let count = self.bounds.len();
        self.bounds.retain_mut(|(value, known)| match other.bound(*value) {
            Some(bound) => {
                let both = Bound {
                    max: known.max.max(bound.max),
                    is_compared: known.is_compared && bound.is_compared,
                };
                is_changed |= both != *known;
                *known = both;
                true
            }
            None => false,
        });
        is_changed |= self.bounds.len() != count;
        if self.comparison.is_some() && self.comparison != other.comparison {
            self.comparison = None;
            is_changed = true;
        }
        is_changed
    }
}
