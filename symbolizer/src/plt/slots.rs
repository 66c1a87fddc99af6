//! The slots of the global offset table that the dynamic linker sets to the address of a function.

use object::LittleEndian as Endian;
use object::elf::{
    DT_JMPREL, DT_PLTREL, DT_PLTRELSZ, DT_REL, DT_RELA, DT_RELACOUNT, DT_RELASZ, DT_RELCOUNT,
    DT_RELSZ, R_386_GLOB_DAT, R_386_IRELATIVE, R_386_JMP_SLOT, R_X86_64_GLOB_DAT,
    R_X86_64_IRELATIVE, R_X86_64_JUMP_SLOT, Rel32, Rela64, SHF_ALLOC, SHT_REL, SHT_RELA,
};

use crate::elf::{Dynamic, ElfFile, Section, number, structs};

/// Slots of one file.
const SLOTS_MAX: usize = 1 << 18;
/// Relocations of one file that are looked at, in bytes.
const BYTES_MAX: u64 = 64 << 20;
/// Bytes read at a time: a multiple of the size of each kind of relocation.
const BYTES_AT_ONCE: u64 = 24 << 12;
/// Names of the sections of relocations for stubs, in their order.
const OF_STUBS: [&str; 2] = [".rela.plt", ".rel.plt"];

/// The function that a slot leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// The number of its symbol in the dynamic symbol table.
    Symbol(u32),
    /// The address of the function that selects it.
    Resolver(u64),
}

/// Relocations in the file, in bytes.
#[derive(Clone, Copy, Debug)]
struct Table {
    offset: u64,
    bytes: u64,
    /// Whether they are those of the stubs.
    is_of_stubs: bool,
}

/// The slots of a file.
#[derive(Debug, Default)]
pub(super) struct Slots {
    /// By the address of the slot.
    targets: Vec<(u64, Target)>,
    /// Those of the stubs, in the order of their relocations.
    of_stubs: Vec<Target>,
}

impl Slots {
    /// Reads the relocations of a file.
    pub fn read(elf: &ElfFile) -> Self {
        let mut this = Self::default();
        let mut left = BYTES_MAX;
        for table in tables(elf) {
            let bytes = table.bytes.min(left);
            left -= bytes;
            this.add(elf, Table { bytes, ..table });
        }
        this.targets.sort_unstable_by_key(|(slot, _)| *slot);
        this.targets.shrink_to_fit();
        this
    }

    fn add(&mut self, elf: &ElfFile, table: Table) {
        for from in (0..table.bytes).step_by(BYTES_AT_ONCE as usize) {
            let count = (table.bytes - from).min(BYTES_AT_ONCE);
            let bytes = elf.bytes.read_up_to(table.offset.saturating_add(from), count as usize);
            if bytes.is_empty() || self.targets.len() >= SLOTS_MAX {
                return;
            }
            match elf.is_64_bit() {
                true => structs::<Rela64<Endian>>(&bytes).iter().for_each(|entry| {
                    self.push(table, entry.r_offset.get(Endian), target_64(entry));
                }),
                false => structs::<Rel32<Endian>>(&bytes).iter().for_each(|entry| {
                    let slot = entry.r_offset.get(Endian).into();
                    self.push(table, slot, target_32(elf, entry));
                }),
            }
        }
    }

    fn push(&mut self, table: Table, slot: u64, target: Option<Target>) {
        let Some(target) = target.filter(|_| self.targets.len() < SLOTS_MAX) else { return };
        self.targets.push((slot, target));
        if table.is_of_stubs {
            self.of_stubs.push(target);
        }
    }

    /// Returns the function of a slot.
    pub fn target(&self, slot: u64) -> Option<Target> {
        let at = self.targets.binary_search_by_key(&slot, |(slot, _)| *slot).ok()?;
        Some(self.targets[at].1)
    }

    /// Returns the function of a stub by what it pushes: the number of its relocation, or its
    /// offset in bytes in 32-bit files.
    pub fn pushed(&self, number: u32, is_64_bit: bool) -> Option<Target> {
        let entry = if is_64_bit { 1 } else { size_of::<Rel32<Endian>>() };
        self.of_stubs.get(number as usize / entry).copied()
    }
}

fn target_64(entry: &Rela64<Endian>) -> Option<Target> {
    let symbol = Target::Symbol(entry.r_sym(Endian, false));
    match entry.r_type(Endian, false) {
        R_X86_64_JUMP_SLOT | R_X86_64_GLOB_DAT => Some(symbol),
        R_X86_64_IRELATIVE => Some(Target::Resolver(entry.r_addend.get(Endian) as u64)),
        _ => None,
    }
}

fn target_32(elf: &ElfFile, entry: &Rel32<Endian>) -> Option<Target> {
    let symbol = Target::Symbol(entry.r_sym(Endian));
    match entry.r_type(Endian) {
        R_386_JMP_SLOT | R_386_GLOB_DAT => Some(symbol),
        // The slot holds the address.
        R_386_IRELATIVE => {
            let slot = elf.loaded(entry.r_offset.get(Endian).into(), 4);
            Some(Target::Resolver(number(&slot, 0, 4)))
        }
        _ => None,
    }
}

/// Returns the relocations of a file by its sections, or by its dynamic segment.
fn tables(elf: &ElfFile) -> Vec<Table> {
    let kind = if elf.is_64_bit() { SHT_RELA } else { SHT_REL };
    let is_loaded = |section: &&Section| section.kind == kind.0 && section.flags & SHF_ALLOC.0 != 0;
    let sections = elf.headers.sections.iter().filter(is_loaded);
    let of_section = |Section { name, offset, bytes, .. }: &Section| Table {
        offset: *offset,
        bytes: *bytes,
        is_of_stubs: OF_STUBS.contains(&name.as_str()),
    };
    let tables: Vec<Table> = sections.map(of_section).collect();
    match tables.is_empty() {
        true => Dynamic::read(elf).map(|dynamic| tables_of(&dynamic, elf)).unwrap_or_default(),
        false => tables,
    }
}

fn tables_of(dynamic: &Dynamic, elf: &ElfFile) -> Vec<Table> {
    let (kind, bytes, entry, relative) = match elf.is_64_bit() {
        true => (DT_RELA, DT_RELASZ, size_of::<Rela64<Endian>>(), DT_RELACOUNT),
        false => (DT_REL, DT_RELSZ, size_of::<Rel32<Endian>>(), DT_RELCOUNT),
    };
    let table = |start, bytes, is_of_stubs| {
        let (offset, left) = dynamic.offset(elf, start)?;
        Some(Table { offset, bytes: dynamic.get(bytes)?.min(left), is_of_stubs })
    };
    let of_stubs = table(DT_JMPREL, DT_PLTRELSZ, true);
    let of_stubs = of_stubs.filter(|_| dynamic.get(DT_PLTREL) == Some(kind.0 as u64));
    // Those that only move an address come first, and are skipped.
    let skipped = dynamic.get(relative).unwrap_or(0).saturating_mul(entry as u64);
    let others = table(kind, bytes, false).and_then(|table| {
        let bytes = table.bytes.checked_sub(skipped)?;
        Some(Table { offset: table.offset.checked_add(skipped)?, bytes, ..table })
    });
    of_stubs.into_iter().chain(others).collect()
}
