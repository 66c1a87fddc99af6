//! What the debug info of a file says about addresses: functions, those inlined in them, lines.
//!
//! DWARF is read by gimli and addr2line, from the files that came along and no other. Units are
//! found once, and each is read when an address in it is looked up.

mod links;
mod sections;
mod start_line;

use std::collections::VecDeque;
use std::sync::Arc;

use addr2line::{Context, Frame, LookupContinuation, LookupResult, SplitDwarfLoad};
use gimli::{
    AbbreviationsCacheStrategy, Dwarf, DwarfPackage, EndianSlice, LittleEndian, SectionId, UnitRef,
};
use self_cell::self_cell;

use crate::elf::ElfFile;
pub use links::{DebugLink, DebugLinks, SupplementaryLink};
pub(crate) use links::{is_debug_file_of, supplementary};
pub use sections::MappedFile;
pub(crate) use sections::is_debug_info;
use sections::{DwarfSections, Reader};
use start_line::start_line;

/// Most functions at one address. Compilers inline about twenty in each other.
const INLINED_MAX: usize = 64;

/// Files with debug info: `F` is what is known of each.
#[derive(Debug)]
pub(crate) struct DebugInfoFiles<F> {
    /// The one that all begins with.
    pub main: F,
    /// Its supplementary file.
    pub supplementary: Option<F>,
    /// The package of its split units.
    pub package: Option<F>,
}

impl<F> DebugInfoFiles<F> {
    /// Returns all of them.
    pub fn iter(&self) -> impl Iterator<Item = &F> {
        [Some(&self.main), self.supplementary.as_ref(), self.package.as_ref()].into_iter().flatten()
    }

    /// Converts each.
    ///
    /// # Errors
    /// The first that occurs.
    pub fn try_map<T, E>(
        self,
        mut to: impl FnMut(F) -> Result<T, E>,
    ) -> Result<DebugInfoFiles<T>, E> {
        Ok(DebugInfoFiles {
            main: to(self.main)?,
            supplementary: self.supplementary.map(&mut to).transpose()?,
            package: self.package.map(&mut to).transpose()?,
        })
    }
}

/// The units of a file and, if it is split, of its package.
struct Units<'a> {
    context: Context<Reader<'a>>,
    package: Option<DwarfPackage<Reader<'a>>>,
}

self_cell!(
    struct Parsed {
        owner: DebugInfoFiles<DwarfSections>,

        #[not_covariant]
        dependent: Units,
    }
);

/// The debug info of one file.
pub(crate) struct DebugInfo(Parsed);

/// A function at an address, or one that is inlined there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DebugFunction {
    /// Its name for the linker, or else for people; empty if debug info has no function but a line.
    pub name: String,
    /// Source file; empty when unknown.
    pub file: String,
    /// Line of the address in it, or of the call to the function before; 0 when unknown.
    pub line: u32,
    /// Line on which it starts; 0 when unknown.
    pub start_line: u32,
}

impl DebugInfo {
    /// Reads the headers of all units of files, each with its bytes.
    ///
    /// # Errors
    /// Why the debug info cannot be read.
    pub fn read(files: DebugInfoFiles<(&ElfFile, MappedFile)>) -> Result<Self, String> {
        let sections = files.try_map(|(elf, bytes)| DwarfSections::read(elf, bytes));
        let sections = sections.map_err(|error| error.to_string())?;
        let parsed = Parsed::try_new(sections, |sections| Units::read(sections));
        parsed.map(Self).map_err(|error| error.to_string())
    }

    /// Returns the functions at an address, innermost first; the last one is the function itself.
    /// There are at most 64; also returns how many of the innermost ones were left out.
    ///
    /// # Errors
    /// When the unit of the address is malformed.
    pub fn functions(&self, address: u64) -> Result<(Vec<DebugFunction>, u64), gimli::Error> {
        self.0.with_dependent(|_, units| {
            let mut frames = units.resume(units.context.find_frames(address))?;
            let unit = units.resume(units.context.find_dwarf_and_unit(address));
            let (mut functions, mut left_out) = (VecDeque::new(), 0);
            while let Some(frame) = frames.next()? {
                if functions.len() == INLINED_MAX {
                    functions.pop_front();
                    left_out += 1;
                }
                functions.push_back(DebugFunction::of(&frame, unit)?);
            }
            Ok((functions.into(), left_out))
        })
    }
}

impl<'a> Units<'a> {
    fn read(files: &'a DebugInfoFiles<DwarfSections>) -> Result<Self, gimli::Error> {
        let reader = |bytes| EndianSlice::new(bytes, LittleEndian);
        let read = |file: &'a DwarfSections| {
            Dwarf::load(|id| Ok::<_, gimli::Error>(reader(file.get(id.name()))))
        };
        let mut dwarf = read(&files.main)?;
        if let Some(file) = &files.supplementary {
            dwarf.set_sup(read(file)?);
        }
        // Units that share abbreviations would each read all of them.
        dwarf.populate_abbreviations_cache(AbbreviationsCacheStrategy::Duplicates);
        let package = files.package.as_ref().map(|file| {
            let section = |id: SectionId| reader(file.get(id.dwo_name().unwrap_or_default()));
            DwarfPackage::load(|id| Ok::<_, gimli::Error>(section(id)), reader(&[]))
        });
        Ok(Self { context: Context::from_dwarf(dwarf)?, package: package.transpose()? })
    }

    /// Finishes a lookup, with the split units that it needs. One that the package does not have is
    /// as if it were empty.
    fn resume<L, T>(&self, mut lookup: LookupResult<L>) -> T
    where
        L: LookupContinuation<Output = T, Buf = Reader<'a>>,
    {
        loop {
            lookup = match lookup {
                LookupResult::Output(output) => return output,
                LookupResult::Load { load, continuation } => {
                    continuation.resume(self.split_unit(&load).map(Arc::new))
                }
            };
        }
    }

    fn split_unit(&self, load: &SplitDwarfLoad<Reader<'a>>) -> Option<Dwarf<Reader<'a>>> {
        self.package.as_ref()?.find_cu(load.dwo_id, &load.parent).ok().flatten()
    }
}

impl DebugFunction {
    /// `unit`: that of the frame.
    fn of(
        frame: &Frame<'_, Reader<'_>>,
        unit: Option<UnitRef<'_, Reader<'_>>>,
    ) -> Result<Self, gimli::Error> {
        let name = match &frame.function {
            Some(function) => function.raw_name()?.into_owned(),
            None => String::new(),
        };
        let location = frame.location.as_ref();
        let file = location.and_then(|location| location.file).unwrap_or_default().to_owned();
        let line = location.and_then(|location| location.line).unwrap_or(0);
        let entry = unit.zip(frame.dw_die_offset);
        let start_line = entry.map_or(0, |(unit, entry)| start_line(unit, entry, &file));
        Ok(Self { name, file, line, start_line })
    }
}
