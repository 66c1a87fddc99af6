//! Where functions begin, by call frames: their search table (`.eh_frame_hdr`), or all of them
//! (`.eh_frame`) in files without one, as static programs.
//!
//! Source: LSB Core, "Exception Frames". The table is sorted, and is searched in the file.

use gimli::{BaseAddresses, CieOrFde, EhFrame, LittleEndian, UnwindSection};
use object::elf::PT_GNU_EH_FRAME;

use crate::elf::{ElfFile, number};

/// How linkers encode the table (`DW_EH_PE_*`): the number of entries as `udata4`, and each address
/// as `datarel | sdata4`, relative to the header.
const COUNT_ENCODING: u8 = 0x03;
const TABLE_ENCODING: u8 = 0x3b;
/// Bytes before the table: version, three encodings, the address of the call frames, the count.
const HEADER: usize = 12;
/// Bytes of an entry: the start of a function, and the address of its description.
const ENTRY: u64 = 8;
/// Bytes of call frames that are read.
const CALL_FRAMES_MAX: u64 = 4 << 20;

/// The starts of the functions that call frames describe.
#[derive(Debug)]
pub(crate) enum FunctionStarts {
    /// In the search table.
    Table {
        /// Address of the header.
        base: u64,
        /// Offset of the table in the file.
        offset: u64,
        count: u64,
    },
    /// Ascending.
    List(Vec<u64>),
}

impl FunctionStarts {
    /// Reads where the table is, or all starts if there is none of the form that linkers write.
    pub fn read(elf: &ElfFile) -> Self {
        Self::table(elf).unwrap_or_else(|| Self::List(read_starts(elf)))
    }

    fn table(elf: &ElfFile) -> Option<Self> {
        let segment = elf.headers.segments.iter().find(|s| s.kind == PT_GNU_EH_FRAME.0)?;
        let header = elf.bytes.read(segment.offset, HEADER).ok()?;
        if header[..1] != [1] || header[2..4] != [COUNT_ENCODING, TABLE_ENCODING] {
            return None;
        }
        let offset = segment.offset.checked_add(HEADER as u64)?;
        let whole = segment.bytes.saturating_sub(HEADER as u64) / ENTRY;
        let count = number(&header, 8, 4).min(whole);
        Some(Self::Table { base: segment.address, offset, count })
    }

    /// Returns the last start that is not above an address.
    pub fn last_up_to(&self, elf: &ElfFile, address: u64) -> Option<u64> {
        let (base, offset, count) = match self {
            Self::Table { base, offset, count } => (*base, *offset, *count),
            Self::List(starts) => {
                let next = starts.partition_point(|start| *start <= address);
                return starts.get(next.checked_sub(1)?).copied();
            }
        };
        let start = |entry: u64| {
            let bytes = elf.bytes.read(offset.checked_add(entry * ENTRY)?, 4).ok()?;
            let relative = number(&bytes, 0, 4) as u32 as i32;
            Some(base.wrapping_add(i64::from(relative) as u64))
        };
        let (mut from, mut to) = (0, count);
        let mut last = None;
        while from < to {
            let middle = from + (to - from) / 2;
            let start = start(middle)?;
            if start <= address {
                last = Some(start);
                from = middle + 1;
            } else {
                to = middle;
            }
        }
        last
    }
}

/// Reads the starts of all functions of `.eh_frame`, up to an entry that is malformed.
fn read_starts(elf: &ElfFile) -> Vec<u64> {
    let Some(section) = elf.section(".eh_frame") else { return Vec::new() };
    let bytes = section.bytes.min(CALL_FRAMES_MAX) as usize;
    let bytes = elf.bytes.read_up_to(section.offset, bytes);
    let mut call_frames = EhFrame::new(&bytes, LittleEndian);
    call_frames.set_address_size(if elf.is_64_bit() { 8 } else { 4 });
    let bases = BaseAddresses::default().set_eh_frame(section.address);
    let mut entries = call_frames.entries(&bases);
    let mut starts = Vec::new();
    while let Ok(Some(entry)) = entries.next() {
        if let CieOrFde::Fde(partial) = entry
            && let Ok(function) = partial.parse(EhFrame::cie_from_offset)
        {
            starts.push(function.initial_address());
        }
    }
    starts.sort_unstable();
    starts
}
