//! The code of a file that no other source has rows for, and what is derived of it.

use std::ops::Range;

use iced_x86::Instruction;

use super::derivation::{Derivation, Scope};
use super::image::Image;
use super::padding::is_padding;
use super::reason::Reason;
use super::rows::Rows;
use super::rule::rule_of;
use super::starts::Starts;
use crate::dwarf::DwarfUnwinder;
use crate::elf::Elf;
use crate::go::FunctionTable;
use crate::haskell;
use crate::layers::RangeLayer;
use crate::{Error, Gaps, ReadAt, RegisterRule, Rule};

/// Bytes of gaps from which a file is worth decoding as a whole, to find what its code mentions.
const MENTIONS_MIN: u64 = 16 << 10;
/// Instructions of one file that are interpreted: two seconds. Code beyond them has no rows.
const INSTRUCTIONS_MAX: u64 = 5_000_000;

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
/// There are none if that is too much: then [`PartDeriver`](super::PartDeriver) derives them for
/// parts of it.
///
/// # Errors
/// See [`crate::read()`].
pub fn derive(file: ReadAt<'_>) -> Result<DerivedRows, Error> {
    let elf = Elf::read(file)?;
    let go = FunctionTable::read(&elf);
    let covered = covered_with(file, &elf, go.as_ref())?;
    let starts = Starts::new(covered.clone(), Vec::new());
    let executable = elf.executable();
    let mut gaps = Gaps::of(&executable);
    let stretches = executable.iter().flat_map(|range| starts.gaps(range.clone()));
    stretches.for_each(|gap| gaps.add(&executable, gap, &|range| elf.loaded(range)));
    if gaps.are_derived_in_parts() {
        return Ok(DerivedRows::default());
    }
    let scope = if gaps.long_bytes < MENTIONS_MIN { Scope::Gaps } else { Scope::File };
    let mut derivation = Derivation::new(&elf, Image::shared(&elf), &[], covered, &scope);
    for address in go.iter().flat_map(FunctionTable::foreign_functions) {
        derivation.starts.insert_called(address);
    }
    let instructions = &mut derivation.program.instructions_left;
    *instructions = INSTRUCTIONS_MAX.min(*instructions);
    let rows = derivation.run(Err(Reason::Conflict), &mut rule_of);
    Ok(collect(&mut derivation, &rows, &(0..u64::MAX)))
}

/// Derives rows for all code of a file as if it had no call frames: to see how right they are.
///
/// # Errors
/// See [`crate::read()`].
pub fn derive_hidden(file: ReadAt<'_>) -> Result<DerivedRows, Error> {
    let elf = Elf::read(file)?;
    let mut derivation = Derivation::new(&elf, Image::shared(&elf), &[], Vec::new(), &Scope::File);
    let rows = derivation.run(Err(Reason::Conflict), &mut rule_of);
    Ok(collect(&mut derivation, &rows, &(0..u64::MAX)))
}

/// Collects the rows of the gaps in a part of the code.
pub(super) fn collect(
    derivation: &mut Derivation<'_>,
    rows: &Rows<Result<Rule, Reason>>,
    part: &Range<u64>,
) -> DerivedRows {
    let mut ranges: Vec<(Range<u64>, Rule)> = Vec::new();
    visit(derivation, rows, &mut |range, code| {
        let rule = match code {
            GapCode::Row(rule) => rule,
            GapCode::GivenUp(_) => Rule::NO_ROW,
            GapCode::Padding => return,
        };
        let range = range.start.max(part.start)..range.end.min(part.end);
        match ranges.last_mut() {
            _ if range.is_empty() => {}
            Some((last, known)) if last.end == range.start && *known == rule => {
                last.end = range.end;
            }
            _ => ranges.push((range, rule)),
        }
    });
    DerivedRows { ranges }
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
    Ok(merged(functions.functions().map(|(start, end)| start..end).collect()))
}

/// Returns the ranges that functions with call frames or in Go's function table cover, and those of
/// Haskell code: nothing calls its functions, and its data lies between them.
pub(super) fn covered_with(
    file: ReadAt<'_>,
    elf: &Elf<'_>,
    go: Option<&FunctionTable>,
) -> Result<Vec<Range<u64>>, Error> {
    let mut functions = covered(file)?;
    functions.extend(go.into_iter().flat_map(FunctionTable::described));
    let mut covered = merged(functions);
    if !covered.is_empty() {
        let starts = Starts::new(covered.clone(), Vec::new());
        let gaps = elf.executable().into_iter().flat_map(|range| starts.gaps(range));
        covered.extend(haskell::stretches(&|range| elf.loaded(range), gaps));
    }
    Ok(merged(covered))
}

/// Returns ranges ascending and disjoint.
fn merged(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.sort_by_key(|range| range.start);
    let mut merged: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        match merged.last_mut() {
            Some(last) if last.end >= range.start => last.end = last.end.max(range.end),
            _ => merged.push(range),
        }
    }
    merged
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
