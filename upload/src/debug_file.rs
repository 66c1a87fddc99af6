//! What of an ELF file a store needs to name addresses, and nothing else: the smallest file with the same debug
//! info.
//!
//! Kept are the ELF header, all program headers, notes, symbols, Go's table of functions, and of DWARF what leads from
//! an address to functions and lines. Every other section stays in the list with its address, but without
//! contents, as `objcopy --only-keep-debug` leaves it. So addresses mean the same as in the whole file.
//!
//! The file is foreign: nothing in it is believed that is not checked. Only its headers are read into
//! memory; contents are copied piece by piece.
//!
//! Source: System V ABI, chapter 4; 64-bit, little-endian.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use sha2::{Digest, Sha256};

/// Largest file made, in bytes. Source: Parca's `--debuginfo-upload-max-size`.
const BYTES_MAX: u64 = 1_000_000_000;
/// Most program headers.
const SEGMENTS_MAX: usize = 1024;
/// Largest table of section names, in bytes.
const NAMES_BYTES_MAX: u64 = 1 << 20;
/// Longest name of a section that is told from others.
const NAME_BYTES_MAX: usize = 32;
/// Contents lie at the same place in so many bytes as they did: more than any reader of them asks for.
const ALIGN: u64 = 16;

const HEADER_LEN: usize = 64;
const SEGMENT_LEN: usize = 56;
const SECTION_LEN: usize = 64;

const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
const SHT_NULL: u32 = 0;
const SHT_NOTE: u32 = 7;
const SHT_NOBITS: u32 = 8;

/// Sections of DWARF that tell of variables, macros and unwinding, or are lists for debuggers.
const NOT_NEEDED: [&str; 10] = [
    "frame",
    "gdb_scripts",
    "gnu_pubnames",
    "gnu_pubtypes",
    "loc",
    "loclists",
    "macinfo",
    "macro",
    "pubnames",
    "pubtypes",
];

/// Why a file gives no debug info.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unfit {
    /// It has none.
    #[error("it has no debug info, symbols or table of functions")]
    Nothing,
    /// It is no ELF file that we know, or damaged.
    #[error("it is no ELF file of 64 bits, or damaged: {0}")]
    Malformed(&'static str),
    /// Larger than a server takes.
    #[error("its debug info is larger than {BYTES_MAX} bytes")]
    TooLarge,
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Read(#[from] io::Error),
}

/// How much a file tells of an address. More is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Quality {
    /// Functions.
    Functions,
    /// Functions, files and lines, of Go alone or without inlined functions.
    Lines,
    /// DWARF.
    Dwarf,
}

/// A file that is put together while it is read.
#[derive(Debug)]
pub(crate) struct DebugFile {
    file: File,
    parts: Vec<Part>,
    length: u64,
    hash: String,
    quality: Quality,
}

#[derive(Debug)]
enum Part {
    Made(Vec<u8>),
    Copied { offset: u64, length: u64 },
}

impl DebugFile {
    /// Reads the headers of an ELF file and plans the smaller one.
    ///
    /// # Errors
    /// [`Unfit`] says why there is none.
    pub fn of(file: File) -> Result<Self, Unfit> {
        let elf = Elf::read(&file)?;
        let quality = elf.quality().ok_or(Unfit::Nothing)?;
        let (parts, length) = elf.plan()?;
        let mut hash = Sha256::new();
        hash.update(length.to_le_bytes());
        for part in &parts {
            if let Part::Made(bytes) = part {
                hash.update(bytes);
            }
        }
        let hash = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { file, parts, length, hash, quality })
    }

    /// Bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// What tells it from others with the same build id: a hash of the headers.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// How much it tells.
    pub fn quality(&self) -> Quality {
        self.quality
    }

    /// Gives the contents in pieces of at most `piece_bytes`, until `take` wants no more.
    ///
    /// # Errors
    /// What the system answers; also if the file has become shorter.
    pub fn copy(
        &self,
        piece_bytes: usize,
        mut take: impl FnMut(Vec<u8>) -> bool,
    ) -> io::Result<()> {
        for part in &self.parts {
            match part {
                Part::Made(bytes) => {
                    for piece in bytes.chunks(piece_bytes) {
                        if !take(piece.to_vec()) {
                            return Ok(());
                        }
                    }
                }
                Part::Copied { offset, length } => {
                    let mut done = 0;
                    while done < *length {
                        let mut piece = vec![0; piece_bytes.min((length - done) as usize)];
                        self.file.read_exact_at(&mut piece, offset + done)?;
                        done += piece.len() as u64;
                        if !take(piece) {
                            return Ok(());
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

/// The headers of an ELF file.
struct Elf {
    header: Vec<u8>,
    segments: Vec<u8>,
    sections: Vec<Section>,
}

/// A section header and its name.
#[derive(Clone)]
struct Section {
    name: String,
    raw: [u8; SECTION_LEN],
}

impl Section {
    fn u32_at(&self, at: usize) -> u32 {
        u32_at(&self.raw, at)
    }

    fn kind(&self) -> u32 {
        self.u32_at(4)
    }

    fn offset(&self) -> u64 {
        u64_at(&self.raw, 24)
    }

    fn size(&self) -> u64 {
        u64_at(&self.raw, 32)
    }

    fn has_contents(&self) -> bool {
        !matches!(self.kind(), SHT_NULL | SHT_NOBITS) && self.size() > 0
    }

    /// The name without `.debug_`, of a section of DWARF.
    fn dwarf(&self) -> Option<&str> {
        self.name.strip_prefix(".debug_").or_else(|| self.name.strip_prefix(".zdebug_"))
    }

    fn is_kept(&self) -> bool {
        let names = [".symtab", ".strtab", ".shstrtab", ".symtab_shndx", ".dynsym", ".dynstr"];
        self.has_contents()
            && (self.dwarf().is_some_and(|name| !NOT_NEEDED.contains(&name))
                || self.is_go_table()
                || self.kind() == SHT_NOTE
                || self.name == ".gnu_debugaltlink"
                || names.contains(&self.name.as_str()))
    }

    fn is_go_table(&self) -> bool {
        [".gopclntab", ".data.rel.ro.gopclntab"].contains(&self.name.as_str())
    }

    /// The header of the section in the new file.
    fn moved_to(&self, offset: u64, is_kept: bool) -> [u8; SECTION_LEN] {
        let mut raw = self.raw;
        if self.kind() == SHT_NULL {
            return raw;
        }
        put(&mut raw, 24, offset);
        if !is_kept && self.dwarf().is_some() {
            // Go's reader refuses a file for DWARF without contents, but not for empty one.
            put(&mut raw, 32, 0);
        } else if !is_kept {
            raw[4..8].copy_from_slice(&SHT_NOBITS.to_le_bytes());
        }
        raw
    }
}

impl Elf {
    fn read(file: &File) -> Result<Self, Unfit> {
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(Unfit::Malformed("no regular file"));
        }
        let length = metadata.len();
        let read = |offset: u64, size: usize, what| {
            let end = offset.checked_add(size as u64);
            if end.is_none_or(|end| end > length) {
                return Err(Unfit::Malformed(what));
            }
            let mut bytes = vec![0; size];
            file.read_exact_at(&mut bytes, offset)?;
            Ok(bytes)
        };
        let header = read(0, HEADER_LEN, "no header")?;
        // 64 bits, little-endian, version 1.
        if header[..7] != *b"\x7fELF\x02\x01\x01" {
            return Err(Unfit::Malformed("another kind of file"));
        }
        let count = |at| usize::from(u16_at(&header, at));
        let (segments, sections, names) = (count(56), count(60), count(62));
        if (segments > 0 && count(54) != SEGMENT_LEN) || segments > SEGMENTS_MAX {
            return Err(Unfit::Malformed("program headers"));
        }
        if sections == 0 {
            return Err(Unfit::Nothing);
        }
        if count(58) != SECTION_LEN || names >= sections {
            return Err(Unfit::Malformed("section headers"));
        }
        let segments = read(u64_at(&header, 32), segments * SEGMENT_LEN, "program headers")?;
        let raw = read(u64_at(&header, 40), sections * SECTION_LEN, "section headers")?;
        let (raw, _) = raw.as_chunks::<SECTION_LEN>();
        let table = Section { name: String::new(), raw: raw[names] };
        if table.size() > NAMES_BYTES_MAX || table.kind() == SHT_NOBITS {
            return Err(Unfit::Malformed("section names"));
        }
        let names = read(table.offset(), table.size() as usize, "section names")?;
        let sections: Vec<Section> = raw
            .iter()
            .map(|raw| Section { name: name_at(&names, u32_at(raw, 0)), raw: *raw })
            .collect();
        let ends_inside = |section: &Section| {
            section.offset().checked_add(section.size()).is_some_and(|end| end <= length)
        };
        let kept = || sections.iter().filter(|section| section.is_kept());
        if !kept().all(ends_inside) {
            return Err(Unfit::Malformed("a section ends outside of the file"));
        }
        // Else a small file could make a large one.
        if kept().map(Section::size).fold(0, u64::saturating_add) > length {
            return Err(Unfit::Malformed("sections overlap"));
        }
        Ok(Self { header, segments, sections })
    }

    fn quality(&self) -> Option<Quality> {
        let of = |section: &Section| match section.dwarf() {
            Some("info") => Some(Quality::Dwarf),
            Some("line") => Some(Quality::Lines),
            _ if section.is_go_table() => Some(Quality::Lines),
            _ if section.name == ".symtab" => Some(Quality::Functions),
            _ => None,
        };
        self.sections.iter().filter(|section| section.has_contents()).filter_map(of).max()
    }

    /// Lays the new file out: header, program headers, contents, section headers.
    fn plan(&self) -> Result<(Vec<Part>, u64), Unfit> {
        let mut segments = self.segments.clone();
        segments.chunks_exact_mut(SEGMENT_LEN).for_each(forget_contents);
        let mut at = (HEADER_LEN + segments.len()) as u64;
        let mut contents = Vec::new();
        let mut sections = Vec::with_capacity(self.sections.len() * SECTION_LEN);
        for section in &self.sections {
            let is_kept = section.is_kept();
            if is_kept {
                pad(&mut contents, &mut at, section.offset() % ALIGN);
                self.move_notes(&mut segments, section, at);
            }
            sections.extend_from_slice(&section.moved_to(at, is_kept));
            if is_kept {
                contents.push(Part::Copied { offset: section.offset(), length: section.size() });
                at = at
                    .checked_add(section.size())
                    .filter(|at| *at <= BYTES_MAX)
                    .ok_or(Unfit::TooLarge)?;
            }
        }
        pad(&mut contents, &mut at, 0);
        let mut header = self.header.clone();
        let start = if segments.is_empty() { 0 } else { HEADER_LEN as u64 };
        header[32..40].copy_from_slice(&start.to_le_bytes());
        header[40..48].copy_from_slice(&at.to_le_bytes());
        at += sections.len() as u64;
        let mut parts = vec![Part::Made(header), Part::Made(segments)];
        parts.append(&mut contents);
        parts.push(Part::Made(sections));
        Ok((parts, at))
    }

    /// Lets segments of notes follow the sections that they hold, as far as these still lie as they did.
    fn move_notes(&self, segments: &mut [u8], section: &Section, to: u64) {
        if section.kind() != SHT_NOTE {
            return;
        }
        let (start, end) = (section.offset(), section.offset() + section.size());
        let old = self.segments.chunks_exact(SEGMENT_LEN);
        for (old, new) in old.zip(segments.chunks_exact_mut(SEGMENT_LEN)) {
            let (offset, length) = (u64_at(old, 8), u64_at(old, 32));
            let is_inside = offset <= start && offset.checked_add(length).is_some_and(|e| e >= end);
            if u32_at(old, 0) != PT_NOTE || !is_inside {
                continue;
            }
            let is_first = u64_at(new, 32) == 0;
            if is_first && offset == start {
                put(new, 8, to);
                put(new, 32, section.size());
            } else if !is_first && u64_at(new, 8) + (start - offset) == to {
                put(new, 32, end - offset);
            }
        }
    }
}

/// Fills up to the next place that lies as `rest` in its [`ALIGN`] bytes, as it did in the old file.
fn pad(parts: &mut Vec<Part>, at: &mut u64, rest: u64) {
    let gap = (ALIGN + rest - *at % ALIGN) % ALIGN;
    if gap > 0 {
        parts.push(Part::Made(vec![0; gap as usize]));
        *at += gap;
    }
}

/// Segments have no contents in the file any more. Those that are loaded keep their numbers, by which addresses
/// are understood.
fn forget_contents(segment: &mut [u8]) {
    if u32_at(segment, 0) != PT_LOAD {
        put(segment, 32, 0);
    }
}

fn put(bytes: &mut [u8], at: usize, value: u64) {
    bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..at + 2).and_then(|b| b.try_into().ok()).map_or(0, u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes)
}

fn name_at(names: &[u8], at: u32) -> String {
    let rest = names.get(at as usize..).unwrap_or_default();
    let rest = &rest[..rest.len().min(NAME_BYTES_MAX)];
    let name = rest.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(name).into_owned()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::Write;

    use object::elf::{PT_LOAD as LOAD, PT_NOTE as NOTE};
    use object::read::elf::{ElfFile64, ProgramHeader};
    use object::{Endianness, Object, ObjectSection, ObjectSymbol, SectionKind};

    use super::*;

    /// This very program: it has DWARF, symbols and a build id or not, as the linker likes.
    fn own() -> Vec<u8> {
        std::fs::read(std::env::current_exe().unwrap()).unwrap()
    }

    fn file_of(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    fn contents(debug: &DebugFile) -> Vec<u8> {
        let mut all = Vec::new();
        let take = |piece: Vec<u8>| {
            all.extend(piece);
            true
        };
        debug.copy(10_000, take).unwrap();
        all
    }

    type Elf64<'a> = ElfFile64<'a, Endianness>;

    #[test]
    fn another_reader_finds_the_same_debug_info_in_less() {
        let whole = own();
        let debug = DebugFile::of(file_of(&whole)).unwrap();
        assert_eq!(debug.quality(), Quality::Dwarf);
        let small = contents(&debug);
        assert_eq!(small.len() as u64, debug.length());
        assert!(small.len() < whole.len());

        let (old, new) = (Elf64::parse(&*whole).unwrap(), Elf64::parse(&*small).unwrap());
        let mut kept = 0;
        for (old, new) in old.sections().zip(new.sections()) {
            let name = old.name().unwrap();
            assert_eq!((name, old.address()), (new.name().unwrap(), new.address()));
            if name.strip_prefix(".debug_").is_some_and(|name| NOT_NEEDED.contains(&name)) {
                assert_eq!(new.size(), 0);
                continue;
            }
            assert_eq!(old.size(), new.size());
            if old.kind() == SectionKind::Text {
                assert!(new.data().unwrap().is_empty(), "{:?}", new.name());
            } else if name.starts_with(".debug") {
                kept += 1;
                assert!(old.data() == new.data(), "{name}");
            }
        }
        assert!(kept > 3);
        let symbols = |elf: &Elf64| {
            let all = elf.symbols().map(|s| (s.name().unwrap().to_owned(), s.address(), s.size()));
            all.collect::<Vec<_>>()
        };
        assert!(!symbols(&old).is_empty() && symbols(&old) == symbols(&new));
        let loads = |elf: &Elf64| {
            let loads = elf.elf_program_headers().iter().filter(|s| s.p_type(elf.endian()) == LOAD);
            let e = elf.endian();
            loads
                .map(|s| (s.p_vaddr(e), s.p_offset(e), s.p_filesz(e), s.p_memsz(e)))
                .collect::<Vec<_>>()
        };
        assert!(!loads(&old).is_empty() && loads(&old) == loads(&new));
        assert_eq!(old.build_id().unwrap(), new.build_id().unwrap());
        assert_eq!(notes(&old, &whole), notes(&new, &small));
    }

    /// Contents of note segments.
    fn notes(elf: &Elf64, bytes: &[u8]) -> Vec<Vec<u8>> {
        let e = elf.endian();
        let notes = elf.elf_program_headers().iter().filter(|s| s.p_type(e) == NOTE);
        let range = |s: &object::elf::ProgramHeader64<Endianness>| {
            s.p_offset(e) as usize..(s.p_offset(e) + s.p_filesz(e)) as usize
        };
        notes.map(|s| bytes[range(s)].to_vec()).collect()
    }

    #[test]
    fn the_hash_is_that_of_the_file() {
        let whole = own();
        let [first, second] = [0, 1].map(|_| DebugFile::of(file_of(&whole)).unwrap());
        assert_eq!(first.hash(), second.hash());
        assert_eq!(first.hash().len(), 64);
    }

    #[test]
    fn a_file_without_debug_info_is_not_taken() {
        let mut stripped = contents(&DebugFile::of(file_of(&own())).unwrap());
        let elf = Elf64::parse(&*stripped).unwrap();
        let (start, length) = elf.section_by_name(".shstrtab").unwrap().file_range().unwrap();
        // Other names for the sections that count, such as `.xebug_info`.
        for at in start as usize..(start + length) as usize {
            let is_counted =
                [".debug_", ".symtab"].iter().any(|n| stripped[at..].starts_with(n.as_bytes()));
            if is_counted {
                stripped[at + 1] = b'x';
            }
        }
        assert!(matches!(DebugFile::of(file_of(&stripped)), Err(Unfit::Nothing)));
    }

    #[test]
    fn damaged_files_are_refused_or_read_without_a_panic() {
        for bytes in [b"".as_slice(), b"#!/bin/sh", &own()[..63]] {
            assert!(matches!(DebugFile::of(file_of(bytes)), Err(Unfit::Malformed(_))));
        }
        let whole = own();
        let table = u64_at(&whole, 40) as usize;
        for seed in 0..500 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut bytes = whole[..HEADER_LEN + 4096].to_vec();
            let sections = &whole[table..];
            let start = bytes.len() as u64;
            bytes[40..48].copy_from_slice(&start.to_le_bytes());
            bytes.extend_from_slice(sections);
            for _ in 0..random.usize(1..20) {
                let at = random.usize(7..bytes.len());
                bytes[at] = random.u8(..);
            }
            if let Ok(debug) = DebugFile::of(file_of(&bytes)) {
                assert!(debug.length() <= 3 * bytes.len() as u64);
                let _ = debug.copy(4096, |_| true);
            }
        }
    }

    #[test]
    fn a_file_that_is_cut_meanwhile_is_an_error() {
        let file = file_of(&own());
        let debug = DebugFile::of(file.try_clone().unwrap()).unwrap();
        file.set_len(4096).unwrap();
        assert!(debug.copy(1 << 20, |_| true).is_err());
    }

    #[test]
    fn a_directory_is_no_file() {
        let error = DebugFile::of(File::open("/proc").unwrap()).unwrap_err();
        assert!(matches!(error, Unfit::Malformed(_)), "{error}");
    }
}
