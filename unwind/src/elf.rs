//! Segments and sections of one ELF file, read through a closure.
//!
//! The file is untrusted: each offset and size is checked against the file and against a bound
//! before memory is allocated.

use object::LittleEndian as Endian;
use object::elf::{
    CompressionHeader64, ELFCOMPRESS_ZLIB, EM_X86_64, ET_EXEC, FileHeader64, PF_X, PT_GNU_EH_FRAME,
    PT_INTERP, PT_LOAD, ProgramHeader64, SHF_COMPRESSED, SHF_EXECINSTR, SHT_NOBITS,
    SectionHeader64, SectionType,
};
use object::pod::{Pod, from_bytes, slice_from_all_bytes, slice_from_bytes};
use object::read::elf::{FileHeader, ProgramHeader, SectionHeader};

use crate::table::TEXT_MAX;

/// Bytes of one section. The largest `.eh_frame` known, of a browser, has 30 MB.
pub const SECTION_MAX: u64 = 64 << 20;
const PROGRAM_HEADERS_MAX: usize = 128;
const SECTION_HEADERS_MAX: usize = 1 << 12;
const SECTION_NAMES_MAX: u64 = 1 << 16;

/// Fills a buffer with the bytes at an offset of the file; returns whether all could be read.
pub type ReadAt<'a> = &'a dyn Fn(u64, &mut [u8]) -> bool;

/// Why a file has no table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not a 64-bit little-endian ELF file for x86-64.
    #[error("it is no 64-bit x86-64 ELF file")]
    NotElf,
    /// The headers cannot be read or are inconsistent.
    #[error("its ELF headers are malformed")]
    Malformed,
    /// No executable segment.
    #[error("it has no executable segment")]
    NoText,
    /// No call-frame information.
    #[error("it has no call-frame information")]
    NoCallFrames,
    /// A section is larger than [`SECTION_MAX`].
    #[error("its call-frame information is larger than {} MiB", SECTION_MAX >> 20)]
    TooLarge,
}

/// A section, read into memory.
#[derive(Clone, Debug, Default)]
pub(crate) struct Section {
    /// Address at which it is loaded.
    pub address: u64,
    pub bytes: Vec<u8>,
}

impl Section {
    /// Returns the structures in the section, without an incomplete last one.
    pub fn structs<T: Pod>(&self) -> &[T] {
        let whole = self.bytes.len() - self.bytes.len() % size_of::<T>();
        slice_from_all_bytes(&self.bytes[..whole]).unwrap_or_default()
    }
}

/// The headers of an ELF file.
pub(crate) struct Elf<'a> {
    read: ReadAt<'a>,
    /// The entry point, 0 if there is none.
    pub entry: u64,
    is_fixed: bool,
    segments: Vec<ProgramHeader64<Endian>>,
    sections: Vec<SectionHeader64<Endian>>,
    names: Vec<u8>,
}

impl<'a> Elf<'a> {
    /// Reads the headers. Section headers may be missing or unusable.
    pub fn read(read: ReadAt<'a>) -> Result<Self, Error> {
        let header = structs::<FileHeader64<Endian>>(read, 0, 1).ok_or(Error::NotElf)?;
        let header = &header[0];
        let endian = header.endian().map_err(|_| Error::NotElf)?;
        if !header.is_supported() || header.e_machine(endian) != EM_X86_64 {
            return Err(Error::NotElf);
        }
        let count = usize::from(header.e_phnum(endian)).min(PROGRAM_HEADERS_MAX);
        let segments = structs(read, header.e_phoff(endian), count).ok_or(Error::Malformed)?;

        let count = usize::from(header.e_shnum(endian)).min(SECTION_HEADERS_MAX);
        let sections = structs(read, header.e_shoff(endian), count).unwrap_or_default();
        let entry = header.e_entry(endian);
        let is_fixed = header.e_type(endian) == ET_EXEC;
        let mut elf = Self { read, entry, is_fixed, segments, sections, names: Vec::new() };
        if let Some(names) = elf.sections.get(usize::from(header.e_shstrndx(endian).0)) {
            let size = names.sh_size(endian).min(SECTION_NAMES_MAX);
            elf.names = elf.bytes(names.sh_offset(endian), size).unwrap_or_default();
        }
        Ok(elf)
    }

    /// Returns the addresses from the first executable segment to the end of the last.
    pub fn text(&self) -> Option<std::ops::Range<u64>> {
        self.loaded_ranges(true).reduce(|all, one| all.start.min(one.start)..all.end.max(one.end))
    }

    /// Returns the addresses that a table of the file covers.
    ///
    /// # Errors
    /// [`Error::NoText`].
    pub fn table_text(&self) -> Result<std::ops::Range<u64>, Error> {
        let text = self.text().filter(|text| !text.is_empty()).ok_or(Error::NoText)?;
        Ok(text.start..text.end.min(text.start.saturating_add(TEXT_MAX)))
    }

    /// Returns the addresses of executable sections, ascending and disjoint; those of executable
    /// segments in a file without section headers.
    pub fn executable(&self) -> Vec<std::ops::Range<u64>> {
        let segments: Vec<_> = self.loaded_ranges(true).collect();
        let sections = self.sections.iter().filter(|section| {
            section.sh_flags(Endian).0 & SHF_EXECINSTR.0 != 0 && section.sh_size(Endian) > 0
        });
        let mut ranges: Vec<std::ops::Range<u64>> = sections
            .filter_map(|section| {
                let start = section.sh_addr(Endian);
                let segment = segments.iter().find(|segment| segment.contains(&start))?;
                Some(start..start.saturating_add(section.sh_size(Endian)).min(segment.end))
            })
            .collect();
        if ranges.is_empty() {
            ranges = segments;
        }
        ranges.sort_by_key(|range| range.start);
        let mut end = 0;
        for range in &mut ranges {
            range.start = range.start.max(end);
            end = end.max(range.end);
        }
        ranges.retain(|range| range.start < range.end);
        ranges
    }

    /// Returns the addresses of each loaded segment that is executable, or that is not.
    fn loaded_ranges(&self, is_executable: bool) -> impl Iterator<Item = std::ops::Range<u64>> {
        let segments = self.segments.iter().filter(move |segment| {
            segment.p_type(Endian) == PT_LOAD
                && (segment.p_flags(Endian).0 & PF_X.0 != 0) == is_executable
        });
        segments.map(|segment| {
            let start = segment.p_vaddr(Endian);
            start..start.saturating_add(segment.p_filesz(Endian))
        })
    }

    /// Returns the addresses of each loaded segment that is not executable.
    pub fn data(&self) -> Vec<std::ops::Range<u64>> {
        self.loaded_ranges(false).collect()
    }

    /// Returns whether addresses are those at which the file is loaded.
    pub fn has_fixed_addresses(&self) -> bool {
        self.is_fixed
    }

    /// Returns whether the file starts without a dynamic linker: a static executable, or a dynamic
    /// linker itself.
    pub fn has_runtime(&self) -> bool {
        let needs_linker = self.segments.iter().any(|s| s.p_type(Endian) == PT_INTERP);
        self.entry != 0 && !needs_linker
    }

    /// Returns whether the file may hold glibc's functions for contexts: a static executable, or a
    /// library with symbol versions that can be executed, like libc.so.6.
    pub fn has_contexts(&self) -> bool {
        let is_library = self.entry != 0 && self.address_of(".gnu.version_d").is_some();
        self.has_runtime() || is_library
    }

    /// Reads a section by name, decompressed; `None` if there is none or it cannot be read.
    ///
    /// # Errors
    /// [`Error::TooLarge`].
    pub fn section(&self, name: &str) -> Result<Option<Section>, Error> {
        let has_bytes = |section: &&SectionHeader64<Endian>| {
            self.is_named(section, name) && section.sh_type(Endian) != SHT_NOBITS
        };
        let Some(header) = self.sections.iter().find(has_bytes) else { return Ok(None) };
        let size = header.sh_size(Endian);
        if size > SECTION_MAX {
            return Err(Error::TooLarge);
        }
        let Some(bytes) = self.bytes(header.sh_offset(Endian), size) else { return Ok(None) };
        let bytes = match header.sh_flags(Endian).0 & SHF_COMPRESSED.0 {
            0 => Some(bytes),
            _ => decompress(&bytes)?,
        };
        Ok(bytes.map(|bytes| Section { address: header.sh_addr(Endian), bytes }))
    }

    /// Reads all sections of a type that are not compressed, each with the index of the section
    /// that it is linked to. Those that cannot be read or are too large are omitted.
    pub fn sections_of(&self, kind: SectionType) -> Vec<(Section, u32)> {
        let sections = self.sections.iter().filter(|section| section.sh_type(Endian) == kind);
        sections.filter_map(|header| Some((self.plain(header)?, header.sh_link(Endian)))).collect()
    }

    /// Reads a section by its index, if it is not compressed and not too large.
    pub fn section_by_index(&self, index: u32) -> Option<Section> {
        self.plain(self.sections.get(index as usize)?)
    }

    fn plain(&self, header: &SectionHeader64<Endian>) -> Option<Section> {
        let size = header.sh_size(Endian);
        let is_plain = header.sh_type(Endian) != SHT_NOBITS
            && header.sh_flags(Endian).0 & SHF_COMPRESSED.0 == 0;
        if !is_plain || size > SECTION_MAX {
            return None;
        }
        let bytes = self.bytes(header.sh_offset(Endian), size)?;
        Some(Section { address: header.sh_addr(Endian), bytes })
    }

    /// Returns the address of a section without reading it.
    pub fn address_of(&self, name: &str) -> Option<u64> {
        self.range_of(name).map(|range| range.start)
    }

    /// Returns the addresses of a section without reading it.
    pub fn range_of(&self, name: &str) -> Option<std::ops::Range<u64>> {
        let header = self.sections.iter().find(|section| self.is_named(section, name))?;
        let start = header.sh_addr(Endian);
        Some(start..start.saturating_add(header.sh_size(Endian)))
    }

    fn is_named(&self, section: &SectionHeader64<Endian>, name: &str) -> bool {
        let from = self.names.get(section.sh_name(Endian) as usize..).unwrap_or_default();
        from.split(|byte| *byte == 0).next() == Some(name.as_bytes())
    }

    /// Reads the header of `.eh_frame_hdr` that `PT_GNU_EH_FRAME` points to, for files without
    /// section headers.
    pub fn eh_frame_header(&self) -> Option<Section> {
        let is_header =
            |segment: &&ProgramHeader64<Endian>| segment.p_type(Endian) == PT_GNU_EH_FRAME;
        let segment = self.segments.iter().find(is_header)?;
        const HEADER_MAX: u64 = 64; // its search table is not needed
        let size = segment.p_filesz(Endian).min(HEADER_MAX);
        let bytes = self.bytes(segment.p_offset(Endian), size)?;
        Some(Section { address: segment.p_vaddr(Endian), bytes })
    }

    /// Reads from an address to the end of its segment.
    ///
    /// # Errors
    /// [`Error::TooLarge`].
    pub fn rest_of_segment(&self, address: u64) -> Result<Option<Section>, Error> {
        let Some((segment, into)) = self.segment_of(address) else { return Ok(None) };
        let size = segment.p_filesz(Endian) - into;
        if size > SECTION_MAX {
            return Err(Error::TooLarge);
        }
        let offset = segment.p_offset(Endian).checked_add(into);
        let bytes = offset.and_then(|offset| self.bytes(offset, size));
        Ok(bytes.map(|bytes| Section { address, bytes }))
    }

    /// Returns the loaded segment of an address, and the address's offset in the segment.
    fn segment_of(&self, address: u64) -> Option<(&ProgramHeader64<Endian>, u64)> {
        let loaded = self.segments.iter().filter(|segment| segment.p_type(Endian) == PT_LOAD);
        loaded
            .filter_map(|segment| Some((segment, address.checked_sub(segment.p_vaddr(Endian))?)))
            .find(|(segment, into)| *into < segment.p_filesz(Endian))
    }

    /// Reads the bytes loaded at these addresses, up to the end of their segment and at most
    /// [`SECTION_MAX`].
    pub fn loaded(&self, range: std::ops::Range<u64>) -> Option<Vec<u8>> {
        let (segment, into) = self.segment_of(range.start)?;
        let size = (segment.p_filesz(Endian) - into).min(range.end.saturating_sub(range.start));
        self.bytes(segment.p_offset(Endian).checked_add(into)?, size.min(SECTION_MAX))
    }

    /// Reads bytes of the file. `size` is within bounds already; memory is allocated only for bytes
    /// that the file really has.
    fn bytes(&self, offset: u64, size: u64) -> Option<Vec<u8>> {
        let mut last = [0];
        let end = offset.checked_add(size)?;
        if size > 0 && !(self.read)(end - 1, &mut last) {
            return None;
        }
        let mut bytes = vec![0; size as usize];
        (self.read)(offset, &mut bytes).then_some(bytes)
    }
}

fn structs<T: Pod + Clone>(read: ReadAt<'_>, offset: u64, count: usize) -> Option<Vec<T>> {
    let mut bytes = vec![0; count * size_of::<T>()];
    if !read(offset, &mut bytes) {
        return None;
    }
    let (structs, _) = slice_from_bytes::<T>(&bytes, count).ok()?;
    Some(structs.to_vec())
}

/// Decompresses a section that begins with a compression header; `None` if it is malformed.
fn decompress(bytes: &[u8]) -> Result<Option<Vec<u8>>, Error> {
    use std::io::Read;
    let Ok((header, rest)) = from_bytes::<CompressionHeader64<Endian>>(bytes) else {
        return Ok(None);
    };
    let size = header.ch_size.get(Endian);
    if size > SECTION_MAX {
        return Err(Error::TooLarge);
    }
    if header.ch_type.get(Endian) != ELFCOMPRESS_ZLIB {
        return Ok(None);
    }
    let mut whole = Vec::new();
    let unpacked = flate2::read::ZlibDecoder::new(rest).take(size).read_to_end(&mut whole);
    Ok(unpacked.is_ok().then_some(whole))
}
