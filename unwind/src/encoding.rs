//! The numbers of an encoded [`Rule`](crate::Rule): `enum rule_op`, `enum rule_gap` and
//! `enum rule_saved` of `bpf/abi.h`, with which the agent's build compares them.

/// There is no rule; the offset says why.
pub const OP_GAP: u8 = 0;
/// There is no caller.
pub const OP_ROOT: u8 = 1;
/// `cfa = register + offset`
pub const OP_REGISTER: u8 = 2;
/// `cfa = *(register + low half of offset) + high half of offset`
pub const OP_AT_REGISTER: u8 = 3;
/// A stub of a procedure linkage table.
pub const OP_PLT: u8 = 4;
/// A signal frame.
pub const OP_SIGNAL: u8 = 5;
/// Code with frame pointers and without rules.
pub const OP_FRAME_POINTER: u8 = 6;
/// `cfa = *(sp + 8 * register + low half of offset) + high half of offset`
pub const OP_AT_INDEX: u8 = 7;
/// No frame: the one that would return there is the root.
pub const OP_OUTSIDE: u8 = 8;

/// Not saved: the register still holds the caller's value.
pub const SAVED_SAME_VALUE: i8 = 0;
/// In another register, whose number is added. Smaller numbers are words from the CFA.
pub const SAVED_IN_REGISTER: i8 = 64;
/// A return address that a signal handler has pushed where a call would have.
pub const SAVED_INTERRUPTED: i8 = 124;
/// Of a return address: one word below the CFA; a zero there is the root of the stack.
pub const SAVED_RETURN_OR_ROOT: i8 = 125;
/// The caller's value is lost.
pub const SAVED_UNDEFINED: i8 = 126;
/// In the memory that fp points to.
pub const SAVED_AT_FP: i8 = 127;
