//! The code patterns of x86-64.

use crate::rule::Rule;

/// Bytes of start-up code without call-frame information, from the entry point on. The longest is
/// that of glibc's dynamic linker, which continues after its first call.
pub(super) const ENTRY_LEN: u64 = 80;

/// Code that is recognized by its bytes.
pub(super) struct CodePattern {
    /// Its first bytes.
    pub bytes: &'static [u8],
    /// Bytes of code in which the rule is in force.
    pub len: u64,
    /// Whether its first byte is reached not by a call, but by a return address that was put on the
    /// stack by hand. Return addresses are looked up one byte before.
    pub is_returned_to: bool,
    /// The rule in force.
    pub rule: Rule,
}

impl CodePattern {
    const fn new(bytes: &'static [u8], is_returned_to: bool, rule: Rule) -> Self {
        Self { bytes, len: bytes.len() as u64, is_returned_to, rule }
    }
}

/// Code without call frames in any file.
pub(super) const UNDESCRIBED_CODE: &[CodePattern] = &[
    // mov $15, %rax; syscall: the return from a signal in musl and Go.
    CodePattern::new(&[0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05], true, Rule::SIGNAL),
    // mov $15, %eax; syscall
    CodePattern::new(&[0xb8, 0x0f, 0, 0, 0, 0x0f, 0x05], true, Rule::SIGNAL),
    // push %rbp; jmp *%rbx; xor %rdi, %rdi; call _exit: the start of a context in make_fcontext of
    // boost.context, which PHP has as well. It pushes the address of the third instruction, and
    // jumps to the context's function.
    CodePattern {
        bytes: &[0x55, 0xff, 0xe3, 0x48, 0x31, 0xff, 0xe8],
        len: 11,
        is_returned_to: false,
        rule: Rule::ROOT,
    },
];

/// Code without call frames in static executables and dynamic linkers.
pub(super) const RUNTIME_CODE: &[CodePattern] = &[
    // xor %ebp, %ebp; pop %rdi; call *%r9; mov %eax, %edi; xor %eax, %eax; mov $60, %al; syscall:
    // the start of a thread in musl.
    CodePattern::new(
        &[0x31, 0xed, 0x5f, 0x41, 0xff, 0xd1, 0x89, 0xc7, 0x31, 0xc0, 0xb0, 0x3c, 0x0f, 0x05],
        false,
        Rule::ROOT,
    ),
    // mov 8(%rbx), %rdi; call *(%rbx); mov %rax, %rdi; call: called by that start, calls the
    // thread's function.
    CodePattern::new(
        &[0x48, 0x8b, 0x7b, 0x08, 0xff, 0x13, 0x48, 0x89, 0xc7, 0xe8],
        false,
        Rule::ROOT,
    ),
    // mov %ebp, %edi; mov %r13, %rdx; mov %r12, %rsi; call *%rbx; mov %eax, %edi; call: the call of
    // main in musl.
    CodePattern::new(
        &[0x89, 0xef, 0x4c, 0x89, 0xea, 0x4c, 0x89, 0xe6, 0xff, 0xd3, 0x89, 0xc7, 0xe8],
        false,
        Rule::ROOT,
    ),
];

/// Code with wrong call frames.
pub(super) const MISDESCRIBED_CODE: &[CodePattern] = &[
    // mov %rbx, %rsp; mov (%rsp), %rdi; test %rdi, %rdi; je 1f; call setcontext; mov %rax, %rdi;
    // 1: call exit; hlt: in glibc, where the function of a context of makecontext returns to. Its
    // call frames say that it was called.
    CodePattern {
        bytes: &[0x48, 0x89, 0xdc, 0x48, 0x8b, 0x3c, 0x24, 0x48, 0x85, 0xff, 0x74, 0x08, 0xe8],
        len: 26,
        is_returned_to: true,
        rule: Rule::ROOT,
    },
];
