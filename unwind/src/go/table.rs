//! Reads `.gopclntab`. It is untrusted: every offset is checked against its size.

use std::ops::Range;

use memchr::memmem;

use super::module::Module;
use crate::elf::Elf;

const MAGIC_1_16: u32 = 0xffff_fffa;
const MAGIC_1_18: u32 = 0xffff_fff0;
const MAGIC_1_20: u32 = 0xffff_fff1;

const SECTIONS: [&str; 2] = [".gopclntab", ".data.rel.ro.gopclntab"];
/// Where linkers put the table of position-independent files up to Go 1.25.
const MERGED: &str = ".data.rel.ro";
/// A section that each file linked by Go has.
const OF_GO: &str = ".go.buildinfo";
/// Bytes of a table's header after its magic number: two of padding, and the sizes of instructions
/// and pointers on x86-64.
const HEADER_END: [u8; 4] = [0, 0, 1, 8];
/// Sound headers in the section of others.
const CANDIDATES_MAX: usize = 4;
/// Functions of one file.
const FUNCTIONS_MAX: usize = 1 << 21;
/// Bytes read of a name.
const NAME_MAX: usize = 64;
/// Entries read, as a multiple of the table's bytes.
const WORK_MAX: usize = 4;

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

impl GoFunction {
    /// Returns whether it is one of these: `runtime.mcall.abi0` is the function `runtime.mcall`,
    /// `runtime.mcall2` is not.
    pub fn is_one(&self, names: &[&[u8]]) -> bool {
        let continues =
            |byte: Option<&u8>| byte.is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_');
        let is = |name: &&[u8]| {
            self.name.strip_prefix(*name).is_some_and(|rest| !continues(rest.first()))
        };
        names.iter().any(is)
    }
}

impl FunctionTable {
    /// Reads the table of a file; `None` if it has none in a known format.
    pub fn read(elf: &Elf<'_>) -> Option<Self> {
        if let Some(section) = SECTIONS.iter().find_map(|name| elf.section(name).ok().flatten()) {
            let text = find_text(elf, &section.bytes, section.address)?;
            return Self::parse(section.bytes, text);
        }
        elf.address_of(OF_GO)?;
        let mut section = elf.section(MERGED).ok().flatten()?;
        let ends = memmem::find_iter(&section.bytes, &HEADER_END);
        let starts = ends.filter_map(|end| end.checked_sub(4));
        let headers = starts.filter(|at| parse_header(&section.bytes[*at..]).is_some());
        let (at, text) = headers.take(CANDIDATES_MAX).find_map(|at| {
            let address = section.address.checked_add(at as u64)?;
            Some((at, find_text(elf, &section.bytes[at..], address)?))
        })?;
        section.bytes.drain(..at);
        Self::parse(section.bytes, text)
    }

    /// Reads the header of a table whose text is known.
    pub(super) fn parse(bytes: Vec<u8>, text_start: u64) -> Option<Self> {
        let (layout, count) = parse_header(&bytes)?;
        Some(Self { bytes, layout, count, text_start })
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

    /// Returns whether a function is Go's: the linker also lists those of other languages, of which
    /// it knows no more than the name and the start.
    pub(super) fn is_described(&self, number: usize) -> bool {
        self.function(number).is_none_or(|function| function.pcsp != self.layout.distances)
    }

    /// Returns the addresses of the functions of other languages.
    pub fn foreign_functions(&self) -> impl Iterator<Item = u64> {
        let foreign = (0..self.count).filter(|number| !self.is_described(*number));
        foreign.filter_map(|number| self.entry(number))
    }

    /// Returns the addresses of Go's functions, ascending and disjoint.
    pub fn described(&self) -> Vec<Range<u64>> {
        let numbers = (0..self.count).filter(|number| self.is_described(*number));
        let mut ranges: Vec<Range<u64>> = Vec::new();
        for range in numbers.filter_map(|number| Some(self.entry(number)?..self.entry(number + 1)?))
        {
            match ranges.last_mut() {
                _ if range.is_empty() => {}
                Some(last) if last.end == range.start => last.end = range.end,
                Some(last) if last.end > range.start => return ranges, // not sorted
                _ => ranges.push(range),
            }
        }
        ranges
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

/// Reads the header of a table: its layout and the number of its functions.
fn parse_header(bytes: &[u8]) -> Option<(Layout, usize)> {
    let magic = u32_at(bytes, 0)?;
    if bytes.get(4..8)? != HEADER_END {
        return None;
    }
    let word = |number: usize| usize::try_from(u64_at(bytes, 8 + 8 * number)?).ok();
    // Since 1.18 the header has one more word, which was the start of the text until 1.26.
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
    is_sound.then_some((layout, count))
}

/// Returns the address that the entries of a table are relative to: 0 if they are addresses.
fn find_text(elf: &Elf<'_>, bytes: &[u8], address: u64) -> Option<u64> {
    let (layout, count) = parse_header(bytes)?;
    if layout.entry != 8 {
        return Some(0);
    }
    let offset = |number: usize| Some(u32_at(bytes, layout.functions + 8 * number)?.into());
    let names = address.checked_add(layout.names as u64)?;
    let module = Module { table: address, names, functions: offset(0)?..offset(count)? };
    module.find_text(elf)
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
    type Item = (Range<u64>, Option<i32>);

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
