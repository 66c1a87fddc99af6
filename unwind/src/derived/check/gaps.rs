//! How much of the code without call-frame information has derived rows.

use std::collections::BTreeMap;

use crate::derived::derivation::{Derivation, Scope};
use crate::derived::gaps::{GapCode, covered, visit};
use crate::derived::image::Image;
use crate::derived::reason::Reason;
use crate::derived::rule::rule_of;
use crate::elf::Elf;
use crate::{Error, ReadAt};

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
    let mut derivation =
        Derivation::new(&elf, Image::shared(&elf), &[], covered(file)?, &Scope::File);
    let rows = derivation.run(Err(Reason::Conflict), &mut rule_of);
    let mut report = GapReport {
        functions: derivation.functions,
        rows: rows.iter().count() as u64,
        ..GapReport::default()
    };
    visit(&mut derivation, &rows, &mut |range, code| {
        let bytes = range.end - range.start;
        match code {
            GapCode::Row(_) => report.with_row += bytes,
            GapCode::GivenUp(reason) => *report.given_up.entry(reason).or_default() += bytes,
            GapCode::Padding => report.padding += bytes,
        }
    });
    report.code = report.with_row + report.given_up.values().sum::<u64>();
    Ok(report)
}
