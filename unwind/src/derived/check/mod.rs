//! The self-test of the derivation: compares derived rows with call-frame information, instruction
//! by instruction, and counts how much code without it has rows.

mod frame;
mod function;
mod gaps;
mod report;

use super::derivation::{Derivation, Scope};
use super::image::Image;
use crate::dwarf::DwarfUnwinder;
use crate::elf::Elf;
use crate::{Error, ReadAt};

use frame::Frames;
use function::FunctionCheck;
pub use gaps::{GapReport, check_gaps};
pub use report::{DerivedDifference, DerivedReport};

/// Which starts of functions the derivation is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KnownStarts {
    /// Those of call-frame information, though not which of them are parts of functions.
    FromCallFrames,
    /// None: as in real use, they come from symbols, calls, the entry point and mentions.
    None,
}

/// Derives the rows of a file as if it had no call-frame information, and compares them with it.
/// Linkage tables are left out: their rows have another source.
///
/// # Errors
/// See [`crate::read()`].
pub fn check_derived(file: ReadAt<'_>, starts: KnownStarts) -> Result<DerivedReport, Error> {
    let elf = Elf::read(file)?;
    let dwarf = DwarfUnwinder::read(file)?;
    let boundaries: Vec<u64> = match starts {
        KnownStarts::FromCallFrames => dwarf.eh_frame_functions().map(|f| f.start).collect(),
        KnownStarts::None => Vec::new(),
    };
    let mut frames = Frames::new();
    let mut derivation =
        Derivation::new(&elf, Image::shared(&elf), &boundaries, Vec::new(), &Scope::File);
    let numbers = derivation.run(Frames::CONFLICT, &mut |state| frames.number_of(state));

    let mut report = DerivedReport::default();
    let mut function = FunctionCheck::default();
    dwarf.visit_eh_frame(&mut |start, range, step| {
        if start != function.start {
            std::mem::take(&mut function).finish(&mut report);
            function.start = start;
        }
        if !derivation.program.image.is_linkage(start) {
            let reason = derivation.reason_at(start);
            let frame = |address| numbers.get(address).map(|number| frames.get(number));
            function.compare_row(&mut derivation.program.code, range, &frame, reason, step);
        }
    });
    function.finish(&mut report);
    Ok(report)
}
