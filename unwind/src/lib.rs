//! How to get from a frame to its caller: the call-frame information of one ELF file as rows and rules.
//!
//! [`read`] turns a file into a [`Table`] in the very bytes that the kernel's walker searches, and
//! says what it left out. [`step()`] is the reference for that walker: the same rules written for the
//! eye; `tests/step` compiles the kernel's step for the host and compares the two.
//!
//! Pure: reads no file and no memory but through what it is handed. Input is hostile: memory and work
//! are bounded by the size of the file.
#![forbid(unsafe_code)]

pub mod arch;
mod block_reader;
mod cfi;
mod check;
mod code_patterns;
mod code_reader;
pub mod dwarf;
mod elf;
mod expression;
pub mod frame_pointer;
mod go;
mod layers;
mod linker_code;
mod rule;
mod sections;
mod step;
mod stored;
mod table;

use std::ops::Range;

use gimli::{BaseAddresses, DebugFrame, EhFrame, EhFrameHdr, LittleEndian};

pub use block_reader::BlockReader;
pub use cfi::Omissions;
pub use check::{CheckReport, Disagreement, check};
pub use elf::{Error, ReadAt, SECTION_MAX};
pub use rule::{Cfa, Gap, RegisterRule, Rule};
pub use sections::UnwindSections;
pub use step::{Registers, Step, step};
pub use stored::STORED_VERSION;
pub use table::{
    BLOCK_SHIFT_MAX, BLOCK_SHIFT_MIN, BUCKET_TEXT, Block, TEXT_MAX, Table, TableBuilder, rule_in,
    table_start,
};

use cfi::{CallFrameLayer, Slice};
use code_patterns::CodePatternLayer;
use elf::{Elf, Section};
use go::{FunctionTable, GoLayer};
use layers::{Layer, fill};

/// What a file says about its call frames.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallFrames {
    /// Its rows and rules.
    pub table: Table,
    /// Functions with rows.
    pub functions: u64,
    /// Rows as the file has them, before equal neighbours are merged.
    pub file_rows: u64,
    /// Addresses whose rows come from Go's function table or from known code, not from DWARF, in their order.
    pub non_dwarf: Vec<Range<u64>>,
    /// What is missing.
    pub omissions: Omissions,
}

/// Reads the call frames of a file: `.eh_frame` or what PT_GNU_EH_FRAME leads to; for functions that are not
/// there Go's function table or `.debug_frame`, then what is known of code.
///
/// # Errors
/// [`Error`] when there is no table to be had at all. One bad function never fails the file.
pub fn read(file: ReadAt<'_>) -> Result<CallFrames, Error> {
    read_with_progress(file, &mut || {})
}

/// The same, which says after each function that something else could be done now.
///
/// # Errors
/// As [`read()`].
pub fn read_with_progress(
    file: ReadAt<'_>,
    between: &mut dyn FnMut(),
) -> Result<CallFrames, Error> {
    let elf = Elf::read(file)?;
    let text = text(&elf)?;
    let loaded = |range| elf.loaded(range);
    let go = FunctionTable::read(&elf, &loaded);
    let dwarf = CfiSections::read(&elf, go.is_none())?;
    match read_layers(&elf, &dwarf, go.as_ref(), text, between) {
        frames if frames.table.rows == 0 && dwarf.is_empty() => Err(Error::NoCallFrames),
        frames => Ok(frames),
    }
}

/// Finds the addresses that a table can cover.
fn text(elf: &Elf<'_>) -> Result<Range<u64>, Error> {
    let text = elf.text().filter(|text| !text.is_empty()).ok_or(Error::NoText)?;
    Ok(text.start..text.end.min(text.start.saturating_add(TEXT_MAX)))
}

/// The sections of call-frame information of a file; empty by default.
#[derive(Default)]
struct CfiSections {
    eh_frame: Section,
    debug_frame: Section,
    /// What their pointers are relative to.
    bases: BaseAddresses,
}

impl CfiSections {
    /// Reads the sections. Those for debuggers count if `with_debug_frame` is said, or if there is nothing else.
    fn read(elf: &Elf<'_>, with_debug_frame: bool) -> Result<Self, Error> {
        let eh_frame = eh_frame(elf)?.unwrap_or_default();
        let debug_frame = match elf.section(".debug_frame") {
            Ok(found) if with_debug_frame => found.unwrap_or_default(),
            Err(error) if eh_frame.bytes.is_empty() && with_debug_frame => return Err(error),
            _ => Section::default(),
        };
        Ok(Self { debug_frame, ..Self::of_eh_frame(elf, eh_frame) })
    }

    fn of_eh_frame(elf: &Elf<'_>, eh_frame: Section) -> Self {
        let bases = BaseAddresses::default()
            .set_text(elf.address_of(".text").unwrap_or(0))
            .set_got(elf.address_of(".got").unwrap_or(0))
            .set_eh_frame(eh_frame.address);
        Self { eh_frame, debug_frame: Section::default(), bases }
    }

    fn is_empty(&self) -> bool {
        self.eh_frame.bytes.is_empty() && self.debug_frame.bytes.is_empty()
    }

    fn eh_frame(&self) -> EhFrame<Slice<'_>> {
        EhFrame::new(&self.eh_frame.bytes, LittleEndian)
    }

    fn debug_frame(&self) -> DebugFrame<Slice<'_>> {
        let mut section = DebugFrame::new(&self.debug_frame.bytes, LittleEndian);
        section.set_address_size(8);
        section
    }
}

fn eh_frame(elf: &Elf<'_>) -> Result<Option<Section>, Error> {
    if let Some(section) = elf.section(".eh_frame")?.filter(|section| section.bytes.len() > 4) {
        return Ok(Some(section));
    }
    let Some(header) = elf.eh_frame_header() else { return Ok(None) };
    let bases = BaseAddresses::default().set_eh_frame_hdr(header.address);
    let parsed = EhFrameHdr::new(&header.bytes, LittleEndian).parse(&bases, 8);
    match parsed.ok().and_then(|parsed| parsed.eh_frame_ptr().direct().ok()) {
        Some(address) => elf.rest_of_segment(address),
        None => Ok(None),
    }
}

fn read_layers(
    elf: &Elf<'_>,
    dwarf: &CfiSections,
    go: Option<&FunctionTable>,
    text: Range<u64>,
    between: &mut dyn FnMut(),
) -> CallFrames {
    let (mut with_base, mut block_shift) = (false, BLOCK_SHIFT_MAX);
    // Few files have a CFA in the base register, or more rules in one place than a block can
    // number: those are read again.
    loop {
        let (frames, needs_base) =
            read_once(elf, dwarf, go, &text, (with_base, block_shift), between);
        if needs_base && !with_base {
            with_base = true;
        } else if frames.table.rows_omitted > 0 && block_shift > BLOCK_SHIFT_MIN {
            block_shift -= 2;
        } else {
            return frames;
        }
    }
}

/// Reads a file's layers into a table; says too whether some CFA is kept in the base register.
fn read_once(
    elf: &Elf<'_>,
    dwarf: &CfiSections,
    go: Option<&FunctionTable>,
    text: &Range<u64>,
    (with_base, block_shift): (bool, u32),
    between: &mut dyn FnMut(),
) -> (CallFrames, bool) {
    let (eh_frame, debug_frame) = (dwarf.eh_frame(), dwarf.debug_frame());
    let loaded = |range| elf.loaded(range);
    let mut eh = CallFrameLayer::new(&eh_frame, &dwarf.bases, text.clone(), with_base);
    let mut debug = CallFrameLayer::new(&debug_frame, &dwarf.bases, text.clone(), with_base);
    let mut go = go.map(|table| GoLayer::new(table, &loaded));
    let mut linker = linker_code::of(elf);
    let mut known = CodePatternLayer::new(&loaded, elf.entry, elf.has_runtime());
    let mut wrong = CodePatternLayer::misdescribed(&loaded, elf.has_contexts());

    let mut layers: Vec<&mut dyn Layer> = vec![&mut wrong, &mut eh, &mut debug];
    layers.extend(go.as_mut().map(|layer| layer as &mut dyn Layer));
    layers.extend([&mut linker as &mut dyn Layer, &mut known]);
    let dwarf = layers.len() - 3..layers.len() - 1; // by how many layers lie below

    let mut frames = CallFrames::default();
    let mut builder = TableBuilder::new(text.start, text.end, block_shift);
    fill(&mut layers, text.clone(), &mut builder, &mut |below, function| {
        if !dwarf.contains(&below) {
            add(&mut frames.non_dwarf, function);
        }
        between();
    });
    for seen in layers.iter().map(|layer| layer.seen()) {
        frames.functions += seen.functions;
        frames.file_rows += seen.rows;
        frames.omissions.add(&seen.omissions);
    }
    frames.table = builder.finish();
    frames.omissions.block_full = frames.table.rows_omitted;
    (frames, eh.needs_base || debug.needs_base)
}

/// Adds a range behind others, joined with the last where they touch.
fn add(ranges: &mut Vec<Range<u64>>, range: Range<u64>) {
    match ranges.last_mut() {
        Some(last) if last.end >= range.start => last.end = last.end.max(range.end),
        _ => ranges.push(range),
    }
}
