//! How much of the code without call-frame information has derived rows.

use std::collections::BTreeMap;
use std::ops::Range;

use iced_x86::Instruction;

use crate::derived::derivation::Derivation;
use crate::derived::padding::is_padding;
use crate::derived::reason::Reason;
use crate::derived::rows::Rows;
use crate::derived::rule::rule_of;
use crate::dwarf::DwarfUnwinder;
use crate::elf::Elf;
use crate::{Error, ReadAt, Rule};

/// Code without call-frame information, in bytes; linkage tables left out.
#[derive(Clone, Debug, Default)]
pub struct GapReport {
    /// Code, without padding.
    pub code: u64,
    /// Code with a row.
    pub with_row: u64,
    /// Code without a row, by reason.
    pub given_up: BTreeMap<Reason, u64>,
    /// Bytes that only fill space.
    pub padding: u64,
    /// Number of functions with rows.
    pub functions: u64,
    /// Number of rows.
    pub rows: u64,
}

/// Derives rows where a file has no call-frame information, and counts the bytes that have one.
///
/// # Errors
/// See [`crate::read()`].
pub fn check_gaps(file: ReadAt<'_>) -> Result<GapReport, Error> {
    let elf = Elf::read(file)?;
    let dwarf = DwarfUnwinder::read(file)?;
    let covered = merged(dwarf.functions().map(|(start, end)| start..end).collect());
    let mut derivation = Derivation::new(&elf, &[], covered);
    let rows = derivation.run(Err(Reason::Conflict), &mut rule_of);
    let mut report = GapReport {
        functions: derivation.functions,
        rows: rows.iter().count() as u64,
        ..GapReport::default()
    };
    for segment in derivation.program.code.executable().to_vec() {
        for gap in derivation.starts.gaps(segment) {
            report.add(&mut derivation, &rows, gap);
        }
    }
    Ok(report)
}

/// Returns ranges sorted, and those that touch joined.
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

impl GapReport {
    fn add(
        &mut self,
        derivation: &mut Derivation<'_>,
        rows: &Rows<Result<Rule, Reason>>,
        gap: Range<u64>,
    ) {
        let code = &mut derivation.program.code;
        let Some(mut at) = code.instructions(gap.start) else { return };
        let mut instruction = Instruction::default();
        while at.at < gap.end {
            let address = at.at;
            let is_decoded = code.next(&mut at, &mut instruction).is_some();
            if !is_decoded {
                at.at = address + 1;
            }
            let bytes = at.at.min(gap.end) - address;
            match rows.get(address) {
                _ if derivation.program.image.is_linkage(address) => continue,
                Some(Ok(_)) => self.with_row += bytes,
                None if is_decoded && is_padding(&instruction) => {
                    self.padding += bytes;
                    continue;
                }
                None => *self.given_up.entry(Reason::NotReached).or_default() += bytes,
                Some(Err(reason)) => *self.given_up.entry(reason).or_default() += bytes,
            }
            self.code += bytes;
        }
    }
}
