//! Single blocks of a table, read before the whole file is.
//!
//! Reading a large library takes some tenths of a second, one block of its text a small fraction of
//! that: `.eh_frame_hdr` lists the functions in the order of their addresses, so only those of the
//! block are read. Nothing proves that the list is complete. A block therefore serves only until
//! the whole file is read, and a file that has other sources of rows than `.eh_frame` has no single
//! blocks.

use std::ops::Range;

use gimli::{BaseAddresses, EhFrameHdr, EhFrameOffset, LittleEndian};

use crate::cfi::{CallFrameLayer, Fde, fde_at};
use crate::code_patterns::CodePatternLayer;
use crate::elf::{Elf, Section};
use crate::go::FunctionTable;
use crate::layers::{Layer, RangeLayer, fill};
use crate::sections::CfiSections;
use crate::table::{BLOCK_SHIFT_MAX, Block, TableBuilder, table_start, with_pending_gaps};
use crate::{Gaps, ReadAt, linker_code};

/// Bytes of the `.eh_frame` of a file with single blocks: it is in memory beside that of the
/// whole reading.
const EH_FRAME_MAX: u64 = 16 << 20;
/// Bytes of `.eh_frame_hdr`; enough for a quarter of a million functions.
const INDEX_MAX: u64 = 2 << 20;
/// Entries skipped to find the function before or after a block.
const SKIPPED_MAX: usize = 64;
/// Bytes of CFA instructions executed for one block; real blocks need a tenth.
const WORK_MAX: usize = 1 << 20;

/// A file whose blocks can be read one at a time. Holds its `.eh_frame` and the list of its
/// functions.
///
/// ```
/// use std::{fs::File, os::unix::fs::FileExt};
///
/// let file = File::open("/proc/self/exe")?;
/// let read_at = |offset: u64, bytes: &mut [u8]| file.read_exact_at(bytes, offset).is_ok();
/// if let Some(reader) = unwind::BlockReader::open(&read_at) {
///     let block = reader.block(0).expect("a block of the text");
///     println!("{} bytes for the first 256 KiB from {:#x}", block.len(), reader.start());
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct BlockReader {
    sections: CfiSections,
    text: Range<u64>,
    functions: Vec<(u64, EhFrameOffset)>,
    linker: RangeLayer,
    entry: u64,
    executable: Vec<Range<u64>>,
}

impl BlockReader {
    /// Opens a file; `None` if it can only be read as a whole.
    pub fn open(file: ReadAt<'_>) -> Option<Self> {
        let elf = Elf::read(file).ok()?;
        let text = elf.table_text().ok()?;
        let has_other_rows = elf.address_of(".debug_frame").is_some()
            || elf.has_contexts()
            || FunctionTable::read(&elf).is_some();
        if has_other_rows {
            return None;
        }
        let section_up_to = |name, bytes_max| {
            let size = elf.range_of(name).map_or(u64::MAX, |range| range.end - range.start);
            if size <= bytes_max { elf.section(name).ok().flatten() } else { None }
        };
        let index = section_up_to(".eh_frame_hdr", INDEX_MAX)?;
        let eh_frame = section_up_to(".eh_frame", EH_FRAME_MAX)?;
        let sections = CfiSections::of_eh_frame(&elf, eh_frame);
        let functions = indexed_functions(&index, &sections.bases)?;
        let linker = linker_code::layer(&elf);
        let executable = elf.executable();
        Some(Self { sections, text, functions, linker, entry: elf.entry, executable })
    }

    /// Returns the first address of the table's text.
    pub fn start(&self) -> u64 {
        table_start(self.text.start)
    }

    /// Returns the bytes of memory that the reader takes.
    pub fn bytes(&self) -> usize {
        self.sections.bytes() + size_of_val(&*self.functions)
    }

    /// Reads the block with this number, which covers `1 << BLOCK_SHIFT_MAX` bytes of text.
    ///
    /// Returns `None` if it cannot be read alone. Its rules say where the base register is saved
    /// even if no rule of the file needs it. If more of its code has no row than the start-up code
    /// of a program, its gaps are pending: what is derived comes with the whole table.
    pub fn block(&self, number: u32) -> Option<Block> {
        let start = self.start().checked_add(u64::from(number) << BLOCK_SHIFT_MAX)?;
        let end = self.text.end.min(start.checked_add(1 << BLOCK_SHIFT_MAX)?);
        if start >= end {
            return None;
        }
        // The row in force where the block begins may come from a function before it. Its last gap
        // ends at the first function after it. A function that begins at its end may have a row for
        // the byte before.
        let first = self.functions.partition_point(|(address, _)| *address <= start);
        let after = self.functions.partition_point(|(address, _)| *address <= end);
        let function = |entry| self.function(entry);
        let before = self.functions[..first].iter().rev().take(SKIPPED_MAX).find_map(function);
        let next = self.functions[after..].iter().take(SKIPPED_MAX).find_map(function);
        let within = self.functions[first..after].iter().filter_map(function);
        let stretch = before.map_or(self.text.start, |function| function.start)
            ..next.map_or(self.text.end, |function| function.start);
        let functions = before.into_iter().chain(within).collect();
        self.rows(functions, stretch, start..end)
    }

    /// Reads one function of the list; `None` if it is not in the text.
    fn function(&self, (address, offset): &(u64, EhFrameOffset)) -> Option<Fde<EhFrameOffset>> {
        let eh_frame = self.sections.eh_frame();
        let function = fde_at(&eh_frame, &self.sections.bases, *offset, &self.text)?;
        (function.start == *address).then_some(function)
    }

    /// Reads the rows of a stretch of text into one block.
    fn rows(
        &self,
        functions: Vec<Fde<EhFrameOffset>>,
        stretch: Range<u64>,
        block: Range<u64>,
    ) -> Option<Block> {
        let section = self.sections.eh_frame();
        let bases = &self.sections.bases;
        let mut eh = CallFrameLayer::of(&section, bases, functions, WORK_MAX, true);
        let mut linker = self.linker.clone();
        let mut entry = CodePatternLayer::entry_point(self.entry);
        let layers: &mut [&mut dyn Layer] = &mut [&mut eh, &mut linker, &mut entry];
        let mut builder = TableBuilder::new(block.start, block.end, BLOCK_SHIFT_MAX);
        let mut gaps = Gaps::of(&self.executable);
        // The code is not read: what is filler is known once the whole file was read.
        let mut on_gap = |gap| gaps.add(&self.executable, gap, &|_| None);
        fill(layers, stretch, &mut builder, &mut |_, _| {}, &mut on_gap);
        let mut table = builder.finish();
        let is_complete =
            table.rows_omitted == 0 && eh.stats().omissions.limit == 0 && !eh.lacks_code;
        let block = is_complete.then(|| table.blocks.pop()).flatten()?;
        if gaps.are_worth_deriving() { with_pending_gaps(&block) } else { Some(block) }
    }
}

/// Reads the functions that `.eh_frame_hdr` lists: address, and offset in `.eh_frame`. Returns
/// `None` if they are not sorted.
fn indexed_functions(index: &Section, bases: &BaseAddresses) -> Option<Vec<(u64, EhFrameOffset)>> {
    let bases = bases.clone().set_eh_frame_hdr(index.address);
    let header = EhFrameHdr::new(&index.bytes, LittleEndian).parse(&bases, 8).ok()?;
    let (table, eh_frame) = (header.table()?, header.eh_frame_ptr().direct().ok()?);
    let mut functions = Vec::new();
    let mut entries = table.iter(&bases);
    while let Some((address, at)) = entries.next().ok()? {
        // A malformed list may point before the section: gimli's own conversion does not check.
        let offset = at.direct().ok()?.checked_sub(eh_frame)?;
        functions.push((address.direct().ok()?, EhFrameOffset(usize::try_from(offset).ok()?)));
    }
    functions.is_sorted_by_key(|(address, _)| *address).then_some(functions)
}
