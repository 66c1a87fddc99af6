//! The section headers of an ELF file, read within bounds.
//!
//! A parser of symbols and DWARF trusts sizes: it allocates what a header declares, and maps what a
//! sparse file pretends to have. So all sizes are checked here first, from a few kilobytes.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Most sections. Linkers write about forty.
const SECTIONS_MAX: u64 = 16_384;
/// Largest table of section names, in bytes.
const NAMES_BYTES_MAX: u64 = 1 << 20;
/// Bytes of a section name that are read.
const NAME_BYTES_MAX: usize = 32;
/// Longest header of a section or a file, in bytes.
const HEADER_BYTES_MAX: usize = 64;

const SHT_NOBITS: u32 = 8;
const SHF_COMPRESSED: u64 = 1 << 11;

/// One section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Section {
    /// Its name, cut at 32 bytes.
    pub name: String,
    pub offset: u64,
    /// Bytes in the file.
    pub bytes: u64,
    /// Bytes once decompressed, as the section declares them; `None` when it is not compressed.
    pub decompressed: Option<u64>,
    /// Index of the section that this one refers to: of a symbol table, its names.
    pub link: u32,
}

/// The sections of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sections {
    pub is_64_bit: bool,
    pub list: Vec<Section>,
}

/// Numbers of a file of either class.
struct Reader<'a> {
    file: &'a File,
    length: u64,
    is_64_bit: bool,
}

impl Sections {
    /// Reads the headers. A file that is not ELF has no sections.
    ///
    /// # Errors
    /// As reading does, and when there are too many sections.
    pub fn read(file: &File) -> io::Result<Self> {
        let length = file.metadata()?.len();
        let mut reader = Reader { file, length, is_64_bit: true };
        let header = reader.bytes(0, HEADER_BYTES_MAX)?;
        reader.is_64_bit = match header.get(..6) {
            Some(b"\x7fELF\x02\x01") => true,
            Some(b"\x7fELF\x01\x01") => false,
            _ => return Ok(Self { is_64_bit: true, list: Vec::new() }),
        };
        let table = reader.word(&header, 32, 40);
        let (size, count, names) = match reader.is_64_bit {
            true => (64, number(&header, 60, 2), number(&header, 62, 2)),
            false => (40, number(&header, 48, 2), number(&header, 50, 2)),
        };
        let Ok(first) = reader.bytes(table, size) else {
            return Ok(Self { is_64_bit: reader.is_64_bit, list: Vec::new() });
        };
        // Larger numbers are in the first section (gABI, "Section Header").
        let count = if count == 0 { reader.word(&first, 20, 32) } else { count };
        let names = if names == 0xffff { reader.link(&first).into() } else { names };
        if count > SECTIONS_MAX {
            return Err(invalid(format!("it has {count} sections, more than {SECTIONS_MAX}")));
        }
        let table = reader.bytes(table, size * count as usize)?;
        let headers: Vec<&[u8]> = table.chunks_exact(size).collect();
        let names = headers.get(names as usize).map(|header| reader.contents(header));
        let (offset, bytes) = names.unwrap_or_default();
        let names = reader.bytes(offset, bytes.min(NAMES_BYTES_MAX) as usize).unwrap_or_default();
        let list = headers.into_iter().map(|header| reader.section(header, &names)).collect();
        Ok(Self { is_64_bit: reader.is_64_bit, list })
    }

    /// Sums the memory that sections take when they are read: those that are compressed, and those
    /// that are not, which are mapped.
    pub fn bytes(&self, is_wanted: impl Fn(&str) -> bool) -> SectionBytes {
        let mut sum = SectionBytes::default();
        for section in self.list.iter().filter(|section| is_wanted(&section.name)) {
            match section.decompressed {
                Some(bytes) => sum.decompressed = sum.decompressed.saturating_add(bytes),
                None => sum.mapped = sum.mapped.saturating_add(section.bytes),
            }
        }
        sum
    }

    /// Returns whether there is a section of this name.
    pub fn has(&self, name: &str) -> bool {
        self.list.iter().any(|section| section.name == name)
    }
}

/// Bytes of several sections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SectionBytes {
    /// What they are in memory once decompressed.
    pub decompressed: u64,
    /// What is mapped from the file.
    pub mapped: u64,
}

impl Reader<'_> {
    fn bytes(&self, offset: u64, count: usize) -> io::Result<Vec<u8>> {
        // Nothing is allocated for what the file does not have.
        if offset.checked_add(count as u64).is_none_or(|end| end > self.length) {
            return Err(invalid("a header lies outside of the file".into()));
        }
        let mut bytes = vec![0; count];
        self.file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    }

    /// Returns a number of the size of an address, at one offset or the other.
    fn word(&self, bytes: &[u8], at_32: usize, at_64: usize) -> u64 {
        if self.is_64_bit { number(bytes, at_64, 8) } else { number(bytes, at_32, 4) }
    }

    fn link(&self, header: &[u8]) -> u32 {
        number(header, if self.is_64_bit { 40 } else { 24 }, 4) as u32
    }

    fn contents(&self, header: &[u8]) -> (u64, u64) {
        (self.word(header, 16, 24), self.word(header, 20, 32))
    }

    fn section(&self, header: &[u8], names: &[u8]) -> Section {
        let (offset, mut bytes) = self.contents(header);
        if number(header, 4, 4) as u32 == SHT_NOBITS {
            bytes = 0;
        }
        let is_compressed = self.word(header, 8, 8) & SHF_COMPRESSED != 0;
        let decompressed = is_compressed.then(|| {
            let header = self.bytes(offset, if self.is_64_bit { 24 } else { 12 });
            header.map_or(0, |header| self.word(&header, 4, 8))
        });
        let name = name_at(names, number(header, 0, 4) as usize, NAME_BYTES_MAX);
        Section { name, offset, bytes, decompressed, link: self.link(header) }
    }
}

/// Returns the text at an offset of a table of names, up to a length in bytes; bytes that are not
/// UTF-8 are replaced.
pub(crate) fn name_at(names: &[u8], at: usize, max: usize) -> String {
    let rest = names.get(at..).unwrap_or_default();
    let rest = &rest[..rest.len().min(max)];
    let name = rest.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(name).into_owned()
}

/// Returns a little-endian number of up to 8 bytes; 0 outside of the bytes.
pub(crate) fn number(bytes: &[u8], at: usize, size: usize) -> u64 {
    let bytes = bytes.get(at..at + size).unwrap_or_default();
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn invalid(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(bytes).expect("written");
        file
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
        let sections = Sections::read(&own).expect("an ELF file");
        let bytes = sections.bytes(|name| name == ".text");
        assert!(sections.has(".symtab") && bytes.mapped > 100_000, "{bytes:?}");
        let table = sections.list.iter().find(|section| section.name == ".symtab");
        let names = table.and_then(|table| sections.list.get(table.link as usize));
        assert!(names.is_some_and(|section| section.name == ".strtab"), "{names:?}");
    }

    #[test]
    fn sizes_are_not_believed() {
        for bytes in [vec![], b"#!/bin/sh".to_vec(), vec![0; 64], header(1 << 40, 10, 1)] {
            let sections = Sections::read(&file(&bytes));
            assert!(sections.is_err() || sections.is_ok_and(|sections| sections.list.is_empty()));
        }
        // As many sections as the first one says, which is 2^32.
        let mut extended = header(64, 0, 0xffff);
        extended.extend([0; 64]);
        extended[64 + 32..64 + 40].copy_from_slice(&(1u64 << 32).to_le_bytes());
        let error = Sections::read(&file(&extended)).expect_err("too many");
        assert!(error.to_string().contains("4294967296 sections"), "{error}");
        // More sections than the file has bytes for.
        let truncated = [header(64, 16_000, 1), vec![0; 64]].concat();
        Sections::read(&file(&truncated)).expect_err("outside");
    }

    #[test]
    fn compressed_sections_count_as_they_declare() {
        let mut bytes = header(128, 2, 0);
        bytes.extend([1u64, 1 << 40, 1].map(u64::to_le_bytes).concat()); // ELFCOMPRESS_ZLIB
        bytes.resize(128 + 64, 0);
        let mut section = vec![0; 64];
        section[8..16].copy_from_slice(&SHF_COMPRESSED.to_le_bytes());
        section[24..32].copy_from_slice(&64u64.to_le_bytes());
        section[32..40].copy_from_slice(&24u64.to_le_bytes());
        bytes.extend(section);
        let sections = Sections::read(&file(&bytes)).expect("read");
        let expected = SectionBytes { decompressed: 1 << 40, mapped: 0 };
        assert_eq!(sections.bytes(|_| true), expected);
    }
}
