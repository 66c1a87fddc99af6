//! Reads `.gopclntab`. It is untrusted: every offset is checked against its size.

use super::prologue::{self, Prologue};
use crate::code_reader::{CodeReader, ReadCode};
use crate::elf::Elf;

const MAGIC_1_16: u32 = 0xffff_fffa;
const MAGIC_1_18: u32 = 0xffff_fff0;
const MAGIC_1_20: u32 = 0xffff_fff1;

const SECTIONS: [&str; 2] = [".gopclntab", ".data.rel.ro.gopclntab"];
/// Functions of one file.
const FUNCTIONS_MAX: usize = 1 << 21;
/// Bytes read of a name.
const NAME_MAX: usize = 64;
/// Entries read, as a multiple of the table's bytes.
const WORK_MAX: usize = 4;

/// Bytes of C code that the linker puts before Go's text.
const BEFORE_TEXT_MAX: u64 = 1 << 20;
/// Alignment of Go's functions.
const TEXT_ALIGNMENT: u64 = 32;
/// Functions probed to confirm where the text begins.
const PROBED: usize = 256;
/// Probed functions that must move sp and begin as Go's functions do.
const PROBED_MIN: usize = 16;

/// Offsets and entry sizes of a table, which depend on its version.
#[derive(Clone, Copy, Debug)]
struct Layout {
    /// Offset of the function list.
    functions: usize,
    /// Offset of the distances.
    distances: usize,
    /// Offset of the names.
    names: usize,
    /// Bytes of one entry of the function list: two numbers.
    entry: usize,
    /// Offset of the id in `_func`; the flags follow.
    id: usize,
}

/// The function table of a file.
#[derive(Debug)]
pub(crate) struct FunctionTable {
    bytes: Vec<u8>,
    layout: Layout,
    count: usize,
    /// The address that entries are relative to; 0 if they are addresses.
    text_start: u64,
}

/// One function of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct GoFunction {
    /// Its name, cut to 64 bytes.
    pub name: Vec<u8>,
    /// Whether the runtime treats it as the root of a stack.
    pub is_top: bool,
    /// Whether it writes a value to sp that the table does not have.
    pub writes_sp: bool,
    /// Offset of its distances.
    pcsp: usize,
}

impl FunctionTable {
    /// Reads the table of a file; `None` if it has none in a known format.
    pub fn read(elf: &Elf<'_>, read: ReadCode<'_>) -> Option<Self> {
        let section = SECTIONS.iter().find_map(|name| elf.section(name).ok().flatten())?;
        Self::of_section(section.bytes, elf.address_of(".text")?, read)
    }

    /// Reads a table. `text`: the address of the file's code.
    pub(super) fn of_section(bytes: Vec<u8>, text: u64, read: ReadCode<'_>) -> Option<Self> {
        let mut table = Self::parse(bytes)?;
        if table.layout.entry == 8 {
            table.text_start = table.find_text(text, read)?;
        }
        Some(table)
    }

    /// Reads the header.
    fn parse(bytes: Vec<u8>) -> Option<Self> {
        let magic = u32_at(&bytes, 0)?;
        if bytes.get(6..8)? != [1, 8] {
            return None; // not the instruction or pointer size of x86-64
        }
        let word = |number: usize| usize::try_from(u64_at(&bytes, 8 + 8 * number)?).ok();
        // Since 1.18 the header has one more word: the start of the text, if the linker knew it.
        let (first, entry, id) = match magic {
            MAGIC_1_16 => (2, 16, 40),
            MAGIC_1_18 => (3, 8, 36),
            MAGIC_1_20 => (3, 8, 40),
            _ => return None,
        };
        let layout = Layout {
            names: word(first)?,
            distances: word(first + 3)?,
            functions: word(first + 4)?,
            entry,
            id,
        };
        let count = word(0)?;
        let end = count.checked_add(1)?.checked_mul(entry)?.checked_add(layout.functions)?;
        let is_sound = count > 0 && count <= FUNCTIONS_MAX && end <= bytes.len();
        is_sound.then_some(Self { bytes, layout, count, text_start: 0 })
    }

    /// Finds the address that entries are relative to: the first at which functions begin as Go's
    /// do. It is not in the header since 1.26, nor before in position-independent files.
    fn find_text(&mut self, text: u64, read: ReadCode<'_>) -> Option<u64> {
        let in_header = u64_at(&self.bytes, 24)?;
        let first = text.checked_next_multiple_of(TEXT_ALIGNMENT)?;
        let near = (first..text.checked_add(BEFORE_TEXT_MAX)?).step_by(TEXT_ALIGNMENT as usize);
        let mut code = CodeReader::new(read, BEFORE_TEXT_MAX + (64 << 20));
        let moves = self.first_moves();
        [in_header]
            .into_iter()
            .chain(near)
            .find(|start| *start != 0 && begins_like_go(&moves, *start, &mut code))
    }

    /// Returns the address at which a function first moves sp.
    pub(super) fn first_move(
        &self,
        function: &GoFunction,
        entry: u64,
        work: &mut usize,
    ) -> Option<u64> {
        let mut distances = self.distances(function, entry, work);
        let moved = distances.find(|(_, distance)| distance.is_some_and(|d| d > 0));
        moved.map(|(stretch, _)| stretch.start)
    }

    /// Returns the offsets in the text at which functions near its start first move sp.
    fn first_moves(&self) -> Vec<u64> {
        let mut work = self.work_max();
        let first_move =
            |number| self.first_move(&self.function(number)?, self.entry(number)?, &mut work);
        (0..self.count.min(PROBED)).filter_map(first_move).collect()
    }

    /// Returns the number of entries that may be read of all functions.
    pub(super) fn work_max(&self) -> usize {
        self.bytes.len().saturating_mul(WORK_MAX)
    }

    /// Returns the start of a function; for the number after the last, the end of the last.
    pub(super) fn entry(&self, number: usize) -> Option<u64> {
        let at = self.layout.functions.checked_add(number.checked_mul(self.layout.entry)?)?;
        if number > self.count {
            return None;
        }
        match self.layout.entry {
            8 => self.text_start.checked_add(u32_at(&self.bytes, at)?.into()),
            _ => u64_at(&self.bytes, at),
        }
    }

    /// Reads a function by its number.
    pub(super) fn function(&self, number: usize) -> Option<GoFunction> {
        let Layout { functions, distances, names, entry, id } = self.layout;
        let at = functions.checked_add(number.checked_mul(entry)?)?.checked_add(entry / 2)?;
        let offset = match entry {
            8 => u32_at(&self.bytes, at)?.into(),
            _ => u64_at(&self.bytes, at)?,
        };
        let record = self.bytes.get(functions.checked_add(usize::try_from(offset).ok()?)?..)?;
        // The entry is 4 bytes since 1.18, 8 before.
        let after_entry = entry / 2;
        let name = names.checked_add(u32_at(record, after_entry)? as usize)?;
        let pcsp = distances.checked_add(u32_at(record, after_entry + 12)? as usize)?;
        let flags = *record.get(id + 1)?;
        let name = self.bytes.get(name..)?.iter().take(NAME_MAX).take_while(|byte| **byte != 0);
        Some(GoFunction {
            name: name.copied().collect(),
            is_top: flags & 1 != 0,
            writes_sp: flags & 2 != 0,
            pcsp,
        })
    }

    /// Returns the distance of sp below the return address, for each stretch of a function from its
    /// entry on. `work`: entries that may be read.
    pub(super) fn distances<'t>(
        &'t self,
        function: &GoFunction,
        entry: u64,
        work: &'t mut usize,
    ) -> Distances<'t> {
        let bytes = self.bytes.get(function.pcsp..).unwrap_or_default();
        Distances { bytes, at: entry, value: -1, is_first: true, work }
    }
}

/// Returns whether functions begin as Go's do if the text starts at this address. `moves`: offsets
/// at which they first move sp.
fn begins_like_go(moves: &[u64], start: u64, code: &mut CodeReader<'_>) -> bool {
    let mut recognized = 0;
    for (probed, at) in moves.iter().enumerate() {
        let Some(at) = start.checked_add(*at) else { return false };
        let text = code.get(at.saturating_sub(1)..at.saturating_add(prologue::LEN_MAX));
        recognized += usize::from(prologue::read(text) != Prologue::Other);
        if (probed + 1) >= PROBED_MIN && recognized * 2 < probed {
            return false;
        }
    }
    recognized >= PROBED_MIN.min(moves.len().max(1)) && recognized * 2 > moves.len()
}

/// Iterates over one function's distances.
pub(super) struct Distances<'t> {
    bytes: &'t [u8],
    at: u64,
    value: i32,
    is_first: bool,
    work: &'t mut usize,
}

impl Iterator for Distances<'_> {
    /// A stretch of addresses, and the bytes between sp and the return address if they are valid.
    type Item = (std::ops::Range<u64>, Option<i32>);

    fn next(&mut self) -> Option<Self::Item> {
        *self.work = self.work.checked_sub(1)?;
        let change = varint(&mut self.bytes)?;
        if change == 0 && !self.is_first {
            return None;
        }
        self.is_first = false;
        let change = if change & 1 != 0 { !(change >> 1) } else { change >> 1 };
        self.value = self.value.wrapping_add(change as i32);
        let start = self.at;
        self.at = start.checked_add(varint(&mut self.bytes)?.into())?;
        let distance = Some(self.value).filter(|value| *value >= 0 && value % 8 == 0);
        Some((start..self.at, distance))
    }
}

/// Reads a number of 7 bits per byte, the lowest first.
fn varint(bytes: &mut &[u8]) -> Option<u32> {
    let mut value = 0u32;
    for shift in (0..32).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u32::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}
