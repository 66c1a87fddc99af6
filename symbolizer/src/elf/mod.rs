//! An ELF file: its headers, and its bytes by offset and by address.

mod bytes;
mod dynamic;
mod headers;

use std::fs::File;
use std::io;
use std::ops::Range;

use object::elf::{NT_GNU_BUILD_ID, PF_X, PT_LOAD, PT_NOTE, SHF_EXECINSTR, SHT_NOTE};

pub(crate) use bytes::{FileBytes, number, structs};
pub(crate) use dynamic::Dynamic;
pub(crate) use headers::{Headers, OLD_COMPRESSED, OLD_HEADER_BYTES, Section, Segment};

/// Bytes of notes that are searched for a build ID.
const NOTES_MAX: usize = 64 << 10;

/// An ELF file that is read lazily.
#[derive(Debug)]
pub(crate) struct ElfFile {
    pub bytes: FileBytes,
    pub headers: Headers,
}

impl ElfFile {
    /// Reads the headers of a file.
    ///
    /// # Errors
    /// As reading does, and when there are too many sections.
    pub fn open(file: File) -> io::Result<Self> {
        Self::new(FileBytes::of(file)?)
    }

    /// Reads the headers of a file that is in memory.
    ///
    /// # Errors
    /// See [`ElfFile::open`].
    pub fn from_memory(bytes: Vec<u8>) -> io::Result<Self> {
        Self::new(FileBytes::from_memory(bytes))
    }

    fn new(bytes: FileBytes) -> io::Result<Self> {
        let headers = Headers::read(&bytes)?;
        Ok(Self { bytes, headers })
    }

    pub fn is_64_bit(&self) -> bool {
        self.headers.is_64_bit
    }

    /// Returns the first section of this name.
    pub fn section(&self, name: &str) -> Option<&Section> {
        self.headers.sections.iter().find(|section| section.name == name)
    }

    fn segments(&self, kind: u32) -> impl Iterator<Item = &Segment> {
        self.headers.segments.iter().filter(move |segment| segment.kind == kind)
    }

    /// Returns where code is, ascending: the sections of code, or segments where there are none.
    pub fn code(&self) -> Vec<Range<u64>> {
        let is_code = |section: &&Section| section.flags & SHF_EXECINSTR.0 != 0;
        let sections = self.headers.sections.iter().filter(is_code);
        let mut ranges: Vec<Range<u64>> = sections.map(Section::addresses).collect();
        if ranges.is_empty() {
            let segments = self.segments(PT_LOAD.0).filter(|segment| segment.flags & PF_X.0 != 0);
            ranges = segments.map(Segment::addresses).collect();
        }
        ranges.retain(|range| !range.is_empty());
        ranges.sort_unstable_by_key(|range| range.start);
        ranges
    }

    /// Returns the offset in the file of what is loaded at an address, and the bytes from there to
    /// the end of its segment.
    pub fn offset_of(&self, address: u64) -> Option<(u64, u64)> {
        let loaded = self.segments(PT_LOAD.0);
        let segment = { loaded }.find(|segment| segment.addresses().contains(&address))?;
        let into = address - segment.address;
        Some((segment.offset.checked_add(into)?, segment.bytes - into))
    }

    /// Reads at most so many bytes that are loaded at an address: fewer at the end of the segment.
    pub fn loaded(&self, address: u64, max: usize) -> Vec<u8> {
        let Some((offset, left)) = self.offset_of(address) else { return Vec::new() };
        self.bytes.read_up_to(offset, left.min(max as u64) as usize)
    }

    /// Reads the build ID from the notes of sections, or of segments.
    pub fn build_id(&self) -> Option<Vec<u8>> {
        let sections = self.headers.sections.iter().filter(|section| section.kind == SHT_NOTE.0);
        let sections = sections.map(|section| (section.offset, section.bytes));
        let segments = self.segments(PT_NOTE.0).map(|segment| (segment.offset, segment.bytes));
        sections.chain(segments).find_map(|(offset, bytes)| {
            let notes = self.bytes.read_up_to(offset, bytes.min(NOTES_MAX as u64) as usize);
            find_build_id(&notes)
        })
    }
}

impl Section {
    /// Returns the addresses at which it is loaded.
    pub fn addresses(&self) -> Range<u64> {
        self.address..self.address.saturating_add(self.size)
    }
}

impl Segment {
    /// Returns the addresses at which it is loaded from the file.
    pub fn addresses(&self) -> Range<u64> {
        self.address..self.address.saturating_add(self.bytes)
    }
}

/// Finds the note of the build ID (gABI, "Note Section").
fn find_build_id(mut notes: &[u8]) -> Option<Vec<u8>> {
    const HEADER: usize = 12;
    loop {
        let size = |at: usize| number(notes, at, 4) as usize;
        let (name, content, kind) = (size(0), size(4), number(notes, 8, 4));
        let from = HEADER.checked_add(name.checked_next_multiple_of(4)?)?;
        let to = from.checked_add(content)?;
        let (name, content) = (notes.get(HEADER..HEADER + name)?, notes.get(from..to)?);
        if name == b"GNU\0" && kind == u64::from(NT_GNU_BUILD_ID.0) {
            return Some(content.to_vec());
        }
        notes = notes.get(to.checked_next_multiple_of(4)?..)?;
    }
}
