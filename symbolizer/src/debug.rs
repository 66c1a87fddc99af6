//! Where a file's DWARF is: in the file itself, or in one that distributions put beside it, by its build id.
//!
//! Links by name are not followed. Whoever made the file wrote them, and its path is one of its own mount namespace: what is there
//! in ours is another file, or no file at all.

use std::fs::File;
use std::path::{Path, PathBuf};

use object::read::elf::{ElfFile32, ElfFile64, FileHeader};
use object::{Endianness, FileKind, Object, ObjectSection, ReadCache, ReadRef};

/// Where distributions put debug info, by build id.
const SEPARATE: &str = "/usr/lib/debug/.build-id";
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
    /// Finds out about a file. `build_id`: in hexadecimal; empty when it has none.
    pub fn of(path: &Path, build_id: &str) -> Self {
        if let Some(separate) = separate(build_id) {
            Self::Separate(separate)
        } else if has_links(path) {
            Self::Symbols
        } else {
            Self::Own
        }
    }
}

fn separate(build_id: &str) -> Option<PathBuf> {
    let (first, rest) = build_id.split_at_checked(2)?;
    let path = Path::new(SEPARATE).join(first).join(format!("{rest}.debug"));
    path.metadata().ok().filter(|found| found.is_file()).map(|_| path)
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
