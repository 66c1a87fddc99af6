//! Parses perf's record of a task's tick into a [`RawSample`], which has a stack snapshot in place
//! of user frames.

use linux_perf_event_reader::RecordType;
use profile::{Cpu, Pid, StackEnd, Tid, VirtAddr};
use unwind::Registers;
use unwind::arch::USER_ADDRESS_MIN;

use super::perf_record::PerfRecord;
use super::perf_sample::{REGISTERS_64_BIT, Words, registers, stack};
use super::sampler::kernel_frames;
use crate::events::event::{Event, TimedEvent};
use crate::events::raw_sample::{RawSample, StackSnapshot, UserFrame};

/// PERF_RECORD_MISC_CPUMODE_MASK of linux/perf_event.h, and the mode of the kernel.
const MISC_MODE: u16 = 7;
const MISC_KERNEL: u16 = 1;
/// PERF_SAMPLE_REGS_ABI_32: the registers are those of 32-bit code.
const REGISTERS_32_BIT: u64 = 1;
/// PERF_CONTEXT_MAX: such words in a call chain say which stack follows, and are no addresses.
const CONTEXTS: u64 = 4095_u64.wrapping_neg();

/// What a record in the ring of task clocks amounts to.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::events) enum TaskRecord {
    /// A sample.
    Sample(TimedEvent),
    /// A sample that cannot be read.
    Malformed,
    /// The kernel dropped this many samples because the ring was full.
    Lost(u64),
    /// The kernel stopped a clock for the rest of a jiffy, because there were too many ticks.
    Throttled,
    /// A record of no interest.
    Ignored,
}

/// Parses a record with its header. `sequence`: number of the sample. `kernel_frames_limit`: frames
/// at which a kernel stack counts as cut; 0 if kernel stacks were not requested.
pub(in crate::events) fn parse(
    record: &[u8],
    sequence: u64,
    kernel_frames_limit: u32,
) -> TaskRecord {
    let Some(record) = PerfRecord::split(record) else { return TaskRecord::Ignored };
    match record.kind {
        RecordType::SAMPLE => sample(&record, sequence, kernel_frames_limit as usize)
            .map_or(TaskRecord::Malformed, TaskRecord::Sample),
        RecordType::LOST => record.lost_count().map_or(TaskRecord::Ignored, TaskRecord::Lost),
        RecordType::THROTTLE => TaskRecord::Throttled,
        _ => TaskRecord::Ignored,
    }
}

/// Reads the fields, which come in the order of their bits in `sample_type`.
fn sample(
    record: &PerfRecord<'_>,
    sequence: u64,
    kernel_frames_limit: usize,
) -> Option<TimedEvent> {
    let words = &mut Words(record.body);
    let (pid, tid) = words.halves()?;
    let time = words.next()?;
    let (cpu, _) = words.halves()?;
    let (mut kernel, mut kernel_end) = (Box::default(), StackEnd::Absent);
    if kernel_frames_limit > 0 {
        kernel = call_chain(words)?;
        kernel_end = match kernel.len() {
            0 if record.misc & MISC_MODE == MISC_KERNEL => StackEnd::KernelUnavailable,
            0 => StackEnd::Absent,
            frames if frames >= kernel_frames_limit => StackEnd::Depth,
            _ => StackEnd::Complete,
        };
    }
    let UserStack { frame, end, snapshot } = user_stack(words)?;
    let sample = RawSample {
        sequence,
        cpu: Cpu(cpu),
        pid: Pid(pid),
        tid: Tid(tid),
        comm: Box::default(),
        cgroup_id: 0,
        kernel,
        user: frame.into_iter().collect(),
        kernel_end,
        user_end: end,
        snapshot,
    };
    Some(TimedEvent { time, event: Event::Sample(Box::new(sample)) })
}

fn call_chain(words: &mut Words<'_>) -> Option<Box<[VirtAddr]>> {
    let count = usize::try_from(words.next()?).ok()?;
    let addresses = words.bytes(count.checked_mul(8)?)?.chunks_exact(8);
    let addresses = addresses.filter_map(|word| word.try_into().ok()).map(u64::from_ne_bytes);
    Some(kernel_frames(addresses.filter(|address| *address < CONTEXTS)))
}

/// The innermost user frame, and the state at it.
struct UserStack {
    frame: Option<UserFrame>,
    end: StackEnd,
    snapshot: Option<Box<StackSnapshot>>,
}

/// Reads registers and stack. A task has none while exec builds its memory, and after it has given
/// its memory back.
fn user_stack(words: &mut Words<'_>) -> Option<UserStack> {
    let none = UserStack { frame: None, end: StackEnd::Absent, snapshot: None };
    let abi = words.next()?;
    if abi == 0 {
        return Some(none);
    }
    let (ip, flags, registers) = registers(words)?;
    if ip < USER_ADDRESS_MIN {
        return Some(none);
    }
    let interrupted = Registers::interrupted_with_flags(ip, flags, registers);
    let (address, is_exact) = (VirtAddr(ip), !interrupted.is_behind);
    let frame = Some(UserFrame { address, is_exact, is_guessed: false });
    match abi {
        REGISTERS_64_BIT => {
            let (stack, is_full) = stack(words)?;
            let (registers, start) = (interrupted, interrupted.sp);
            let snapshot = StackSnapshot { registers, start, stack: stack.into(), is_full };
            Some(UserStack { frame, end: StackEnd::NoTable, snapshot: Some(Box::new(snapshot)) })
        }
        REGISTERS_32_BIT => Some(UserStack { frame, end: StackEnd::ThirtyTwoBit, snapshot: None }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::perf_record::record_bytes;
    use super::*;

    const LIMIT: u32 = 3;

    fn words(words: &[u64]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    /// The body of a sample of thread 8 of process 7 on CPU 3, with `filled` of 16 bytes of stack.
    fn body(chain: Option<&[u64]>, abi: u64, filled: u64) -> Vec<u8> {
        let mut body = vec![7 | 8 << 32, 99, 3];
        if let Some(chain) = chain {
            body.push(chain.len() as u64);
            body.extend(chain);
        }
        body.push(abi);
        if abi != 0 {
            // ax bx cx dx si di bp sp ip flags r8 ...
            body.extend((1..=18).map(|number| number << 20));
        }
        body.extend([16, 0x11, 0x22, filled]);
        words(&body)
    }

    fn parse_sample(misc: u16, body: &[u8], limit: u32) -> RawSample {
        match parse(&record_bytes(RecordType::SAMPLE, misc, body), 5, limit) {
            TaskRecord::Sample(TimedEvent { time: 99, event: Event::Sample(sample) }) => *sample,
            other => panic!("not a sample: {other:?}"),
        }
    }

    #[test]
    fn sample_has_the_interrupted_instruction_and_the_stack_from_sp_upward() {
        let sample = parse_sample(2, &body(None, 2, 8), 0);
        let ids = (sample.sequence, sample.cpu, sample.pid, sample.tid);
        assert_eq!(ids, (5, Cpu(3), Pid(7), Tid(8)));
        let frames: Vec<_> = sample.user.iter().map(|f| (f.address.0, f.is_exact)).collect();
        assert_eq!(frames, [(9 << 20, true)]);
        let snapshot = sample.snapshot.expect("a stack");
        assert_eq!((snapshot.registers.ip, snapshot.registers.sp), (9 << 20, 8 << 20));
        assert_eq!((snapshot.start, snapshot.is_full), (8 << 20, false));
        assert_eq!(*snapshot.stack, words(&[0x11]));
        assert_eq!((sample.kernel_end, sample.kernel.len()), (StackEnd::Absent, 0));
        let full = parse_sample(2, &body(None, 2, 16), 0).snapshot.expect("a stack");
        assert!(full.is_full && full.stack.len() == 16);
    }

    #[test]
    fn kernel_frames_come_without_their_context() {
        const KERNEL: u64 = 128_u64.wrapping_neg();
        let check = |misc, chain: &[u64], frames: &[u64], end| {
            let sample = parse_sample(misc, &body(Some(chain), 2, 8), LIMIT);
            let kernel: Vec<u64> = sample.kernel.iter().map(|address| address.0).collect();
            assert_eq!((&kernel[..], sample.kernel_end), (frames, end));
        };
        check(1, &[KERNEL, 10, 20], &[10, 20], StackEnd::Complete);
        check(1, &[KERNEL, 10, 20, 30], &[10, 20, 30], StackEnd::Depth);
        check(2, &[], &[], StackEnd::Absent);
        check(1, &[], &[], StackEnd::KernelUnavailable);
    }

    #[test]
    fn task_without_memory_has_no_user_stack() {
        let sample = parse_sample(1, &body(None, 0, 0), 0);
        assert_eq!((sample.user.len(), sample.user_end), (0, StackEnd::Absent));
        let sample = parse_sample(2, &body(None, 1, 0), 0);
        assert_eq!((sample.user.len(), sample.user_end), (1, StackEnd::ThirtyTwoBit));
        assert!(sample.snapshot.is_none());
    }

    #[test]
    fn truncated_samples_are_malformed() {
        let body = body(Some(&[10]), 2, 8);
        for len in 0..body.len() {
            let record = record_bytes(RecordType::SAMPLE, 0, &body[..len]);
            assert_eq!(parse(&record, 0, LIMIT), TaskRecord::Malformed, "{len} bytes");
        }
        let endless = words(&[7, 99, 3, u64::MAX]);
        let record = record_bytes(RecordType::SAMPLE, 0, &endless);
        assert_eq!(parse(&record, 0, LIMIT), TaskRecord::Malformed);
    }

    #[test]
    fn lost_samples_and_throttling_are_reported() {
        let record = |kind, body: &[u64]| record_bytes(kind, 0, &words(body));
        assert_eq!(parse(&record(RecordType::LOST, &[1, 5]), 0, 0), TaskRecord::Lost(5));
        let throttled = record(RecordType::THROTTLE, &[99, 1, 1]);
        assert_eq!(parse(&throttled, 0, 0), TaskRecord::Throttled);
        assert_eq!(parse(&record(RecordType::UNTHROTTLE, &[]), 0, 0), TaskRecord::Ignored);
    }
}
