//! x86-64: registers by their DWARF numbers, signal frames, instructions.
//!
//! Source: System V ABI, AMD64 supplement, figure 3.36.

/// A general register, 0 to 15.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Register(u8);

/// Number of general registers.
pub const REGISTERS: usize = 16;
/// The stack pointer, `rsp`.
pub const SP: Register = Register(7);
/// The frame pointer, `rbp`.
pub const FP: Register = Register(6);
/// The callee-saved register in which a function that realigns its stack may keep the CFA, `rbx`.
pub const BASE: Register = Register(3);
/// Bytes below sp that a function may use without moving sp. Rows also point there after registers
/// have been popped.
///
/// Source: System V ABI, AMD64 supplement, section 3.2.2.
pub const RED_ZONE: u64 = 128;
/// DWARF's column of the return address.
pub const RA: u16 = 16;
/// Words from the CFA to the return address that a call saves.
pub const SAVED_RA_WORDS: i8 = -1;
/// Lowest address of user code and stacks.
pub const USER_ADDRESS_MIN: u64 = 4096;
/// First address above user code and stacks.
pub const USER_ADDRESS_MAX: u64 = 1 << 56;
/// Bytes from the sp of a signal frame to the interrupted sp.
pub const SIGNAL_SP: i64 = 160;
/// Bytes from the sp of a signal frame to the interrupted ip.
pub const SIGNAL_IP: i64 = 168;
/// Bytes from the sp of a signal frame to each interrupted register, by its number.
///
/// Source: `struct sigcontext`, after 40 bytes of `struct ucontext`, in the kernel's
/// `uapi/asm/sigcontext.h`.
pub const SIGNAL_REGISTERS: [i64; REGISTERS] =
    [144, 136, 152, 128, 112, 104, 120, 160, 40, 48, 56, 64, 72, 80, 88, 96];

/// perf's numbers of the registers in a sample: ip, then the general registers by DWARF number.
///
/// Source: `enum perf_event_x86_regs` in the kernel's `uapi/asm/perf_regs.h`.
pub const PERF_REGISTERS: [u8; 1 + REGISTERS] =
    [8, 0, 3, 2, 1, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23];

impl Register {
    /// The register that holds what a function returns, `rax`.
    pub const RESULT: Self = Self(0);
    /// The registers whose values a function preserves for its caller, besides the stack pointer.
    pub const SAVED_BY_CALLEE: [Self; 6] = [BASE, FP, Self(12), Self(13), Self(14), Self(15)];

    /// Returns the register with a number; only its low 4 bits count.
    pub const fn from_number(number: u8) -> Self {
        Self(number & 15)
    }

    /// Returns the register with a DWARF number, if it is a general one.
    pub fn from_dwarf(number: u16) -> Option<Self> {
        u8::try_from(number).ok().filter(|number| usize::from(*number) < REGISTERS).map(Self)
    }

    /// Returns the register's DWARF number, 0 to 15.
    pub const fn number(self) -> u8 {
        self.0
    }

    /// Returns the register's name, such as `rsp`.
    pub fn name(self) -> &'static str {
        const NAMES: [&str; REGISTERS] = [
            "rax", "rdx", "rcx", "rbx", "rsi", "rdi", "rbp", "rsp", "r8", "r9", "r10", "r11",
            "r12", "r13", "r14", "r15",
        ];
        NAMES[usize::from(self.0)]
    }
}

const LANDING_PAD: [u8; 4] = [0xf3, 0x0f, 0x1e, 0xfa]; // endbr64

fn after_landing_pad(text: &[u8]) -> &[u8] {
    text.strip_prefix(&LANDING_PAD).unwrap_or(text)
}

/// Returns the length of the first instruction of a PLT, if it is `push disp32(%rip)`.
pub(crate) fn push_len(text: &[u8]) -> Option<u64> {
    text.starts_with(&[0xff, 0x35]).then_some(6)
}

/// Returns the byte of a PLT stub at which its word has been pushed: `jmp *disp32(%rip);
/// push $imm32`, or `endbr64; push $imm32`.
pub(crate) fn stub_pushes(text: &[u8]) -> Option<u8> {
    let stub = after_landing_pad(text);
    let pad = (text.len() - stub.len()) as u8;
    match stub {
        [0x68, ..] => Some(pad + 5),
        [0xff, 0x25, _, _, _, _, 0x68, ..] => Some(pad + 11),
        _ => None,
    }
}

/// Returns the offsets at which a function that only aligns sp has moved sp, and has moved it
/// back: `sub $8, %rsp; ...; add $8, %rsp; ret`.
pub(crate) fn aligning_function(text: &[u8]) -> Option<(usize, usize)> {
    let body = after_landing_pad(text).strip_prefix(&[0x48, 0x83, 0xec, 0x08])?;
    let aligned = text.len() - body.len();
    let restore = [0x48, 0x83, 0xc4, 0x08, 0xc3];
    let at = body.windows(restore.len()).position(|window| window == restore)?;
    Some((aligned, aligned + at + 4))
}

/// Returns whether these bytes can end with a call.
pub(crate) fn is_call_before(text: &[u8]) -> bool {
    let back = |bytes: usize| text.len().checked_sub(bytes).and_then(|at| text.get(at..));
    let direct = matches!(back(5), Some([0xe8, ..]));
    // ff /2 with one to six bytes for the operand
    let indirect = (2..=7).filter_map(back);
    direct || indirect.into_iter().any(|b| b[0] == 0xff && b[1] & 0x38 == 0x10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plt_stubs_push_after_a_jump_or_a_landing_pad() {
        assert_eq!(stub_pushes(&[0xff, 0x25, 1, 2, 3, 4, 0x68, 0, 0, 0, 0, 0xe9]), Some(11));
        assert_eq!(stub_pushes(&[0xf3, 0x0f, 0x1e, 0xfa, 0x68, 0, 0, 0, 0, 0xe9]), Some(9));
        assert_eq!(stub_pushes(&[0x90; 16]), None);
    }

    #[test]
    fn recognizes_init_and_fini() {
        let fini = [0x48, 0x83, 0xec, 0x08, 0x48, 0x83, 0xc4, 0x08, 0xc3];
        assert_eq!(aligning_function(&fini), Some((4, 8)));
        assert_eq!(aligning_function(&[&LANDING_PAD, &fini[..]].concat()), Some((8, 12)));
        assert_eq!(aligning_function(&fini[..8]), None);
    }
}
