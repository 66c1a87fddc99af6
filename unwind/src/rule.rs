//! Unwind rules: how to get from a frame to its caller, in 8 bytes.
//!
//! A [`Rule`] computes the canonical frame address (CFA) of a frame and says where the caller's
//! registers are saved relative to it. The kernel reads the same 8 bytes: `struct rule` of
//! `bpf/abi.h`.

use std::fmt;

use crate::arch::{BASE, Register, SAVED_RA_WORDS, SP};
use crate::encoding::*;

/// How to get from a frame to its caller. The caller's sp is always the CFA.
///
/// ```
/// use unwind::{Cfa, RegisterRule, Rule, arch};
///
/// let rule = Rule {
///     cfa: Cfa::Register(arch::SP, 24),
///     fp: RegisterRule::AtCfa(-2),
///     base: RegisterRule::Undefined,
///     ra: RegisterRule::AtCfa(-1),
/// };
/// assert_eq!(rule.to_string(), "cfa = rsp+24, fp at cfa-16, ra at cfa-8");
/// assert_eq!(Rule::decode(rule.encode()), rule);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rule {
    /// How the CFA is computed.
    pub cfa: Cfa,
    /// Where the caller's frame pointer is.
    pub fp: RegisterRule,
    /// Where the caller's base register is; only in files with a CFA that is relative to it.
    pub base: RegisterRule,
    /// Where the return address is.
    pub ra: RegisterRule,
}

/// How the CFA is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cfa {
    /// No rule, and why.
    Gap(Gap),
    /// No caller: the return address is undefined.
    Root,
    /// No frame: a return address that leads here was put on the stack by hand, by the maker of the
    /// frame before, which is the root.
    Outside,
    /// `cfa = register + offset`
    Register(Register, i32),
    /// `cfa = *(register + at) + offset`
    AtRegister {
        /// The register.
        register: Register,
        /// Bytes from the register's value to the word in memory.
        at: i16,
        /// Bytes from that word's value to the CFA.
        offset: i16,
    },
    /// `cfa = *(sp + 8 * index + at) + offset`
    AtIndex {
        /// The register that counts words from the stack pointer.
        index: Register,
        /// Bytes from there to the word in memory.
        at: i16,
        /// Bytes from that word's value to the CFA.
        offset: i16,
    },
    /// `cfa = sp + 8 + (ip % 16 >= pushed ? 8 : 0)`: a stub of 16 bytes in a procedure linkage
    /// table (PLT), which pushes a word before its byte `pushed`.
    Plt {
        /// Up to 15; 5 to 11 in the stubs that linkers write.
        pushed: u8,
    },
    /// A frame that the kernel made to call a signal handler. It holds every register.
    Signal,
    /// Code without rules that keeps a frame pointer: `cfa = fp + 16` once that is set up.
    FramePointer,
}

/// Why there is no rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Gap {
    /// The file has no row for the address.
    NoRow = 0,
    /// The file has a row for the address that no rule expresses.
    NotExpressible = 1,
    /// A row for the address may be derived later.
    Pending = 2,
}

/// Where the caller's value of a register is, as DWARF's register rules say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RegisterRule {
    /// Still in the register: `value = register`
    SameValue,
    /// `value = *(cfa + 8*n)`, n from -63 to 63 without 0.
    AtCfa(i8),
    /// `value = *fp`
    AtFp,
    /// Of a return address: `value = *(cfa - 8)`, which is the instruction that was interrupted. A
    /// signal handler has pushed it, to have the function run that this rule belongs to.
    Interrupted,
    /// `value = other register`
    Register(Register),
    /// Of a return address only: `value = *(cfa - 8)`, and 0 there is the root of the stack,
    /// because the function never returns.
    ReturnOrRoot,
    /// Not recoverable.
    Undefined,
}

impl RegisterRule {
    /// The rule of a return address that a call has saved.
    pub const SAVED_RA: Self = Self::AtCfa(SAVED_RA_WORDS);

    /// Returns the rule of a register saved at `bytes` from the CFA, if that can be encoded.
    pub fn at_cfa(bytes: i64) -> Option<Self> {
        let words = bytes / 8;
        let fits = bytes % 8 == 0 && words != 0 && words.abs() < i64::from(SAVED_IN_REGISTER);
        fits.then_some(Self::AtCfa(words as i8))
    }

    fn encode(self) -> u8 {
        let value = match self {
            Self::SameValue => SAVED_SAME_VALUE,
            Self::AtCfa(words) => words,
            Self::Register(register) => SAVED_IN_REGISTER + register.number() as i8,
            Self::ReturnOrRoot => SAVED_RETURN_OR_ROOT,
            Self::Undefined => SAVED_UNDEFINED,
            Self::AtFp => SAVED_AT_FP,
            Self::Interrupted => SAVED_INTERRUPTED,
        };
        value as u8
    }

    fn decode_ra(byte: u8) -> Self {
        match byte as i8 {
            SAVED_RETURN_OR_ROOT => Self::ReturnOrRoot,
            _ => Self::decode(byte),
        }
    }

    fn decode(byte: u8) -> Self {
        match byte as i8 {
            SAVED_SAME_VALUE => Self::SameValue,
            SAVED_UNDEFINED => Self::Undefined,
            SAVED_AT_FP => Self::AtFp,
            SAVED_INTERRUPTED => Self::Interrupted,
            value if value >= SAVED_IN_REGISTER => {
                Self::Register(Register::from_number(value as u8 & 15))
            }
            value => Self::AtCfa(value),
        }
    }
}

impl Rule {
    /// The file has no row.
    pub const NO_ROW: Self = Self::bare(Cfa::Gap(Gap::NoRow));
    /// A row may be derived later.
    pub const PENDING: Self = Self::bare(Cfa::Gap(Gap::Pending));
    /// The file has a row that no rule expresses.
    pub const NOT_EXPRESSIBLE: Self = Self::bare(Cfa::Gap(Gap::NotExpressible));
    /// The root of the stack.
    pub const ROOT: Self = Self::bare(Cfa::Root);
    /// Not a frame, but outside of the root.
    pub const OUTSIDE: Self = Self::bare(Cfa::Outside);
    /// Code without rows that keeps a frame pointer.
    pub const FRAME_POINTER: Self = Self::bare(Cfa::FramePointer);
    /// A signal frame.
    pub const SIGNAL: Self = Self::bare(Cfa::Signal);

    /// The vsyscall page: the return address is on top of the stack.
    pub const VSYSCALL: Self = Self::bare(Cfa::Register(SP, 8));

    /// Returns a rule that consists of its CFA alone.
    const fn bare(cfa: Cfa) -> Self {
        Self {
            cfa,
            fp: RegisterRule::SameValue,
            base: RegisterRule::SameValue,
            ra: RegisterRule::SAVED_RA,
        }
    }

    /// Returns whether there is no rule.
    pub fn is_gap(&self) -> bool {
        matches!(self.cfa, Cfa::Gap(_))
    }

    /// Returns whether the CFA is found by the base register.
    pub(crate) fn has_cfa_in_base(&self) -> bool {
        matches!(self.cfa, Cfa::Register(BASE, _) | Cfa::AtRegister { register: BASE, .. })
    }

    /// Encodes the rule as the kernel reads it: the offset in 4 bytes, then one byte each for
    /// operation and register, fp, base and ra.
    pub fn encode(&self) -> [u8; 8] {
        let both =
            |low: i16, high: i16| (u32::from(low as u16) | u32::from(high as u16) << 16) as i32;
        let (op, register, offset) = match self.cfa {
            Cfa::Gap(gap) => (OP_GAP, 0, gap as i32),
            Cfa::Root => (OP_ROOT, 0, 0),
            Cfa::Outside => (OP_OUTSIDE, 0, 0),
            Cfa::Register(register, offset) => (OP_REGISTER, register.number(), offset),
            Cfa::AtRegister { register, at, offset } => {
                (OP_AT_REGISTER, register.number(), both(at, offset))
            }
            Cfa::AtIndex { index, at, offset } => (OP_AT_INDEX, index.number(), both(at, offset)),
            Cfa::Plt { pushed } => (OP_PLT, 0, pushed.into()),
            Cfa::Signal => (OP_SIGNAL, 0, 0),
            Cfa::FramePointer => (OP_FRAME_POINTER, 0, 0),
        };
        let [a, b, c, d] = offset.to_le_bytes();
        [a, b, c, d, op | register << 4, self.fp.encode(), self.base.encode(), self.ra.encode()]
    }

    /// Decodes what [`Rule::encode`] returned. Bytes that it never returns are a gap.
    pub fn decode(bytes: [u8; 8]) -> Self {
        let [a, b, c, d, op, fp, base, ra] = bytes;
        let offset = i32::from_le_bytes([a, b, c, d]);
        let register = Register::from_number(op >> 4);
        let cfa = match op & 15 {
            OP_ROOT => Cfa::Root,
            OP_OUTSIDE => Cfa::Outside,
            OP_REGISTER => Cfa::Register(register, offset),
            OP_AT_REGISTER => {
                Cfa::AtRegister { register, at: offset as i16, offset: (offset >> 16) as i16 }
            }
            OP_AT_INDEX => {
                Cfa::AtIndex { index: register, at: offset as i16, offset: (offset >> 16) as i16 }
            }
            OP_PLT => Cfa::Plt { pushed: offset as u8 },
            OP_SIGNAL => Cfa::Signal,
            OP_FRAME_POINTER => Cfa::FramePointer,
            OP_GAP if offset == Gap::NoRow as i32 => Cfa::Gap(Gap::NoRow),
            OP_GAP if offset == Gap::Pending as i32 => Cfa::Gap(Gap::Pending),
            _ => Cfa::Gap(Gap::NotExpressible),
        };
        Self {
            cfa,
            fp: RegisterRule::decode(fp),
            base: RegisterRule::decode(base),
            ra: RegisterRule::decode_ra(ra),
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.cfa {
            Cfa::Gap(Gap::NoRow) => return f.write_str("no row"),
            Cfa::Gap(Gap::NotExpressible) => return f.write_str("not expressible"),
            Cfa::Gap(Gap::Pending) => return f.write_str("no row yet"),
            Cfa::Root => return f.write_str("root"),
            Cfa::Outside => return f.write_str("outside of the root"),
            Cfa::Signal => return f.write_str("signal frame"),
            Cfa::FramePointer => return f.write_str("frame pointer"),
            Cfa::Register(register, offset) => write!(f, "cfa = {}{offset:+}", register.name())?,
            Cfa::AtRegister { register, at, offset } => {
                write!(f, "cfa = *({}{at:+}){offset:+}", register.name())?;
            }
            Cfa::AtIndex { index, at, offset } => {
                let (sp, index) = (crate::arch::SP.name(), index.name());
                write!(f, "cfa = *({sp}+8*{index}{at:+}){offset:+}")?;
            }
            Cfa::Plt { pushed } => {
                write!(f, "cfa = {}+8 (+8 from byte {pushed} of 16)", crate::arch::SP.name())?;
            }
        }
        for (name, saved) in [("fp", self.fp), ("base", self.base), ("ra", self.ra)] {
            match saved {
                RegisterRule::SameValue | RegisterRule::Undefined => {}
                RegisterRule::AtCfa(words) => {
                    write!(f, ", {name} at cfa{:+}", 8 * i32::from(words))?
                }
                RegisterRule::AtFp => write!(f, ", {name} at fp")?,
                RegisterRule::Interrupted => write!(f, ", {name} at cfa-8, interrupted")?,
                RegisterRule::ReturnOrRoot => write!(f, ", {name} at cfa-8 or root")?,
                RegisterRule::Register(register) => write!(f, ", {name} in {}", register.name())?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::FP;
    use proptest::prelude::*;

    fn register_rules() -> impl Strategy<Value = RegisterRule> {
        prop_oneof![
            Just(RegisterRule::SameValue),
            Just(RegisterRule::AtFp),
            Just(RegisterRule::Interrupted),
            Just(RegisterRule::Undefined),
            (1i8..64).prop_map(RegisterRule::AtCfa),
            (-63i8..0).prop_map(RegisterRule::AtCfa),
            (0u8..16).prop_map(|number| RegisterRule::Register(Register::from_number(number))),
        ]
    }

    fn cfas() -> impl Strategy<Value = Cfa> {
        let register = || prop_oneof![Just(SP), Just(FP), Just(BASE)];
        prop_oneof![
            Just(Cfa::Gap(Gap::NoRow)),
            Just(Cfa::Gap(Gap::NotExpressible)),
            Just(Cfa::Gap(Gap::Pending)),
            Just(Cfa::Root),
            Just(Cfa::Outside),
            Just(Cfa::Signal),
            Just(Cfa::FramePointer),
            (0u8..16).prop_map(|pushed| Cfa::Plt { pushed }),
            (0u8..16, any::<i16>(), any::<i16>()).prop_map(|(index, at, offset)| {
                Cfa::AtIndex { index: Register::from_number(index), at, offset }
            }),
            (register(), any::<i32>()).prop_map(|(r, offset)| Cfa::Register(r, offset)),
            (register(), any::<i16>(), any::<i16>())
                .prop_map(|(register, at, offset)| Cfa::AtRegister { register, at, offset }),
        ]
    }

    proptest! {
        #[test]
        fn rule_survives_encoding(
            cfa in cfas(),
            fp in register_rules(),
            base in register_rules(),
            ra in prop_oneof![register_rules(), Just(RegisterRule::ReturnOrRoot)],
        ) {
            let rule = Rule { cfa, fp, base, ra };
            prop_assert_eq!(Rule::decode(rule.encode()), rule);
        }

        #[test]
        fn any_8_bytes_decode(bytes in any::<[u8; 8]>()) {
            Rule::decode(bytes);
        }
    }
}
