//! Small functions with known rows, and bytes that are no code.

use proptest::prelude::*;

use super::derivation::{Derivation, Scope};
use super::image::Image;
use super::reason::Reason;
use super::rows::Rows;
use super::rule::rule_of;
use crate::Rule;
use crate::elf::Elf;
use crate::test_file::bytes_of;

/// Address of the code of each test.
const TEXT: u64 = 0x1000;
/// Bytes of the headers of the ELF file.
const HEADERS: usize = 64 + 56;

/// Returns an ELF file with one executable segment at [`TEXT`]. Its entry point lies behind
/// the code and calls its start.
fn elf(code: &[u8]) -> Vec<u8> {
    let entry = TEXT + code.len() as u64;
    let mut code = code.to_vec();
    code.push(0xe8); // call
    code.extend((-5 - (entry - TEXT) as i32).to_le_bytes());
    code.push(0xf4); // hlt
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    let header: [(u64, usize); 13] = [
        (3, 2),  // ET_DYN
        (62, 2), // EM_X86_64
        (1, 4),
        (entry, 8),
        (64, 8), // offset of the program header
        (0, 8),
        (0, 4),
        (64, 2),
        (56, 2),
        (1, 2), // one program header
        (64, 2),
        (0, 2),
        (0, 2),
    ];
    let segment: [(u64, usize); 8] = [
        (1, 4), // PT_LOAD
        (5, 4), // read, execute
        (HEADERS as u64, 8),
        (TEXT, 8),
        (TEXT, 8),
        (code.len() as u64, 8),
        (code.len() as u64, 8),
        (1, 8),
    ];
    for (value, size) in header.into_iter().chain(segment) {
        file.extend(&value.to_le_bytes()[..size]);
    }
    assert_eq!(file.len(), HEADERS);
    file.extend(code);
    file
}

/// Derives the rows of a file that consists of this code.
fn derive(code: &[u8]) -> Rows<Result<Rule, Reason>> {
    let file = elf(code);
    let read_at = bytes_of(&file);
    let elf = Elf::read(&read_at).expect("a well-formed file");
    Derivation::new(&elf, Image::shared(&elf), &[], Vec::new(), &Scope::File)
        .run(Err(Reason::Conflict), &mut rule_of)
}

/// Compares the row of each instruction with the expected one: its rule without the place of the
/// return address, which is always the same; the reason why there is none; or "" for code that is
/// not reached.
fn check(instructions: &[(&str, &[u8], &str)]) {
    let code: Vec<u8> = instructions.iter().flat_map(|(_, bytes, _)| *bytes).copied().collect();
    let rows = derive(&code);
    let mut at = TEXT;
    let mut all = (String::new(), String::new());
    for (text, bytes, expected) in instructions {
        let row = match rows.get(at) {
            None => String::new(),
            Some(Ok(rule)) => rule.to_string().replace(", ra at cfa-8", ""),
            Some(Err(reason)) => reason.text().to_owned(),
        };
        all.0 += &format!("{at:x} {text:32} {row}\n");
        all.1 += &format!("{at:x} {text:32} {expected}\n");
        at += bytes.len() as u64;
    }
    assert_eq!(all.0, all.1, "\n{}", all.0);
}

#[test]
fn frame_pointer_carries_the_cfa() {
    check(&[
        ("push %rbp", &[0x55], "cfa = rsp+8"),
        ("mov %rsp,%rbp", &[0x48, 0x89, 0xe5], "cfa = rsp+16"),
        ("push %rbx", &[0x53], "cfa = rbp+16, fp at cfa-16"),
        ("sub $0x18,%rsp", &[0x48, 0x83, 0xec, 0x18], "cfa = rbp+16, fp at cfa-16"),
        ("call *%rax", &[0xff, 0xd0], "cfa = rbp+16, fp at cfa-16"),
        ("add $0x18,%rsp", &[0x48, 0x83, 0xc4, 0x18], "cfa = rbp+16, fp at cfa-16"),
        ("pop %rbx", &[0x5b], "cfa = rbp+16, fp at cfa-16"),
        ("pop %rbp", &[0x5d], "cfa = rbp+16, fp at cfa-16"),
        ("ret", &[0xc3], "cfa = rsp+8"),
    ]);
}

#[test]
fn saved_registers_are_followed_to_both_returns() {
    check(&[
        ("test %edi,%edi", &[0x85, 0xff], "cfa = rsp+8"),
        ("je 1014", &[0x74, 0x10], "cfa = rsp+8"),
        ("push %rbp", &[0x55], "cfa = rsp+8"),
        ("push %rbx", &[0x53], "cfa = rsp+16"),
        ("sub $0x8,%rsp", &[0x48, 0x83, 0xec, 0x08], "cfa = rsp+24"),
        ("mov %edi,%ebp", &[0x89, 0xfd], "cfa = rsp+32"),
        ("call *%rax", &[0xff, 0xd0], "cfa = rsp+32, fp at cfa-16"),
        ("add $0x8,%rsp", &[0x48, 0x83, 0xc4, 0x08], "cfa = rsp+32, fp at cfa-16"),
        ("pop %rbx", &[0x5b], "cfa = rsp+24, fp at cfa-16"),
        ("pop %rbp", &[0x5d], "cfa = rsp+16, fp at cfa-16"),
        ("ret", &[0xc3], "cfa = rsp+8"),
    ]);
}

#[test]
fn stack_realigned_by_gcc_is_found_by_fp() {
    check(&[
        ("lea 0x8(%rsp),%r10", &[0x4c, 0x8d, 0x54, 0x24, 0x08], "cfa = rsp+8"),
        ("and $0xffffffffffffffe0,%rsp", &[0x48, 0x83, 0xe4, 0xe0], "cfa = rsp+8"),
        ("push -0x8(%r10)", &[0x41, 0xff, 0x72, 0xf8], "cfa = r10+0"),
        ("push %rbp", &[0x55], "cfa = r10+0"),
        ("mov %rsp,%rbp", &[0x48, 0x89, 0xe5], "cfa = r10+0"),
        ("push %r10", &[0x41, 0x52], "cfa = r10+0, fp at fp"),
        ("sub $0x28,%rsp", &[0x48, 0x83, 0xec, 0x28], "cfa = r10+0, fp at fp"),
        ("call *%rax", &[0xff, 0xd0], "cfa = r10+0, fp at fp"),
        ("add $0x28,%rsp", &[0x48, 0x83, 0xc4, 0x28], "cfa = *(rbp-8)+0, fp at fp"),
        ("pop %r10", &[0x41, 0x5a], "cfa = *(rbp-8)+0, fp at fp"),
        ("pop %rbp", &[0x5d], "cfa = r10+0, fp at fp"),
        ("lea -0x8(%r10),%rsp", &[0x49, 0x8d, 0x62, 0xf8], "cfa = r10+0"),
        ("ret", &[0xc3], "cfa = rsp+8"),
    ]);
}

#[test]
fn stack_realigned_by_hand_is_found_by_a_copy() {
    check(&[
        ("mov %rsp,%rax", &[0x48, 0x89, 0xe0], "cfa = rsp+8"),
        ("sub $0x98,%rsp", &[0x48, 0x81, 0xec, 0x98, 0x00, 0x00, 0x00], "cfa = rsp+8"),
        ("and $0xffffffffffffffc0,%rsp", &[0x48, 0x83, 0xe4, 0xc0], "cfa = rsp+160"),
        ("mov %rax,0x90(%rsp)", &[0x48, 0x89, 0x84, 0x24, 0x90, 0x00, 0x00, 0x00], "cfa = rax+8"),
        ("vmovdqa %ymm0,(%rsp)", &[0xc5, 0xfd, 0x7f, 0x04, 0x24], "cfa = rax+8"),
        ("mov %rdi,%rax", &[0x48, 0x89, 0xf8], "cfa = rax+8"),
        (
            "mov 0x90(%rsp),%rsp",
            &[0x48, 0x8b, 0xa4, 0x24, 0x90, 0x00, 0x00, 0x00],
            "cfa = *(rsp+144)+8",
        ),
        ("ret", &[0xc3], "cfa = rsp+8"),
    ]);
}

#[test]
fn frame_of_variable_size_is_found_by_fp() {
    check(&[
        ("push %rbp", &[0x55], "cfa = rsp+8"),
        ("mov %rsp,%rbp", &[0x48, 0x89, 0xe5], "cfa = rsp+16"),
        ("sub %rdi,%rsp", &[0x48, 0x29, 0xfc], "cfa = rbp+16, fp at cfa-16"),
        ("mov %rsp,%rdi", &[0x48, 0x89, 0xe7], "cfa = rbp+16, fp at cfa-16"),
        ("call *%rax", &[0xff, 0xd0], "cfa = rbp+16, fp at cfa-16"),
        ("leave", &[0xc9], "cfa = rbp+16, fp at cfa-16"),
        ("ret", &[0xc3], "cfa = rsp+8"),
    ]);
}

#[test]
fn stack_probes_end_where_another_register_says() {
    check(&[
        (
            "lea -0x4000(%rsp),%r11",
            &[0x4c, 0x8d, 0x9c, 0x24, 0x00, 0xc0, 0xff, 0xff],
            "cfa = rsp+8",
        ),
        ("sub $0x1000,%rsp", &[0x48, 0x81, 0xec, 0x00, 0x10, 0x00, 0x00], "cfa = r11+16392"),
        ("orq $0x0,(%rsp)", &[0x48, 0x83, 0x0c, 0x24, 0x00], "cfa = r11+16392"),
        ("cmp %r11,%rsp", &[0x4c, 0x39, 0xdc], "cfa = r11+16392"),
        ("jne 1008", &[0x75, 0xef], "cfa = r11+16392"),
        ("sub $0x8,%rsp", &[0x48, 0x83, 0xec, 0x08], "cfa = rsp+16392"),
        ("call *%rax", &[0xff, 0xd0], "cfa = rsp+16400"),
        ("add $0x4008,%rsp", &[0x48, 0x81, 0xc4, 0x08, 0x40, 0x00, 0x00], "cfa = rsp+16400"),
        ("ret", &[0xc3], "cfa = rsp+8"),
    ]);
}

#[test]
fn jump_table_is_followed_as_far_as_the_comparison_says() {
    check(&[
        ("push %rbx", &[0x53], "cfa = rsp+8"),
        ("cmp $0x1,%edi", &[0x83, 0xff, 0x01], "cfa = rsp+16"),
        ("ja 101e", &[0x77, 0x18], "cfa = rsp+16"),
        ("mov %edi,%edi", &[0x89, 0xff], "cfa = rsp+16"),
        ("lea 0x11(%rip),%rax", &[0x48, 0x8d, 0x05, 0x11, 0x00, 0x00, 0x00], "cfa = rsp+16"),
        ("movslq (%rax,%rdi,4),%rdi", &[0x48, 0x63, 0x3c, 0xb8], "cfa = rsp+16"),
        ("add %rax,%rdi", &[0x48, 0x01, 0xc7], "cfa = rsp+16"),
        ("jmp *%rdi", &[0xff, 0xe7], "cfa = rsp+16"),
        ("pop %rbx", &[0x5b], "cfa = rsp+16"),
        ("ret", &[0xc3], "cfa = rsp+8"),
        ("push %rdi", &[0x57], "cfa = rsp+16"),
        ("call *%rcx", &[0xff, 0xd1], "cfa = rsp+24"),
        ("pop %rdi", &[0x5f], "cfa = rsp+24"),
        ("pop %rbx", &[0x5b], "cfa = rsp+16"),
        ("ret", &[0xc3], "cfa = rsp+8"),
        (".long 0xfffffff8, 0xfffffffa", &[0xf8, 0xff, 0xff, 0xff, 0xfa, 0xff, 0xff, 0xff], ""),
    ]);
}

#[test]
fn call_that_does_not_return_ends_a_path() {
    check(&[
        ("sub $0x8,%rsp", &[0x48, 0x83, 0xec, 0x08], "cfa = rsp+8"),
        ("test %edi,%edi", &[0x85, 0xff], "cfa = rsp+16"),
        ("je 100d", &[0x74, 0x05], "cfa = rsp+16"),
        ("add $0x8,%rsp", &[0x48, 0x83, 0xc4, 0x08], "cfa = rsp+16"),
        ("ret", &[0xc3], "cfa = rsp+8"),
        ("call 1015", &[0xe8, 0x03, 0x00, 0x00, 0x00], "cfa = rsp+16"),
        ("push %rbx", &[0x53], ""),
        ("pop %rbx", &[0x5b], ""),
        ("ret", &[0xc3], ""),
        ("sub $0x8,%rsp", &[0x48, 0x83, 0xec, 0x08], "cfa = rsp+8"),
        ("hlt", &[0xf4], "cfa = rsp+16"),
    ]);
}

#[test]
fn unknown_call_ends_a_path_that_contradicts_another() {
    check(&[
        ("sub $0x8,%rsp", &[0x48, 0x83, 0xec, 0x08], "cfa = rsp+8"),
        ("call *%rdi", &[0xff, 0xd7], "cfa = rsp+16"),
        ("add $0x8,%rsp", &[0x48, 0x83, 0xc4, 0x08], "cfa = rsp+16"),
        ("test %eax,%eax", &[0x85, 0xc0], "cfa = rsp+8"),
        ("je 1012", &[0x74, 0x04], "cfa = rsp+8"),
        ("ret", &[0xc3], "cfa = rsp+8"),
        ("push %rax", &[0x50], ""),
        ("call *%rsi", &[0xff, 0xd6], ""),
        ("push %rbx", &[0x53], "cfa = rsp+8"),
        ("pop %rbx", &[0x5b], "cfa = rsp+16"),
        ("ret", &[0xc3], "cfa = rsp+8"),
    ]);
}

#[test]
fn function_that_returns_elsewhere_has_no_row() {
    check(&[
        ("push %rbx", &[0x53], ""),
        ("mov %rdi,%rbx", &[0x48, 0x89, 0xfb], ""),
        ("ret", &[0xc3], ""),
    ]);
}

#[test]
fn overwritten_return_address_ends_the_rows() {
    check(&[
        ("mov (%rsp),%rax", &[0x48, 0x8b, 0x04, 0x24], "cfa = rsp+8"),
        ("mov %rdi,(%rsp)", &[0x48, 0x89, 0x3c, 0x24], "cfa = rsp+8"),
        ("ret", &[0xc3], "no return address"),
    ]);
}

#[test]
fn zeroed_frame_pointer_is_a_root() {
    check(&[
        ("xor %ebp,%ebp", &[0x31, 0xed], "cfa = rsp+8"),
        ("mov %rsp,%rdi", &[0x48, 0x89, 0xe7], "root of a stack"),
        ("call *%rax", &[0xff, 0xd0], "root of a stack"),
        ("hlt", &[0xf4], "root of a stack"),
    ]);
}

#[test]
fn address_of_the_next_instruction_is_pushed() {
    check(&[
        ("call 1005", &[0xe8, 0x00, 0x00, 0x00, 0x00], "cfa = rsp+8"),
        ("pop %rax", &[0x58], "cfa = rsp+16"),
        ("ret", &[0xc3], "cfa = rsp+8"),
    ]);
}

#[test]
fn callee_is_followed_and_left_by_a_jump() {
    check(&[
        ("call 1006", &[0xe8, 0x01, 0x00, 0x00, 0x00], "cfa = rsp+8"),
        ("ret", &[0xc3], "cfa = rsp+8"),
        ("push %rbx", &[0x53], "cfa = rsp+8"),
        ("call *%rax", &[0xff, 0xd0], "cfa = rsp+16"),
        ("pop %rbx", &[0x5b], "cfa = rsp+16"),
        ("jmp 100d", &[0xeb, 0x01], "cfa = rsp+8"),
        ("nop", &[0x90], ""),
        ("ret", &[0xc3], "cfa = rsp+8"),
    ]);
}

#[test]
fn registers_saved_without_a_push() {
    check(&[
        ("sub $0x28,%rsp", &[0x48, 0x83, 0xec, 0x28], "cfa = rsp+8"),
        ("mov %rbx,0x10(%rsp)", &[0x48, 0x89, 0x5c, 0x24, 0x10], "cfa = rsp+48"),
        ("mov %rbp,0x18(%rsp)", &[0x48, 0x89, 0x6c, 0x24, 0x18], "cfa = rsp+48"),
        ("mov %rdi,%rbp", &[0x48, 0x89, 0xfd], "cfa = rsp+48"),
        ("call *%rax", &[0xff, 0xd0], "cfa = rsp+48, fp at cfa-24"),
        ("mov 0x18(%rsp),%rbp", &[0x48, 0x8b, 0x6c, 0x24, 0x18], "cfa = rsp+48, fp at cfa-24"),
        ("mov 0x10(%rsp),%rbx", &[0x48, 0x8b, 0x5c, 0x24, 0x10], "cfa = rsp+48"),
        ("add $0x28,%rsp", &[0x48, 0x83, 0xc4, 0x28], "cfa = rsp+48"),
        ("ret", &[0xc3], "cfa = rsp+8"),
    ]);
}

proptest! {
    #[test]
    fn any_bytes_are_derived_without_a_panic(code in prop::collection::vec(any::<u8>(), 1..2000)) {
        let rows = derive(&code);
        let end = TEXT + code.len() as u64 + 6;
        prop_assert!(rows.iter().all(|(range, _)| TEXT <= range.start && range.end <= end));
    }

    /// Bytes that begin like a function reach deeper.
    #[test]
    fn any_instructions_are_derived_without_a_panic(
        code in prop::collection::vec(
            prop_oneof![
                Just(&[0x55][..][..]), // push %rbp
                Just(&[0x48, 0x89, 0xe5][..][..]), // mov %rsp, %rbp
                Just(&[0x5d][..]), // pop %rbp
                Just(&[0xc3][..]), // ret
                Just(&[0x48, 0x83, 0xe4, 0xf0][..]), // and $-16, %rsp
                Just(&[0x48, 0x29, 0xc4][..]), // sub %rax, %rsp
                Just(&[0x48, 0x8d, 0x05, 0, 0, 0, 0][..]), // lea 0(%rip), %rax
                Just(&[0x48, 0x63, 0x3c, 0xb8][..]), // movslq (%rax,%rdi,4), %rdi
                Just(&[0x48, 0x01, 0xc7][..]), // add %rax, %rdi
                Just(&[0xff, 0xe7][..]), // jmp *%rdi
                Just(&[0xff, 0xd0][..]), // call *%rax
                Just(&[0x83, 0xff, 0x05][..]), // cmp $5, %edi
                Just(&[0x77, 0x02][..]), // ja
                Just(&[0x75, 0xf0][..]), // jne, back
                Just(&[0xe8, 0xf0, 0xff, 0xff, 0xff][..]), // call, back
                Just(&[0xeb, 0x03][..]), // jmp
                Just(&[0x48, 0x87, 0xc4][..]), // xchg %rax, %rsp
                Just(&[0x5c][..]), // pop %rsp
                Just(&[0xc9][..]), // leave
                Just(&[0xc8, 0x10, 0, 1][..]), // enter $16, $1
                Just(&[0x66, 0x58][..]), // pop %ax
            ],
            1..200,
        ),
    ) {
        derive(&code.concat());
    }
}
