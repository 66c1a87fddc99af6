//! The code of a file that no other source has rows for, and what is derived of it.

use std::ops::Range;

use iced_x86::Instruction;

use super::derivation::{Derivation, Scope};
use super::padding::is_padding;
use super::reason::Reason;
use super::rows::Rows;
use super::rule::rule_of;
use crate::dwarf::DwarfUnwinder;
use crate::elf::Elf;
use crate::go::FunctionTable;
use crate::layers::RangeLayer;
use crate::{Error, ReadAt, RegisterRule, Rule};

/// Bytes of gaps from which a file is worth decoding as a whole, to find what its code mentions.
const MENTIONS_MIN: u64 = 16 << 10;
/// Bytes of gaps of one file; larger programs take too long.
const GAPS_MAX: u64 = 32 << 20;

/// Rows derived from the code of a file that call frames do not cover.
///
/// ```
/// use std::{fs::File, os::unix::fs::FileExt};
///
/// let file = File::open("/proc/self/exe")?;
/// let read_at = |offset: u64, bytes: &mut [u8]| file.read_exact_at(bytes, offset).is_ok();
/// let derived = unwind::derived::derive(&read_at)?;
/// let frames = unwind::read_with_derived(&read_at, &derived, &mut || {})?;
/// assert!(frames.table.rows > 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DerivedRows {
    /// Ranges of code with the rule that finds the caller, [`Rule::NO_ROW`] where none is certain;
    /// ascending and disjoint. What only fills space between functions is in none.
    pub ranges: Vec<(Range<u64>, Rule)>,
}

impl DerivedRows {
    /// Returns the layer of these rows, and whether a rule has its CFA in the base register.
    /// `with_base`: rules also say where that is saved.
    pub(crate) fn layer(&self, with_base: bool) -> (RangeLayer, bool) {
        let mut layer = RangeLayer::default();
        layer.pending.extend(self.ranges.iter().cloned());
        if !with_base {
            for (_, rule) in layer.pending.iter_mut().filter(|(_, rule)| !rule.is_gap()) {
                rule.base = RegisterRule::Undefined;
            }
        }
        (layer, self.ranges.iter().any(|(_, rule)| rule.has_cfa_in_base()))
    }
}

/// Derives rows for the code of a file that neither call frames nor Go's function table cover.
/// There are none if that is too much.
///
/// # Errors
/// See [`crate::read()`].
pub fn derive(file: ReadAt<'_>) -> Result<DerivedRows, Error> {
    let elf = Elf::read(file)?;
    let covered = covered(file)?;
    let bytes = gap_bytes(&elf, &covered);
    if bytes > GAPS_MAX || FunctionTable::read(&elf, &|range| elf.loaded(range)).is_some() {
        return Ok(DerivedRows::default());
    }
    let scope = if bytes < MENTIONS_MIN { Scope::Gaps } else { Scope::File };
    let mut derivation = Derivation::new(&elf, &[], covered, scope);
    let rows = derivation.run(Err(Reason::Conflict), &mut rule_of);
    let mut ranges: Vec<(Range<u64>, Rule)> = Vec::new();
    visit(&mut derivation, &rows, &mut |range, code| {
        let rule = match code {
            GapCode::Row(rule) => rule,
            GapCode::GivenUp(_) => Rule::NO_ROW,
            GapCode::Padding => return,
        };
        match ranges.last_mut() {
            Some((last, known)) if last.end == range.start && *known == rule => {
                last.end = range.end;
            }
            _ => ranges.push((range, rule)),
        }
    });
    Ok(DerivedRows { ranges })
}

/// What is derived of an instruction in a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GapCode {
    Row(Rule),
    GivenUp(Reason),
    /// It only fills space between functions.
    Padding,
}

/// Returns the ranges that functions with call frames cover, ascending and disjoint.
pub(super) fn covered(file: ReadAt<'_>) -> Result<Vec<Range<u64>>, Error> {
    let functions = DwarfUnwinder::read(file)?;
    let mut ranges: Vec<_> = functions.functions().map(|(start, end)| start..end).collect();
    ranges.sort_by_key(|range| range.start);
    let mut merged: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        match merged.last_mut() {
            Some(last) if last.end >= range.start => last.end = last.end.max(range.end),
            _ => merged.push(range),
        }
    }
    Ok(merged)
}

/// Returns the bytes of code between these ranges; padding counts.
fn gap_bytes(elf: &Elf<'_>, covered: &[Range<u64>]) -> u64 {
    let code: u64 = elf.executable().iter().map(|range| range.end - range.start).sum();
    let covered: u64 = covered.iter().map(|range| range.end - range.start).sum();
    code.saturating_sub(covered)
}

/// Visits the instructions in all gaps, linkage tables left out. What does not decode is visited
/// byte by byte.
pub(super) fn visit(
    derivation: &mut Derivation<'_>,
    rows: &Rows<Result<Rule, Reason>>,
    visit: &mut dyn FnMut(Range<u64>, GapCode),
) {
    for gap in derivation.gaps() {
        let code = &mut derivation.program.code;
        let Some(mut at) = code.instructions(gap.start) else { continue };
        let mut instruction = Instruction::default();
        while at.at < gap.end {
            let address = at.at;
            let is_decoded = code.next(&mut at, &mut instruction).is_some();
            if !is_decoded {
                at.at = address + 1;
            }
            if derivation.program.image.is_linkage(address) {
                continue;
            }
            let kind = match rows.get(address) {
                Some(Ok(rule)) => GapCode::Row(rule),
                Some(Err(reason)) => GapCode::GivenUp(reason),
                None if is_decoded && is_padding(&instruction) => GapCode::Padding,
                None => GapCode::GivenUp(Reason::NotReached),
            };
            visit(address..at.at.min(gap.end), kind);
        }
    }
}
