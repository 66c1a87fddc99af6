//! Reads jitdumps, in the worker.

use std::fs::File;
use std::io;

use super::locate::read_up_to;
use crate::processes::code_name_gap::CodeNameGap;
use crate::processes::perf_maps::{HEADER_BYTES, JitDumpPart, first_record, parse_jit_dump};
use crate::processes::untrusted_path::open_regular;

use super::proto::PerfMapMessage;

/// Checks that a file begins with the header of a jitdump that can be parsed, or has none yet.
///
/// # Errors
/// Why it cannot be parsed.
pub(super) fn check_header(found: &File) -> Result<(), CodeNameGap> {
    let mut header = [0; HEADER_BYTES];
    let length = open_regular(found).and_then(|file| read_up_to(&file, &mut header, 0));
    first_record(&header[..length.map_err(|_| CodeNameGap::NoMap)?]).map(|_| ())
}

/// Parses the part of a jitdump that is at an offset. `pid`: the number in its name; `part_bytes`:
/// how much to read; `tail_bytes`: how much of what lies before the next part to return.
///
/// # Errors
/// As reading does.
pub(super) fn read_part(
    file: &File,
    offset: u64,
    (pid, is_last): (u32, bool),
    part_bytes: usize,
    tail_bytes: usize,
) -> io::Result<PerfMapMessage> {
    // What is written meanwhile is read the next time.
    let rest = file.metadata()?.len().saturating_sub(offset);
    let mut bytes = vec![0; part_bytes.min(usize::try_from(rest).unwrap_or(usize::MAX))];
    let length = read_up_to(file, &mut bytes, offset)?;
    let bytes = &bytes[..length];
    let found = parse_jit_dump(JitDumpPart { bytes, is_start: offset == 0, rest, pid, is_last });
    let next = offset + found.consumed;
    let mut tail = vec![0; tail_bytes.min(usize::try_from(next).unwrap_or(usize::MAX))];
    let tail_start = next - tail.len() as u64;
    let tail_length = read_up_to(file, &mut tail, tail_start)?;
    tail.truncate(tail_length);
    Ok(PerfMapMessage {
        entries: found.entries,
        offset: next,
        tail,
        parsed: found.parsed,
        malformed: found.malformed,
        has_more: found.consumed > 0 && found.consumed < rest,
        is_jit_dump: true,
        ..PerfMapMessage::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    const PID: u32 = 7;

    fn header() -> Vec<u8> {
        [0x4a69_5444, 1, HEADER_BYTES as u32, 62, 0, PID, 0, 0, 0, 0].map(u32::to_ne_bytes).concat()
    }

    /// Returns a record of code at an address, which is named by it.
    fn load(start: u64, code: &[u8]) -> Vec<u8> {
        let name = format!("at {start}\0");
        let size = (56 + name.len() + code.len()) as u32;
        let ids = [0, size, 1, 0, PID, PID].map(u32::to_ne_bytes).concat();
        let numbers = [start, start, code.len() as u64, 1].map(u64::to_ne_bytes).concat();
        [&ids, &numbers, name.as_bytes(), code].concat()
    }

    #[test]
    fn a_jitdump_is_read_in_parts_as_it_grows() {
        let file = tempfile::tempfile().expect("a file");
        let append = |bytes: &[u8]| (&file).write_all(bytes).expect("written");
        let other = tempfile::tempfile().expect("a file");
        assert_eq!(check_header(&other), Ok(()), "it has none yet");
        append(&header());
        let records: Vec<u8> = (1..=100).flat_map(|at| load(at << 20, &[0x90; 1000])).collect();
        let (first, second) = records.split_at(5000);
        append(first);
        let (mut offset, mut starts, mut parsed) = (0, Vec::new(), 0);
        let mut read_on = |file: &File| loop {
            let part = read_part(file, offset, (PID, false), 4096, 64).expect("readable");
            assert!(part.is_jit_dump && part.malformed == 0);
            starts.extend(part.entries.iter().map(|entry| entry.start >> 20));
            (offset, parsed) = (part.offset, parsed + part.parsed);
            let (mut before, start) = (vec![0; part.tail.len()], offset - part.tail.len() as u64);
            read_up_to(file, &mut before, start).expect("readable");
            assert_eq!(before, part.tail);
            if !part.has_more {
                break (starts.clone(), offset, parsed);
            }
        };
        assert_eq!(read_on(&file).0, [1, 2, 3, 4]);
        append(second);
        let (starts, offset, parsed) = read_on(&file);
        assert_eq!(starts, (1..=100).collect::<Vec<u64>>());
        assert!(offset == file.metadata().expect("it is open").len() && parsed < 10_000);
        assert_eq!(check_header(&file), Ok(()));
        (&other).write_all(&[1; 100]).expect("written");
        assert_eq!(check_header(&other), Err(CodeNameGap::Malformed));
    }
}
