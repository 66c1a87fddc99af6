//! Finds a function table and what it is relative to, by the module data of Go's runtime: its first
//! words are the addresses of the table and of the function names, and others say where the text
//! and the data of functions begin.
//!
//! Source: the Go source tree, `runtime/symtab.go` (`moduledata`), of Go 1.18 to 1.27.

use std::collections::BTreeMap;

use memchr::memmem;
use object::LittleEndian as Endian;
use object::elf::{R_X86_64_RELATIVE, Rela64};

use super::layout::{HEADER_MAX, Layout, STARTS, Version};
use crate::elf::{ElfFile, Section, number, structs};

const TABLES: [&str; 2] = [".gopclntab", ".data.rel.ro.gopclntab"];
/// Where linkers put the table of position-independent files up to Go 1.25.
const MERGED: &str = ".data.rel.ro";
/// A section that each file linked by Go has.
const OF_GO: &str = ".go.buildinfo";
/// Sections that can hold module data. Since Go 1.26 it has one of its own.
const DATA: [&str; 4] = [".go.module", ".noptrdata", ".data", ".data.rel.ro"];
/// Sections of relocations: of the system's linker, and of Go's.
const RELOCATIONS: [&str; 2] = [".rela.dyn", ".rela"];
/// Bytes of sections that are searched, and read at a time: a multiple of a relocation's.
const SEARCHED_MAX: u64 = 64 << 20;
const BYTES_AT_ONCE: u64 = 24 << 14;
/// Places that are looked at.
const CANDIDATES_MAX: usize = 16;

/// Words of module data.
const NAMES: u64 = 1;
const MIN_PC: u64 = 20;
const MAX_PC: u64 = 21;
const TEXT: u64 = 22;
/// Where the address of the data of functions can be: Go 1.18, 1.20, 1.27. The word before is the
/// start of the read-only data, which contains it.
const FUNCTION_DATA: [u64; 3] = [38, 40, 43];
const WORDS: u64 = 45;

/// A function table in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Offset of the table in the file.
    pub offset: u64,
    pub layout: Layout,
    /// The address that functions are relative to; 0 if they have addresses.
    pub text: u64,
    /// The address that the data of functions is relative to, if it is known; 0 if functions have
    /// its address.
    pub function_data: Option<u64>,
}

/// Finds the function table of a file; `None` if it has none in a known format.
pub(super) fn find(elf: &ElfFile) -> Option<Place> {
    if !elf.is_64_bit() {
        return None;
    }
    if let Some(section) = TABLES.iter().find_map(|name| elf.section(name)) {
        return place(elf, section.offset, section.address);
    }
    elf.section(OF_GO)?;
    let section = elf.section(MERGED)?;
    let starts = STARTS.iter().flat_map(|start| find_bytes(elf, section, start));
    let mut places = starts.filter_map(|at| {
        place(elf, section.offset.checked_add(at)?, section.address.checked_add(at)?)
    });
    places.next()
}

fn place(elf: &ElfFile, offset: u64, address: u64) -> Option<Place> {
    let layout = Layout::read(&elf.bytes, offset)?;
    if layout.version == Version::Go116 {
        return Some(Place { offset, layout, text: 0, function_data: Some(0) });
    }
    let (text, function_data) = find_module(elf, offset, address, &layout)?;
    Some(Place { offset, layout, text, function_data })
}

/// Returns the offsets in a section at which it has these bytes.
fn find_bytes(elf: &ElfFile, section: &Section, bytes: &[u8]) -> Vec<u64> {
    let mut found = Vec::new();
    for from in (0..section.bytes.min(SEARCHED_MAX)).step_by(BYTES_AT_ONCE as usize) {
        let left = (section.bytes - from).min(BYTES_AT_ONCE + HEADER_MAX as u64);
        let piece = elf.bytes.read_up_to(section.offset.saturating_add(from), left as usize);
        let starts = memmem::find_iter(&piece, bytes).map(|at| from + at as u64);
        found.extend(starts.filter(|at| *at < from + BYTES_AT_ONCE));
        if found.len() >= CANDIDATES_MAX || piece.is_empty() {
            break;
        }
    }
    found
}

/// Reads module data: returns the start of the text and of the data of functions.
fn find_module(
    elf: &ElfFile,
    offset: u64,
    address: u64,
    layout: &Layout,
) -> Option<(u64, Option<u64>)> {
    let bound = |number: u64| {
        let at = offset.checked_add(layout.functions)?.checked_add(number * layout.entry())?;
        let entry = elf.bytes.read(at, 4).ok()?;
        Some(self::number(&entry, 0, 4))
    };
    let functions = (bound(0)?, bound(layout.count)?);
    let sections = DATA.iter().filter_map(|name| elf.section(name));
    let mut candidates: Vec<u64> = Vec::new();
    for section in sections {
        let found = find_bytes(elf, section, &address.to_le_bytes());
        candidates.extend(found.iter().filter_map(|at| section.address.checked_add(*at)));
    }
    for_each_relative(elf, |at, target| {
        if target == address && candidates.len() < CANDIDATES_MAX {
            candidates.push(at);
        }
    });
    let mut relocated = BTreeMap::new();
    for_each_relative(elf, |at, target| {
        if candidates.iter().any(|start| at.wrapping_sub(*start) < WORDS * 8) {
            relocated.insert(at, target);
        }
    });
    let names = address.checked_add(layout.names)?;
    candidates.iter().find_map(|start| {
        let bytes = elf.loaded(*start, WORDS as usize * 8);
        let word = |at: u64| {
            let set = start.checked_add(at * 8).and_then(|at| relocated.get(&at).copied());
            set.unwrap_or_else(|| number(&bytes, at as usize * 8, 8))
        };
        let text = word(TEXT);
        let is_sound = word(NAMES) == names
            && Some(word(MIN_PC)) == text.checked_add(functions.0)
            && Some(word(MAX_PC)) == text.checked_add(functions.1);
        let is_data = |at: &u64| {
            let (read_only, data) = (word(*at - 1), word(*at));
            read_only <= data && elf.offset_of(read_only).is_some() && elf.offset_of(data).is_some()
        };
        let places = match layout.version {
            Version::Go118 => &FUNCTION_DATA[..1],
            _ => &FUNCTION_DATA[1..],
        };
        let function_data = places.iter().copied().find(is_data).map(word);
        is_sound.then_some((text, function_data))
    })
}

/// Calls a function for each word that the dynamic linker sets to an address of the file, with the
/// address of the word.
fn for_each_relative(elf: &ElfFile, mut take: impl FnMut(u64, u64)) {
    for section in RELOCATIONS.iter().filter_map(|name| elf.section(name)) {
        for from in (0..section.bytes.min(SEARCHED_MAX)).step_by(BYTES_AT_ONCE as usize) {
            let count = (section.bytes - from).min(BYTES_AT_ONCE) as usize;
            let piece = elf.bytes.read_up_to(section.offset.saturating_add(from), count);
            for entry in structs::<Rela64<Endian>>(&piece) {
                if entry.r_type(Endian, false) == R_X86_64_RELATIVE {
                    take(entry.r_offset.get(Endian), entry.r_addend.get(Endian) as u64);
                }
            }
        }
    }
}
