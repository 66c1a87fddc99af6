//! The layer of what linkers and start-up files put in without call-frame information: linkage tables, as lld
//! makes them and BOLT moves them, and the functions of `.init` and `.fini`.
//!
//! They are found by the names of their sections and known by their bytes.

use std::ops::Range;

use crate::arch::{self, SAVED_RA, SP};
use crate::elf::Elf;
use crate::layers::RangeLayer;
use crate::rule::{Cfa, RegisterRule, Rule};

/// Bytes of a stub of a linkage table.
const STUB: u64 = 16;
/// Bytes of `.init` and `.fini` that are looked at.
const FUNCTION_MAX: u64 = 48;

/// A range of addresses and its rule.
type Known = (Range<u64>, Rule);

/// Looks at the sections of a file: gives the layer of code that linkers put in.
pub(crate) fn of(elf: &Elf<'_>) -> RangeLayer {
    let mut known = Vec::new();
    if let Some(table) = elf.range_of(".plt") {
        known.extend(linkage_table(elf, table));
    }
    // Stubs that only jump.
    for table in [".plt.sec", ".plt.got"].iter().filter_map(|name| elf.range_of(name)) {
        known.push((table, by_sp(8)));
    }
    for function in [".init", ".fini"].iter().filter_map(|name| elf.range_of(name)) {
        known.extend(aligning_function(elf, function));
    }
    known.sort_by_key(|(range, _)| range.start);
    let mut layer = RangeLayer::default();
    layer.waiting.extend(known);
    layer
}

/// A frame that has moved sp so far from the CFA and saved nothing.
fn by_sp(offset: i32) -> Rule {
    Rule {
        cfa: Cfa::Register(SP, offset),
        fp: RegisterRule::SameValue,
        base: RegisterRule::Undefined,
        ra: SAVED_RA,
    }
}

/// A table whose stubs push a number and jump to its first one, which pushes another word and jumps on.
fn linkage_table(elf: &Elf<'_>, table: Range<u64>) -> Vec<Known> {
    let first = table.start..table.end.min(table.start.saturating_add(STUB));
    let rest = first.end..table.end;
    let text = elf.loaded(table.start..rest.start.saturating_add(STUB)).unwrap_or_default();
    let (head, stub) = text.split_at(text.len().min(STUB as usize));
    let (Some(pushes), Some(pushed)) = (arch::push_len(head), arch::stub_pushes(stub)) else {
        return Vec::new();
    };
    let behind_push = first.start + pushes;
    vec![
        (first.start..behind_push, by_sp(16)),
        (behind_push..first.end, by_sp(24)),
        (rest, Rule { cfa: Cfa::Plt { pushed }, ..by_sp(8) }),
    ]
}

/// A function that only aligns sp around what it calls.
fn aligning_function(elf: &Elf<'_>, function: Range<u64>) -> Vec<Known> {
    let end = function.end.min(function.start.saturating_add(FUNCTION_MAX));
    let text = elf.loaded(function.start..end).unwrap_or_default();
    let Some((aligned, restored)) = arch::aligning_function(&text) else { return Vec::new() };
    let at = |offset: usize| function.start + offset as u64;
    vec![
        (function.start..at(aligned), by_sp(8)),
        (at(aligned)..at(restored), by_sp(16)),
        (at(restored)..end, by_sp(8)),
    ]
}
