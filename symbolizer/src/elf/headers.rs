//! The headers of an ELF file, read within bounds.
//!
//! A parser of symbols and DWARF trusts sizes: it allocates what a header declares, and maps what a
//! sparse file pretends to have. So all sizes are checked here first, from a few kilobytes.

use std::io;

use object::elf::{SHF_COMPRESSED, SHT_NOBITS};

use super::bytes::{FileBytes, invalid, number};

/// Most sections. Linkers write about forty.
const SECTIONS_MAX: u64 = 16_384;
/// Most segments. Linkers write about a dozen.
const SEGMENTS_MAX: u64 = 256;
/// Largest table of section names, in bytes.
const NAMES_BYTES_MAX: u64 = 1 << 20;
/// Bytes of a section name that are read.
const NAME_BYTES_MAX: usize = 32;
/// Longest header of a section or a file, in bytes.
const HEADER_BYTES_MAX: usize = 64;

/// Prefix of the names of sections that are compressed in the way of before 2013, and the bytes of
/// their header: "ZLIB", and the size, its highest byte first.
pub(crate) const OLD_COMPRESSED: &str = ".zdebug_";
pub(crate) const OLD_HEADER_BYTES: usize = 12;

/// One section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Section {
    /// Its name, cut at 32 bytes.
    pub name: String,
    /// What it holds (`SHT_*`).
    pub kind: u32,
    /// `SHF_*`.
    pub flags: u64,
    pub address: u64,
    /// Bytes in memory.
    pub size: u64,
    pub offset: u64,
    /// Bytes in the file.
    pub bytes: u64,
    /// Bytes once decompressed, as the section declares them; `None` when it is not compressed.
    pub decompressed: Option<u64>,
    /// Index of the section that this one refers to: of a symbol table, its names.
    pub link: u32,
}

/// One segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    /// What it holds (`PT_*`).
    pub kind: u32,
    /// `PF_*`.
    pub flags: u32,
    pub offset: u64,
    pub address: u64,
    /// Bytes in the file.
    pub bytes: u64,
}

/// Sections and segments of a file. One that is not ELF has none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Headers {
    pub is_64_bit: bool,
    pub sections: Vec<Section>,
    pub segments: Vec<Segment>,
}

/// Reads headers of either class.
struct Reader<'a> {
    file: &'a FileBytes,
    is_64_bit: bool,
}

impl Headers {
    /// Reads the headers.
    ///
    /// # Errors
    /// As reading does, and when there are too many sections.
    pub fn read(file: &FileBytes) -> io::Result<Self> {
        let header = file.read(0, HEADER_BYTES_MAX)?;
        let is_64_bit = match header.get(..6) {
            Some(b"\x7fELF\x02\x01") => true,
            Some(b"\x7fELF\x01\x01") => false,
            _ => return Ok(Self { is_64_bit: true, sections: Vec::new(), segments: Vec::new() }),
        };
        let reader = Reader { file, is_64_bit };
        let (sections, segments) = (reader.sections(&header)?, reader.segments(&header));
        Ok(Self { is_64_bit, sections, segments: segments.unwrap_or_default() })
    }
}

impl Reader<'_> {
    /// Returns a number of the size of an address, at one offset or the other.
    fn word(&self, bytes: &[u8], at_32: usize, at_64: usize) -> u64 {
        if self.is_64_bit { number(bytes, at_64, 8) } else { number(bytes, at_32, 4) }
    }

    /// Returns a number of four bytes, at one offset or the other.
    fn half(&self, bytes: &[u8], at_32: usize, at_64: usize) -> u32 {
        number(bytes, if self.is_64_bit { at_64 } else { at_32 }, 4) as u32
    }

    fn sections(&self, header: &[u8]) -> io::Result<Vec<Section>> {
        let table = self.word(header, 32, 40);
        if table == 0 {
            return Ok(Vec::new());
        }
        let (size, count, names) = match self.is_64_bit {
            true => (64, number(header, 60, 2), number(header, 62, 2)),
            false => (40, number(header, 48, 2), number(header, 50, 2)),
        };
        let Ok(first) = self.file.read(table, size) else { return Ok(Vec::new()) };
        // Larger numbers are in the first section (gABI, "Section Header").
        let count = if count == 0 { self.word(&first, 20, 32) } else { count };
        let names = if names == 0xffff { self.link(&first).into() } else { names };
        if count > SECTIONS_MAX {
            return Err(invalid(format!("it has {count} sections, more than {SECTIONS_MAX}")));
        }
        let table = self.file.read(table, size * count as usize)?;
        let headers: Vec<&[u8]> = table.chunks_exact(size).collect();
        let names = headers.get(names as usize).map(|header| self.contents(header));
        let (offset, bytes) = names.unwrap_or_default();
        let names = self.file.read(offset, bytes.min(NAMES_BYTES_MAX) as usize);
        let names = names.unwrap_or_default();
        Ok(headers.into_iter().map(|header| self.section(header, &names)).collect())
    }

    fn segments(&self, header: &[u8]) -> Option<Vec<Segment>> {
        let table = self.word(header, 28, 32);
        let (size, count) = match self.is_64_bit {
            true => (56, number(header, 56, 2)),
            false => (32, number(header, 44, 2)),
        };
        let table = self.file.read(table, size * count.min(SEGMENTS_MAX) as usize).ok()?;
        Some(table.chunks_exact(size).map(|header| self.segment(header)).collect())
    }

    fn segment(&self, header: &[u8]) -> Segment {
        Segment {
            kind: number(header, 0, 4) as u32,
            flags: self.half(header, 24, 4),
            offset: self.word(header, 4, 8),
            address: self.word(header, 8, 16),
            bytes: self.word(header, 16, 32),
        }
    }

    fn link(&self, header: &[u8]) -> u32 {
        self.half(header, 24, 40)
    }

    fn contents(&self, header: &[u8]) -> (u64, u64) {
        (self.word(header, 16, 24), self.word(header, 20, 32))
    }

    fn section(&self, header: &[u8], names: &[u8]) -> Section {
        let (offset, size) = self.contents(header);
        let kind = number(header, 4, 4) as u32;
        let flags = self.word(header, 8, 8);
        let name = name_at(names, number(header, 0, 4) as usize);
        let decompressed = if flags & SHF_COMPRESSED.0 != 0 {
            let header = self.file.read(offset, if self.is_64_bit { 24 } else { 12 });
            Some(header.map_or(0, |header| self.word(&header, 4, 8)))
        } else if name.starts_with(OLD_COMPRESSED) {
            let header = self.file.read(offset, OLD_HEADER_BYTES).unwrap_or_default();
            let size = header.get(4..).unwrap_or_default();
            Some(size.iter().fold(0, |size, byte| size << 8 | u64::from(*byte)))
        } else {
            None
        };
        Section {
            name,
            kind,
            flags,
            address: self.word(header, 12, 16),
            size,
            offset,
            bytes: if kind == SHT_NOBITS.0 { 0 } else { size },
            decompressed,
            link: self.link(header),
        }
    }
}

/// Returns the text at an offset of the table of section names.
fn name_at(names: &[u8], at: usize) -> String {
    let rest = names.get(at..).unwrap_or_default();
    let rest = &rest[..rest.len().min(NAME_BYTES_MAX)];
    let name = rest.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(name).into_owned()
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    fn read(bytes: Vec<u8>) -> io::Result<Headers> {
        Headers::read(&FileBytes::from_memory(bytes))
    }

    fn header(table: u64, count: u16, names: u16) -> Vec<u8> {
        let mut header = vec![0; 64];
        header[..6].copy_from_slice(b"\x7fELF\x02\x01");
        header[40..48].copy_from_slice(&table.to_le_bytes());
        header[60..62].copy_from_slice(&count.to_le_bytes());
        header[62..64].copy_from_slice(&names.to_le_bytes());
        header
    }

    #[test]
    fn sections_of_this_program_have_names_and_sizes() {
        let own = File::open("/proc/self/exe").expect("open");
        let file = FileBytes::of(own).expect("readable");
        let headers = Headers::read(&file).expect("an ELF file");
        let section = |name| headers.sections.iter().find(|section| section.name == name);
        let text = section(".text").expect("code");
        assert!(text.bytes > 100_000 && text.size == text.bytes, "{text:?}");
        let names = section(".symtab").and_then(|table| headers.sections.get(table.link as usize));
        assert!(names.is_some_and(|section| section.name == ".strtab"), "{names:?}");
        let holds = |segment: &&Segment| {
            (segment.address..segment.address + segment.bytes).contains(&text.address)
        };
        let segment = headers.segments.iter().find(holds).expect("a segment with code");
        assert_eq!(text.address - segment.address, text.offset - segment.offset);
    }

    #[test]
    fn sizes_are_not_believed() {
        for bytes in [vec![], b"#!/bin/sh".to_vec(), vec![0; 64], header(1 << 40, 10, 1)] {
            let headers = read(bytes);
            assert!(headers.is_err() || headers.is_ok_and(|headers| headers.sections.is_empty()));
        }
        // As many sections as the first one says, which is 2^32.
        let mut extended = header(64, 0, 0xffff);
        extended.extend([0; 64]);
        extended[64 + 32..64 + 40].copy_from_slice(&(1u64 << 32).to_le_bytes());
        let error = read(extended).expect_err("too many");
        assert!(error.to_string().contains("4294967296 sections"), "{error}");
        // More sections than the file has bytes for.
        let truncated = [header(64, 16_000, 1), vec![0; 64]].concat();
        read(truncated).expect_err("outside");
    }

    #[test]
    fn compressed_sections_count_as_they_declare() {
        let mut bytes = header(128, 2, 0);
        bytes.extend([1u64, 1 << 40, 1].map(u64::to_le_bytes).concat()); // ELFCOMPRESS_ZLIB
        bytes.resize(128 + 64, 0);
        let mut section = vec![0; 64];
        section[8..16].copy_from_slice(&SHF_COMPRESSED.0.to_le_bytes());
        section[24..32].copy_from_slice(&64u64.to_le_bytes());
        section[32..40].copy_from_slice(&24u64.to_le_bytes());
        bytes.extend(section);
        let headers = read(bytes).expect("read");
        assert_eq!(headers.sections[1].decompressed, Some(1 << 40));
    }
}
