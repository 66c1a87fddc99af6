//! One symbol table of a file: its place, its functions, and their names.

use object::LittleEndian as Endian;
use object::elf::{
    DT_STRSZ, DT_STRTAB, DT_SYMTAB, SHN_ABS, SHN_UNDEF, STB_LOCAL, STB_WEAK, STT_FUNC,
    STT_GNU_IFUNC, STT_NOTYPE, STT_OBJECT, Sym32, Sym64,
};
use object::read::elf::Sym;

use crate::elf::{Dynamic, ElfFile, structs};
use crate::text::TEXT_MAX;

/// Symbols read at a time.
const SYMBOLS_AT_ONCE: usize = 4096;
/// Longest name that is read. What is shown of it is shorter and ends with its length, see `text`.
const NAME_MAX: usize = 2 << 20;

/// Where a symbol table is in its file, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SymbolTable {
    offset: u64,
    bytes: u64,
    names_offset: u64,
    names_bytes: u64,
}

/// How visible a symbol is to the linker; the least is preferred.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Binding {
    Global,
    Weak,
    Local,
}

/// What a symbol of code is; the least is preferred.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum SymbolKind {
    Function,
    /// Data by its type, as GHC marks its functions.
    Object,
    /// A label of assembly, which has no type.
    Label,
}

/// A symbol that may be a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FunctionSymbol {
    pub start: u64,
    /// 0 if the table does not have it.
    pub bytes: u64,
    pub binding: Binding,
    pub kind: SymbolKind,
    name_offset: u32,
}

impl SymbolTable {
    /// Returns the table of this name and its names, if they can be read.
    pub fn of_section(elf: &ElfFile, name: &str) -> Option<Self> {
        let table = elf.section(name)?;
        let names = elf.headers.sections.get(table.link as usize)?;
        let is_readable = table.decompressed.is_none() && names.decompressed.is_none();
        is_readable.then_some(Self {
            offset: table.offset,
            bytes: table.bytes,
            names_offset: names.offset,
            names_bytes: names.bytes,
        })
    }

    /// Returns the table that the dynamic linker uses.
    pub fn of_dynamic(elf: &ElfFile) -> Option<Self> {
        let dynamic = Dynamic::read(elf)?;
        let (offset, left) = dynamic.offset(elf, DT_SYMTAB)?;
        let (names_offset, names_left) = dynamic.offset(elf, DT_STRTAB)?;
        let size = symbol_size(elf) as u64;
        let count = dynamic.symbol_count(elf, size)?;
        Some(Self {
            offset,
            bytes: count.saturating_mul(size).min(left),
            names_offset,
            names_bytes: dynamic.get(DT_STRSZ).unwrap_or(u64::MAX).min(names_left),
        })
    }

    /// Returns its size in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Calls a function for each symbol that may be a function of this file, with its number, until
    /// it returns false.
    pub fn for_each_function(
        &self,
        elf: &ElfFile,
        mut take: impl FnMut(u32, FunctionSymbol) -> bool,
    ) {
        let size = symbol_size(elf);
        let mut number = 0;
        while u64::from(number) * (size as u64) < self.bytes {
            let symbols = self.read(elf, number, SYMBOLS_AT_ONCE);
            for symbol in &symbols {
                if let Some(function) = symbol
                    && !take(number, *function)
                {
                    return;
                }
                number += 1;
            }
            if symbols.is_empty() {
                return;
            }
        }
    }

    /// Reads a symbol by its number; `None` if it is no function of this file.
    pub fn function(&self, elf: &ElfFile, number: u32) -> Option<FunctionSymbol> {
        self.read(elf, number, 1).first().copied().flatten()
    }

    /// Reads the name of a symbol of any kind; empty if it has none.
    pub fn symbol_name(&self, elf: &ElfFile, number: u32) -> Vec<u8> {
        let name = self.bytes_of(elf, number, 1);
        let name = match elf.is_64_bit() {
            true => structs::<Sym64<Endian>>(&name).first().map(|symbol| symbol.st_name(Endian)),
            false => structs::<Sym32<Endian>>(&name).first().map(|symbol| symbol.st_name(Endian)),
        };
        name.map(|offset| self.read_name(elf, offset, NAME_MAX)).unwrap_or_default()
    }

    /// Reads the name of a function; empty if it has none.
    pub fn name(&self, elf: &ElfFile, function: &FunctionSymbol) -> Vec<u8> {
        self.read_name(elf, function.name_offset, NAME_MAX)
    }

    /// Reads the start of the name of a function.
    pub fn name_start(&self, elf: &ElfFile, function: &FunctionSymbol) -> Vec<u8> {
        self.read_name(elf, function.name_offset, TEXT_MAX)
    }

    fn read_name(&self, elf: &ElfFile, offset: u32, max: usize) -> Vec<u8> {
        let left = self.names_bytes.saturating_sub(offset.into());
        let at = self.names_offset.saturating_add(offset.into());
        elf.bytes.read_text(at, left.min(max as u64) as usize)
    }

    fn bytes_of(&self, elf: &ElfFile, number: u32, count: usize) -> Vec<u8> {
        let size = symbol_size(elf);
        let from = u64::from(number) * size as u64;
        let left = self.bytes.saturating_sub(from).min((count * size) as u64);
        elf.bytes.read_up_to(self.offset.saturating_add(from), left as usize)
    }

    fn read(&self, elf: &ElfFile, number: u32, count: usize) -> Vec<Option<FunctionSymbol>> {
        let bytes = self.bytes_of(elf, number, count);
        match elf.is_64_bit() {
            true => structs::<Sym64<Endian>>(&bytes).iter().map(function).collect(),
            false => structs::<Sym32<Endian>>(&bytes).iter().map(function).collect(),
        }
    }
}

fn symbol_size(elf: &ElfFile) -> usize {
    if elf.is_64_bit() { size_of::<Sym64<Endian>>() } else { size_of::<Sym32<Endian>>() }
}

fn function<S: Sym<Endian = Endian>>(symbol: &S) -> Option<FunctionSymbol> {
    let section = symbol.st_shndx(Endian);
    let is_here = section != SHN_UNDEF && section != SHN_ABS;
    let kind = match symbol.st_type() {
        STT_FUNC | STT_GNU_IFUNC => SymbolKind::Function,
        STT_OBJECT => SymbolKind::Object,
        STT_NOTYPE => SymbolKind::Label,
        _ => return None,
    };
    let function = FunctionSymbol {
        start: symbol.st_value(Endian).into(),
        bytes: symbol.st_size(Endian).into(),
        binding: match symbol.st_bind() {
            STB_LOCAL => Binding::Local,
            STB_WEAK => Binding::Weak,
            _ => Binding::Global,
        },
        kind,
        name_offset: symbol.st_name(Endian),
    };
    (is_here && function.name_offset != 0).then_some(function)
}
