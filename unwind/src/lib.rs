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
mod cfi;
mod check;
mod elf;
mod expression;
pub mod frame_pointer;
mod known_code;
pub mod reference;
mod rule;
mod step;
mod table;

use std::ops::Range;

use gimli::{BaseAddresses, DebugFrame, EhFrame, EhFrameHdr, LittleEndian, UnwindSection};

pub use cfi::LeftOut;
pub use check::{Checked, Disagreement, check};
pub use elf::{Error, ReadAt, SECTION_MAX};
pub use known_code::Known;
pub use rule::{Cfa, Gap, Rule, Saved};
pub use step::{Registers, Step, step};
pub use table::{
    BLOCK_SHIFT_MAX, BLOCK_SHIFT_MIN, BUCKET_TEXT, Block, TEXT_MAX, Table, TableBuilder, rule_in,
};

use cfi::{Found, Slice};
use elf::{Elf, Section};
use known_code::Search;

/// What a file says about its call frames.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallFrames {
    /// Its rows and rules.
    pub table: Table,
    /// Functions with rows.
    pub functions: u64,
    /// Rows as the file has them, before equal neighbours are merged.
    pub file_rows: u64,
    /// What is known of code that the file says nothing about, in the order of addresses.
    pub known: Vec<Known>,
    /// What is missing.
    pub left_out: LeftOut,
}

/// Reads the call frames of a file: `.eh_frame`, else what PT_GNU_EH_FRAME leads to, else `.debug_frame`.
///
/// # Errors
/// [`Error`] when there is no table to be had at all. One bad function never fails the file.
pub fn read(file: ReadAt<'_>) -> Result<CallFrames, Error> {
    let elf = Elf::read(file)?;
    let text = text(&elf)?;
    let Some(Source { section, is_eh_frame, bases }) = source(&elf)? else {
        // Not one section of the kind, but the entry point is known.
        return match read_section(&EhFrame::new(&[], LittleEndian), &elf, &Default::default(), text)
        {
            frames if frames.table.rows > 0 => Ok(frames),
            _ => Err(Error::NoCallFrames),
        };
    };
    if is_eh_frame {
        return Ok(read_section(&EhFrame::new(&section.bytes, LittleEndian), &elf, &bases, text));
    }
    let mut frames = DebugFrame::new(&section.bytes, LittleEndian);
    frames.set_address_size(8);
    Ok(read_section(&frames, &elf, &bases, text))
}

/// Where a file's call frames are; nowhere by default.
#[derive(Default)]
struct Source {
    section: Section,
    is_eh_frame: bool,
    /// What its pointers are relative to.
    bases: BaseAddresses,
}

/// Finds the addresses that a table can cover.
fn text(elf: &Elf<'_>) -> Result<Range<u64>, Error> {
    let text = elf.text().filter(|text| !text.is_empty()).ok_or(Error::NoText)?;
    Ok(text.start..text.end.min(text.start.saturating_add(TEXT_MAX)))
}

fn source(elf: &Elf<'_>) -> Result<Option<Source>, Error> {
    let bases = BaseAddresses::default()
        .set_text(elf.address_of(".text").unwrap_or(0))
        .set_got(elf.address_of(".got").unwrap_or(0));
    if let Some(section) = eh_frame(elf)? {
        let bases = bases.set_eh_frame(section.address);
        return Ok(Some(Source { section, is_eh_frame: true, bases }));
    }
    let section = elf.section(".debug_frame")?;
    Ok(section.map(|section| Source { section, is_eh_frame: false, bases }))
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

fn read_section<'a, S>(
    section: &S,
    elf: &Elf<'_>,
    bases: &BaseAddresses,
    text: Range<u64>,
) -> CallFrames
where
    S: UnwindSection<Slice<'a>>,
    S::Offset: gimli::UnwindOffset<usize> + std::hash::Hash,
{
    let (mut with_base, mut block_shift) = (false, BLOCK_SHIFT_MAX);
    // Few files have a CFA in the base register, or more rules in one place than a block can
    // number: those are read again.
    let (table, found) = loop {
        let mut builder = TableBuilder::new(text.start, text.end, block_shift);
        let loaded = |range| elf.loaded(range);
        let search = Search::new(&loaded, elf.entry, elf.has_runtime());
        let found = cfi::read(section, bases, text.clone(), with_base, search, &mut builder);
        let table = builder.finish();
        if found.needs_base && !with_base {
            with_base = true;
        } else if table.crowded_out > 0 && block_shift > BLOCK_SHIFT_MIN {
            block_shift -= 2;
        } else {
            break (table, found);
        }
    };
    let Found { functions, rows, mut left_out, known, .. } = found;
    left_out.crowded_out = table.crowded_out;
    CallFrames { table, functions, file_rows: rows, known, left_out }
}
