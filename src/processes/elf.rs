//! Reads the build ID and the load segments of an ELF file, or of its first pages in memory.
//!
//! The file is untrusted: what is read has fixed bounds, and it is read by `pread`, because a
//! mapping of a file that shrinks would crash the process.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use object::LittleEndian;
use object::elf::{FileHeader64, PF_X, PT_LOAD, PT_NOTE, ProgramHeader64};
use object::pod::{from_bytes, slice_from_bytes};
use object::read::elf::{FileHeader, NoteIterator, ProgramHeader};
use profile::{BuildId, FileAddr, FileOffset};

/// Program headers read; the largest real files have about 20.
const PROGRAM_HEADERS_MAX: usize = 128;
/// Bytes of notes read from one segment.
const NOTES_MAX: u64 = 64 << 10;

/// Build ID and layout of an ELF file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Elf {
    /// Its build ID, if it has one.
    pub build_id: Option<BuildId>,
    /// Its load segments.
    pub segments: Vec<Segment>,
}

/// A part of the file that is loaded at an address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, prost::Message)]
pub(super) struct Segment {
    #[prost(uint64, tag = "1")]
    offset: u64,
    #[prost(uint64, tag = "2")]
    len: u64,
    #[prost(uint64, tag = "3")]
    address: u64,
    #[prost(bool, tag = "4")]
    is_executable: bool,
}

impl Segment {
    /// Returns the addresses of its code; `None` if it is not executable.
    pub fn text(&self) -> Option<Range<u64>> {
        self.is_executable.then(|| self.address..self.address.saturating_add(self.len))
    }

    /// Returns the address at which a byte of the file is.
    fn address_of(&self, offset: FileOffset) -> FileAddr {
        FileAddr(offset.0.wrapping_sub(self.offset).wrapping_add(self.address))
    }

    /// Returns the offset of an address of its code, and the bytes of code from there on, in whole
    /// pages; `None` if the address is not of its code.
    pub fn text_from(&self, address: FileAddr) -> Option<(FileOffset, u64)> {
        let page = rustix::param::page_size() as u64;
        let text = self.text()?;
        let pages = text.start - text.start % page..text.end.checked_next_multiple_of(page)?;
        let offset = address.0.wrapping_sub(self.address).wrapping_add(self.offset);
        pages.contains(&address.0).then(|| (FileOffset(offset), pages.end - address.0))
    }

    /// Returns whether it is executable and contains this byte of the file. `page`: size of a page,
    /// to include the bytes that are mapped along with the segment.
    fn contains_code(&self, offset: FileOffset, page: Option<u64>) -> bool {
        let page = page.unwrap_or(1);
        let end = self.offset.saturating_add(self.len).saturating_add(page - 1);
        self.is_executable
            && (self.offset - self.offset % page..end - end % page).contains(&offset.0)
    }
}

/// Returns the address of a byte of the file that is mapped as executable. Mappings consist of
/// whole pages, so a page may begin in one segment and end in the next.
pub(super) fn address_of(segments: &[Segment], offset: FileOffset) -> Option<FileAddr> {
    let page = rustix::param::page_size() as u64;
    let find = |page| segments.iter().find(|segment| segment.contains_code(offset, page));
    let segment = find(None).or_else(|| find(Some(page)))?;
    Some(segment.address_of(offset))
}

/// Returns the address of the first byte of a mapping of the file, executable or not: of the
/// segment that begins in this page, else of one that contains it.
pub(super) fn address_of_mapping(segments: &[Segment], offset: FileOffset) -> Option<FileAddr> {
    let page = rustix::param::page_size() as u64;
    let begins = |segment: &&Segment| segment.offset - segment.offset % page == offset.0;
    let contains = |segment: &&Segment| {
        let end = segment.offset.saturating_add(segment.len);
        (segment.offset..end).contains(&offset.0)
    };
    let segment = segments.iter().find(begins).or_else(|| segments.iter().find(contains))?;
    Some(segment.address_of(offset))
}

/// Reads a file; `None` if it is not a 64-bit little-endian ELF file.
pub(super) fn read(file: &File) -> Option<Elf> {
    read_from(&|offset, bytes| file.read_exact_at(bytes, offset).is_ok())
}

/// Reads bytes at an offset; returns false if they cannot be read.
type ReadBytes<'a> = &'a dyn Fn(u64, &mut [u8]) -> bool;

/// Reads a file, or its first pages in memory; `None` if it is not a 64-bit little-endian ELF file.
pub(super) fn read_from(file: ReadBytes<'_>) -> Option<Elf> {
    let bytes = read_at(file, 0, size_of::<FileHeader64<LittleEndian>>())?;
    let (header, _) = from_bytes::<FileHeader64<LittleEndian>>(&bytes).ok()?;
    let endian = header.endian().ok().filter(|_| header.is_supported())?;

    let count = usize::from(header.e_phnum(endian)).min(PROGRAM_HEADERS_MAX);
    let bytes =
        read_at(file, header.e_phoff(endian), count * size_of::<ProgramHeader64<LittleEndian>>())?;
    let (headers, _) = slice_from_bytes::<ProgramHeader64<LittleEndian>>(&bytes, count).ok()?;

    let of_type = |kind| headers.iter().filter(move |h| h.p_type(endian) == kind);
    let segments = of_type(PT_LOAD).map(|h| Segment {
        offset: h.p_offset(endian),
        len: h.p_filesz(endian),
        address: h.p_vaddr(endian),
        is_executable: h.p_flags(endian).0 & PF_X.0 != 0,
    });
    let build_id = of_type(PT_NOTE).find_map(|h| build_id(file, endian, h));
    Some(Elf { build_id, segments: segments.collect() })
}

fn build_id(
    file: ReadBytes<'_>,
    endian: LittleEndian,
    header: &ProgramHeader64<LittleEndian>,
) -> Option<BuildId> {
    let len = header.p_filesz(endian).min(NOTES_MAX) as usize;
    let bytes = read_at(file, header.p_offset(endian), len)?;
    build_id_in(&bytes, header.p_align(endian))
}

/// Finds the build ID among notes. `align`: alignment of their segment.
pub(super) fn build_id_in(notes: &[u8], align: u64) -> Option<BuildId> {
    let endian = LittleEndian;
    let mut notes: NoteIterator<'_, FileHeader64<LittleEndian>> =
        NoteIterator::new(endian, align, notes).ok()?;
    while let Ok(Some(note)) = notes.next() {
        if note.name() == b"GNU" && note.n_type(endian) == object::elf::NT_GNU_BUILD_ID {
            return BuildId::new(note.desc());
        }
    }
    None
}

/// Reads exactly `len` bytes; `None` when the file is too short or cannot be read.
fn read_at(file: ReadBytes<'_>, offset: u64, len: usize) -> Option<Vec<u8>> {
    let mut bytes = vec![0; len];
    file(offset, &mut bytes).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_executable_has_a_build_id_and_code() {
        let elf = read(&File::open("/proc/self/exe").expect("it runs")).expect("it is ELF");
        assert!(elf.build_id.is_some());
        assert!(elf.segments.len() >= 2, "{elf:?}");
    }

    #[test]
    fn headers_cut_anywhere_do_no_harm() {
        let whole = std::fs::read("/proc/self/exe").expect("it runs");
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("truncated");
        for len in (0..1024).step_by(7) {
            std::fs::write(&path, &whole[..len]).expect("written");
            read(&File::open(&path).expect("there"));
        }
    }

    #[test]
    fn random_headers_do_no_harm() {
        let mut whole = std::fs::read("/proc/self/exe").expect("it runs");
        whole.truncate(4096);
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("random");
        let mut state = 1u64;
        for at in 16..1024 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let original = std::mem::replace(&mut whole[at], (state >> 56) as u8);
            std::fs::write(&path, &whole).expect("written");
            read(&File::open(&path).expect("there"));
            whole[at] = original;
        }
    }

    #[test]
    fn a_page_shared_by_two_segments_belongs_to_the_code() {
        let data = Segment { offset: 0, len: 0xd43a0, address: 0, is_executable: false };
        let code = Segment { offset: 0xd43c0, len: 0x1000, address: 0xd53c0, is_executable: true };
        let address = |offset| address_of(&[data, code], FileOffset(offset));
        assert_eq!(address(0xd43c0), Some(FileAddr(0xd53c0)));
        assert_eq!(address(0xd4000), Some(FileAddr(0xd5000)));
        assert_eq!(address(0xd5fff), Some(FileAddr(0xd6fff)));
        assert_eq!(address(0xd6000), None);
        assert_eq!(address(0xd3fff), None);
    }
}
