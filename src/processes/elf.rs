//! The little that the agent itself reads of an ELF file: build id and load segments.
//!
//! The file is somebody else's and may be hostile: what is read has fixed bounds, by
//! `pread` and not through a mapping, which a shrinking file would turn into a crash.

use std::fs::File;
use std::os::unix::fs::FileExt;

use object::LittleEndian;
use object::elf::{FileHeader64, PT_LOAD, PT_NOTE, ProgramHeader64};
use object::pod::{from_bytes, slice_from_bytes};
use object::read::elf::{FileHeader, NoteIterator, ProgramHeader};
use profile::{BuildId, FileAddr, FileOffset};

/// Program headers read; the largest real files have about 20.
const PROGRAM_HEADERS_MAX: usize = 128;
/// Bytes of notes read from one segment.
const NOTES_MAX: u64 = 64 << 10;

/// What an ELF file says about where its code lies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Elf {
    /// Its build id.
    pub build_id: Option<BuildId>,
    /// Its load segments.
    pub segments: Vec<Segment>,
}

/// A part of the file that is loaded at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Segment {
    offset: u64,
    len: u64,
    address: u64,
}

impl Segment {
    /// Gives the address of an offset in the file, if the segment holds it.
    pub fn address_of(&self, offset: FileOffset) -> Option<FileAddr> {
        let into = offset.0.checked_sub(self.offset)?;
        (into < self.len).then(|| FileAddr(self.address.wrapping_add(into)))
    }
}

/// Reads a file; `None` when it is no 64-bit little-endian ELF file.
pub(super) fn read(file: &File) -> Option<Elf> {
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
    });
    let build_id = of_type(PT_NOTE).find_map(|h| build_id(file, endian, h));
    Some(Elf { build_id, segments: segments.collect() })
}

fn build_id(
    file: &File,
    endian: LittleEndian,
    header: &ProgramHeader64<LittleEndian>,
) -> Option<BuildId> {
    let len = header.p_filesz(endian).min(NOTES_MAX) as usize;
    let bytes = read_at(file, header.p_offset(endian), len)?;
    build_id_in(&bytes, header.p_align(endian))
}

/// Finds the build id among notes; `align` is that of their segment.
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
fn read_at(file: &File, offset: u64, len: usize) -> Option<Vec<u8>> {
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, offset).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_executable_has_a_build_id_and_code() {
        let elf = read(&File::open("/proc/self/exe").expect("it runs")).expect("it is ELF");
        assert!(elf.build_id.is_some());
        assert!(elf.segments.len() >= 2, "{elf:?}");
    }

    #[test]
    fn a_file_cut_anywhere_in_its_headers_does_no_harm() {
        let whole = std::fs::read("/proc/self/exe").expect("it runs");
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("cut");
        for len in (0..1024).step_by(7) {
            std::fs::write(&path, &whole[..len]).expect("written");
            read(&File::open(&path).expect("there"));
        }
    }

    #[test]
    fn headers_of_random_bytes_do_no_harm() {
        let mut whole = std::fs::read("/proc/self/exe").expect("it runs");
        whole.truncate(4096);
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("random");
        let mut state = 1u64;
        for at in 16..1024 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let kept = std::mem::replace(&mut whole[at], (state >> 56) as u8);
            std::fs::write(&path, &whole).expect("written");
            read(&File::open(&path).expect("there"));
            whole[at] = kept;
        }
    }

    #[test]
    fn an_offset_maps_to_the_address_of_its_segment() {
        let segment = Segment { offset: 0x1000, len: 0x100, address: 0x40_2000 };
        assert_eq!(segment.address_of(FileOffset(0x1010)), Some(FileAddr(0x40_2010)));
        assert_eq!(segment.address_of(FileOffset(0x1100)), None);
        assert_eq!(segment.address_of(FileOffset(0xfff)), None);
    }
}
