//! Checks a file that is said to have the debug info of another.

use std::fs::File;

use object::elf::{SHT_NOBITS, SHT_SYMTAB};

use crate::debug_info::is_debug_info;
use crate::elf::{ElfFile, Section};

/// Why a file is not the debug file of a build ID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DebugFileError {
    /// It is not an ELF file, or a truncated one.
    NotElf,
    /// It has another build ID, or none.
    OtherBuildId,
    /// It has neither debug info nor a symbol table.
    Empty,
}

/// Checks that a file is the debug file of a build ID. Only its headers and notes are read, within
/// bounds.
///
/// # Errors
/// [`DebugFileError`] if it is not.
pub fn check_debug_file(file: File, build_id: &[u8]) -> Result<(), DebugFileError> {
    let length = file.metadata().map_or(0, |metadata| metadata.len());
    let file = ElfFile::open(file).map_err(|_| DebugFileError::NotElf)?;
    let sections = &file.headers.sections;
    let is_inside = |section: &Section| {
        section.offset.checked_add(section.bytes).is_some_and(|end| end <= length)
    };
    if sections.is_empty() || !sections.iter().all(is_inside) {
        return Err(DebugFileError::NotElf);
    }
    if file.build_id().as_deref() != Some(build_id) {
        return Err(DebugFileError::OtherBuildId);
    }
    let is_useful = |section: &Section| {
        let is_known = section.kind == SHT_SYMTAB.0 || is_debug_info(section);
        is_known && section.bytes > 0 && section.kind != SHT_NOBITS.0
    };
    sections.iter().any(is_useful).then_some(()).ok_or(DebugFileError::Empty)
}
