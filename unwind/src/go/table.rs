//! Reads `.gopclntab`. Nothing in it is believed before it is checked against its own size.

use super::prologue::{self, Prologue};
use crate::code_reader::{CodeReader, ReadCode};
use crate::elf::Elf;

const MAGIC_1_16: u32 = 0xffff_fffa;
const MAGIC_1_18: u32 = 0xffff_fff0;
const MAGIC_1_20: u32 = 0xffff_fff1;

const SECTIONS: [&str; 2] = [".gopclntab", ".data.rel.ro.gopclntab"];
/// Functions of one file.
const FUNCTIONS_MAX: usize = 1 << 21;
/// Bytes of a name that are looked at.
const NAME_MAX: usize = 64;
/// Entries that may be read, as a multiple of the table's bytes.
const WORK_MAX: usize = 4;

/// The linker puts C code before Go's text; so much of it at most.
const BEFORE_TEXT_MAX: u64 = 1 << 20;
/// Go aligns its functions so.
const TEXT_ALIGNMENT: u64 = 32;
/// Functions that are looked at to see whether the text begins where it is thought to.
const PROBED: usize = 256;
/// Of these, functions that must begin as Go's do, of those that move sp.
const PROBED_MIN: usize = 16;

/// Where the parts of a table lie, and how they are written.
#[derive(Clone, Copy, Debug)]
struct Layout {
    /// Offset in the table of the function list.
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

/// A file's function table.
#[derive(Debug)]
pub(crate) struct FunctionTable {
    bytes: Vec<u8>,
    layout: Layout,
    count: usize,
    /// The address that entries count from; 0 where they are addresses.
    text_start: u64,
}

/// What a table says of one function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Function {
    /// Its name, or the beginning of it.
    pub name: Vec<u8>,
    /// Whether the runtime takes it for the outermost frame of a stack.
    pub is_top: bool,
    /// Whether it sets sp to something that the table cannot tell.
    pub writes_sp: bool,
    /// Offset of its distances.
    pcsp: usize,
}

impl FunctionTable {
    /// Reads the table of a file; `None` when it has none that is understood.
    pub fn read(elf: &Elf<'_>, read: ReadCode<'_>) -> Option<Self> {
        let section = SECTIONS.iter().find_map(|name| elf.section(name).ok().flatten())?;
        Self::of_section(section.bytes, elf.address_of(".text")?, read)
    }

    /// Reads a table. `text`: where the file's code begins.
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
            return None; // other instructions or pointers than those of x86-64
        }
        let word = |number: usize| usize::try_from(u64_at(&bytes, 8 + 8 * number)?).ok();
        // Since 1.18 there is a word more: where the text begins, as far as the linker knew.
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

    /// Finds the address that entries count from: the first at which functions begin as Go's do. The
    /// header does not tell since 1.26, nor before in files that can be loaded anywhere.
    fn find_text(&mut self, text: u64, read: ReadCode<'_>) -> Option<u64> {
        let told = u64_at(&self.bytes, 24)?;
        let first = text.checked_next_multiple_of(TEXT_ALIGNMENT)?;
        let near = (first..text.checked_add(BEFORE_TEXT_MAX)?).step_by(TEXT_ALIGNMENT as usize);
        let mut code = CodeReader::new(read, BEFORE_TEXT_MAX + (64 << 20));
        let moves = self.first_moves();
        [told]
            .into_iter()
            .chain(near)
            .find(|start| *start != 0 && begins(&moves, *start, &mut code))
    }

    /// Gives where a function first moves sp.
    pub(super) fn first_move(
        &self,
        function: &Function,
        entry: u64,
        work: &mut usize,
    ) -> Option<u64> {
        let mut distances = self.distances(function, entry, work);
        let moved = distances.find(|(_, distance)| distance.is_some_and(|d| d > 0));
        moved.map(|(stretch, _)| stretch.start)
    }

    /// Gives where functions first move sp, from the start of the text: of some that do, near its start.
    fn first_moves(&self) -> Vec<u64> {
        let mut work = self.work_max();
        let first_move =
            |number| self.first_move(&self.function(number)?, self.entry(number)?, &mut work);
        (0..self.count.min(PROBED)).filter_map(first_move).collect()
    }

    /// Entries of all functions that may be read.
    pub(super) fn work_max(&self) -> usize {
        self.bytes.len().saturating_mul(WORK_MAX)
    }

    /// Gives the address at which a function begins; of the one after the last, where the last ends.
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

    /// Reads what the table says of a function.
    pub(super) fn function(&self, number: usize) -> Option<Function> {
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
        Some(Function {
            name: name.copied().collect(),
            is_top: flags & 1 != 0,
            writes_sp: flags & 2 != 0,
            pcsp,
        })
    }

    /// Gives how far sp is below the return address, stretch by stretch from the function's entry on.
    /// `work`: entries that may be read.
    pub(super) fn distances<'t>(
        &'t self,
        function: &Function,
        entry: u64,
        work: &'t mut usize,
    ) -> Distances<'t> {
        let bytes = self.bytes.get(function.pcsp..).unwrap_or_default();
        Distances { bytes, at: entry, value: -1, is_first: true, work }
    }
}

/// Says whether functions begin as Go's do when the text starts here.
fn begins(moves: &[u64], start: u64, code: &mut CodeReader<'_>) -> bool {
    let mut known = 0;
    for (probed, at) in moves.iter().enumerate() {
        let Some(at) = start.checked_add(*at) else { return false };
        let text = code.get(at.saturating_sub(1)..at.saturating_add(prologue::LEN_MAX));
        known += usize::from(prologue::read(text) != Prologue::Other);
        if (probed + 1) >= PROBED_MIN && known * 2 < probed {
            return false;
        }
    }
    known >= PROBED_MIN.min(moves.len().max(1)) && known * 2 > moves.len()
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
    /// A stretch of addresses and the bytes between sp and the return address, if that can be.
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

/// Takes a number of 7 bits a byte, the lowest first.
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
