//! Parses perf's own record of a tick into a [`PerfSample`].

use linux_perf_event_reader::RecordType;
use profile::{Cpu, Tid};
use unwind::arch::{PERF_REGISTERS, REGISTERS};

use super::perf_record::{ParsedRecord, PerfRecord};
use crate::events::event::{Event, TimedEvent};
use crate::events::raw_sample::{PerfSample, PerfStackSnapshot};
use crate::kernel::PERF_STACK_BYTES;

/// PERF_SAMPLE_REGS_ABI_64: the registers are those of 64-bit code.
pub(super) const REGISTERS_64_BIT: u64 = 2;

/// Parses a record with its header. A sample without user registers is ignored.
pub(in crate::events) fn parse(record: &[u8]) -> ParsedRecord {
    try_parse(record).unwrap_or(ParsedRecord::Ignored)
}

fn try_parse(record: &[u8]) -> Option<ParsedRecord> {
    let record = PerfRecord::split(record)?;
    match record.kind {
        RecordType::SAMPLE => sample(&mut Words(record.body)).map(ParsedRecord::Event),
        RecordType::LOST => record.lost_count().map(ParsedRecord::Lost),
        _ => None,
    }
}

/// Reads the fields, which come in the order of their bits in `sample_type`.
fn sample(words: &mut Words<'_>) -> Option<TimedEvent> {
    let (_pid, tid) = words.halves()?;
    let time = words.next()?;
    let (cpu, _) = words.halves()?;
    let abi = words.next()?;
    if abi != REGISTERS_64_BIT {
        return None;
    }
    let (ip, flags, registers) = registers(words)?;
    let (stack, is_cut) = stack(words)?;
    let snapshot = PerfStackSnapshot { ip, flags, registers, stack: stack.into() };
    let sample = PerfSample { cpu: Cpu(cpu), tid: Tid(tid), snapshot, is_cut };
    Some(TimedEvent { time, event: Event::PerfSample(Box::new(sample)) })
}

/// Reads the stack. Returns also whether the stack goes on past it.
pub(super) fn stack<'a>(words: &mut Words<'a>) -> Option<(&'a [u8], bool)> {
    let size = usize::try_from(words.next()?).ok()?;
    let stack = words.bytes(size)?;
    let filled = if size == 0 { 0 } else { usize::try_from(words.next()?).ok()? };
    // Unreadable memory ends the copy early; a full one ends in the middle of the stack.
    let is_cut = filled > 0 && (filled == size || filled >= PERF_STACK_BYTES as usize);
    Some((stack.get(..filled)?, is_cut))
}

/// Reads the registers, which come in the order of perf's numbers: ip, flags, and the general
/// registers by DWARF number.
pub(super) fn registers(words: &mut Words<'_>) -> Option<(u64, u64, [u64; REGISTERS])> {
    let mut order: Vec<usize> = (0..PERF_REGISTERS.len()).collect();
    order.sort_by_key(|register| PERF_REGISTERS[*register]);
    let mut all = [0; PERF_REGISTERS.len()];
    for register in order {
        all[register] = words.next()?;
    }
    let [ip, flags, general @ ..] = all;
    Some((ip, flags, general))
}

/// The unread part of a record's body.
pub(super) struct Words<'a>(pub &'a [u8]);

impl<'a> Words<'a> {
    pub fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (first, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(first)
    }

    pub fn next(&mut self) -> Option<u64> {
        Some(u64::from_ne_bytes(self.bytes(8)?.try_into().ok()?))
    }

    pub fn halves(&mut self) -> Option<(u32, u32)> {
        let bytes = self.bytes(8)?;
        let half = |at: usize| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        Some((half(0)?, half(4)?))
    }
}

#[cfg(test)]
mod tests {
    use super::super::perf_record::record_bytes;
    use super::*;

    fn words(words: &[u64]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    /// A sample with `filled` of 32 bytes of stack.
    fn record(abi: u64, filled: u64) -> Vec<u8> {
        let mut body = vec![7 | 8 << 32, 99, 3, abi];
        body.extend(100..118); // ax bx cx dx si di bp sp ip flags r8 ... r15
        body.extend([32, 1, 2, 3, 4, filled]);
        record_bytes(RecordType::SAMPLE, 0, &words(&body))
    }

    fn parse_sample(record: &[u8]) -> PerfSample {
        match parse(record) {
            ParsedRecord::Event(TimedEvent { time: 99, event: Event::PerfSample(sample) }) => {
                *sample
            }
            other => panic!("not a sample: {other:?}"),
        }
    }

    #[test]
    fn registers_are_ordered_by_dwarf_number() {
        let sample = parse_sample(&record(2, 32));
        assert_eq!((sample.cpu, sample.tid), (Cpu(3), Tid(8)));
        assert_eq!((sample.snapshot.ip, sample.snapshot.flags), (108, 109));
        let expected =
            [100, 103, 102, 101, 104, 105, 106, 107, 110, 111, 112, 113, 114, 115, 116, 117];
        assert_eq!(sample.snapshot.registers, expected);
    }

    #[test]
    fn stack_holds_only_the_filled_part() {
        let sample = parse_sample(&record(2, 16));
        assert_eq!((sample.snapshot.stack.len(), sample.is_cut), (16, false));
        assert!(parse_sample(&record(2, 32)).is_cut);
    }

    #[test]
    fn truncated_and_32_bit_records_are_ignored() {
        let whole = record(2, 32);
        for len in 0..whole.len() {
            assert_eq!(parse(&whole[..len]), ParsedRecord::Ignored, "{len} bytes");
        }
        assert_eq!(parse(&record(1, 32)), ParsedRecord::Ignored);
        assert_eq!(parse(&record(2, 33)), ParsedRecord::Ignored);
    }

    #[test]
    fn lost_records_are_counted() {
        let lost = record_bytes(RecordType::LOST, 0, &words(&[1, 5]));
        assert_eq!(parse(&lost), ParsedRecord::Lost(5));
    }
}
