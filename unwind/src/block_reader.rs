//! Single blocks of a table, read before the whole file is.
//!
//! A large library takes some tenths of a second, a block of its text a small part of that: `.eh_frame_hdr` lists the
//! functions in the order of their addresses, so only those of the block have to be looked at. Nothing proves that the
//! list is whole. So a piece serves only until the whole reading takes its place, and where that would look at more
//! than `.eh_frame` there are no pieces.

use std::ops::Range;

use gimli::{BaseAddresses, EhFrame, EhFrameHdr, EhFrameOffset, LittleEndian};

use crate::cfi::{CallFrameLayer, Function, Slice, function_at};
use crate::code_patterns::CodePatternLayer;
use crate::elf::{Elf, Section};
use crate::go::FunctionTable;
use crate::layers::{Layer, RangeLayer, fill};
use crate::table::{BLOCK_SHIFT_MAX, Block, TableBuilder, table_start};
use crate::{CfiSections, ReadAt, linker_code, text};

/// Bytes of an `.eh_frame` of which pieces are read: it is in memory beside that of a whole reading.
const EH_FRAME_MAX: u64 = 16 << 20;
/// Bytes of an `.eh_frame_hdr`; a quarter of a million functions take so many.
const INDEX_MAX: u64 = 2 << 20;
/// Entries that are passed over to find the function before or behind a block.
const SKIPPED_MAX: usize = 64;
/// Bytes of instructions run for one block; real ones need a tenth.
const WORK_MAX: usize = 1 << 20;

/// A file of which blocks are read alone. It holds the file's `.eh_frame` and the places of its functions.
pub struct BlockReader {
    section: Section,
    bases: BaseAddresses,
    text: Range<u64>,
    functions: Vec<(u64, EhFrameOffset)>,
    linker: RangeLayer,
    entry: u64,
}

impl BlockReader {
    /// Looks at a file. `None`: it has to be read as a whole.
    pub fn open(file: ReadAt<'_>) -> Option<Self> {
        let elf = Elf::read(file).ok()?;
        let text = text(&elf).ok()?;
        let has_other_rows = elf.address_of(".debug_frame").is_some()
            || elf.has_contexts()
            || FunctionTable::read(&elf, &|range| elf.loaded(range)).is_some();
        if has_other_rows {
            return None;
        }
        let small = |name, most| {
            let size = elf.range_of(name).map_or(u64::MAX, |range| range.end - range.start);
            if size <= most { elf.section(name).ok().flatten() } else { None }
        };
        let (index, eh_frame) =
            (small(".eh_frame_hdr", INDEX_MAX)?, small(".eh_frame", EH_FRAME_MAX)?);
        let CfiSections { eh_frame: section, bases, .. } = CfiSections::of_eh_frame(&elf, eh_frame);
        let functions = listed(&index, &bases)?;
        let linker = linker_code::of(&elf);
        Some(Self { section, bases, text, functions, linker, entry: elf.entry })
    }

    /// First address of the table's text.
    pub fn start(&self) -> u64 {
        table_start(self.text.start)
    }

    /// Bytes that it takes.
    pub fn bytes(&self) -> usize {
        self.section.bytes.len() + size_of_val(&*self.functions)
    }

    /// Reads the block with a number, which covers `1 << BLOCK_SHIFT_MAX` bytes of text; `None` when it is not to be
    /// had alone. Rows say where the base register is saved even if no rule of the file needs it.
    pub fn block(&self, number: u32) -> Option<Block> {
        let start = self.start().checked_add(u64::from(number) << BLOCK_SHIFT_MAX)?;
        let end = self.text.end.min(start.checked_add(1 << BLOCK_SHIFT_MAX)?);
        if start >= end {
            return None;
        }
        // What is in force where the block begins may come from a function before it, and where its last gap ends
        // is said by the first one behind it.
        let first = self.functions.partition_point(|(address, _)| *address <= start);
        let behind = self.functions.partition_point(|(address, _)| *address < end);
        let function = |entry| self.function(entry);
        let before = self.functions[..first].iter().rev().take(SKIPPED_MAX).find_map(function);
        let next = self.functions[behind..].iter().take(SKIPPED_MAX).find_map(function);
        let within = self.functions[first..behind].iter().filter_map(function);
        let stretch = before.map_or(self.text.start, |function| function.start)
            ..next.map_or(self.text.end, |function| function.start);
        let functions = before.into_iter().chain(within).collect();
        self.rows(functions, stretch, start..end)
    }

    fn eh_frame(&self) -> EhFrame<Slice<'_>> {
        EhFrame::new(&self.section.bytes, LittleEndian)
    }

    /// Reads one function of the list; `None` for those that have no place in a table.
    fn function(&self, (address, at): &(u64, EhFrameOffset)) -> Option<Function<EhFrameOffset>> {
        let function = function_at(&self.eh_frame(), &self.bases, *at, &self.text)?;
        (function.start == *address).then_some(function)
    }

    /// Reads the rows of a stretch of text into one block.
    fn rows(
        &self,
        functions: Vec<Function<EhFrameOffset>>,
        stretch: Range<u64>,
        block: Range<u64>,
    ) -> Option<Block> {
        let section = self.eh_frame();
        let mut eh = CallFrameLayer::of(&section, &self.bases, functions, WORK_MAX, true);
        let mut linker = self.linker.clone();
        let mut known = CodePatternLayer::new(&|_| None, self.entry, false);
        let layers: &mut [&mut dyn Layer] = &mut [&mut eh, &mut linker, &mut known];
        let mut builder = TableBuilder::new(block.start, block.end, BLOCK_SHIFT_MAX);
        fill(layers, stretch, &mut builder, &mut |_, _| {});
        let mut table = builder.finish();
        let is_whole = table.rows_omitted == 0 && eh.seen().omissions.limit == 0;
        is_whole.then(|| table.blocks.pop()).flatten()
    }
}

/// Lists the functions as `.eh_frame_hdr` does: address, and place in `.eh_frame`. `None` when it is not sorted.
fn listed(index: &Section, bases: &BaseAddresses) -> Option<Vec<(u64, EhFrameOffset)>> {
    let bases = bases.clone().set_eh_frame_hdr(index.address);
    let header = EhFrameHdr::new(&index.bytes, LittleEndian).parse(&bases, 8).ok()?;
    let (table, eh_frame) = (header.table()?, header.eh_frame_ptr().direct().ok()?);
    let mut functions = Vec::new();
    let mut entries = table.iter(&bases);
    while let Some((address, at)) = entries.next().ok()? {
        // A list that lies may point before the section: gimli's own conversion does not check.
        let at = at.direct().ok()?.checked_sub(eh_frame)?;
        functions.push((address.direct().ok()?, EhFrameOffset(usize::try_from(at).ok()?)));
    }
    functions.is_sorted_by_key(|(address, _)| *address).then_some(functions)
}
