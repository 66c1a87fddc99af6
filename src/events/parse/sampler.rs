//! Parses a record of the sampler's ring: a [`RawSample`], a record of an interpreter, or code that
//! was moved.

use profile::{Cpu, Pid, StackEnd, Tid, VirtAddr};
use unwind::Registers;
use unwind::arch::{RED_ZONE, VSYSCALL};
use zerocopy::FromBytes;

use super::interpreter::{parse_code, parse_stack};
use crate::events::event::{Event, MoveEvent, TimedEvent};
use crate::events::raw_sample::{RawSample, StackSnapshot, UserFrame};
use crate::kernel::abi;

/// Parses a record; `None` if its length or a value is not valid.
pub(in crate::events) fn parse(record: &[u8]) -> Option<TimedEvent> {
    if let Ok(moved) = abi::MovedCode::read_from_bytes(record) {
        return Some(parse_moved(moved));
    }
    // The second word of a sample counts samples from 0.
    match u64::from_ne_bytes(*record.get(8..)?.first_chunk()?) {
        abi::RECORD_INTERPRETER => return parse_stack(record),
        abi::RECORD_CODE => return parse_code(record),
        _ => {}
    }
    let (head, frames) = abi::Sample::ref_from_prefix(record).ok()?;
    let (kernel, user) = (usize::from(head.kernel_frames), usize::from(head.user_frames));
    let (frames, snapshot) = if head.flags & abi::SAMPLE_UNFINISHED == 0 {
        (<[u64]>::ref_from_bytes_with_elems(frames, kernel + user).ok()?, None)
    } else {
        let (unfinished, stack) = abi::UnfinishedSample::ref_from_prefix(record).ok()?;
        let frames = unfinished.frames.get(..kernel + user)?;
        (frames, Some(Box::new(snapshot(unfinished, stack)?)))
    };
    let (kernel, user) = frames.split_at(kernel);
    let sample = RawSample {
        sequence: head.sequence,
        cpu: Cpu(head.cpu),
        pid: Pid(head.pid),
        tid: Tid(head.tid),
        comm: comm(&head.comm),
        cgroup_id: head.cgroup_id,
        kernel: kernel_frames(kernel.iter().copied()),
        user: user.iter().map(|word| user_frame(*word)).collect(),
        kernel_end: StackEnd::from_value(head.kernel_end)?,
        user_end: StackEnd::from_value(head.user_end)?,
        snapshot,
    };
    Some(TimedEvent { time: head.time, event: Event::Sample(Box::new(sample)) })
}

fn parse_moved(moved: abi::MovedCode) -> TimedEvent {
    let abi::MovedCode { time, missed, pid, .. } = moved;
    TimedEvent { time, event: Event::Move(MoveEvent { pid: Pid(pid), missed }) }
}

/// Returns the frames of a kernel stack. The kernel takes the vsyscall page for its own: user code
/// is there, and it has a user frame.
pub(super) fn kernel_frames(addresses: impl Iterator<Item = u64>) -> Box<[VirtAddr]> {
    addresses.filter(|address| !VSYSCALL.contains(address)).map(VirtAddr).collect()
}

fn user_frame(word: u64) -> UserFrame {
    // The flags take the place of two bits that are equal to the one below them.
    const FLAGS: u32 = 2;
    UserFrame {
        address: VirtAddr(((word << FLAGS) as i64 >> FLAGS) as u64),
        is_exact: word & abi::FRAME_EXACT != 0,
        is_guessed: word & abi::FRAME_GUESSED != 0,
    }
}

/// Reads the snapshot of an unfinished sample. `stack`: from the start of the page in which the
/// red zone begins.
fn snapshot(unfinished: &abi::UnfinishedSample, stack: &[u8]) -> Option<StackSnapshot> {
    let at = &unfinished.registers;
    let bytes = usize::try_from(unfinished.stack_bytes).ok()?;
    let start = at.sp.wrapping_sub(RED_ZONE);
    let stack = stack.get(..bytes)?.get((start % abi::PAGE_BYTES) as usize..).unwrap_or_default();
    let is_full = [abi::STACK_SNAPSHOT_SHORT, abi::STACK_SNAPSHOT_MAX].contains(&bytes);
    let has = |flag: u32| at.known & flag != 0;
    let registers = Registers {
        ip: at.ip,
        is_behind: at.is_behind != 0,
        sp: at.sp,
        fp: has(abi::KNOWN_FP).then_some(at.fp),
        base: has(abi::KNOWN_BASE).then_some(at.base),
        all: has(abi::KNOWN_ALL).then_some(at.all),
        callee: has(abi::KNOWN_CALLEE).then_some(at.all),
    };
    Some(StackSnapshot { registers, start, stack: stack.into(), is_full })
}

/// Returns a task's name as text, up to the NUL; bytes that are not UTF-8 are replaced.
pub(super) fn comm(bytes: &[u8]) -> Box<str> {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::IntoBytes;

    fn head(kernel_frames: u16, user_frames: u16, flags: u8) -> abi::Sample {
        abi::Sample {
            time: 7,
            sequence: 1,
            cgroup_id: 2,
            pid: 3,
            tid: 4,
            cpu: 5,
            kernel_frames,
            user_frames,
            kernel_end: StackEnd::Complete as u8,
            user_end: StackEnd::NoRow as u8,
            flags,
            reserved: [0; 5],
            comm: *b"spin\0garbage\0\0\0\0",
        }
    }

    fn record(kernel_frames: u16, user_frames: u16, addresses: &[u64]) -> Vec<u8> {
        [head(kernel_frames, user_frames, 0).as_bytes(), addresses.as_bytes()].concat()
    }

    #[test]
    fn frames_split_into_kernel_and_user() {
        let vsyscall = VSYSCALL.start;
        let addresses = [
            10,
            vsyscall,
            20,
            30 | abi::FRAME_GUESSED,
            40 | abi::FRAME_EXACT,
            vsyscall & !abi::FRAME_GUESSED,
        ];
        let timed = parse(&record(2, 4, &addresses)).expect("a well-formed record");
        let Event::Sample(sample) = timed.event else { panic!("not a sample") };
        assert_eq!(timed.time, 7);
        assert_eq!(&*sample.kernel, [VirtAddr(10)]);
        let user: Vec<_> =
            sample.user.iter().map(|f| (f.address.0, f.is_exact, f.is_guessed)).collect();
        let expected =
            [(20, false, false), (30, false, true), (40, true, false), (vsyscall, true, false)];
        assert_eq!(user, expected);
        assert_eq!(&*sample.comm, "spin");
    }

    #[test]
    fn unfinished_sample_has_registers_and_stack_snapshot() {
        let unfinished = |stack_bytes: u64| {
            let (known, all) = (abi::KNOWN_FP, [0; abi::REGISTERS]);
            let (ip, sp, fp, base, is_behind) = (7, 0x5090, 8, 0, 1);
            let record = abi::UnfinishedSample {
                sample: head(1, 1, abi::SAMPLE_UNFINISHED),
                frames: [3; (abi::KERNEL_FRAMES_MAX + abi::USER_FRAMES_MAX) as usize],
                registers: abi::Registers { ip, sp, fp, base, known, is_behind, all },
                stack_bytes,
                stack: [],
            };
            [record.as_bytes(), &[1; 16], &[9; 24]].concat()
        };
        let timed = parse(&unfinished(32)).expect("a well-formed record");
        let Event::Sample(sample) = timed.event else { panic!("not a sample") };
        // The red zone begins 16 bytes into its page. The last 8 bytes are not part of the stack.
        let registers = Registers {
            ip: 7,
            is_behind: true,
            sp: 0x5090,
            fp: Some(8),
            base: None,
            all: None,
            callee: None,
        };
        let (start, stack) = (0x5010, [9; 16].into());
        let expected = StackSnapshot { registers, start, stack, is_full: false };
        assert_eq!(sample.snapshot.as_deref(), Some(&expected));
        assert_eq!((sample.kernel.len(), sample.user.len()), (1, 1));
        assert_eq!(parse(&unfinished(41)), None);
    }

    #[test]
    fn a_short_record_is_of_moved_code() {
        let moved = abi::MovedCode { time: 7, missed: 5, pid: 3, reserved: 0 };
        let event = Event::Move(MoveEvent { pid: Pid(3), missed: 5 });
        assert_eq!(parse(moved.as_bytes()), Some(TimedEvent { time: 7, event }));
        assert_eq!(parse(&moved.as_bytes()[1..]), None);
    }

    #[test]
    fn marker_tells_interpreter_records_from_samples() {
        let mut bytes = record(0, 0, &[]);
        for marker in [abi::RECORD_INTERPRETER, abi::RECORD_CODE] {
            bytes[8..16].copy_from_slice(&marker.to_ne_bytes());
            assert_eq!(parse(&bytes), None);
        }
        bytes[8..16].copy_from_slice(&(abi::RECORD_CODE - 1).to_ne_bytes());
        assert!(parse(&bytes).is_some());
    }

    #[test]
    fn record_of_wrong_length_is_rejected() {
        assert_eq!(parse(&record(1, 2, &[10, 20])), None);
        assert_eq!(parse(&record(0, 1, &[10, 20])), None);
        assert_eq!(parse(&record(0, 0, &[])[..40]), None);
    }

    #[test]
    fn value_outside_its_enum_is_rejected() {
        let mut bytes = record(0, 0, &[]);
        bytes[std::mem::offset_of!(abi::Sample, user_end)] = 200;
        assert_eq!(parse(&bytes), None);
    }
}
