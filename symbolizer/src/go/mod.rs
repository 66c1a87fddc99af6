//! Functions, inlined functions, files and lines by Go's function table (`.gopclntab`), which its
//! runtime needs for traces of the stack: also stripped programs have it.
//!
//! The table is read in the file at each lookup, a few bytes at a time, because it is as large as
//! the code of a program.

mod layout;
mod module;
mod values;

use crate::elf::{ElfFile, number};
use layout::Version;
use module::Place;

/// Most functions at one address.
const INLINED_MAX: usize = 64;
/// Changes of values that are read for one address.
const WORK_MAX: usize = 1 << 18;
/// Longest name or path that is read, in bytes; what is shown of it is shorter, see `text`.
const TEXT_MAX: usize = 16 << 10;

/// Numbers of the lists of a function: of the inlined calls by address, and of their tree
/// (`internal/abi/symtab.go`).
const INLINED_CALL_BY_ADDRESS: u64 = 2;
const INLINING_TREE: u64 = 3;

/// A function and the place in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct GoFunction {
    pub name: String,
    /// Empty if it is unknown.
    pub file: String,
    /// 0 if it is unknown.
    pub line: u32,
    /// The line on which it starts; 0 if it is unknown: it is in the table since Go 1.20.
    pub start_line: u32,
}

/// The function table of a file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GoTable {
    place: Place,
}

/// The record of a function.
struct Record {
    /// Offset in the file.
    offset: u64,
    entry: u64,
    end: u64,
    bytes: Vec<u8>,
}

impl GoTable {
    /// Finds the table of a file; `None` if it has none in a known format.
    pub fn find(elf: &ElfFile) -> Option<Self> {
        module::find(elf).map(|place| Self { place })
    }

    /// Returns the functions at an address, innermost first; none if it is not in a function. The
    /// last is the function itself, the others are inlined in it. Functions of other languages have
    /// no line.
    pub fn functions(&self, elf: &ElfFile, address: u64) -> Vec<GoFunction> {
        self.record(elf, address)
            .filter(|record| self.contains(elf, record, address))
            .map(|record| self.chain(elf, &record, address))
            .unwrap_or_default()
    }

    fn chain(&self, elf: &ElfFile, record: &Record, address: u64) -> Vec<GoFunction> {
        let mut work = WORK_MAX;
        let tree = self.inlining_tree(elf, record);
        let mut functions = Vec::new();
        let mut at = address;
        while functions.len() < INLINED_MAX {
            let (file, line) = self.file_and_line(elf, record, at, &mut work);
            let inlined = tree.and_then(|tree| self.inlined_call(elf, record, tree, at, &mut work));
            let name = inlined.map_or(record.number(self.name_offset()), |call| call.name);
            let start_line = inlined.map_or(self.start_line(record), |call| call.start_line);
            functions.push(GoFunction { name: self.name(elf, name), file, line, start_line });
            match inlined {
                Some(call) => at = call.parent,
                None => break,
            }
        }
        functions
    }

    /// Returns where the offset of the name is in a record; other numbers follow.
    fn name_offset(&self) -> usize {
        if self.place.layout.version == Version::Go116 { 8 } else { 4 }
    }

    /// Returns the line on which a function starts.
    fn start_line(&self, record: &Record) -> u32 {
        let has_it = self.place.layout.version == Version::Go120;
        if has_it { record.number(self.name_offset() + 32) } else { 0 }
    }

    /// Returns whether an address is in the code of a function: that of Go ends where its distances
    /// of the stack pointer do, before padding. The linker also lists functions of other languages,
    /// of which it has no more than the name and the start.
    fn contains(&self, elf: &ElfFile, record: &Record, address: u64) -> bool {
        let distances = record.number(self.name_offset() + 12);
        let Place { offset, layout, .. } = self.place;
        let at = offset.saturating_add(layout.values).saturating_add(distances.into());
        let found = values::value_at(&elf.bytes, at, record.entry, address, &mut { WORK_MAX });
        distances == 0 || found.is_some()
    }

    /// Finds the record of the function at an address: the list of functions is sorted.
    fn record(&self, elf: &ElfFile, address: u64) -> Option<Record> {
        let Place { offset, layout, text, .. } = self.place;
        let list = offset.checked_add(layout.functions)?;
        let half = (layout.entry() / 2) as usize;
        let entry = |at: u64| {
            let bytes = elf.bytes.read(list.checked_add(at * layout.entry())?, 2 * half).ok()?;
            Some((text.checked_add(number(&bytes, 0, half))?, number(&bytes, half, half)))
        };
        let (mut from, mut to) = (0, layout.count);
        while from < to {
            let middle = from + (to - from) / 2;
            if entry(middle)?.0 <= address { from = middle + 1 } else { to = middle }
        }
        let (start, record) = entry(from.checked_sub(1)?)?;
        let (end, _) = entry(from)?; // behind the last one is the end of the text
        let offset = list.checked_add(record)?;
        let bytes = elf.bytes.read(offset, layout.record() as usize).ok()?;
        (address < end).then_some(Record { offset, entry: start, end, bytes })
    }

    fn name(&self, elf: &ElfFile, at: u32) -> String {
        self.text(elf, self.place.layout.names, at)
    }

    fn text(&self, elf: &ElfFile, part: u64, at: u32) -> String {
        let from = self.place.offset.saturating_add(part).saturating_add(at.into());
        String::from_utf8_lossy(&elf.bytes.read_text(from, TEXT_MAX)).into_owned()
    }

    fn value(
        &self,
        elf: &ElfFile,
        record: &Record,
        table: u32,
        address: u64,
        work: &mut usize,
    ) -> Option<i32> {
        if table == 0 {
            return None;
        }
        let Place { offset, layout, .. } = self.place;
        let at = offset.checked_add(layout.values)?.checked_add(table.into())?;
        let value = values::value_at(&elf.bytes, at, record.entry, address, work);
        value.map(|(value, _)| value).filter(|value| *value >= 0)
    }

    fn file_and_line(
        &self,
        elf: &ElfFile,
        record: &Record,
        address: u64,
        work: &mut usize,
    ) -> (String, u32) {
        let Place { offset, layout, .. } = self.place;
        let at = self.name_offset();
        let [files, lines, unit] = [16, 20, 28].map(|more| record.number(at + more));
        let file = self.value(elf, record, files, address, work).and_then(|file| {
            let unit = offset.checked_add(layout.units)?.checked_add(u64::from(unit) * 4)?;
            let bytes = elf.bytes.read(unit.checked_add(file as u64 * 4)?, 4).ok()?;
            let at = number(&bytes, 0, 4) as u32;
            (at != u32::MAX).then(|| self.text(elf, layout.files, at))
        });
        let line = self.value(elf, record, lines, address, work);
        (file.unwrap_or_default(), line.unwrap_or(0) as u32)
    }

    /// Returns the address of the inlining tree of a function; `None` without one.
    fn inlining_tree(&self, elf: &ElfFile, record: &Record) -> Option<u64> {
        let base = self.place.function_data?;
        if INLINING_TREE >= u64::from(record.last()) {
            return None;
        }
        let lists = record.offset.checked_add(self.place.layout.record())?;
        let data = lists.checked_add(u64::from(record.value_tables(self.name_offset())) * 4)?;
        let pointer = match self.place.layout.version {
            Version::Go116 => {
                // Pointers are aligned as in memory, where the table is.
                let at = data.checked_next_multiple_of(8)?.checked_add(INLINING_TREE * 8)?;
                number(&elf.bytes.read(at, 8).ok()?, 0, 8)
            }
            _ => {
                let at = data.checked_add(INLINING_TREE * 4)?;
                let offset = number(&elf.bytes.read(at, 4).ok()?, 0, 4);
                if offset == u64::from(u32::MAX) {
                    return None;
                }
                base.checked_add(offset)?
            }
        };
        (pointer != 0).then_some(pointer)
    }

    /// Returns the call that is inlined at an address of a function; `None` if it is none.
    fn inlined_call(
        &self,
        elf: &ElfFile,
        record: &Record,
        tree: u64,
        address: u64,
        work: &mut usize,
    ) -> Option<InlinedCall> {
        let layout = self.place.layout;
        if INLINED_CALL_BY_ADDRESS >= record.value_tables(self.name_offset()).into() {
            return None;
        }
        let list = record.offset.checked_add(layout.record() + INLINED_CALL_BY_ADDRESS * 4)?;
        let table = number(&elf.bytes.read(list, 4).ok()?, 0, 4) as u32;
        let index = self.value(elf, record, table, address, work)?;
        let (size, name, parent) = layout.inlined_call();
        let call = elf.loaded(tree.checked_add(index as u64 * size)?, size as usize);
        let parent = number(&call, parent, 4);
        let parent = record.entry.checked_add(parent).filter(|parent| *parent < record.end)?;
        let start_line = match layout.version {
            Version::Go120 => number(&call, 12, 4) as u32,
            _ => 0,
        };
        (call.len() as u64 == size).then_some(InlinedCall {
            name: number(&call, name, 4) as u32,
            parent,
            start_line,
        })
    }
}

/// A call that was inlined.
#[derive(Clone, Copy, Debug)]
struct InlinedCall {
    /// Offset of the name of the called function.
    name: u32,
    /// Address of an instruction at the place of the call.
    parent: u64,
    /// See [`GoFunction::start_line`].
    start_line: u32,
}

impl Record {
    fn number(&self, at: usize) -> u32 {
        number(&self.bytes, at, 4) as u32
    }

    /// Returns the number of tables of values by address. `name_offset`: where the name is.
    fn value_tables(&self, name_offset: usize) -> u32 {
        self.number(name_offset + 24)
    }

    /// Returns the last byte, the number of pointers to data.
    fn last(&self) -> u8 {
        self.bytes.last().copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests;
