//! Where an instruction leads.

use iced_x86::{FlowControl, Instruction, Mnemonic, OpKind};

/// Where an instruction leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    /// To the next instruction.
    Next,
    /// To the next instruction, or to an address if a condition holds.
    Condition(u64),
    /// To the next instruction, or to an address if a transaction of memory fails.
    Transaction(u64),
    /// To an address.
    Jump(u64),
    /// To an address in a register or in memory.
    IndirectJump,
    /// To a function, and back to the next instruction.
    Call,
    /// To the caller.
    Return,
    /// Nowhere.
    End,
}

impl Flow {
    /// Returns where an instruction leads.
    pub fn of(instruction: &Instruction) -> Self {
        let target = || match instruction.op0_kind() {
            OpKind::NearBranch64 => Some(instruction.near_branch64()),
            _ => None,
        };
        match instruction.flow_control() {
            // Faults in a program.
            FlowControl::Next if instruction.mnemonic() == Mnemonic::Hlt => Self::End,
            FlowControl::Next => Self::Next,
            FlowControl::ConditionalBranch => target().map_or(Self::End, Self::Condition),
            FlowControl::XbeginXabortXend => target().map_or(Self::Next, Self::Transaction),
            FlowControl::UnconditionalBranch => target().map_or(Self::End, Self::Jump),
            FlowControl::IndirectBranch => Self::IndirectJump,
            FlowControl::Call | FlowControl::IndirectCall => match instruction.mnemonic() {
                Mnemonic::Call => Self::Call,
                _ => Self::Next, // a system call
            },
            FlowControl::Return => Self::Return,
            FlowControl::Interrupt | FlowControl::Exception => Self::End,
        }
    }

    /// Returns whether no path goes on at the next instruction.
    pub fn is_end(self) -> bool {
        matches!(self, Self::Jump(_) | Self::IndirectJump | Self::Return | Self::End)
    }
}
