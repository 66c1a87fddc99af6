//! What an ELF file says of its code besides call frames: symbols, relocations, linkage.

use std::collections::HashSet;
use std::ops::Range;
use std::rc::Rc;

use object::LittleEndian as Endian;
use object::elf::{
    R_X86_64_64, R_X86_64_GLOB_DAT, R_X86_64_IRELATIVE, R_X86_64_JUMP_SLOT, R_X86_64_RELATIVE,
    Rela64, SHN_UNDEF, SHT_DYNSYM, SHT_RELA, SHT_SYMTAB, STT_FUNC, STT_GNU_IFUNC, SectionType,
    Sym64,
};
use object::read::elf::Sym;

use super::addresses::Addresses;
use super::code::Code;
use super::noreturn::is_noreturn;
use crate::elf::Elf;
use crate::linker_code;

/// Sections of addresses of functions that run before and after the program.
const ARRAYS: [&str; 3] = [".preinit_array", ".init_array", ".fini_array"];
/// Sections that begin with a function.
const FUNCTIONS: [&str; 2] = [".init", ".fini"];
/// Words of an array of addresses.
const ARRAY_MAX: u64 = 4096;
/// Bytes of data searched for addresses.
const DATA_MAX: u64 = 64 << 20;

/// What a file says of its code.
#[derive(Default)]
pub(super) struct Image {
    /// Addresses of functions by symbols, entry point and arrays.
    pub functions: Vec<u64>,
    /// Addresses of parts of functions that compilers have moved away, by symbols.
    pub cold_parts: HashSet<u64>,
    /// Addresses of code that data mentions, ascending.
    pub mentioned: Vec<u64>,
    /// Addresses of linkage tables.
    pub linkage: Vec<Range<u64>>,
    /// Words that the dynamic linker sets to an address of this file: where each is, and that
    /// address; ascending.
    relocated: Vec<(u64, u64)>,
    /// Functions of this file that do not return, by their names.
    pub noreturn_functions: HashSet<u64>,
    /// Words that the dynamic linker sets to the address of a function that does not return.
    pub noreturn_words: HashSet<u64>,
}

impl Image {
    /// Reads what a file says, to be shared.
    pub fn shared(elf: &Elf<'_>) -> Rc<Self> {
        Rc::new(Self::read(elf))
    }

    /// Reads what a file says; sections that are missing or malformed say nothing.
    pub fn read(elf: &Elf<'_>) -> Self {
        let mut image = Self {
            linkage: linker_code::TABLES.iter().filter_map(|name| elf.range_of(name)).collect(),
            ..Self::default()
        };
        image.functions.push(elf.entry);
        let starts = FUNCTIONS.iter().filter_map(|name| elf.address_of(name));
        image.functions.extend(starts);
        image.read_symbols(elf, SHT_SYMTAB);
        image.read_symbols(elf, SHT_DYNSYM);
        image.read_relocations(elf);
        image.relocated.sort_unstable();
        image.read_arrays(elf);
        image.functions.retain(|address| *address != 0);
        image.functions.sort_unstable();
        image.functions.dedup();
        image.mentioned = image.code_in_data(elf);
        image
    }

    /// Returns the addresses of code that the dynamic linker writes into data, or that are there in
    /// a file that is not moved when it is loaded.
    fn code_in_data(&self, elf: &Elf<'_>) -> Vec<u64> {
        let code = Code::new(elf);
        let mut found = Addresses::default();
        let relocated = self.relocated.iter().map(|(_, target)| *target);
        relocated.filter(|word| code.contains(*word)).for_each(|word| found.insert(word));
        let mut bytes_left = DATA_MAX;
        for range in elf.data().into_iter().filter(|_| elf.has_fixed_addresses()) {
            let end = range.end.min(range.start.saturating_add(bytes_left));
            let bytes = elf.loaded(range.start..end).unwrap_or_default();
            bytes_left -= (end - range.start).min(bytes_left);
            let unaligned = (range.start.wrapping_neg() % 8) as usize;
            let words = bytes.get(unaligned..).unwrap_or_default().as_chunks().0;
            let words = words.iter().map(|word| u64::from_le_bytes(*word));
            words.filter(|word| code.contains(*word)).for_each(|word| found.insert(word));
        }
        found.sort();
        found.iter().collect()
    }

    /// Returns those of ascending addresses that are in a range.
    pub fn within<'l>(addresses: &'l [u64], range: &Range<u64>) -> &'l [u64] {
        let from = addresses.partition_point(|address| *address < range.start);
        let to = addresses.partition_point(|address| *address < range.end);
        addresses.get(from..to).unwrap_or_default()
    }

    fn read_symbols(&mut self, elf: &Elf<'_>, kind: SectionType) {
        for (section, link) in elf.sections_of(kind) {
            let names = elf.section_by_index(link).unwrap_or_default();
            for symbol in section.structs::<Sym64<Endian>>() {
                let is_function = matches!(symbol.st_type(), STT_FUNC | STT_GNU_IFUNC);
                let address = symbol.st_value(Endian);
                if !is_function || address == 0 || symbol.st_shndx(Endian) == SHN_UNDEF {
                    continue;
                }
                let name = text_at(&names.bytes, symbol.st_name(Endian));
                if is_cold(name) {
                    self.cold_parts.insert(address);
                } else {
                    self.functions.push(address);
                }
                if is_noreturn(name) {
                    self.noreturn_functions.insert(address);
                }
            }
        }
    }

    fn read_relocations(&mut self, elf: &Elf<'_>) {
        let symbols = elf.sections_of(SHT_DYNSYM);
        let Some((symbols, link)) = symbols.first() else { return };
        let names = elf.section_by_index(*link).unwrap_or_default();
        let symbols = symbols.structs::<Sym64<Endian>>();
        for (section, _) in elf.sections_of(SHT_RELA) {
            for relocation in section.structs::<Rela64<Endian>>() {
                let at = relocation.r_offset.get(Endian);
                let addend = relocation.r_addend.get(Endian);
                match relocation.r_type(Endian, false) {
                    R_X86_64_RELATIVE | R_X86_64_IRELATIVE => {
                        self.relocated.push((at, addend as u64));
                    }
                    R_X86_64_64 | R_X86_64_GLOB_DAT | R_X86_64_JUMP_SLOT => {
                        let symbol = relocation.r_sym(Endian, false) as usize;
                        let Some(symbol) = symbols.get(symbol) else { continue };
                        if is_noreturn(text_at(&names.bytes, symbol.st_name(Endian))) {
                            self.noreturn_words.insert(at);
                        }
                        if symbol.st_value(Endian) != 0 {
                            let target = symbol.st_value(Endian).wrapping_add_signed(addend);
                            self.relocated.push((at, target));
                        }
                    }
                    _ => {}
                }
            }
        }
    }

    fn read_arrays(&mut self, elf: &Elf<'_>) {
        for array in ARRAYS.iter().filter_map(|name| elf.range_of(name)) {
            let end = array.end.min(array.start.saturating_add(8 * ARRAY_MAX));
            for at in (array.start..end).step_by(8) {
                self.functions.extend(self.word(elf, at));
            }
        }
    }

    /// Returns the 8 bytes at an address as they are once the file is loaded.
    fn word(&self, elf: &Elf<'_>, at: u64) -> Option<u64> {
        if let Some(target) = self.relocated_word(at) {
            return Some(target);
        }
        let bytes = elf.loaded(at..at.checked_add(8)?)?;
        Some(u64::from_le_bytes(bytes.try_into().ok()?))
    }

    /// Returns what the dynamic linker sets the word at an address to, if it does.
    pub fn relocated_word(&self, at: u64) -> Option<u64> {
        let found = self.relocated.binary_search_by_key(&at, |(at, _)| *at).ok()?;
        Some(self.relocated[found].1)
    }

    /// Returns whether an address is in a linkage table.
    pub fn is_linkage(&self, address: u64) -> bool {
        self.linkage.iter().any(|range| range.contains(&address))
    }
}

/// Returns whether a symbol is that of a part of a function.
fn is_cold(name: &[u8]) -> bool {
    name.windows(5).any(|part| part == b".cold")
}

fn text_at(names: &[u8], offset: u32) -> &[u8] {
    let from = names.get(offset as usize..).unwrap_or_default();
    from.split(|byte| *byte == 0).next().unwrap_or_default()
}
