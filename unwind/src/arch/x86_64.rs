//! x86-64: registers by their DWARF numbers, signal frames, instructions.
//!
//! Source: System V ABI, AMD64 supplement, figure 3.36.

use std::ops::Range;

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
/// First byte of a call of a function at a distance of 4 bytes, and bytes of the call.
pub const CALL: u8 = 0xe8;
/// See [`CALL`].
pub const CALL_BYTES: usize = 5;
/// DWARF's numbers of the registers in which an exception reaches its landing pad.
pub const EH_RETURN_COLUMNS: [u16; 2] = [0, 1];
/// How code jumps with another stack pointer: `mov %rcx, %rsp; pop %rcx; jmp *%rcx`, and with a
/// `ret` in the place of the last two.
pub const STACK_SWITCHES: [&[u8]; 2] =
    [&[0x48, 0x89, 0xcc, 0x59, 0xff, 0xe1], &[0x48, 0x89, 0xcc, 0xc3]];
/// Lowest address of user code and stacks.
pub const USER_ADDRESS_MIN: u64 = 4096;
/// First address above user code and stacks.
pub const USER_ADDRESS_MAX: u64 = 1 << 56;
/// Bytes from the sp of a signal frame to the interrupted thread's flags.
pub const SIGNAL_FLAGS: i64 = 176;
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

/// perf's numbers of the registers in a sample: ip and flags, then the general registers by DWARF
/// number.
///
/// Source: `enum perf_event_x86_regs` in the kernel's `uapi/asm/perf_regs.h`.
pub const PERF_REGISTERS: [u8; 2 + REGISTERS] =
    [8, 9, 0, 3, 2, 1, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23];

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

/// Returns whether these are the registers of a thread behind a system call: the instruction puts
/// the address of the next one into rcx, and the flags into r11.
///
/// Source: AMD64 Architecture Programmer's Manual, volume 3, SYSCALL.
pub fn is_behind_system_call(all: &[u64; REGISTERS], ip: u64, flags: u64) -> bool {
    all[2] == ip && all[11] == flags
}

/// The page of three system calls that old programs call by their fixed addresses. Its code is
/// `mov`, `syscall`, `ret`; where the kernel emulates it, it cannot be read.
///
/// Source: `VSYSCALL_ADDR` in the kernel's `uapi/asm/vsyscall.h`.
pub const VSYSCALL: Range<u64> = 0xffff_ffff_ff60_0000..0xffff_ffff_ff60_1000;

const LANDING_PAD: [u8; 4] = [0xf3, 0x0f, 0x1e, 0xfa]; // endbr64

fn after_landing_pad(text: &[u8]) -> &[u8] {
    text.strip_prefix(&LANDING_PAD).unwrap_or(text)
}

/// What an instruction of a linkage stub does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LinkageEffect {
    /// Leaves the stack as it is: landing pads, loads, calls, waiting.
    None,
    /// Pushes a number or a register.
    Push,
    /// Pushes a word of memory: that of the dynamic linker.
    PushWord,
    /// Replaces the return address by the target of the stub.
    ReplaceReturn,
    /// Jumps or returns.
    Leave,
    /// Fills space.
    Filler,
}

/// Returns length and effect of the first instruction, if it is one that linkers write in a PLT.
pub(crate) fn linkage_instruction(code: &[u8]) -> Option<(usize, LinkageEffect)> {
    use LinkageEffect::{Filler, Leave, None as Nothing, Push, PushWord, ReplaceReturn};
    let (len, effect) = match *code {
        [0xf3, 0x0f, 0x1e, 0xfa, ..] => (4, Nothing), // endbr64
        [0x68, ..] => (5, Push),                      // push $imm32
        [0x41, 0x53, ..] => (2, Push),                // push %r11
        [0xff, 0x35, ..] => (6, PushWord),            // push word(%rip)
        [0xff, 0x25, ..] => (6, Leave),               // jmp *word(%rip)
        [0xf2, 0xff, 0x25, ..] => (7, Leave),         // bnd jmp *word(%rip)
        [0xe9, ..] => (5, Leave),                     // jmp
        [0xf2, 0xe9, ..] => (6, Leave),               // bnd jmp
        [0xeb, ..] => (2, Leave),                     // jmp
        [0xc3, ..] => (1, Leave),                     // ret
        [0x41, 0xbb, ..] => (6, Nothing),             // mov $imm32, %r11d
        [0x4c, 0x8b, 0x1d, ..] => (7, Nothing),       // mov word(%rip), %r11
        [0xe8, ..] => (5, Nothing),                   // call
        [0xf3, 0x90, ..] => (2, Nothing),             // pause
        [0x0f, 0xae, 0xe8, ..] => (3, Nothing),       // lfence
        [0x4c, 0x89, 0x1c, 0x24, ..] => (4, ReplaceReturn), // mov %r11, (%rsp)
        [0xcc | 0x90, ..] => (1, Filler),
        [0x66, 0x90, ..] => (2, Filler),
        [0, 0, ..] => (2, Filler), // tcc fills its first stub with zeros
        [0x0f, 0x1f, 0x00, ..] => (3, Filler),
        [0x0f, 0x1f, 0x40, ..] => (4, Filler),
        [0x0f, 0x1f, 0x44, ..] => (5, Filler),
        [0x66, 0x0f, 0x1f, 0x44, ..] => (6, Filler),
        [0x0f, 0x1f, 0x80, ..] => (7, Filler),
        [0x0f, 0x1f, 0x84, ..] => (8, Filler),
        [0x66, 0x0f, 0x1f, 0x84, ..] => (9, Filler),
        [0x66, 0x2e, 0x0f, 0x1f, 0x84, ..] => (10, Filler),
        _ => return None,
    };
    (len <= code.len()).then_some((len, effect))
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
    let is_direct = matches!(back(5), Some([0xe8, ..]));
    is_direct || (2..=7).any(|len| back(len).and_then(indirect_call_len) == Some(len))
}

/// Returns the length of the indirect call, `ff /2`, that these bytes begin with.
fn indirect_call_len(text: &[u8]) -> Option<usize> {
    let (&[0xff, modrm], rest) = text.split_first_chunk()? else { return None };
    if modrm & 0x38 != 0x10 {
        return None;
    }
    let (mode, base) = (modrm >> 6, modrm & 7);
    let has_sib = mode != 3 && base == 4;
    let base = if has_sib { rest.first()? & 7 } else { base };
    let displacement = match mode {
        0 if base == 5 => 4,
        1 => 1,
        2 => 4,
        _ => 0,
    };
    Some(2 + usize::from(has_sib) + displacement)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_end_where_their_operand_ends() {
        let calls: [&[u8]; 7] = [
            &[0xe8, 1, 2, 3, 4],
            &[0xff, 0xd3],                   // call *%rbx
            &[0x41, 0xff, 0xd1],             // call *%r9
            &[0xff, 0x13],                   // call *(%rbx)
            &[0xff, 0x53, 8],                // call *8(%rbx)
            &[0xff, 0x15, 1, 2, 3, 4],       // call *word(%rip)
            &[0xff, 0x94, 0xc8, 1, 2, 3, 4], // call *disp32(%rax, %rcx, 8)
        ];
        for call in calls {
            assert!(is_call_before(call), "{call:x?}");
        }
        // A call and a nop behind it; the first bytes of a longer call; a jump.
        let others: [&[u8]; 4] = [
            &[0xe8, 0x28, 0xfd, 0xff, 0xff, 0x90],
            &[0xff, 0x90],
            &[0xff, 0x15, 1, 2],
            &[0xff, 0xe3],
        ];
        for other in others {
            assert!(!is_call_before(other), "{other:x?}");
        }
    }

    #[test]
    fn recognizes_init_and_fini() {
        let fini = [0x48, 0x83, 0xec, 0x08, 0x48, 0x83, 0xc4, 0x08, 0xc3];
        assert_eq!(aligning_function(&fini), Some((4, 8)));
        assert_eq!(aligning_function(&[&LANDING_PAD, &fini[..]].concat()), Some((8, 12)));
        assert_eq!(aligning_function(&fini[..8]), None);
    }
}
