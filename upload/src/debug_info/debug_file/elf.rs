//! The headers of an ELF file, and the layout of its debug file.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::part::{BYTES_MAX, Part, Quality, UnfitReason};

/// Most program headers.
const SEGMENTS_MAX: usize = 1024;
/// Most sections. Linkers write about forty.
const SECTIONS_MAX: usize = 16_384;
/// Largest table of section names, in bytes.
const NAMES_BYTES_MAX: u64 = 1 << 20;
/// Bytes of a section name that are compared.
const NAME_BYTES_MAX: usize = 32;
/// Contents keep their offset modulo this many bytes, which is more than any reader requires.
const ALIGN: u64 = 16;

pub const HEADER_LEN: usize = 64;
const SEGMENT_LEN: usize = 56;
const SECTION_LEN: usize = 64;

const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
const SHT_NULL: u32 = 0;
const SHT_NOTE: u32 = 7;
const SHT_NOBITS: u32 = 8;

/// DWARF sections on variables, macros and unwinding, and indexes for debuggers.
pub const OMITTED_DWARF: [&str; 10] = [
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

/// Sections retained besides DWARF, notes and Go's function table.
const RETAINED: [&str; 7] =
    [".symtab", ".strtab", ".shstrtab", ".symtab_shndx", ".dynsym", ".dynstr", ".gnu_debugaltlink"];

/// The headers of an ELF file.
pub struct Elf {
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
    fn kind(&self) -> u32 {
        u32_at(&self.raw, 4)
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

    /// Returns the name of a DWARF section without `.debug_`.
    fn dwarf_name(&self) -> Option<&str> {
        self.name.strip_prefix(".debug_").or_else(|| self.name.strip_prefix(".zdebug_"))
    }

    fn is_retained(&self) -> bool {
        self.has_contents()
            && (self.dwarf_name().is_some_and(|name| !OMITTED_DWARF.contains(&name))
                || self.is_go_function_table()
                || self.kind() == SHT_NOTE
                || RETAINED.contains(&self.name.as_str()))
    }

    fn is_go_function_table(&self) -> bool {
        [".gopclntab", ".data.rel.ro.gopclntab"].contains(&self.name.as_str())
    }

    /// Returns the section header in the debug file.
    fn header_at(&self, offset: u64) -> [u8; SECTION_LEN] {
        let mut raw = self.raw;
        if self.kind() == SHT_NULL {
            return raw;
        }
        put(&mut raw, 24, offset);
        if !self.is_retained() && self.dwarf_name().is_some() {
            // Go's reader rejects a file with DWARF of type NOBITS, but accepts an empty section.
            put(&mut raw, 32, 0);
        } else if !self.is_retained() {
            raw[4..8].copy_from_slice(&SHT_NOBITS.to_le_bytes());
        }
        raw
    }
}

impl Elf {
    /// Reads and checks the headers.
    pub fn read(file: &File) -> Result<Self, UnfitReason> {
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(UnfitReason::Malformed("not a regular file"));
        }
        let length = metadata.len();
        let read = |offset: u64, size: usize, what| {
            let end = offset.checked_add(size as u64);
            if end.is_none_or(|end| end > length) {
                return Err(UnfitReason::Malformed(what));
            }
            let mut bytes = vec![0; size];
            file.read_exact_at(&mut bytes, offset)?;
            Ok(bytes)
        };
        let header = read(0, HEADER_LEN, "no header")?;
        // 64 bits, little-endian, version 1.
        if header[..7] != *b"\x7fELF\x02\x01\x01" {
            return Err(UnfitReason::Malformed("another kind of file"));
        }
        let count = |at| usize::from(u16_at(&header, at));
        let (segments, sections, names) = (count(56), count(60), count(62));
        if (segments > 0 && count(54) != SEGMENT_LEN) || segments > SEGMENTS_MAX {
            return Err(UnfitReason::Malformed("program headers"));
        }
        if sections == 0 {
            return Err(UnfitReason::Nothing);
        }
        if count(58) != SECTION_LEN || names >= sections || sections > SECTIONS_MAX {
            return Err(UnfitReason::Malformed("section headers"));
        }
        let segments = read(u64_at(&header, 32), segments * SEGMENT_LEN, "program headers")?;
        let raw = read(u64_at(&header, 40), sections * SECTION_LEN, "section headers")?;
        let (raw, _) = raw.as_chunks::<SECTION_LEN>();
        let table = Section { name: String::new(), raw: raw[names] };
        if table.size() > NAMES_BYTES_MAX || table.kind() == SHT_NOBITS {
            return Err(UnfitReason::Malformed("section names"));
        }
        let names = read(table.offset(), table.size() as usize, "section names")?;
        let named =
            |raw: &[u8; SECTION_LEN]| Section { name: name_at(&names, u32_at(raw, 0)), raw: *raw };
        let sections: Vec<Section> = raw.iter().map(named).collect();
        check_contents(&sections, length)?;
        Ok(Self { header, segments, sections })
    }

    /// Returns how much the file reveals about an address; `None` for nothing.
    pub fn quality(&self) -> Option<Quality> {
        let quality_of = |section: &Section| match section.dwarf_name() {
            Some("info") => Some(Quality::Dwarf),
            Some("line") => Some(Quality::Lines),
            _ if section.is_go_function_table() => Some(Quality::Lines),
            _ if section.name == ".symtab" => Some(Quality::Functions),
            _ => None,
        };
        let with_contents = self.sections.iter().filter(|section| section.has_contents());
        with_contents.filter_map(quality_of).max()
    }

    /// Lays out the debug file: header, program headers, contents, section headers. Returns its
    /// parts and its length.
    pub fn lay_out(&self) -> Result<(Vec<Part>, u64), UnfitReason> {
        let mut segments = self.segments.clone();
        segments.chunks_exact_mut(SEGMENT_LEN).for_each(clear_file_size);
        let mut at = (HEADER_LEN + segments.len()) as u64;
        let mut contents = Vec::new();
        let mut sections = Vec::with_capacity(self.sections.len() * SECTION_LEN);
        for section in &self.sections {
            let is_retained = section.is_retained();
            if is_retained {
                pad(&mut contents, &mut at, section.offset() % ALIGN);
                self.move_note_segments(&mut segments, section, at);
            }
            sections.extend_from_slice(&section.header_at(at));
            if is_retained {
                contents.push(Part::Copy { offset: section.offset(), length: section.size() });
                at = at
                    .checked_add(section.size())
                    .filter(|at| *at <= BYTES_MAX)
                    .ok_or(UnfitReason::TooLarge)?;
            }
        }
        pad(&mut contents, &mut at, 0);
        let mut header = self.header.clone();
        let segments_at = if segments.is_empty() { 0 } else { HEADER_LEN as u64 };
        put(&mut header, 32, segments_at);
        put(&mut header, 40, at);
        at += sections.len() as u64;
        let mut parts = vec![Part::Bytes(header), Part::Bytes(segments)];
        parts.append(&mut contents);
        parts.push(Part::Bytes(sections));
        Ok((parts, at))
    }

    /// Points note segments at the moved sections that they contain, as long as these are laid out
    /// as before.
    fn move_note_segments(&self, segments: &mut [u8], section: &Section, to: u64) {
        if section.kind() != SHT_NOTE {
            return;
        }
        let (start, end) = (section.offset(), section.offset() + section.size());
        let old_segments = self.segments.chunks_exact(SEGMENT_LEN);
        for (old, new) in old_segments.zip(segments.chunks_exact_mut(SEGMENT_LEN)) {
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

fn check_contents(sections: &[Section], file_length: u64) -> Result<(), UnfitReason> {
    let retained = || sections.iter().filter(|section| section.is_retained());
    let ends_inside = |section: &Section| {
        let end = section.offset().checked_add(section.size());
        end.is_some_and(|end| end <= file_length)
    };
    if !retained().all(ends_inside) {
        return Err(UnfitReason::Malformed("a section ends outside of the file"));
    }
    // Otherwise a small file could produce a large one.
    if retained().map(Section::size).fold(0, u64::saturating_add) > file_length {
        return Err(UnfitReason::Malformed("sections overlap"));
    }
    Ok(())
}

/// Pads to the next offset that equals `remainder` modulo [`ALIGN`], as in the original file.
fn pad(parts: &mut Vec<Part>, at: &mut u64, remainder: u64) {
    let gap = (ALIGN + remainder - *at % ALIGN) % ALIGN;
    if gap > 0 {
        parts.push(Part::Bytes(vec![0; gap as usize]));
        *at += gap;
    }
}

/// Marks a segment as empty in the file. Loaded segments keep their numbers, which map addresses.
fn clear_file_size(segment: &mut [u8]) {
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

pub fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes)
}

fn name_at(names: &[u8], at: u32) -> String {
    let rest = names.get(at as usize..).unwrap_or_default();
    let rest = &rest[..rest.len().min(NAME_BYTES_MAX)];
    let name = rest.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(name).into_owned()
}
