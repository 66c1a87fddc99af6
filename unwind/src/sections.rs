//! A file's call-frame sections as they are, for an unwinder that is not ours.

use crate::elf::{Elf, Section};
use crate::{Error, ReadAt, eh_frame};

/// The sections that say how to unwind a file, decompressed, each with its address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnwindSections {
    /// `.eh_frame`, or what PT_GNU_EH_FRAME leads to.
    pub eh_frame: Option<(u64, Vec<u8>)>,
    /// Its index, `.eh_frame_hdr`.
    pub eh_frame_hdr: Option<(u64, Vec<u8>)>,
    /// `.debug_frame`.
    pub debug_frame: Option<(u64, Vec<u8>)>,
    /// The address of `.text`, which pointers may be relative to.
    pub text: Option<u64>,
    /// The address of `.got`, likewise.
    pub got: Option<u64>,
}

impl UnwindSections {
    /// Reads them.
    ///
    /// # Errors
    /// When it is no ELF file, or a section is larger than [`crate::SECTION_MAX`].
    pub fn read(file: ReadAt<'_>) -> Result<Self, Error> {
        let elf = Elf::read(file)?;
        let placed = |section: Section| (section.address, section.bytes);
        Ok(Self {
            eh_frame: eh_frame(&elf)?.map(placed),
            eh_frame_hdr: elf.section(".eh_frame_hdr")?.map(placed),
            debug_frame: elf.section(".debug_frame")?.map(placed),
            text: elf.address_of(".text"),
            got: elf.address_of(".got"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_file_has_call_frames_and_their_index() {
        let whole = std::fs::read("/proc/self/exe").expect("it runs");
        let at = |offset: u64, bytes: &mut [u8]| {
            let from = whole.get(offset as usize..).and_then(|rest| rest.get(..bytes.len()));
            from.map(|from| bytes.copy_from_slice(from)).is_some()
        };
        let sections = UnwindSections::read(&at).expect("it is ELF");
        let (address, bytes) = sections.eh_frame.expect("rustc writes it");
        assert!(bytes.len() > 1000 && address > 0);
        let (_, index) = sections.eh_frame_hdr.expect("the linker makes it");
        assert!(index.len() > 1000 && index[0] == 1, "version 1, with its table");
        assert!(sections.text.is_some_and(|text| text > 0));
    }
}
