//! The sections of call-frame information of a file: parsed by gimli, and raw for another unwinder.

use gimli::{BaseAddresses, DebugFrame, EhFrame, EhFrameHdr, EndianSlice, LittleEndian};

use crate::elf::{Elf, Section};
use crate::{Error, ReadAt};

/// Bytes of a section, as gimli reads them.
pub(crate) type Slice<'a> = EndianSlice<'a, LittleEndian>;

/// The sections that describe how to unwind a file, decompressed, each with its address.
///
/// ```
/// use std::{fs::File, os::unix::fs::FileExt};
///
/// let file = File::open("/proc/self/exe")?;
/// let read_at = |offset: u64, bytes: &mut [u8]| file.read_exact_at(bytes, offset).is_ok();
/// let sections = unwind::UnwindSections::read(&read_at)?;
/// let (address, bytes) = sections.eh_frame.expect("rustc writes it");
/// assert!(address > 0 && bytes.len() > 1000);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnwindSections {
    /// `.eh_frame`, or what `PT_GNU_EH_FRAME` points to.
    pub eh_frame: Option<(u64, Vec<u8>)>,
    /// `.eh_frame_hdr`, the index of `.eh_frame`.
    pub eh_frame_hdr: Option<(u64, Vec<u8>)>,
    /// `.debug_frame`.
    pub debug_frame: Option<(u64, Vec<u8>)>,
    /// Address of `.text`, which pointers may be relative to.
    pub text: Option<u64>,
    /// Address of `.got`, which pointers may be relative to.
    pub got: Option<u64>,
}

impl UnwindSections {
    /// Reads the sections of a file.
    ///
    /// # Errors
    /// [`Error`] if the file is not ELF, or a section is larger than [`crate::SECTION_MAX`].
    pub fn read(file: ReadAt<'_>) -> Result<Self, Error> {
        let elf = Elf::read(file)?;
        let with_address = |section: Section| (section.address, section.bytes);
        Ok(Self {
            eh_frame: eh_frame(&elf)?.map(with_address),
            eh_frame_hdr: elf.section(".eh_frame_hdr")?.map(with_address),
            debug_frame: elf.section(".debug_frame")?.map(with_address),
            text: elf.address_of(".text"),
            got: elf.address_of(".got"),
        })
    }
}

/// The sections of call-frame information (CFI) of a file, to be parsed by gimli; empty by
/// default.
#[derive(Default)]
pub(crate) struct CfiSections {
    eh_frame: Section,
    debug_frame: Section,
    /// What pointers in the sections are relative to.
    pub bases: BaseAddresses,
}

impl CfiSections {
    /// Reads the sections; `.debug_frame` only if `with_debug_frame` is set.
    ///
    /// # Errors
    /// [`Error::TooLarge`] for `.eh_frame`; for `.debug_frame` only if there is no `.eh_frame`.
    pub fn read(elf: &Elf<'_>, with_debug_frame: bool) -> Result<Self, Error> {
        let eh_frame = eh_frame(elf)?.unwrap_or_default();
        let debug_frame = match elf.section(".debug_frame") {
            Ok(section) if with_debug_frame => section.unwrap_or_default(),
            Err(error) if eh_frame.bytes.is_empty() && with_debug_frame => return Err(error),
            _ => Section::default(),
        };
        Ok(Self { debug_frame, ..Self::of_eh_frame(elf, eh_frame) })
    }

    /// Takes `.eh_frame` alone.
    pub fn of_eh_frame(elf: &Elf<'_>, eh_frame: Section) -> Self {
        let bases = BaseAddresses::default()
            .set_text(elf.address_of(".text").unwrap_or(0))
            .set_got(elf.address_of(".got").unwrap_or(0))
            .set_eh_frame(eh_frame.address);
        Self { eh_frame, debug_frame: Section::default(), bases }
    }

    pub fn is_empty(&self) -> bool {
        self.bytes() == 0
    }

    /// Returns the bytes of memory that the sections take.
    pub fn bytes(&self) -> usize {
        self.eh_frame.bytes.len() + self.debug_frame.bytes.len()
    }

    pub fn eh_frame(&self) -> EhFrame<Slice<'_>> {
        EhFrame::new(&self.eh_frame.bytes, LittleEndian)
    }

    pub fn debug_frame(&self) -> DebugFrame<Slice<'_>> {
        let mut section = DebugFrame::new(&self.debug_frame.bytes, LittleEndian);
        section.set_address_size(8);
        section
    }
}

/// Reads `.eh_frame`, or in a file without section headers what `PT_GNU_EH_FRAME` leads to.
fn eh_frame(elf: &Elf<'_>) -> Result<Option<Section>, Error> {
    if let Some(section) = elf.section(".eh_frame")?.filter(|section| section.bytes.len() > 4) {
        return Ok(Some(section));
    }
    let Some(header) = elf.eh_frame_header() else { return Ok(None) };
    let bases = BaseAddresses::default().set_eh_frame_hdr(header.address);
    let parsed = EhFrameHdr::new(&header.bytes, LittleEndian).parse(&bases, 8);
    match parsed.ok().and_then(|parsed| parsed.eh_frame_ptr().direct().ok()) {
        Some(address) => elf.rest_of_segment(address),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_file::bytes_of;

    #[test]
    fn reads_call_frames_and_index_of_this_executable() {
        let whole = std::fs::read("/proc/self/exe").expect("the running executable is readable");
        let sections = UnwindSections::read(&bytes_of(&whole)).expect("an ELF file");
        let (address, bytes) = sections.eh_frame.expect("rustc writes .eh_frame");
        assert!(bytes.len() > 1000 && address > 0);
        let (_, index) = sections.eh_frame_hdr.expect("the linker writes .eh_frame_hdr");
        assert!(index.len() > 1000 && index[0] == 1, "version 1, with its table");
        assert!(sections.text.is_some_and(|text| text > 0));
    }
}
