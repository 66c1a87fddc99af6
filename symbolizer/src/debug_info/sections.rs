//! The sections of DWARF: mapped where the file has them as they are, else decompressed.

use std::io::{self, Read};
use std::ops::{Deref, Range};

use flate2::read::ZlibDecoder;
use gimli::{EndianSlice, LittleEndian};
use object::elf::{ELFCOMPRESS_ZLIB, ELFCOMPRESS_ZSTD};

use crate::elf::{ElfFile, OLD_COMPRESSED, OLD_HEADER_BYTES, Section, number};

/// Reads the bytes of a section.
pub(super) type Reader<'a> = EndianSlice<'a, LittleEndian>;

/// The bytes of a file, mapped.
pub type MappedFile = Box<dyn Deref<Target = [u8]>>;

/// The bytes of one section.
#[derive(Clone, Debug)]
enum Bytes {
    /// At these offsets in the file.
    Mapped(Range<usize>),
    Decompressed(Vec<u8>),
}

/// The sections of DWARF of one file.
pub(super) struct DwarfSections {
    file: MappedFile,
    sections: Vec<(String, Bytes)>,
}

impl DwarfSections {
    /// Finds all sections, and decompresses those that are compressed. `file`: the mapped file.
    ///
    /// # Errors
    /// When a section cannot be decompressed.
    pub fn read(elf: &ElfFile, file: MappedFile) -> io::Result<Self> {
        let mut sections = Vec::new();
        for section in elf.headers.sections.iter().filter(|section| is_debug_info(section)) {
            let from = usize::try_from(section.offset).unwrap_or(usize::MAX).min(file.len());
            let bytes = usize::try_from(section.bytes).unwrap_or(usize::MAX);
            let to = from.saturating_add(bytes).min(file.len());
            let bytes = match section.decompressed {
                None => Bytes::Mapped(from..to),
                Some(size) => Bytes::Decompressed(decompress(elf, section, &file[from..to], size)?),
            };
            sections.push((section.name.replacen(OLD_COMPRESSED, ".debug_", 1), bytes));
        }
        Ok(Self { file, sections })
    }

    /// Returns the section of this name; empty if there is none.
    pub fn get(&self, name: &str) -> &[u8] {
        match self.sections.iter().find(|(section, _)| section == name) {
            Some((_, Bytes::Mapped(range))) => &self.file[range.clone()],
            Some((_, Bytes::Decompressed(bytes))) => bytes,
            None => &[],
        }
    }
}

/// Returns whether a section is one of DWARF.
pub(crate) fn is_debug_info(section: &Section) -> bool {
    section.name.starts_with(".debug_") || section.name.starts_with(OLD_COMPRESSED)
}

/// Decompresses a section. `size`: bytes that it has then, and no more are made.
fn decompress(elf: &ElfFile, section: &Section, bytes: &[u8], size: u64) -> io::Result<Vec<u8>> {
    let of_section = |error| {
        let text = format!("cannot decompress {}: {error}", section.name);
        io::Error::new(io::ErrorKind::InvalidData, text)
    };
    let (header, kind) = match section.name.starts_with(OLD_COMPRESSED) {
        true => (OLD_HEADER_BYTES, ELFCOMPRESS_ZLIB.0),
        false => (if elf.is_64_bit() { 24 } else { 12 }, number(bytes, 0, 4) as u32),
    };
    let compressed = bytes.get(header..).unwrap_or_default();
    let mut decompressed = Vec::new();
    let read = if kind == ELFCOMPRESS_ZLIB.0 {
        ZlibDecoder::new(compressed).take(size).read_to_end(&mut decompressed)
    } else if kind == ELFCOMPRESS_ZSTD.0 {
        zstd::Decoder::with_buffer(compressed)
            .and_then(|decoder| decoder.take(size).read_to_end(&mut decompressed))
    } else {
        Err(io::Error::other(format!("unknown compression {kind}")))
    };
    read.map_err(of_section)?;
    Ok(decompressed)
}
