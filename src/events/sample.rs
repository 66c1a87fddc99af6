//! One record of the sampler's ring becomes a [`RawSample`].

use profile::{Cpu, Pid, StackEnd, Tid, VirtAddr};
use unwind::arch::{RED_ZONE, SP};
use zerocopy::FromBytes;

use super::{Event, RawSample, StackCopy, Timed, UserFrame};
use crate::kernel::abi;

/// Parses a record; `None` when its length or its values make no sense.
pub(super) fn parse(record: &[u8]) -> Option<Timed> {
    let (head, rest) = abi::Sample::read_from_prefix(record).ok()?;
    let is_unfinished = head.flags & abi::SAMPLE_UNFINISHED != 0;
    let room = if is_unfinished { abi::KERNEL_FRAMES_MAX as u16 } else { head.kernel_frames };
    let (kernel, rest) = words(rest, room)?;
    let kernel = kernel.get(..head.kernel_frames.into())?;
    let (user, rest) = words(rest, head.user_frames)?;
    let copy = match is_unfinished {
        false if rest.is_empty() => None,
        false => return None,
        true => Some(Box::new(stack_copy(rest)?)),
    };
    let sample = RawSample {
        sequence: head.sequence,
        cpu: Cpu(head.cpu),
        pid: Pid(head.pid),
        tid: Tid(head.tid),
        comm: comm(&head.comm),
        cgroup_id: head.cgroup_id,
        kernel: kernel.iter().map(|address| VirtAddr(*address)).collect(),
        user: user.iter().enumerate().map(|(depth, word)| user_frame(depth, *word)).collect(),
        kernel_end: StackEnd::from_value(head.kernel_end)?,
        user_end: StackEnd::from_value(head.user_end)?,
        copy,
    };
    Some(Timed { time: head.time, event: Event::Sample(Box::new(sample)) })
}

fn words(bytes: &[u8], count: u16) -> Option<(&[u64], &[u8])> {
    <[u64]>::ref_from_prefix_with_elems(bytes, count.into()).ok()
}

fn user_frame(depth: usize, word: u64) -> UserFrame {
    UserFrame {
        address: VirtAddr(word & !(abi::FRAME_EXACT | abi::FRAME_GUESSED)),
        is_exact: depth == 0 || word & abi::FRAME_EXACT != 0,
        is_guessed: word & abi::FRAME_GUESSED != 0,
    }
}

fn stack_copy(bytes: &[u8]) -> Option<StackCopy> {
    let (head, stack) = abi::StackCopy::read_from_prefix(bytes).ok()?;
    let stack = stack.get(..usize::try_from(head.bytes).ok()?)?;
    let lowest = head.registers[usize::from(SP.number())].wrapping_sub(RED_ZONE);
    let stack = stack.get((lowest % abi::PAGE_BYTES) as usize..).unwrap_or_default();
    Some(StackCopy { ip: head.ip, registers: head.registers, stack: stack.into() })
}

/// A task's name as text: up to the NUL; bytes that are no UTF-8 are replaced.
pub(super) fn comm(bytes: &[u8]) -> Box<str> {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::IntoBytes;

    fn record(kernel_frames: u16, user_frames: u16, addresses: &[u64]) -> Vec<u8> {
        let head = abi::Sample {
            time: 7,
            sequence: 1,
            cgroup_id: 2,
            pid: 3,
            tid: 4,
            cpu: 5,
            kernel_frames,
            user_frames,
            kernel_end: StackEnd::Bottom as u8,
            user_end: StackEnd::NoRow as u8,
            flags: 0,
            reserved: [0; 5],
            comm: *b"spin\0garbage\0\0\0\0",
        };
        [head.as_bytes(), addresses.as_bytes()].concat()
    }

    #[test]
    fn a_record_splits_into_kernel_and_user_frames() {
        let addresses = [10, 20, 30 | abi::FRAME_GUESSED, 40 | abi::FRAME_EXACT];
        let timed = parse(&record(1, 3, &addresses)).expect("it is well-formed");
        let Event::Sample(sample) = timed.event else { panic!("not a sample") };
        assert_eq!(timed.time, 7);
        assert_eq!(&*sample.kernel, [VirtAddr(10)]);
        let user: Vec<_> =
            sample.user.iter().map(|f| (f.address.0, f.is_exact, f.is_guessed)).collect();
        assert_eq!(user, [(20, true, false), (30, false, true), (40, true, false)]);
        assert_eq!(&*sample.comm, "spin");
    }

    #[test]
    fn a_stack_that_was_copied_comes_with_its_registers() {
        let copied = |bytes: u64| {
            let copy = abi::StackCopy { ip: 7, registers: [0x5090; 16], bytes };
            let mut record = record(1, 0, &[3; abi::KERNEL_FRAMES_MAX as usize]);
            record[std::mem::offset_of!(abi::Sample, flags)] = abi::SAMPLE_UNFINISHED;
            [&record[..], copy.as_bytes(), &[1; 16], &[9; 24]].concat()
        };
        let timed = parse(&copied(32)).expect("it is well-formed");
        let Event::Sample(sample) = timed.event else { panic!("not a sample") };
        // The red zone begins 16 bytes into its page, and 8 bytes behind the stack do not count.
        let expected = StackCopy { ip: 7, registers: [0x5090; 16], stack: [9; 16].into() };
        assert_eq!(sample.copy.as_deref(), Some(&expected));
        assert_eq!(&*sample.kernel, [VirtAddr(3)]);
        assert_eq!(parse(&copied(41)), None);
    }

    #[test]
    fn a_record_that_is_too_short_or_too_long_is_refused() {
        assert_eq!(parse(&record(1, 2, &[10, 20])), None);
        assert_eq!(parse(&record(0, 1, &[10, 20])), None);
        assert_eq!(parse(&record(0, 0, &[])[..40]), None);
    }

    #[test]
    fn a_value_outside_its_list_is_refused() {
        let mut bytes = record(0, 0, &[]);
        bytes[std::mem::offset_of!(abi::Sample, user_end)] = 200;
        assert_eq!(parse(&bytes), None);
    }
}
