//! Finds the text that a function table describes, by the module data of Go's runtime: its first
//! words are the addresses of the table and of the function names, and others say where the text
//! begins and ends.
//!
//! Source: the Go source tree, `runtime/symtab.go` (`moduledata`, whose first words are the same in
//! Go 1.18 to 1.27).

use std::collections::BTreeMap;
use std::ops::Range;

use memchr::memmem;
use object::LittleEndian as Endian;
use object::elf::{R_X86_64_RELATIVE, Rela64};

use crate::elf::{Elf, Section};

/// Sections that can hold module data. Since Go 1.26 it has one of its own.
const SECTIONS: [&str; 4] = [".go.module", ".noptrdata", ".data", ".data.rel.ro"];
/// Sections of relocations: of the system's linker, and of Go's.
const RELOCATIONS: [&str; 2] = [".rela.dyn", ".rela"];
/// Places of one section that are looked at.
const CANDIDATES_MAX: usize = 16;

/// Bytes from the start of module data to its fields.
const NAMES: u64 = 8;
const MIN_PC: u64 = 160;
const MAX_PC: u64 = 168;
const TEXT: u64 = 176;
const LEN: u64 = 184;

/// What is known of a module before its text is found.
pub(super) struct Module {
    /// Address of its function table.
    pub table: u64,
    /// Address of the function names.
    pub names: u64,
    /// From the start of the text, the first function and the end of the last.
    pub functions: Range<u64>,
}

impl Module {
    /// Returns the address at which the text begins.
    pub fn find_text(&self, elf: &Elf<'_>) -> Option<u64> {
        let relocations: Vec<_> =
            RELOCATIONS.iter().filter_map(|name| elf.section(name).ok().flatten()).collect();
        let relocated = || relocations.iter().flat_map(relative_words);
        let mut candidates: Vec<u64> = Vec::new();
        let pointers = relocated().filter(|(_, target)| *target == self.table).map(|(at, _)| at);
        candidates.extend(pointers.take(CANDIDATES_MAX));
        for name in SECTIONS {
            candidates.extend(self.in_section(elf, name));
        }
        let is_near = |at: u64| candidates.iter().any(|start| at.wrapping_sub(*start) < LEN);
        let words: BTreeMap<u64, u64> = relocated().filter(|(at, _)| is_near(*at)).collect();
        candidates.iter().find_map(|start| self.text_at(elf, *start, &words))
    }

    /// Returns where a section holds the address of the table.
    fn in_section(&self, elf: &Elf<'_>, name: &str) -> Vec<u64> {
        let Ok(Some(section)) = elf.section(name) else { return Vec::new() };
        let table = self.table.to_le_bytes();
        let found = memmem::find_iter(&section.bytes, &table).take(CANDIDATES_MAX);
        found.filter_map(|offset| section.address.checked_add(offset as u64)).collect()
    }

    /// Reads the start of the text from module data at an address. `relocated`: words that the
    /// dynamic linker sets.
    fn text_at(&self, elf: &Elf<'_>, start: u64, relocated: &BTreeMap<u64, u64>) -> Option<u64> {
        let bytes = elf.loaded(start..start.checked_add(LEN)?)?;
        let word = |offset: u64| {
            let set = relocated.get(&(start + offset)).copied();
            let in_place =
                || Some(u64::from_le_bytes(*bytes.get(offset as usize..)?.first_chunk()?));
            set.or_else(in_place)
        };
        let text = word(TEXT)?;
        let at = |offset: u64| text.checked_add(offset);
        let is_sound = word(NAMES)? == self.names
            && Some(word(MIN_PC)?) == at(self.functions.start)
            && Some(word(MAX_PC)?) == at(self.functions.end);
        is_sound.then_some(text)
    }
}

/// Returns the words that the dynamic linker sets to an address of the file, with that address.
fn relative_words(section: &Section) -> impl Iterator<Item = (u64, u64)> {
    let relocations = section.structs::<Rela64<Endian>>().iter();
    let relative = relocations.filter(|one| one.r_type(Endian, false) == R_X86_64_RELATIVE);
    relative.map(|one| (one.r_offset.get(Endian), one.r_addend.get(Endian) as u64))
}
