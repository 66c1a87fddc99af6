//! Rows of a large file, derived for a part of its code when they are needed.
//!
//! A part is followed with some code around it and nothing else: its functions begin at symbols, at
//! addresses in data, at the targets of calls near them, and where code sets up a frame pointer
//! behind the end of other code.

use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;

use super::callees::Callees;
use super::derivation::{Derivation, Scope};
use super::gaps::{DerivedRows, collect, covered_with};
use super::image::Image;
use super::reason::Reason;
use super::rule::rule_of;
use crate::elf::Elf;
use crate::go::FunctionTable;
use crate::{Error, ReadAt};

/// Bytes before and after a part that are looked at, too: functions cross its ends, and code calls
/// what is near.
const MARGIN: u64 = 8 << 10;
/// Instructions of one part that are interpreted; 16 KiB of code without frame pointers take a
/// tenth.
const INSTRUCTIONS_MAX: u64 = 1 << 17;
/// Code without call frames is compiled if it is more than this part of the file's; otherwise it is
/// assembly among compiled code.
const COMPILED_DIVISOR: u64 = 2;

/// A file whose rows are derived a part at a time.
///
/// ```
/// use std::{fs::File, os::unix::fs::FileExt};
///
/// let file = File::open("/proc/self/exe")?;
/// let read_at = |offset: u64, bytes: &mut [u8]| file.read_exact_at(bytes, offset).is_ok();
/// let deriver = unwind::derived::PartDeriver::open(&read_at)?;
/// let rows = deriver.derive(&read_at, 0x1000..0x41000)?;
/// println!("{} ranges of its first 256 KiB have derived rows", rows.ranges.len());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct PartDeriver {
    image: Rc<Image>,
    /// Code with rows of another source, ascending and disjoint.
    covered: Vec<Range<u64>>,
    is_compiled: bool,
    /// Functions of all parts call the same ones.
    callees: RefCell<Callees>,
}

impl PartDeriver {
    /// Reads what a file says of its code besides the code itself.
    ///
    /// # Errors
    /// See [`crate::read()`].
    pub fn open(file: ReadAt<'_>) -> Result<Self, Error> {
        let elf = Elf::read(file)?;
        let covered = covered_with(file, &elf, FunctionTable::read(&elf).as_ref())?;
        let size = |ranges: &[Range<u64>]| -> u64 { ranges.iter().map(|r| r.end - r.start).sum() };
        let is_compiled = size(&covered) < size(&elf.executable()) / COMPILED_DIVISOR;
        let (image, callees) = (Image::shared(&elf), RefCell::default());
        Ok(Self { image, covered, is_compiled, callees })
    }

    /// Derives the rows of a part of the code. `file`: the one that was opened.
    ///
    /// # Errors
    /// See [`crate::read()`].
    pub fn derive(&self, file: ReadAt<'_>, part: Range<u64>) -> Result<DerivedRows, Error> {
        let elf = Elf::read(file)?;
        let region = part.start.saturating_sub(MARGIN)..part.end.saturating_add(MARGIN);
        let covered = self.covered_around(&region);
        let scope = Scope::Part { part: part.clone(), region, is_compiled: self.is_compiled };
        let mut derivation = Derivation::new(&elf, Rc::clone(&self.image), &[], covered, &scope);
        let instructions = &mut derivation.program.instructions_left;
        *instructions = INSTRUCTIONS_MAX.min(*instructions);
        derivation.program.callees = self.callees.take();
        let rows = derivation.run(Err(Reason::Conflict), &mut rule_of);
        self.callees.replace(std::mem::take(&mut derivation.program.callees));
        Ok(collect(&mut derivation, &rows, &part))
    }

    /// Returns the ranges that are not followed: covered ones, and all outside of a region.
    fn covered_around(&self, region: &Range<u64>) -> Vec<Range<u64>> {
        let from = self.covered.partition_point(|range| range.end <= region.start);
        let to = self.covered.partition_point(|range| range.start < region.end);
        let within = self.covered.get(from..to).unwrap_or_default().iter();
        let within = within.map(|range| range.start.max(region.start)..range.end.min(region.end));
        let (before, after) = (0..region.start, region.end..u64::MAX);
        let all = [before].into_iter().chain(within).chain([after]);
        all.filter(|range| !range.is_empty()).collect()
    }
}
