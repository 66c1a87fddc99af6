//! The records of jitdumps: a header, then records of code that was loaded, was moved, or has debug
//! or unwinding info.
//!
//! Source: `tools/perf/Documentation/jitdump-specification.txt` of the kernel. A record begins with
//! its kind and its size, so that code and records of other kinds are skipped without being read.

use object::elf::EM_X86_64;
use symbolizer::bounded;

use super::text::MapEntry;
use crate::processes::code_name_gap::CodeNameGap;

/// The machine of code that can run here.
const MACHINE: u32 = EM_X86_64.0 as u32;
/// `JiTD`, as a number in the byte order of the machine.
const MAGIC: u32 = 0x4a69_5444;
const VERSION: u32 = 1;
/// Bytes of the header. It contains its size, because later versions may have a larger one.
pub(in crate::processes) const HEADER_BYTES: usize = 40;

/// Bytes that each record begins with: kind (u32), size of the record (u32), time (u64, of
/// CLOCK_MONOTONIC; a flag of the header says that it is the counter of the CPU instead, which is
/// larger).
const RECORD_BYTES: usize = 16;
/// The same of loaded code: pid and tid (u32), virtual address, address, size and number of the
/// code (u64). A name that ends with a zero byte and the code follow.
const LOAD_BYTES: usize = RECORD_BYTES + 40;
/// Bytes of moved code: pid and tid (u32), virtual address, old address, new address, size and
/// number of the code (u64).
const MOVE_BYTES: usize = RECORD_BYTES + 48;
/// Kinds of records. Debug info (2), the end (3), unwinding info (4) and others are skipped.
const LOAD: u32 = 0;
const MOVE: u32 = 1;

/// A part of a jitdump that begins with the header or with a record.
#[derive(Clone, Copy, Debug)]
pub(in crate::processes) struct JitDumpPart<'a> {
    pub bytes: &'a [u8],
    /// It begins with the header.
    pub is_start: bool,
    /// Bytes from its start to the end of the file.
    pub rest: u64,
    /// The process that writes the jitdump, as that process knows its own number. Records of other
    /// processes are skipped: their memory is another.
    pub pid: u32,
    /// Nothing follows: the last record counts if its name is complete.
    pub is_last: bool,
}

/// What a part of a jitdump contains.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::processes) struct ParsedRecords {
    /// In the order of the file.
    pub entries: Vec<MapEntry>,
    /// Bytes up to the end of the last record that is complete: perhaps more than the part has.
    pub consumed: u64,
    /// Bytes of these that were parsed, not skipped.
    pub parsed: u64,
    /// Records that are inconsistent.
    pub malformed: u64,
}

/// A record.
enum Record {
    /// It is not complete, or does not lie within the part.
    Incomplete,
    /// Its size is impossible: no record can be found behind it.
    Endless,
    /// Its bytes, those of them that were parsed, and its entry; `Err` if it is inconsistent.
    Complete { size: u64, parsed: usize, entry: Result<Option<MapEntry>, ()> },
}

/// Returns the offset of the first record by the header of a jitdump; `None` while the header is
/// not complete.
///
/// # Errors
/// Why the records cannot be parsed.
pub(in crate::processes) fn first_record(bytes: &[u8]) -> Result<Option<u64>, CodeNameGap> {
    let Some(header) = bytes.get(..HEADER_BYTES) else { return Ok(None) };
    let [magic, version, size, machine] = [0, 4, 8, 12].map(|at| u32_at(header, at));
    let is_known = version == VERSION && machine == MACHINE;
    match magic {
        MAGIC if !is_known => Err(CodeNameGap::Unsupported),
        MAGIC if (size as usize) < HEADER_BYTES => Err(CodeNameGap::Malformed),
        MAGIC => Ok(Some(size.into())),
        _ if magic.swap_bytes() == MAGIC => Err(CodeNameGap::Unsupported),
        _ => Err(CodeNameGap::Malformed),
    }
}

/// Parses a part of a jitdump. A record that is not complete is left for the next part, and so is
/// one whose name lies beyond the part.
pub(in crate::processes) fn parse(part: JitDumpPart<'_>) -> ParsedRecords {
    let mut found = ParsedRecords::default();
    if part.is_start {
        match first_record(part.bytes) {
            Ok(Some(first)) if first <= part.rest => found.consumed = first,
            Ok(_) => return found,
            Err(_) => return ParsedRecords { malformed: 1, ..found },
        }
        found.parsed = HEADER_BYTES as u64;
    }
    let within = part.bytes.len().min(part.rest as usize);
    while let Some(bytes) = part.bytes[..within].get(found.consumed as usize..) {
        match record(bytes, found.consumed, part) {
            Record::Incomplete => break,
            Record::Endless => {
                found.malformed += 1;
                break;
            }
            Record::Complete { size, parsed, entry } => {
                found.consumed += size;
                found.parsed += parsed as u64;
                match entry {
                    Ok(entry) => found.entries.extend(entry),
                    Err(()) => found.malformed += 1,
                }
            }
        }
    }
    found
}

/// Parses the record at an offset in a part. `bytes`: from there on.
fn record(bytes: &[u8], offset: u64, part: JitDumpPart<'_>) -> Record {
    let rest = part.rest.saturating_sub(offset);
    let Some(header) = bytes.get(..RECORD_BYTES) else { return Record::Incomplete };
    let (kind, size) = (u32_at(header, 0), u64::from(u32_at(header, 4)));
    if size < RECORD_BYTES as u64 {
        return Record::Endless;
    }
    if size > rest && !(part.is_last && kind == LOAD) {
        return Record::Incomplete;
    }
    let complete = |parsed, entry| Record::Complete { size: size.min(rest), parsed, entry };
    let fixed = match kind {
        LOAD => LOAD_BYTES,
        MOVE => MOVE_BYTES,
        _ => return complete(RECORD_BYTES, Ok(None)),
    };
    if size < fixed as u64 {
        return complete(RECORD_BYTES, Err(()));
    }
    let Some(fields) = bytes.get(..fixed) else { return Record::Incomplete };
    let is_of_process = u32_at(fields, 16) == part.pid;
    let of_process = |entry| is_of_process.then_some(entry);
    if kind == MOVE {
        return complete(MOVE_BYTES, moved(fields).map(of_process).ok_or(()));
    }
    let Some(code) = size.checked_sub(u64_at(fields, 40)).filter(|code| *code > fixed as u64)
    else {
        return complete(LOAD_BYTES, Err(()));
    };
    let text = &bytes[fixed..bytes.len().min(code as usize)];
    let Some(length) = text.iter().position(|byte| *byte == 0) else {
        // The next part begins with this record, and has more of the name.
        let has_more = code > bytes.len() as u64 && offset > 0;
        return if has_more { Record::Incomplete } else { complete(LOAD_BYTES, Err(())) };
    };
    let entry = loaded(fields, &text[..length]);
    complete(LOAD_BYTES + length, entry.map(of_process).ok_or(()))
}

/// Returns the entry of loaded code; `None` if it has no bytes or no name.
fn loaded(fields: &[u8], name: &[u8]) -> Option<MapEntry> {
    let (start, size) = (u64_at(fields, 32), u64_at(fields, 40));
    let end = start.checked_add(size).filter(|end| *end > start)?;
    let (name, _) = bounded(&String::from_utf8_lossy(name));
    let entry = MapEntry { time: u64_at(fields, 8), ..MapEntry::new(start, end, name) };
    (!entry.name.trim().is_empty()).then_some(entry)
}

/// Returns the entry of moved code; `None` if it has no bytes.
fn moved(fields: &[u8]) -> Option<MapEntry> {
    let [from, start, size] = [32, 40, 48].map(|at| u64_at(fields, at));
    let end = start.checked_add(size).filter(|end| *end > start)?;
    from.checked_add(size)?;
    let (moved_from, time) = (Some(from), u64_at(fields, 8));
    Some(MapEntry { moved_from, time, ..MapEntry::new(start, end, String::new()) })
}

/// Returns a number of 4 bytes; 0 where the bytes end before.
fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let bytes = bytes.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
    bytes.map_or(0, u32::from_ne_bytes)
}

/// Returns a number of 8 bytes; 0 where the bytes end before.
fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let bytes = bytes.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
    bytes.map_or(0, u64::from_ne_bytes)
}

#[cfg(test)]
mod tests;
