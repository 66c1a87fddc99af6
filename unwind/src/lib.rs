//! Unwind rows of an ELF file: from each instruction to the rule that leads to its caller.
//!
//! [`read`] turns the call-frame information of one file into a [`Table`]: rows (an address and
//! a rule) in the bytes that a BPF program can search. [`step()`] applies a [`Rule`] to the
//! [`Registers`] of a frame and returns those of its caller.
//!
//! ```text
//! .eh_frame, .debug_frame ---+
//! .gopclntab (Go) -----------+--> read() --> Table --rule_at(ip)--> Rule --step()--> caller
//! PLT stubs, code patterns --+
//! Haskell code --------------+
//! machine code --------------+
//! ```
//!
//! # What it provides
//!
//! - Tables of 2.7 bytes per row, looked up in at most 9 steps ([`Table::rule_at`]), which can be
//!   stored and read back without the file ([`CallFrames::to_bytes`]).
//! - Single blocks of a table, in a fraction of the time that a large library takes
//!   ([`BlockReader`]).
//! - The reason for each row that the file has and the table has not ([`Omissions`]).
//! - Rows derived from machine code, and how right they are ([`derived`]).
//! - Two independent answers to compare with: DWARF evaluated by gimli ([`dwarf::DwarfUnwinder`],
//!   [`check()`]), and stepping by frame pointers ([`frame_pointer`]).
//!
//! # Rules as formulas
//!
//! The caller's stack pointer is always the canonical frame address (CFA). `n` is constant in a
//! rule:
//!
//! | rule | cfa | return address | frame pointer |
//! |---|---|---|---|
//! | function without frame pointer | `sp + 8*n` | `*(cfa - 8)` | `fp`, or `*(cfa - 8*n)` |
//! | function with frame pointer | `fp + 16` | `*(cfa - 8)` | `*(cfa - 16)` |
//! | realigned stack | `*(fp - 8*n)` | `*(cfa - 8)` | `*fp` |
//! | PLT stub | `sp + 8`, `sp + 16` after its push | `*(cfa - 8)` | `fp` |
//! | signal frame | `*(sp + 160)` | `*(sp + 168)` | `*(sp + 120)` |
//! | root of the stack | none: there is no caller | | |
//!
//! [`Cfa`] and [`RegisterRule`] list all of them.
//!
//! # What it needs
//!
//! A closure that reads bytes of the file ([`ReadAt`]), and one that reads words of the thread's
//! memory. The crate opens no file and reads no memory by itself. Addresses are those of the ELF
//! file (`p_vaddr`); the caller translates them from and to a process. x86-64 only.
//!
//! # What it is not
//!
//! It is neither a symbolizer nor a whole unwinder: the loop that looks up the executable of an
//! address, steps, and falls back to frame pointers is the caller's (`examples/pstack.rs`).
//! DWARF expressions are recognized, not evaluated; those that compilers, linkers and C libraries
//! do not write become [`Gap::NotExpressible`].
//!
//! # Hostile input
//!
//! Files are untrusted. No input causes a panic or an endless loop. Memory is bounded by the size
//! of the file, by [`SECTION_MAX`] for each section, and by [`TEXT_MAX`] for the text of a table.
//! The CFA instructions executed are bounded by a multiple of the section's size. One malformed
//! function never fails a file. `./dev fuzz` and `tests/hostile_elf.rs` verify this.
//!
//! # Example
//!
//! Reads the rows of the running program and steps from the first instruction of a function:
//!
//! ```
//! use std::{fs::File, os::unix::fs::FileExt};
//! use unwind::{Cfa, Registers, Step, arch, step};
//!
//! let file = File::open("/proc/self/exe")?;
//! let read_at = |offset: u64, bytes: &mut [u8]| file.read_exact_at(bytes, offset).is_ok();
//! let frames = unwind::read(&read_at)?;
//!
//! // At its first instruction, a function has nothing on the stack but its return address.
//! let at_entry = Cfa::Register(arch::SP, 8);
//! let (ip, rule) = frames.table.iter().find(|(_, rule)| rule.cfa == at_entry).expect("a row");
//!
//! let mut registers = [0; arch::REGISTERS];
//! registers[usize::from(arch::SP.number())] = 0x7000;
//! let stack = |address| (address == 0x7000).then_some(0x40_1005);
//! match step(&Registers::interrupted(ip, registers), &rule, stack) {
//!     Step::Caller(caller) => assert_eq!((caller.ip, caller.sp), (0x40_1005, 0x7008)),
//!     other => panic!("{other:?}"),
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

pub mod arch;
mod block_reader;
mod cfi;
mod check;
mod code_patterns;
mod code_reader;
pub mod derived;
pub mod dwarf;
mod elf;
pub mod encoding;
pub mod frame_pointer;
mod gaps;
mod go;
mod haskell;
mod layers;
mod linker_code;
mod omissions;
mod rule;
mod sections;
mod step;
mod stored;
mod table;
mod table_part;
#[cfg(test)]
mod test_file;

use std::ops::Range;

pub use block_reader::BlockReader;
pub use check::{CheckReport, Disagreement, check};
pub use elf::{Error, ReadAt, SECTION_MAX};
pub use gaps::Gaps;
pub use omissions::Omissions;
pub use rule::{Cfa, Gap, RegisterRule, Rule};
pub use sections::UnwindSections;
pub use step::{Registers, Step, step};
pub use stored::STORED_VERSION;
pub use table::{
    BLOCK_SHIFT_MAX, BLOCK_SHIFT_MIN, BUCKET_TEXT, Block, TEXT_MAX, Table, TableBuilder, rule_in,
    table_start, with_pending_gaps,
};

use cfi::CallFrameLayer;
use code_patterns::CodePatternLayer;
use derived::DerivedRows;
use elf::Elf;
use go::{FunctionTable, GoLayer};
use haskell::HaskellLayer;
use layers::{Layer, fill};
use sections::CfiSections;

/// The call frames of one file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallFrames {
    /// Rows and rules.
    pub table: Table,
    /// Functions with rows.
    pub functions: u64,
    /// Rows in the file, before equal neighbours are merged.
    pub file_rows: u64,
    /// Addresses, ascending, whose rows come from Go's function table, linker code, code patterns
    /// or machine code, and not from DWARF.
    pub non_dwarf: Vec<Range<u64>>,
    /// Rows that the file has and the table has not.
    pub omissions: Omissions,
    /// Code that no source has rows for.
    pub gaps: Gaps,
}

/// Reads the call frames of a file.
///
/// They come from `.eh_frame`, or from what `PT_GNU_EH_FRAME` points to. Functions that it does
/// not cover come from Go's function table or `.debug_frame`, then from code patterns.
///
/// # Errors
/// [`Error`] if the file has no table at all. One malformed function never fails the file.
pub fn read(file: ReadAt<'_>) -> Result<CallFrames, Error> {
    read_with_progress(file, &mut || {})
}

/// Reads like [`read()`] and calls `on_function` after each function, so that the caller can do
/// more urgent work in between.
///
/// # Errors
/// See [`read()`].
pub fn read_with_progress(
    file: ReadAt<'_>,
    on_function: &mut dyn FnMut(),
) -> Result<CallFrames, Error> {
    read_with_derived(file, &DerivedRows::default(), on_function)
}

/// Reads like [`read_with_progress()`], with rows that were derived from machine code where no
/// other source has any.
///
/// # Errors
/// See [`read()`].
pub fn read_with_derived(
    file: ReadAt<'_>,
    derived: &DerivedRows,
    on_function: &mut dyn FnMut(),
) -> Result<CallFrames, Error> {
    match read_all(file, derived, on_function)? {
        (frames, false) if frames.table.rows == 0 => Err(Error::NoCallFrames),
        (frames, _) => Ok(frames),
    }
}

/// Reads like [`read_with_progress()`], and also a file in which no source has rows: then all of
/// its code is in gaps.
///
/// # Errors
/// See [`read()`].
pub fn read_with_gaps(
    file: ReadAt<'_>,
    on_function: &mut dyn FnMut(),
) -> Result<CallFrames, Error> {
    read_all(file, &DerivedRows::default(), on_function).map(|(frames, _)| frames)
}

/// Makes the table of a file of rows that were derived from its machine code, as if it had no call
/// frames, and of what is recognized by its bytes.
///
/// # Errors
/// See [`read()`].
pub fn read_derived_only(file: ReadAt<'_>, derived: &DerivedRows) -> Result<CallFrames, Error> {
    let elf = Elf::read(file)?;
    let sections = CfiSections::default();
    let sources = Sources { elf: &elf, sections: &sections, go: None, derived };
    Ok(read_layers(&sources, elf.table_text()?, &mut || {}))
}

/// Reads all sources of a file. Returns also whether it has call frames, usable or not.
fn read_all(
    file: ReadAt<'_>,
    derived: &DerivedRows,
    on_function: &mut dyn FnMut(),
) -> Result<(CallFrames, bool), Error> {
    let elf = Elf::read(file)?;
    let text = elf.table_text()?;
    let go = FunctionTable::read(&elf);
    let sections = CfiSections::read(&elf, go.is_none())?;
    let sources = Sources { elf: &elf, sections: &sections, go: go.as_ref(), derived };
    Ok((read_layers(&sources, text, on_function), !sections.is_empty()))
}

/// Where the rows of a file come from.
struct Sources<'s, 'a> {
    elf: &'s Elf<'a>,
    sections: &'s CfiSections,
    go: Option<&'s FunctionTable>,
    derived: &'s DerivedRows,
}

fn read_layers(
    sources: &Sources<'_, '_>,
    text: Range<u64>,
    on_function: &mut dyn FnMut(),
) -> CallFrames {
    let (mut with_base, mut block_shift) = (false, BLOCK_SHIFT_MAX);
    // A few files have a CFA in the base register, or more rules in a block than it can number.
    // Those are read again.
    loop {
        let shape = (with_base, block_shift);
        let (frames, needs_base) = read_once(sources, &text, shape, on_function);
        if needs_base && !with_base {
            with_base = true;
        } else if frames.table.rows_omitted > 0 && block_shift > BLOCK_SHIFT_MIN {
            block_shift -= 2;
        } else {
            return frames;
        }
    }
}

/// Reads the layers of a file into a table. Also returns whether a rule has its CFA in the base
/// register.
fn read_once(
    sources: &Sources<'_, '_>,
    text: &Range<u64>,
    (with_base, block_shift): (bool, u32),
    on_function: &mut dyn FnMut(),
) -> (CallFrames, bool) {
    let Sources { elf, sections, go, derived } = *sources;
    let (eh_frame, debug_frame) = (sections.eh_frame(), sections.debug_frame());
    let loaded = |range| elf.loaded(range);
    let eh = CallFrameLayer::new(&eh_frame, &sections.bases, text.clone(), with_base);
    let debug = CallFrameLayer::new(&debug_frame, &sections.bases, text.clone(), with_base);
    let (mut eh, mut debug) = (eh.with_code(&loaded), debug.with_code(&loaded));
    let mut go = go.map(|table| GoLayer::new(table, &loaded));
    let mut linker = linker_code::layer(elf);
    let mut undescribed = CodePatternLayer::undescribed(&loaded, elf.entry, elf.has_runtime());
    let mut haskell = HaskellLayer::new(&loaded, !sections.is_empty());
    let (mut derived, derived_needs_base) = derived.layer(with_base);
    let mut misdescribed = CodePatternLayer::misdescribed(&loaded, elf.has_contexts());

    let mut layers: Vec<&mut dyn Layer> = vec![&mut misdescribed, &mut eh, &mut debug];
    layers.extend(go.as_mut().map(|layer| layer as &mut dyn Layer));
    layers.extend([&mut linker as &mut dyn Layer, &mut undescribed, &mut haskell, &mut derived]);
    let dwarf_layers = layers.len() - 3..layers.len() - 1; // by the number of layers below

    let mut frames = CallFrames::default();
    let mut builder = TableBuilder::new(text.start, text.end, block_shift);
    let mut take = |below: usize, function| {
        if !dwarf_layers.contains(&below) {
            push_joined(&mut frames.non_dwarf, function);
        }
        on_function();
    };
    let executable = elf.executable();
    let mut gaps = Gaps::of(&executable);
    let mut on_gap = |gap| gaps.add(&executable, gap, &loaded);
    fill(&mut layers, text.clone(), &mut builder, &mut take, &mut on_gap);
    frames.gaps = gaps;
    for stats in layers.iter().map(|layer| layer.stats()) {
        frames.functions += stats.functions;
        frames.file_rows += stats.rows;
        frames.omissions.add(&stats.omissions);
    }
    frames.table = builder.finish();
    frames.omissions.block_full = frames.table.rows_omitted;
    (frames, eh.needs_base || debug.needs_base || derived_needs_base)
}

/// Appends a range, joined with the last one if they touch.
fn push_joined(ranges: &mut Vec<Range<u64>>, range: Range<u64>) {
    match ranges.last_mut() {
        Some(last) if last.end >= range.start => last.end = last.end.max(range.end),
        _ => ranges.push(range),
    }
}
