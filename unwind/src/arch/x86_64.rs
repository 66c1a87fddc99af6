//! Registers of x86-64, as DWARF numbers them.
//!
//! Source: System V ABI, AMD64 supplement, figure 3.36.

use crate::rule::Saved;

/// A general register, 0 to 15.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Register(u8);

/// How many there are.
pub const REGISTERS: usize = 16;
/// The stack pointer, `rsp`.
pub const SP: Register = Register(7);
/// The frame pointer, `rbp`.
pub const FP: Register = Register(6);
/// The callee-saved register in which a function that realigns its stack may keep the CFA, `rbx`.
pub const BASE: Register = Register(3);
/// The column of the return address.
pub const RA: u16 = 16;
/// Where a call leaves the return address.
pub const SAVED_RA: Saved = Saved::AtCfa(-1);
/// In a signal frame: the interrupted frame's sp, from sp.
pub const SIGNAL_SP: i64 = 160;
/// In a signal frame: the interrupted instruction, from sp.
pub const SIGNAL_IP: i64 = 168;
/// In a signal frame: where each register lies from sp, by its number.
/// Source: `struct sigcontext` behind `struct ucontext` (40 bytes) in the kernel's `uapi/asm/sigcontext.h`.
pub const SIGNAL_REGISTERS: [i64; REGISTERS] =
    [144, 136, 152, 128, 112, 104, 120, 160, 40, 48, 56, 64, 72, 80, 88, 96];

impl Register {
    /// Gives the register of a number; only its low 4 bits count.
    pub const fn from_number(number: u8) -> Self {
        Self(number & 15)
    }

    /// Gives the register that DWARF means, if it is a general one.
    pub fn from_dwarf(number: u16) -> Option<Self> {
        u8::try_from(number).ok().filter(|number| usize::from(*number) < REGISTERS).map(Self)
    }

    /// Its number, 0 to 15.
    pub const fn number(self) -> u8 {
        self.0
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        const NAMES: [&str; REGISTERS] = [
            "rax", "rdx", "rcx", "rbx", "rsi", "rdi", "rbp", "rsp", "r8", "r9", "r10", "r11",
            "r12", "r13", "r14", "r15",
        ];
        NAMES[usize::from(self.0)]
    }
}
