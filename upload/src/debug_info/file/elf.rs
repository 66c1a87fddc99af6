//! The headers of an ELF file, and the plan of the smaller file.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::{BYTES_MAX, Part, Quality, Unfit};

/// Most program headers.
const SEGMENTS_MAX: usize = 1024;
/// Largest table of section names, in bytes.
const NAMES_BYTES_MAX: u64 = 1 << 20;
/// Longest name of a section that is told from others.
const NAME_BYTES_MAX: usize = 32;
/// Contents lie at the same place in so many bytes as they did: more than any reader of them asks for.
const ALIGN: u64 = 16;

pub(super) const HEADER_LEN: usize = 64;
const SEGMENT_LEN: usize = 56;
const SECTION_LEN: usize = 64;

const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
const SHT_NULL: u32 = 0;
const SHT_NOTE: u32 = 7;
const SHT_NOBITS: u32 = 8;

/// Sections of DWARF that tell of variables, macros and unwinding, or are lists for debuggers.
pub(super) const NOT_NEEDED: [&str; 10] = [
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

/// The headers of an ELF file.
pub(super) struct Elf {
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
    /// Reads them.
    pub fn read(file: &File) -> Result<Self, Unfit> {
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

    /// What is in it that tells of addresses.
    pub fn quality(&self) -> Option<Quality> {
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
    pub fn plan(&self) -> Result<(Vec<Part>, u64), Unfit> {
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

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes)
}

fn name_at(names: &[u8], at: u32) -> String {
    let rest = names.get(at as usize..).unwrap_or_default();
    let rest = &rest[..rest.len().min(NAME_BYTES_MAX)];
    let name = rest.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(name).into_owned()
}
