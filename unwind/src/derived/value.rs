//! What is known of a register or a word of the stack at one instruction.

use crate::arch::{self, Register};

/// A number that is the same wherever it is named, though its value is unknown.
///
/// Numbers below [`Symbol::CODE`] are those at the entry of the function; others are addresses of
/// instructions, and stand for the result of the last execution of that instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Symbol(u64);

impl Symbol {
    /// The canonical frame address.
    pub const CFA: Self = Self(16);
    /// The return address.
    pub const RETURN_ADDRESS: Self = Self(17);
    /// The first address of an instruction whose result can be a symbol.
    pub const CODE: u64 = 18;

    /// Returns the symbol of a register's value at the entry of the function.
    pub const fn entry(register: Register) -> Self {
        Self(register.number() as u64)
    }

    /// Returns the symbol of the result of the instruction at an address.
    pub const fn result(address: u64) -> Self {
        Self(if address < Self::CODE { Self::CODE } else { address })
    }

    /// Returns a number that no other symbol has.
    pub const fn number(self) -> u64 {
        self.0
    }

    /// Returns whether it is a register's value at the entry of the function.
    pub const fn is_entry(self) -> bool {
        self.0 < arch::REGISTERS as u64
    }
}

/// What is known of 8 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Value {
    /// Nothing.
    Unknown,
    /// `symbol + offset`
    Symbol(Symbol, i64),
    /// The low bits of a symbol, zero-extended.
    Low(Symbol, u8),
    /// A number, such as the address of a table.
    Constant(u64),
    /// A word of a jump table.
    TableWord(JumpTable),
    /// A constant plus a word of a jump table.
    Target(JumpTable, u64),
}

/// A table of addresses, or of distances to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct JumpTable {
    /// Its address.
    pub address: u64,
    /// The number of its words, 0 if it is unknown.
    pub count: u32,
    /// Whether the index was compared with the number of words; else that is just what the index
    /// could be by its width.
    pub is_compared: bool,
    pub word: TableWord,
}

/// What the words of a jump table are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum TableWord {
    /// 2 bytes: an unsigned distance.
    Distance16,
    /// 4 bytes: a signed distance.
    Distance32,
    /// 8 bytes: an address.
    Address,
}

impl TableWord {
    /// Returns the bytes of a word.
    pub const fn size(self) -> u64 {
        match self {
            Self::Distance16 => 2,
            Self::Distance32 => 4,
            Self::Address => 8,
        }
    }
}

impl Value {
    pub const CFA: Self = Self::Symbol(Symbol::CFA, 0);

    /// Returns a value plus a constant.
    pub fn plus(self, addend: i64) -> Self {
        match self {
            Self::Symbol(symbol, offset) => match offset.checked_add(addend) {
                Some(offset) => Self::Symbol(symbol, offset),
                None => Self::Unknown,
            },
            Self::Constant(value) => Self::Constant(value.wrapping_add_signed(addend)),
            value if addend == 0 => value,
            _ => Self::Unknown,
        }
    }

    /// Returns the offset from the CFA, if the value is relative to it.
    pub fn cfa_offset(self) -> Option<i64> {
        match self {
            Self::Symbol(Symbol::CFA, offset) => Some(offset),
            _ => None,
        }
    }

    /// Returns what is known of the value's low bits, zero-extended.
    pub fn low(self, bits: u8) -> Self {
        match self {
            Self::Symbol(symbol, 0) => Self::Low(symbol, bits),
            Self::Low(symbol, known) => Self::Low(symbol, known.min(bits)),
            Self::Constant(value) => Self::Constant(value & (u64::MAX >> (64 - bits))),
            _ => Self::Unknown,
        }
    }

    /// Returns whether the value is expressed by a symbol.
    pub fn names(self, name: Symbol) -> bool {
        matches!(self, Self::Symbol(symbol, _) | Self::Low(symbol, _) if symbol == name)
    }
}
