//! The layer of code that linkers and start-up files insert without call-frame information:
//! procedure linkage tables (PLT), as lld writes them and BOLT moves them, and the functions of
//! `.init` and `.fini`.
//!
//! The sections are found by name; their code is recognized by its bytes.

use std::ops::Range;

use crate::arch::{self, SP};
use crate::elf::Elf;
use crate::layers::RangeLayer;
use crate::rule::{Cfa, RegisterRule, Rule};

/// Bytes of a PLT stub.
const STUB: u64 = 16;
/// Bytes of `.init` and `.fini` that are looked at.
const FUNCTION_MAX: u64 = 48;

/// A range of addresses and its rule.
type RangeRule = (Range<u64>, Rule);

/// Returns the layer of code that linkers inserted into a file.
pub(crate) fn layer(elf: &Elf<'_>) -> RangeLayer {
    let mut ranges = Vec::new();
    if let Some(table) = elf.range_of(".plt") {
        ranges.extend(plt(elf, table));
    }
    // Stubs that only jump.
    for table in [".plt.sec", ".plt.got"].iter().filter_map(|name| elf.range_of(name)) {
        ranges.push((table, by_sp(8)));
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

/// Reads a PLT. Its stubs push a number and jump to the first one, which pushes another word and
/// jumps on.
fn plt(elf: &Elf<'_>, table: Range<u64>) -> Vec<RangeRule> {
    let first = table.start..table.end.min(table.start.saturating_add(STUB));
    let rest = first.end..table.end;
    let code = elf.loaded(table.start..rest.start.saturating_add(STUB)).unwrap_or_default();
    let (head, stub) = code.split_at(code.len().min(STUB as usize));
    let (Some(push_len), Some(pushed)) = (arch::push_len(head), arch::stub_pushes(stub)) else {
        return Vec::new();
    };
    let after_push = first.start + push_len;
    vec![
        (first.start..after_push, by_sp(16)),
        (after_push..first.end, by_sp(24)),
        (rest, Rule { cfa: Cfa::Plt { pushed }, ..by_sp(8) }),
    ]
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
