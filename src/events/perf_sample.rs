//! One of perf's own records of a tick becomes a [`PerfSample`].

use linux_perf_event_reader::RecordType;
use profile::{Cpu, Tid};
use unwind::arch::{PERF_REGISTERS, REGISTERS};

use super::{Event, PerfSample, PerfStackSnapshot, TimedEvent};
use crate::kernel::PERF_STACK_BYTES;

/// `struct perf_event_header`: u32 type, u16 misc, u16 size.
const HEADER_BYTES: usize = 8;
/// PERF_SAMPLE_REGS_ABI_64: the registers are those of 64-bit code.
const REGISTERS_64_BIT: u64 = 2;

/// What such a record can say.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Parsed {
    /// Registers and stack at a tick.
    Sample(TimedEvent),
    /// So many records found no room.
    Lost(u64),
    /// No user registers, or nothing understood.
    Nothing,
}

/// Parses a record with its header.
pub(super) fn parse(record: &[u8]) -> Parsed {
    try_parse(record).unwrap_or(Parsed::Nothing)
}

fn try_parse(record: &[u8]) -> Option<Parsed> {
    let (header, body) = record.split_at_checked(HEADER_BYTES)?;
    let mut words = Words(body);
    match RecordType(u32::from_ne_bytes(header[..4].try_into().ok()?)) {
        RecordType::SAMPLE => sample(&mut words).map(Parsed::Sample),
        RecordType::LOST => {
            let [_id, lost] = [words.next()?, words.next()?];
            Some(Parsed::Lost(lost))
        }
        _ => None,
    }
}

/// The fields come in the order of their bits in `sample_type`.
fn sample(words: &mut Words<'_>) -> Option<TimedEvent> {
    let (_pid, tid) = words.halves()?;
    let time = words.next()?;
    let (cpu, _) = words.halves()?;
    if words.next()? != REGISTERS_64_BIT {
        return None;
    }
    let (ip, registers) = registers(words)?;
    let size = usize::try_from(words.next()?).ok()?;
    let stack = words.bytes(size)?;
    let copied = if size == 0 { 0 } else { usize::try_from(words.next()?).ok()? };
    let snapshot = PerfStackSnapshot { ip, registers, stack: stack.get(..copied)?.into() };
    // What the kernel cannot read ends the copy early; a full one ends in the middle of the stack.
    let is_cut = copied > 0 && (copied == size || copied >= PERF_STACK_BYTES as usize);
    let sample = PerfSample { cpu: Cpu(cpu), tid: Tid(tid), snapshot, is_cut };
    Some(TimedEvent { time, event: Event::PerfSample(Box::new(sample)) })
}

/// Takes the registers, which come in the order of perf's numbers.
fn registers(words: &mut Words<'_>) -> Option<(u64, [u64; REGISTERS])> {
    let mut order: Vec<usize> = (0..PERF_REGISTERS.len()).collect();
    order.sort_by_key(|place| PERF_REGISTERS[*place]);
    let mut all = [0; PERF_REGISTERS.len()];
    for place in order {
        all[place] = words.next()?;
    }
    let [ip, general @ ..] = all;
    Some((ip, general))
}

/// The rest of a record.
struct Words<'a>(&'a [u8]);

impl<'a> Words<'a> {
    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (first, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(first)
    }

    fn next(&mut self) -> Option<u64> {
        Some(u64::from_ne_bytes(self.bytes(8)?.try_into().ok()?))
    }

    fn halves(&mut self) -> Option<(u32, u32)> {
        let bytes = self.bytes(8)?;
        let half = |at: usize| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        Some((half(0)?, half(4)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A record as the kernel lays it out; `copied` bytes of the 32 of stack are filled.
    fn record(abi: u64, copied: u64) -> Vec<u8> {
        let mut words = vec![u64::from(RecordType::SAMPLE.0), 7 | 8 << 32, 99, 3, abi];
        words.extend(100..117); // ax bx cx dx si di bp sp ip r8 ... r15
        words.extend([32, 1, 2, 3, 4, copied]);
        words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    fn parsed(record: &[u8]) -> Option<PerfSample> {
        match parse(record) {
            Parsed::Sample(TimedEvent { time: 99, event: Event::PerfSample(sample) }) => {
                Some(*sample)
            }
            _ => None,
        }
    }

    #[test]
    fn registers_come_by_their_dwarf_numbers() {
        let sample = parsed(&record(2, 32)).expect("a sample");
        assert_eq!((sample.cpu, sample.tid, sample.snapshot.ip), (Cpu(3), Tid(8), 108));
        let expected =
            [100, 103, 102, 101, 104, 105, 106, 107, 109, 110, 111, 112, 113, 114, 115, 116];
        assert_eq!(sample.snapshot.registers, expected);
    }

    #[test]
    fn only_what_was_copied_is_stack() {
        let sample = parsed(&record(2, 16)).expect("a sample");
        assert_eq!((sample.snapshot.stack.len(), sample.is_cut), (16, false));
        assert!(parsed(&record(2, 32)).expect("a sample").is_cut);
    }

    #[test]
    fn records_cut_anywhere_or_of_other_code_are_nothing() {
        let whole = record(2, 32);
        for len in 0..whole.len() {
            assert_eq!(parse(&whole[..len]), Parsed::Nothing, "{len}");
        }
        assert_eq!(parse(&record(1, 32)), Parsed::Nothing);
        assert_eq!(parse(&record(2, 33)), Parsed::Nothing);
    }

    #[test]
    fn lost_records_are_counted() {
        let lost = [u64::from(RecordType::LOST.0), 1, 5];
        let bytes: Vec<u8> = lost.iter().flat_map(|word| word.to_ne_bytes()).collect();
        assert_eq!(parse(&bytes), Parsed::Lost(5));
    }
}
