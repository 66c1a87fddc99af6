//! The parts of a file that name its code.

use std::fs::File;
use std::io;

use object::elf::PT_DYNAMIC;

use crate::debug_info::is_debug_info;
use crate::elf::ElfFile;

/// A part of a file that has names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NameSource {
    /// DWARF, which has lines and inlined functions, too.
    DebugInfo,
    /// The symbol table, `.symtab`.
    SymbolTable,
    /// The symbols of `.gnu_debugdata`.
    MiniDebugInfo,
    /// Go's function table, which has lines and inlined functions, too.
    GoTable,
    /// The symbols that the file exports to others.
    ExportedSymbols,
}

impl NameSource {
    /// Lists those of an open file, the best one first. One that is not ELF has none.
    ///
    /// # Errors
    /// As reading does, and when the file has too many sections.
    pub fn of(file: File) -> io::Result<Vec<Self>> {
        let file = ElfFile::open(file)?;
        let has = |names: &[&str]| names.iter().any(|name| file.section(name).is_some());
        let is_dynamic = file.headers.segments.iter().any(|segment| segment.kind == PT_DYNAMIC.0);
        let sources = [
            (Self::DebugInfo, file.headers.sections.iter().any(is_debug_info)),
            (Self::SymbolTable, has(&[".symtab"])),
            (Self::MiniDebugInfo, has(&[".gnu_debugdata"])),
            (Self::GoTable, has(&[".gopclntab", ".data.rel.ro.gopclntab"])),
            (Self::ExportedSymbols, has(&[".dynsym"]) || is_dynamic),
        ];
        Ok(sources.into_iter().filter(|(_, has)| *has).map(|(source, _)| source).collect())
    }

    /// Returns its name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::DebugInfo => "DWARF",
            Self::SymbolTable => "symbol table",
            Self::MiniDebugInfo => "MiniDebugInfo",
            Self::GoTable => "Go's function table",
            Self::ExportedSymbols => "exported symbols",
        }
    }

    /// Returns whether it has names of functions that the file does not export.
    pub fn has_local_functions(self) -> bool {
        self != Self::ExportedSymbols
    }

    /// Returns whether it has lines.
    pub fn has_lines(self) -> bool {
        matches!(self, Self::DebugInfo | Self::GoTable)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn this_program_has_debug_info_and_symbols() {
        let own = File::open("/proc/self/exe").expect("it runs");
        let sources = NameSource::of(own).expect("readable");
        assert!(sources.starts_with(&[NameSource::DebugInfo, NameSource::SymbolTable]));
        assert!(!sources.contains(&NameSource::GoTable));
    }

    #[test]
    fn a_file_that_is_not_elf_has_no_names() {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(&[b'x'; 100]).expect("written");
        assert_eq!(NameSource::of(file).expect("read"), []);
    }
}
