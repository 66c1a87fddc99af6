//! Recognizes the DWARF expressions that compilers, linkers and C libraries really write.
//!
//! They are few. Each is recognized by its operations and has a rule of its own; the unwinder in
//! the kernel evaluates none.

use gimli::{Encoding, Expression, Format, Operation};

use crate::arch::{Register, SIGNAL_SP, SP};
use crate::rule::Cfa;
use crate::sections::Slice;

/// Operations read of one expression; the longest that is recognized has 9.
const OPERATIONS_MAX: usize = 12;
const ENCODING: Encoding = Encoding { address_size: 8, format: Format::Dwarf32, version: 4 };

/// An operation, reduced to what matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    /// Push `register + offset`; number 16 is the instruction pointer.
    Register(u16, i64),
    Deref,
    Plus(u64),
    Constant(u64),
    And,
    Ge,
    Shl,
    Add,
}

/// Returns the rule that computes the same CFA as an expression.
pub(super) fn cfa(expression: Expression<Slice<'_>>) -> Option<Cfa> {
    use Op::{Add, And, Constant, Deref, Ge, Plus, Register as Reg, Shl};
    let ops = operations(expression)?;
    match ops.as_slice() {
        [Reg(sp, at), Deref] if *sp == u16::from(SP.number()) && *at == SIGNAL_SP => {
            Some(Cfa::Signal)
        }
        [Reg(register, at), Deref] => at_register(*register, *at, 0),
        [Reg(register, at), Deref, Plus(offset)] => at_register(*register, *at, *offset),
        [
            Reg(sp, 8),
            Reg(16, 0),
            Constant(15),
            And,
            Constant(pushed @ 9..=11),
            Ge,
            Constant(3),
            Shl,
            Add,
        ] if *sp == u16::from(SP.number()) => Some(Cfa::Plt { pushed: *pushed as u8 }),
        _ => None,
    }
}

/// Returns register and offset of an expression that is just `register + offset`.
pub(super) fn address(expression: Expression<Slice<'_>>) -> Option<(Register, i64)> {
    match operations(expression)?.as_slice() {
        [Op::Register(register, offset)] => Some((Register::from_dwarf(*register)?, *offset)),
        _ => None,
    }
}

fn at_register(register: u16, at: i64, offset: u64) -> Option<Cfa> {
    let register = Register::from_dwarf(register)?;
    Some(Cfa::AtRegister { register, at: at.try_into().ok()?, offset: offset.try_into().ok()? })
}

/// Reads the operations; `None` if one is not listed in [`Op`] or there are too many.
fn operations(expression: Expression<Slice<'_>>) -> Option<Vec<Op>> {
    let mut ops = Vec::new();
    let mut operations = expression.operations(ENCODING);
    while let Some(operation) = operations.next().ok()? {
        if ops.len() == OPERATIONS_MAX {
            return None;
        }
        ops.push(match operation {
            Operation::RegisterOffset { register, offset, .. } => Op::Register(register.0, offset),
            Operation::Deref { size: 8, space: false, .. } => Op::Deref,
            Operation::PlusConstant { value } => Op::Plus(value),
            Operation::UnsignedConstant { value } => Op::Constant(value),
            Operation::And => Op::And,
            Operation::Ge => Op::Ge,
            Operation::Shl => Op::Shl,
            Operation::Plus => Op::Add,
            _ => return None,
        });
    }
    Some(ops)
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
    fn recognizes_a_signal_frame() {
        assert_eq!(parse(&[0x77, 0xa0, 1, 6]), Some(Cfa::Signal));
    }

    #[test]
    fn rejects_other_expressions() {
        assert_eq!(parse(&[0x77, 8, 0x79, 0, 0x38, 0x1e, 0x22, 6, 0x23, 8]), None);
        assert_eq!(parse(&[0x77]), None);
        assert_eq!(parse(&[6; 100]), None);
    }
}
