//! Bytes between functions that are never executed.

use iced_x86::{Instruction, Mnemonic, OpKind, Register};

/// Returns whether an instruction is one that compilers, assemblers and linkers fill space with.
pub(super) fn is_padding(instruction: &Instruction) -> bool {
    let has_no_offset = instruction.memory_displacement64() == 0;
    match instruction.mnemonic() {
        Mnemonic::Nop | Mnemonic::Int3 | Mnemonic::Ud2 => true,
        // Zero bytes: add %al, (%rax)
        Mnemonic::Add => {
            instruction.len() == 2
                && instruction.op0_kind() == OpKind::Memory
                && instruction.op1_register() == Register::AL
                && instruction.memory_base() == Register::RAX
                && has_no_offset
        }
        // Older assemblers move a register to itself.
        Mnemonic::Lea => {
            instruction.op0_register() == instruction.memory_base()
                && instruction.memory_index() == Register::None
                && has_no_offset
        }
        Mnemonic::Xchg | Mnemonic::Mov => {
            instruction.op0_kind() == OpKind::Register
                && instruction.op1_kind() == OpKind::Register
                && instruction.op0_register() == instruction.op1_register()
                && instruction.op0_register().size() != 4 // which clears the upper half
        }
        _ => false,
    }
}
