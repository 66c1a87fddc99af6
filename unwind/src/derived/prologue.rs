//! Recognizes functions by their first instructions, in code that is decoded one after the other.

use iced_x86::{Instruction, Mnemonic, OpKind, Register};

use super::flow::Flow;
use super::padding::is_padding;

/// How much of the beginning of a function that sets up a frame pointer has been seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum FramedStart {
    /// Nothing: the next instruction may be reached from the one before it.
    #[default]
    None,
    /// The end of other code, or padding after it.
    Ended,
    /// `endbr64` at this address.
    Branched(u64),
    /// `push %rbp` of the function at this address.
    Pushed(u64),
}

impl FramedStart {
    /// Goes on to an instruction. Returns the address of a function that begins with this and the
    /// instructions before it.
    pub fn advance(&mut self, instruction: &Instruction) -> Option<u64> {
        let address = instruction.ip();
        let is_push = instruction.mnemonic() == Mnemonic::Push
            && instruction.op0_kind() == OpKind::Register
            && instruction.op0_register() == Register::RBP;
        let mut found = None;
        *self = match *self {
            Self::Ended if instruction.mnemonic() == Mnemonic::Endbr64 => Self::Branched(address),
            Self::Ended if is_push => Self::Pushed(address),
            Self::Branched(start) if is_push => Self::Pushed(start),
            Self::Pushed(start) if is_frame_pointer_set(instruction) => {
                found = Some(start);
                Self::None
            }
            Self::Ended if is_padding(instruction) => Self::Ended,
            _ if Flow::of(instruction).is_end() => Self::Ended,
            _ => Self::None,
        };
        found
    }
}

/// Returns whether an instruction is `mov %rsp, %rbp`.
fn is_frame_pointer_set(instruction: &Instruction) -> bool {
    instruction.mnemonic() == Mnemonic::Mov
        && instruction.op_count() == 2
        && (instruction.op0_kind(), instruction.op1_kind()) == (OpKind::Register, OpKind::Register)
        && (instruction.op0_register(), instruction.op1_register())
            == (Register::RBP, Register::RSP)
}

#[cfg(test)]
mod tests {
    use super::*;
    use iced_x86::{Decoder, DecoderOptions};

    fn found(code: &[u8]) -> Vec<u64> {
        let mut prologue = FramedStart::default();
        let decoder = Decoder::with_ip(64, code, 0x100, DecoderOptions::NONE);
        decoder.into_iter().filter_map(|instruction| prologue.advance(&instruction)).collect()
    }

    #[test]
    fn functions_begin_behind_an_end_and_padding() {
        let framed = [0x55, 0x48, 0x89, 0xe5];
        assert_eq!(found(&framed), []); // it may be in the middle of a function
        assert_eq!(found(&[&[0xc3][..], &framed].concat()), [0x101]);
        assert_eq!(found(&[&[0xc3, 0xcc, 0xcc][..], &framed].concat()), [0x103]);
        let branched = [&[0xc3, 0x90, 0xf3, 0x0f, 0x1e, 0xfa][..], &framed].concat();
        assert_eq!(found(&branched), [0x102]);
        let other_encoding = [0xc3, 0x55, 0x48, 0x8b, 0xec];
        assert_eq!(found(&other_encoding), [0x101]);
    }

    #[test]
    fn pushes_elsewhere_begin_nothing() {
        assert_eq!(found(&[0xc3, 0x53, 0x55, 0x48, 0x89, 0xe5]), []); // push %rbx first
        assert_eq!(found(&[0xc3, 0x55, 0x48, 0x89, 0xc5]), []); // mov %rax, %rbp
        assert_eq!(found(&[0x90, 0x55, 0x48, 0x89, 0xe5]), []); // a nop within code
    }
}
