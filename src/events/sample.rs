//! One record of the sampler's ring becomes a [`RawSample`].

use profile::{Cpu, Pid, StackEnd, Tid, VirtAddr};
use zerocopy::FromBytes;

use super::{Event, RawSample, Timed};
use crate::kernel::abi;

/// Parses a record; `None` when its length or its values make no sense.
pub(super) fn parse(record: &[u8]) -> Option<Timed> {
    let (head, rest) = abi::Sample::read_from_prefix(record).ok()?;
    let addresses = <[u64]>::ref_from_bytes(rest).ok()?;
    let kernel_frames = usize::from(head.kernel_frames);
    if addresses.len() != kernel_frames + usize::from(head.user_frames) {
        return None;
    }
    let (kernel, user) = addresses.split_at(kernel_frames);
    let sample = RawSample {
        sequence: head.sequence,
        cpu: Cpu(head.cpu),
        pid: Pid(head.pid),
        tid: Tid(head.tid),
        comm: comm(&head.comm),
        cgroup_id: head.cgroup_id,
        kernel: kernel.iter().map(|address| VirtAddr(*address)).collect(),
        user: user.iter().map(|address| VirtAddr(*address)).collect(),
        kernel_end: StackEnd::from_value(head.kernel_end)?,
        user_end: StackEnd::from_value(head.user_end)?,
        guessed: head.flags & abi::SAMPLE_GUESSED != 0,
    };
    Some(Timed { time: head.time, event: Event::Sample(Box::new(sample)) })
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
            user_end: StackEnd::FramePointer as u8,
            flags: abi::SAMPLE_GUESSED,
            reserved: [0; 5],
            comm: *b"spin\0garbage\0\0\0\0",
        };
        [head.as_bytes(), addresses.as_bytes()].concat()
    }

    #[test]
    fn a_record_splits_into_kernel_and_user_frames() {
        let timed = parse(&record(1, 2, &[10, 20, 30])).expect("it is well-formed");
        let Event::Sample(sample) = timed.event else { panic!("not a sample") };
        assert_eq!(timed.time, 7);
        assert_eq!(&*sample.kernel, [VirtAddr(10)]);
        assert_eq!(&*sample.user, [VirtAddr(20), VirtAddr(30)]);
        assert_eq!(&*sample.comm, "spin");
        assert!(sample.guessed);
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
