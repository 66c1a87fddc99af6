//! The layer of code that linkers and start-up files insert without call-frame information:
//! procedure linkage tables (PLT), as GNU ld, gold, lld, mold and tcc write them and BOLT moves
//! them, and the functions of `.init` and `.fini`.
//!
//! The sections are found by name; the instructions of their stubs are few, and are followed one by
//! one ([`crate::arch::linkage_instruction`]). At one that is not known the rows end.

use std::ops::Range;

use crate::arch::{self, LinkageEffect, SP};
use crate::elf::Elf;
use crate::layers::RangeLayer;
use crate::rule::{Cfa, RegisterRule, Rule};

/// Bytes of an ordinary stub in a PLT.
const STUB: u64 = 16;
/// Sections of stubs.
pub(crate) const TABLES: [&str; 4] = [".plt", ".plt.sec", ".plt.got", ".iplt"];
/// Bytes of a PLT that are read: 65,000 stubs.
const TABLE_MAX: u64 = 1 << 20;
/// Bytes of `.init` and `.fini` that are looked at.
const FUNCTION_MAX: u64 = 48;

/// A range of addresses and its rule.
type RangeRule = (Range<u64>, Rule);

/// Returns the layer of code that linkers inserted into a file.
pub(crate) fn layer(elf: &Elf<'_>) -> RangeLayer {
    let mut ranges = Vec::new();
    for table in TABLES.iter().filter_map(|name| elf.range_of(name)) {
        let end = table.end.min(table.start.saturating_add(TABLE_MAX));
        let code = elf.loaded(table.start..end).unwrap_or_default();
        ranges.extend(rules(stubs(&code, table.start)));
    }
    for function in [".init", ".fini"].iter().filter_map(|name| elf.range_of(name)) {
        ranges.extend(aligning_function(elf, function));
    }
    ranges.sort_by_key(|(range, _)| range.start);
    let mut layer = RangeLayer::default();
    layer.pending.extend(ranges);
    layer
}

/// Returns the rule of a frame whose sp is `offset` bytes below the CFA and that saved nothing.
fn by_sp(offset: i32) -> Rule {
    Rule {
        cfa: Cfa::Register(SP, offset),
        fp: RegisterRule::SameValue,
        base: RegisterRule::Undefined,
        ra: RegisterRule::SAVED_RA,
    }
}

/// A range of addresses at which sp is as many bytes below the CFA.
type RangeHeight = (Range<u64>, i32);

/// Follows the stubs of a PLT. Each begins with its return address on top of the stack, except the
/// first one, if that pushes the word of the dynamic linker at once: the others have pushed a
/// number and jumped to it.
fn stubs(code: &[u8], start: u64) -> Vec<RangeHeight> {
    const ENTRY: i32 = 8;
    let mut ranges: Vec<RangeHeight> = Vec::new();
    let (mut at, mut height) = (0, ENTRY);
    let mut is_in_stub = false;
    while let Some(instruction) = code.get(at..).and_then(arch::linkage_instruction) {
        let (len, effect) = instruction;
        let address = start + at as u64;
        if effect == LinkageEffect::PushWord && !is_in_stub {
            height = ENTRY + 8;
        }
        let end = address + len as u64;
        match ranges.last_mut() {
            // What follows a jump only fills the space up to the next stub.
            Some((last, _)) if effect == LinkageEffect::Filler && !is_in_stub => last.end = end,
            Some((last, before)) if *before == height => last.end = end,
            _ => ranges.push((address..end, height)),
        }
        (height, is_in_stub) = match effect {
            LinkageEffect::None => (height, true),
            LinkageEffect::Filler => (height, is_in_stub),
            LinkageEffect::Push | LinkageEffect::PushWord => (height + 8, true),
            // The stub of a retpoline replaces the return address of its call by its target.
            LinkageEffect::ReplaceReturn => (height + 8, true),
            LinkageEffect::Leave => (ENTRY, false),
        };
        at += len;
    }
    ranges
}

/// Turns heights into rules. A run of stubs of 16 bytes that push a word at the same byte has one.
fn rules(heights: Vec<RangeHeight>) -> Vec<RangeRule> {
    let pushed = |pair: &[RangeHeight]| match pair {
        [(before, 8), (after, 16)]
            if before.start.is_multiple_of(STUB)
                && before.end == after.start
                && after.end == before.start + STUB =>
        {
            Some((before.end - before.start) as u8)
        }
        _ => None,
    };
    let mut rules: Vec<RangeRule> = Vec::new();
    let mut rest = &heights[..];
    while let Some((first, others)) = rest.split_first() {
        let Some(pushed) = rest.get(..2).and_then(pushed) else {
            rules.push((first.0.clone(), by_sp(first.1)));
            rest = others;
            continue;
        };
        let (rule, end) = (Rule { cfa: Cfa::Plt { pushed }, ..by_sp(8) }, first.0.start + STUB);
        match rules.last_mut() {
            Some((range, last)) if *last == rule && range.end == first.0.start => range.end = end,
            _ => rules.push((first.0.start..end, rule)),
        }
        rest = &rest[2..];
    }
    rules
}

/// Reads a function that only aligns sp around its calls.
fn aligning_function(elf: &Elf<'_>, function: Range<u64>) -> Vec<RangeRule> {
    let end = function.end.min(function.start.saturating_add(FUNCTION_MAX));
    let code = elf.loaded(function.start..end).unwrap_or_default();
    let Some((aligned, restored)) = arch::aligning_function(&code) else { return Vec::new() };
    let at = |offset: usize| function.start + offset as u64;
    vec![
        (function.start..at(aligned), by_sp(8)),
        (at(aligned)..at(restored), by_sp(16)),
        (at(restored)..end, by_sp(8)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the rules of a table at 0x1000: start, end, and the rule as text.
    fn read(stubs_of: &[&[u8]]) -> Vec<(u64, u64, String)> {
        let text = |rule: Rule| match rule.cfa {
            Cfa::Plt { pushed } => format!("8 or 16 from {pushed}"),
            Cfa::Register(SP, offset) => offset.to_string(),
            other => panic!("{other:?}"),
        };
        let rules = rules(stubs(&stubs_of.concat(), 0x1000));
        rules.into_iter().map(|(range, rule)| (range.start, range.end, text(rule))).collect()
    }

    fn expect(rows: &[(u64, u64, &str)]) -> Vec<(u64, u64, String)> {
        rows.iter().map(|(start, end, text)| (*start, *end, (*text).to_owned())).collect()
    }

    const PUSH_WORD: [u8; 6] = [0xff, 0x35, 1, 2, 3, 4];
    const JUMP_WORD: [u8; 6] = [0xff, 0x25, 1, 2, 3, 4];
    const PUSH: [u8; 5] = [0x68, 1, 0, 0, 0];
    const JUMP: [u8; 5] = [0xe9, 1, 2, 3, 4];
    const ENDBR: [u8; 4] = [0xf3, 0x0f, 0x1e, 0xfa];

    #[test]
    fn lazy_stubs_of_gnu_ld_gold_lld_and_tcc() {
        let fillers: [&[u8]; 3] = [&[0x0f, 0x1f, 0x40, 0], &[0x90; 4], &[0; 4]];
        for filler in fillers {
            let stub = [&JUMP_WORD[..], &PUSH, &JUMP].concat();
            let rows = read(&[&PUSH_WORD, &JUMP_WORD, filler, &stub, &stub, &stub]);
            let rest = (0x1010, 0x1040, "8 or 16 from 11");
            assert_eq!(rows, expect(&[(0x1000, 0x1006, "16"), (0x1006, 0x1010, "24"), rest]));
        }
    }

    #[test]
    fn lazy_stubs_with_landing_pads() {
        let stub = [&ENDBR[..], &PUSH, &JUMP, &[0x66, 0x90]].concat();
        let rest = (0x1010, 0x1030, "8 or 16 from 9");
        let rows = read(&[&PUSH_WORD, &JUMP_WORD, &[0x0f, 0x1f, 0x40, 0], &stub, &stub]);
        assert_eq!(rows, expect(&[(0x1000, 0x1006, "16"), (0x1006, 0x1010, "24"), rest]));
        // With `bnd`, as GNU ld wrote them.
        let stub = [&ENDBR[..], &PUSH, &[0xf2], &JUMP, &[0x90]].concat();
        let jump = [&[0xf2][..], &JUMP_WORD].concat();
        let rows = read(&[&PUSH_WORD, &jump, &[0x0f, 0x1f, 0], &stub, &stub]);
        assert_eq!(rows, expect(&[(0x1000, 0x1006, "16"), (0x1006, 0x1010, "24"), rest]));
    }

    #[test]
    fn stubs_of_mold_push_in_the_first_one_alone() {
        let head = [&ENDBR[..], &[0x41, 0x53], &PUSH_WORD, &JUMP_WORD, &[0xcc; 14]].concat();
        let stub = [&ENDBR[..], &[0x41, 0xbb, 1, 0, 0, 0], &JUMP_WORD].concat();
        let rows = read(&[&head, &stub, &stub]);
        let expected = [
            (0x1000, 0x1006, "8"),
            (0x1006, 0x100c, "16"),
            (0x100c, 0x1020, "24"),
            (0x1020, 0x1040, "8"),
        ];
        assert_eq!(rows, expect(&expected));
    }

    #[test]
    fn stubs_that_only_jump() {
        let short = [&JUMP_WORD[..], &[0x66, 0x90]].concat();
        assert_eq!(read(&[&short, &short, &short]), expect(&[(0x1000, 0x1018, "8")]));
        let long = [&ENDBR[..], &JUMP_WORD, &[0x66, 0x0f, 0x1f, 0x44, 0, 0]].concat();
        assert_eq!(read(&[&long, &long]), expect(&[(0x1000, 0x1020, "8")]));
        // Those of indirect functions in static programs never reach their push.
        let stub = [&JUMP_WORD[..], &PUSH, &JUMP].concat();
        assert_eq!(read(&[&stub, &stub]), expect(&[(0x1000, 0x1020, "8 or 16 from 11")]));
    }

    #[test]
    fn retpolines_call_a_stub_that_replaces_its_return_address() {
        const LOAD: [u8; 7] = [0x4c, 0x8b, 0x1d, 1, 2, 3, 4];
        const WAIT: [u8; 7] = [0xf3, 0x90, 0x0f, 0xae, 0xe8, 0xeb, 0xf9];
        const REPLACE: [u8; 5] = [0x4c, 0x89, 0x1c, 0x24, 0xc3];
        let call = |to: u8| [0xe8, to, 0, 0, 0];
        let head = [&PUSH_WORD[..], &LOAD, &call(14), &WAIT, &[0xcc; 7]].concat();
        let next = [&REPLACE[..], &[0xcc; 11]].concat();
        let stub = [&LOAD[..], &call(0), &JUMP, &PUSH, &JUMP, &[0xcc; 5]].concat();
        let rows = read(&[&head, &next, &stub]);
        let expected = [
            (0x1000, 0x1006, "16"),
            (0x1006, 0x1020, "24"),
            (0x1020, 0x1030, "8 or 16 from 4"),
            (0x1030, 0x1046, "8"),
            (0x1046, 0x1050, "16"),
        ];
        assert_eq!(rows, expect(&expected));
        // Bound at the start, there is nothing to push.
        let head = [&call(11)[..], &WAIT, &[0xcc; 4], &next].concat();
        let stub = [&LOAD[..], &JUMP, &[0xcc; 4]].concat();
        let rows = read(&[&head, &stub, &stub]);
        let expected = [(0x1000, 0x1014, "8"), (0x1014, 0x1020, "16"), (0x1020, 0x1040, "8")];
        assert_eq!(rows, expect(&expected));
    }

    #[test]
    fn rows_end_at_an_unknown_instruction() {
        let rows = read(&[&JUMP_WORD, &[0x66, 0x90], &[0x48, 0x83, 0xec, 8], &JUMP_WORD]);
        assert_eq!(rows, expect(&[(0x1000, 0x1008, "8")]));
        assert_eq!(read(&[&JUMP_WORD[..4]]), []);
        assert_eq!(read(&[]), []);
    }
}
