//! Evaluates DWARF expressions as far as a rule can express their value.
//!
//! Compilers, linkers and C libraries write few. Their operations are evaluated with the values of
//! registers and memory left open; what comes out has a rule of its own, or none. The unwinder in
//! the kernel evaluates no expression.

use gimli::{Encoding, Expression, Format, Operation};

use crate::arch::{Register, SIGNAL_SP, SP};
use crate::rule::Cfa;
use crate::sections::Slice;

/// Operations read of one expression; the longest that has a rule has 9.
const OPERATIONS_MAX: usize = 12;
/// DWARF's number of the instruction pointer.
const IP: u16 = crate::arch::RA;
/// Bytes of a stub of a procedure linkage table, less one.
const STUB_MASK: u64 = 15;
const ENCODING: Encoding = Encoding { address_size: 8, format: Format::Dwarf32, version: 4 };

/// A value on the stack of an evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DwarfValue {
    Number(u64),
    /// `cfa + offset`
    Cfa(i64),
    /// `register + offset`
    Register(Register, i64),
    /// `register + 8 * index + offset`
    Indexed {
        register: Register,
        index: Register,
        offset: i64,
    },
    /// `8 * register`
    Words(Register),
    /// `*(register + at) + offset`
    Word {
        register: Register,
        at: i64,
        offset: i64,
    },
    /// `*(register + 8 * index + at) + offset`
    IndexedWord {
        register: Register,
        index: Register,
        at: i64,
        offset: i64,
    },
    Ip,
    /// `ip % 16`
    IpInStub,
    /// `ip % 16 >= n`
    IsBehind(u64),
    /// `ip % 16 >= n ? 8 : 0`
    WordIfBehind(u64),
    /// `sp + 8 + (ip % 16 >= n ? 8 : 0)`
    Plt(u64),
}

/// Returns the rule that computes the same CFA as an expression.
pub(super) fn cfa(expression: Expression<Slice<'_>>) -> Option<Cfa> {
    match evaluate(expression, None)? {
        DwarfValue::Register(register, offset) => {
            Some(Cfa::Register(register, offset.try_into().ok()?))
        }
        DwarfValue::Word { register: SP, at: SIGNAL_SP, offset: 0 } => Some(Cfa::Signal),
        DwarfValue::Word { register, at, offset } => {
            let (at, offset) = (at.try_into().ok()?, offset.try_into().ok()?);
            Some(Cfa::AtRegister { register, at, offset })
        }
        DwarfValue::IndexedWord { register: SP, index, at, offset } => {
            let (at, offset) = (at.try_into().ok()?, offset.try_into().ok()?);
            Some(Cfa::AtIndex { index, at, offset })
        }
        DwarfValue::Plt(pushed) => {
            let pushed = u8::try_from(pushed).ok().filter(|pushed| u64::from(*pushed) <= STUB_MASK);
            Some(Cfa::Plt { pushed: pushed? })
        }
        _ => None,
    }
}

/// Evaluates an expression; `None` if its value is not listed in [`DwarfValue`]. `initial`: the
/// value on its stack at the start.
pub(super) fn evaluate(
    expression: Expression<Slice<'_>>,
    initial: Option<DwarfValue>,
) -> Option<DwarfValue> {
    let mut stack: Vec<DwarfValue> = initial.into_iter().collect();
    let mut operations = expression.operations(ENCODING);
    let mut count = 0;
    while let Some(operation) = operations.next().ok()? {
        count += 1;
        if count > OPERATIONS_MAX {
            return None;
        }
        let value = match operation {
            Operation::RegisterOffset { register, offset, .. } => of_register(register.0, offset)?,
            Operation::UnsignedConstant { value } => DwarfValue::Number(value),
            Operation::SignedConstant { value } => DwarfValue::Number(value as u64),
            Operation::PlusConstant { value } => sum(stack.pop()?, DwarfValue::Number(value))?,
            Operation::Deref { size: 8, space: false, .. } => stack.pop()?.dereference()?,
            Operation::Nop => continue,
            operation => {
                let (right, left) = (stack.pop()?, stack.pop()?);
                of_two(&operation, left, right)?
            }
        };
        stack.push(value);
    }
    stack.pop()
}

fn of_register(number: u16, offset: i64) -> Option<DwarfValue> {
    match number {
        IP => (offset == 0).then_some(DwarfValue::Ip),
        number => Some(DwarfValue::Register(Register::from_dwarf(number)?, offset)),
    }
}

/// Returns the result of an operation on two values.
fn of_two(
    operation: &Operation<Slice<'_>>,
    left: DwarfValue,
    right: DwarfValue,
) -> Option<DwarfValue> {
    use DwarfValue::{Ip, IpInStub, IsBehind, Number, Register, WordIfBehind, Words};
    match (operation, left, right) {
        (Operation::Plus, left, right) => sum(left, right),
        (Operation::Minus, left, Number(value)) => sum(left, Number(value.wrapping_neg())),
        (Operation::And, Ip, Number(STUB_MASK)) => Some(IpInStub),
        (Operation::Ge, IpInStub, Number(byte)) => Some(IsBehind(byte)),
        (Operation::Shl, IsBehind(byte), Number(3)) => Some(WordIfBehind(byte)),
        (Operation::Mul, Register(register, 0), Number(8)) => Some(Words(register)),
        (Operation::Shl, Register(register, 0), Number(3)) => Some(Words(register)),
        _ => None,
    }
}

fn sum(left: DwarfValue, right: DwarfValue) -> Option<DwarfValue> {
    use DwarfValue::{Cfa, Indexed, IndexedWord, Number, Plt, Register, Word, WordIfBehind, Words};
    let add = |offset: i64, value: u64| offset.checked_add(value as i64);
    let is_first = matches!(left, Number(_) | Words(_) | WordIfBehind(_));
    let (left, right) = if is_first { (right, left) } else { (left, right) };
    Some(match (left, right) {
        (Number(left), Number(right)) => Number(left.wrapping_add(right)),
        (Cfa(offset), Number(value)) => Cfa(add(offset, value)?),
        (Register(register, offset), Number(value)) => Register(register, add(offset, value)?),
        (Word { register, at, offset }, Number(value)) => {
            Word { register, at, offset: add(offset, value)? }
        }
        (IndexedWord { register, index, at, offset }, Number(value)) => {
            IndexedWord { register, index, at, offset: add(offset, value)? }
        }
        (Indexed { register, index, offset }, Number(value)) => {
            Indexed { register, index, offset: add(offset, value)? }
        }
        (Register(register, offset), Words(index)) => Indexed { register, index, offset },
        (Register(SP, 8), WordIfBehind(byte)) => Plt(byte),
        _ => return None,
    })
}

impl DwarfValue {
    fn dereference(self) -> Option<Self> {
        match self {
            Self::Register(register, at) => Some(Self::Word { register, at, offset: 0 }),
            Self::Indexed { register, index, offset: at } => {
                Some(Self::IndexedWord { register, index, at, offset: 0 })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::FP;
    use gimli::LittleEndian;

    fn parse(bytes: &[u8]) -> Option<Cfa> {
        cfa(Expression(Slice::new(bytes, LittleEndian)))
    }

    #[test]
    fn recognizes_a_plt_stub() {
        let gnu_ld = [0x77, 8, 0x80, 0, 0x3f, 0x1a, 0x3b, 0x2a, 0x33, 0x24, 0x22];
        assert_eq!(parse(&gnu_ld), Some(Cfa::Plt { pushed: 11 }));
    }

    #[test]
    fn recognizes_a_plt_stub_with_a_landing_pad() {
        let with_endbr64 = [0x77, 8, 0x80, 0, 0x3f, 0x1a, 0x39, 0x2a, 0x33, 0x24, 0x22];
        assert_eq!(parse(&with_endbr64), Some(Cfa::Plt { pushed: 9 }));
    }

    #[test]
    fn recognizes_a_realigned_stack() {
        let expected = Cfa::AtRegister { register: FP, at: -8, offset: 0 };
        assert_eq!(parse(&[0x76, 0x78, 6]), Some(expected));
    }

    #[test]
    fn recognizes_a_stack_pointer_saved_by_openssl_assembly() {
        let openssl = [0x77, 0x98, 1, 6, 0x23, 8];
        assert_eq!(parse(&openssl), Some(Cfa::AtRegister { register: SP, at: 152, offset: 8 }));
    }

    #[test]
    fn adds_and_subtracts_constants() {
        let expected = Some(Cfa::AtRegister { register: FP, at: 0, offset: 16 });
        // As SBCL writes it: lit16 plus; the same with const1u, with a nop, and in the other order.
        assert_eq!(parse(&[0x76, 0, 6, 0x40, 0x22]), expected);
        assert_eq!(parse(&[0x76, 0, 6, 0x08, 16, 0x22]), expected);
        assert_eq!(parse(&[0x40, 0x76, 0, 0x96, 6, 0x22]), expected);
        assert_eq!(
            parse(&[0x76, 0, 6, 0x48, 0x22, 0x38, 0x1c, 0x38, 0x22]),
            Some(Cfa::AtRegister { register: FP, at: 0, offset: 24 })
        );
        // const1s -8, plus, before the word is read.
        assert_eq!(
            parse(&[0x76, 0, 0x09, 0xf8, 0x22, 6]),
            Some(Cfa::AtRegister { register: FP, at: -8, offset: 0 })
        );
        assert_eq!(parse(&[0x7c, 16]), Some(Cfa::Register(Register::from_number(12), 16)));
    }

    #[test]
    fn indexes_the_stack_by_a_register() {
        let expected = Cfa::AtIndex { index: Register::from_number(9), at: 8, offset: 8 };
        // As the multiplication of OpenSSL writes it: *(rsp + 8 + r9 * 8) + 8.
        assert_eq!(parse(&[0x77, 8, 0x79, 0, 0x38, 0x1e, 0x22, 6, 0x23, 8]), Some(expected));
        assert_eq!(parse(&[0x79, 0, 0x33, 0x24, 0x77, 8, 0x22, 6, 0x23, 8]), Some(expected));
        assert_eq!(parse(&[0x76, 8, 0x79, 0, 0x38, 0x1e, 0x22, 6]), None, "not by sp");
    }

    #[test]
    fn recognizes_a_signal_frame() {
        assert_eq!(parse(&[0x77, 0xa0, 1, 6]), Some(Cfa::Signal));
    }

    #[test]
    fn rejects_other_expressions() {
        assert_eq!(parse(&[0x77, 8, 6, 6]), None, "a word at a word");
        assert_eq!(parse(&[0x77]), None);
        assert_eq!(parse(&[0x22]), None, "nothing to add");
        assert_eq!(parse(&[0x40]), None, "a number");
        assert_eq!(parse(&[6; 100]), None);
    }
}
