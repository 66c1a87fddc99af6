//! Where a file's DWARF is: in the file itself, or in one that distributions put beside it, by its build id.
//!
//! Links by name are not followed. Whoever made the file wrote them, and its path is one of its own mount namespace: what is there
//! in ours is another file, or no file at all.

use std::fs::File;
use std::path::{Path, PathBuf};

use object::read::elf::{ElfFile32, ElfFile64, FileHeader};
use object::{Endianness, FileKind, Object, ObjectSection, ReadCache, ReadRef};
use profile::BuildId;

/// Sections that name another file, which the parser would open.
const LINKS: [&str; 3] = [".gnu_debuglink", ".gnu_debugaltlink", ".debug_sup"];

/// What is read of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Debug {
    /// Its own DWARF.
    Own,
    /// This file, in its place.
    Separate(PathBuf),
    /// Symbols alone.
    Symbols,
}

impl Debug {
    /// Finds out about a file.
    pub fn of(path: &Path, build_id: Option<&BuildId>) -> Self {
        let separate = build_id.map(BuildId::debug_file).filter(|file| file.is_file());
        if let Some(separate) = separate {
            Self::Separate(separate)
        } else if has_links(path) {
            Self::Symbols
        } else {
            Self::Own
        }
    }
}

/// Whether a file names others. One that cannot be read has nothing to name.
fn has_links(path: &Path) -> bool {
    let Ok(file) = File::open(path) else { return false };
    let file = ReadCache::new(file);
    match FileKind::parse(&file) {
        Ok(FileKind::Elf64) => ElfFile64::<Endianness, _>::parse(&file).is_ok_and(names_others),
        Ok(FileKind::Elf32) => ElfFile32::<Endianness, _>::parse(&file).is_ok_and(names_others),
        _ => false,
    }
}

fn names_others<'a, H, R>(file: object::read::elf::ElfFile<'a, H, R>) -> bool
where
    H: FileHeader,
    R: ReadRef<'a>,
{
    file.sections().any(|section| section.name().is_ok_and(|name| LINKS.contains(&name)))
}
