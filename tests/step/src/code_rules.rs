//! What machine code proves about the frame that it is in.

use std::path::Path;

use object::{Object, ObjectSegment};
use unwind::arch::SP;
use unwind::{Cfa, RegisterRule, Rule};

use super::rule_by_code;

const IP: u64 = 0x40_0000;

/// Returns the rule for code before and from ip on.
fn rule_of(before: &[u8], code: &[u8], is_behind: bool) -> Option<Rule> {
    let mut all = vec![0xcc; 16];
    all.extend_from_slice(before);
    let ip = all.len() as u64;
    all.extend_from_slice(code);
    all.resize(all.len() + 32, 0xcc);
    let read = |address: u64| {
        let at = (address + ip - IP) as usize;
        Some(u64::from_le_bytes(*all.get(at..)?.first_chunk()?))
    };
    rule_by_code(IP, is_behind, &read)
}

fn text_of(rule: Option<Rule>) -> String {
    rule.map_or_else(|| "none".to_owned(), |rule| rule.to_string())
}

#[test]
fn code_that_leads_straight_to_the_return_has_a_rule() {
    let cases: &[(&[u8], &str)] = &[
        (&[0xc3], "cfa = rsp+8, ra at cfa-8"),
        (&[0xf3, 0xc3], "cfa = rsp+8, ra at cfa-8"),
        (&[0xc2, 16, 0], "cfa = rsp+24, ra at cfa-24"),
        // add $8, %rsp; ret: the trampoline of CPython 3.12
        (&[0x48, 0x83, 0xc4, 8, 0xc3], "cfa = rsp+16, ra at cfa-8"),
        (&[0x48, 0x81, 0xc4, 0, 1, 0, 0, 0xc3], "cfa = rsp+264, ra at cfa-8"),
        // pop %rbx; pop %rbp; pop %r12; ret
        (
            &[0x5b, 0x5d, 0x41, 0x5c, 0xc3],
            "cfa = rsp+32, fp at cfa-24, base at cfa-32, ra at cfa-8",
        ),
        (&[0xc5, 0xf8, 0x77, 0x5d, 0xc3], "cfa = rsp+16, fp at cfa-16, ra at cfa-8"),
        // leave; ret, and mov %rbp, %rsp; pop %rbp; ret
        (&[0xc9, 0xc3], "cfa = rbp+16, fp at cfa-16, ra at cfa-8"),
        (&[0x48, 0x89, 0xec, 0x5d, 0xc3], "cfa = rbp+16, fp at cfa-16, ra at cfa-8"),
        (&[0x48, 0x8b, 0xe5, 0x5d, 0xc2, 8, 0], "cfa = rbp+24, fp at cfa-24, ra at cfa-16"),
    ];
    for (code, expected) in cases {
        for is_behind in [false, true] {
            assert_eq!(text_of(rule_of(&[], code, is_behind)), *expected, "{code:x?}");
        }
    }
}

#[test]
fn code_that_sets_up_a_frame_pointer_has_a_rule_where_it_was_interrupted() {
    const PUSH: u8 = 0x55;
    const ENDBR: [u8; 4] = [0xf3, 0x0f, 0x1e, 0xfa];
    for mov in [[0x48, 0x89, 0xe5], [0x48, 0x8b, 0xec]] {
        let entry = [&[PUSH][..], &mov].concat();
        let landing = [&ENDBR[..], &entry].concat();
        for code in [&entry, &landing] {
            assert_eq!(text_of(rule_of(&[], code, false)), "cfa = rsp+8, ra at cfa-8");
            assert_eq!(rule_of(&[], code, true), None);
        }
        let pushed = "cfa = rsp+16, fp at cfa-16, ra at cfa-8";
        assert_eq!(text_of(rule_of(&[PUSH], &mov, false)), pushed);
        assert_eq!(rule_of(&[PUSH], &mov, true), None);
        assert_eq!(rule_of(&[0x41, PUSH], &mov, false), None, "push %r13");
        assert_eq!(rule_of(&[0x90], &mov, false), None);
    }
}

#[test]
fn other_code_has_no_rule() {
    let cases: &[&[u8]] = &[
        &[0x90, 0xc3],                               // nop
        &[0x5c, 0xc3],                               // pop %rsp
        &[0x48, 0x83, 0xc4, 0xf8, 0xc3],             // add $-8, %rsp
        &[0x48, 0x83, 0xc4, 4, 0xc3],                // add $4, %rsp
        &[0x48, 0x81, 0xc4, 0, 0, 0, 0x7f, 0xc3],    // add $0x7f000000, %rsp
        &[0x5d, 0xc9, 0xc3],                         // the frame pointer is no longer there
        &[0x5b, 0xc9, 0xc3],                         // of two bases, one cannot be expressed
        &[0xc2, 4, 0],                               // ret $4
        &[0xc2, 0, 0xff],                            // ret $0xff00
        &[0xf3, 0x90, 0xc3],                         // pause
        &[0x48, 0x81, 0xc4, 0, 4, 0, 0, 0x5d, 0x90], // no return
        &[0x41, 0x50, 0xc3],                         // push %r8
    ];
    for code in cases {
        assert_eq!(text_of(rule_of(&[], code, false)), "none", "{code:x?}");
    }
    assert_eq!(text_of(rule_of(&[], &[0x58; 40], false)), "none", "9 instructions at most");
    // The last page ends: one word can be read, then none.
    let last = |address: u64| (address == IP).then_some(u64::from_le_bytes([0xc3; 8]));
    assert_eq!(text_of(rule_by_code(IP, false, &last)), "cfa = rsp+8, ra at cfa-8");
    assert_eq!(rule_by_code(IP, false, &|_| None), None);
}

/// Returns whether two rules find the caller's fp in the same place. Compilers leave the place in
/// the rows behind the instruction that has restored fp.
fn is_same_fp(row: &Rule, rule: &Rule) -> bool {
    let is_restored = match (row.cfa, row.fp) {
        (Cfa::Register(SP, cfa), RegisterRule::AtCfa(words)) => cfa + 8 * i32::from(words) < 0,
        _ => false,
    };
    row.fp == rule.fp || rule.fp == RegisterRule::SameValue && is_restored
}

/// The call frames of the system's libraries say the same as their code.
#[test]
fn rules_of_code_are_those_of_call_frames() {
    let directory = Path::new("/usr/lib/x86_64-linux-gnu");
    for name in ["libc.so.6", "libstdc++.so.6", "libgcc_s.so.1", "libm.so.6"] {
        let bytes = std::fs::read(directory.join(name)).expect("installed");
        let read_at = |offset: u64, to: &mut [u8]| {
            let from = bytes.get(offset as usize..).and_then(|rest| rest.get(..to.len()));
            from.map(|from| to.copy_from_slice(from)).is_some()
        };
        let frames = unwind::read(&read_at).expect("call frames");
        let file = object::File::parse(bytes.as_slice()).expect("ELF");
        let segments: Vec<_> = file.segments().collect();
        let word = |address: u64| {
            let bytes =
                segments.iter().find_map(|one| one.data_range(address, 8).ok().flatten())?;
            Some(u64::from_le_bytes(bytes.try_into().ok()?))
        };
        let (mut proven, mut wrong) = (0, Vec::new());
        for (address, row) in frames.table.iter().filter(|(_, row)| !row.is_gap()) {
            let Some(rule) = rule_by_code(address, false, &word) else { continue };
            proven += 1;
            if (row.cfa, row.ra) != (rule.cfa, rule.ra) || !is_same_fp(&row, &rule) {
                wrong.push(format!("{address:#x}: {row}, by code {rule}"));
            }
        }
        assert!(proven > 100, "{name}: {proven}");
        assert!(wrong.len() * 1000 <= proven, "{name}: {} of {proven}: {wrong:#?}", wrong.len());
    }
}
