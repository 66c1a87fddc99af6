//! The procedure linkage tables of a file: stubs by which it calls functions of other files.
//!
//! No symbol table has them. The name of a stub is that of the function that it leads to with
//! `@plt`, as debuggers and disassemblers write it. The first one, to which the others jump before
//! their function was looked up, leads to the dynamic linker; its name is that of perf, `.plt`.

mod slots;
mod stub;

use std::cell::OnceCell;
use std::ops::Range;

use object::elf::DT_PLTGOT;

use crate::elf::{Dynamic, ElfFile, Section};
use slots::{Slots, Target};
use stub::{Reference, Stub};

/// Sections of stubs.
const SECTIONS: [&str; 4] = [".plt", ".plt.sec", ".plt.got", ".iplt"];
/// The section that begins with the stub of the dynamic linker, and the bytes that this may have.
const LAZY: &str = ".plt";
const HEADERS: [u64; 3] = [16, 32, 48];
/// Stubs begin at multiples of this from the start of their section, in bytes.
const ALIGNMENT: u64 = 8;

/// The stubs of a file.
#[derive(Debug)]
pub(crate) struct LinkageTables {
    /// Where stubs are: sections of stubs, or all code if there are no sections.
    areas: Vec<Range<u64>>,
    has_sections: bool,
    /// Where the section begins that the stub of the dynamic linker is in.
    lazy: Option<u64>,
    /// The global offset table to which stubs of shared 32-bit files refer.
    got: Option<u64>,
    slots: OnceCell<Slots>,
}

/// The function that a stub leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LinkedFunction {
    /// The symbol with this number in the dynamic symbol table.
    Symbol(u32),
    /// What the function at this address selects when the program starts.
    SelectedBy(u64),
    /// The function of the dynamic linker that looks others up.
    DynamicLinker,
}

impl LinkageTables {
    /// Finds the tables of a file.
    pub fn read(elf: &ElfFile) -> Self {
        let sections = SECTIONS.iter().filter_map(|name| elf.section(name));
        let has_sections = !elf.headers.sections.is_empty();
        let areas =
            if has_sections { sections.map(Section::addresses).collect() } else { elf.code() };
        let got = elf.section(".got.plt").map(|section| section.address);
        let got = got.or_else(|| Dynamic::read(elf)?.get(DT_PLTGOT));
        let lazy = elf.section(LAZY).map(|section| section.address);
        Self { areas, has_sections, lazy, got, slots: OnceCell::new() }
    }

    /// Returns the addresses of the stub at an address, and the function that it leads to.
    pub fn find(&self, elf: &ElfFile, address: u64) -> Option<(Range<u64>, LinkedFunction)> {
        let area = self.areas.iter().find(|area| area.contains(&address))?;
        let Some((stub, function)) = self.stub_around(elf, area, address) else {
            return self.header_around(elf, area, address);
        };
        if !self.has_sections && !self.has_neighbour(elf, area, &stub) {
            return None; // a jump of a function
        }
        Some((stub, function))
    }

    /// Finds the stub that begins at an address or before, and contains it.
    fn stub_around(
        &self,
        elf: &ElfFile,
        area: &Range<u64>,
        address: u64,
    ) -> Option<(Range<u64>, LinkedFunction)> {
        let nearest = address - (address - area.start) % ALIGNMENT;
        let starts = (0..stub::LEN_MAX as u64).step_by(ALIGNMENT as usize);
        let starts = starts.filter_map(|back| nearest.checked_sub(back));
        starts.take_while(|start| *start >= area.start).find_map(|start| {
            let (len, function) = self.stub_at(elf, area, start)?;
            let end = start.saturating_add(len);
            (address < end).then_some((start..end, function))
        })
    }

    /// Returns the addresses of the stub of the dynamic linker, if it contains an address: it ends
    /// where the first other one begins.
    fn header_around(
        &self,
        elf: &ElfFile,
        area: &Range<u64>,
        address: u64,
    ) -> Option<(Range<u64>, LinkedFunction)> {
        let start = self.lazy.filter(|start| *start == area.start)?;
        let ends = HEADERS.iter().filter_map(|len| start.checked_add(*len));
        let end = { ends }.find(|end| self.stub_at(elf, area, *end).is_some())?;
        (address < end).then_some((start..end, LinkedFunction::DynamicLinker))
    }

    fn stub_at(
        &self,
        elf: &ElfFile,
        area: &Range<u64>,
        start: u64,
    ) -> Option<(u64, LinkedFunction)> {
        let max = area.end.saturating_sub(start).min(stub::LEN_MAX as u64);
        let code = elf.loaded(start, max as usize);
        let Stub { reference, len } = stub::decode(&code, start, elf.is_64_bit(), self.got)?;
        let slots = self.slots.get_or_init(|| Slots::read(elf));
        let target = match reference {
            Reference::Slot(slot) => slots.target(slot),
            Reference::Pushed(number) => slots.pushed(number, elf.is_64_bit()),
        };
        let function = match target? {
            Target::Symbol(0) => return None,
            Target::Symbol(number) => LinkedFunction::Symbol(number),
            Target::Resolver(address) => LinkedFunction::SelectedBy(address),
        };
        Some((len, function))
    }

    /// Returns whether there is another stub directly before or behind.
    fn has_neighbour(&self, elf: &ElfFile, area: &Range<u64>, stub: &Range<u64>) -> bool {
        let len = stub.end - stub.start;
        let before = stub.start.checked_sub(len).filter(|start| *start >= area.start);
        before.into_iter().chain([stub.end]).any(|start| self.stub_at(elf, area, start).is_some())
    }
}
