//! Parses records of the side band: what happens to processes.

use byteorder::LittleEndian;
use linux_perf_event_reader as perf;
use perf::{CommOrExecRecord, ForkOrExitRecord, Mmap2FileId, Mmap2Record, RawData, RecordType};
use profile::{Pid, Tid, VirtAddr};

use super::perf_record::{ParsedRecord, PerfRecord, SkippedRecord};
use super::sampler::comm;
use crate::events::event::{
    CommEvent, Event, ExitEvent, FileIdentity, ForkEvent, KernelCodeEvent, MmapEvent, TimedEvent,
};

/// The trailer that the event requests for each record: u32 pid and tid, u64 time, u32 CPU and
/// padding.
const SAMPLE_ID_BYTES: usize = 24;
const PATH_MAX: usize = 4096;
/// PERF_RECORD_MISC_MMAP_BUILD_ID of linux/perf_event.h. The kernel may set it for another
/// profiler that asked for build IDs, and leave it set in our records.
const MISC_BUILD_ID: u16 = 1 << 14;
/// PERF_RECORD_KSYMBOL_FLAGS_UNREGISTER of linux/perf_event.h.
const KSYMBOL_UNREGISTER: u16 = 1;

/// Parses a record with its header.
pub(in crate::events) fn parse(record: &[u8]) -> ParsedRecord {
    try_parse(record).unwrap_or(ParsedRecord::Ignored)
}

fn try_parse(record: &[u8]) -> Option<ParsedRecord> {
    let mut record = PerfRecord::split(record)?;
    let body_bytes = record.body.len().checked_sub(SAMPLE_ID_BYTES)?;
    let (body, sample_id) = record.body.split_at_checked(body_bytes)?;
    record.body = body;
    if record.kind == RecordType::LOST {
        return record.lost_count().map(ParsedRecord::Lost);
    }
    let time = u64::from_ne_bytes(sample_id[8..16].try_into().ok()?);
    Some(ParsedRecord::Event(TimedEvent { time, event: event(&record)? }))
}

/// Reads only which process a record is of: each record of a process event begins with its pid.
pub(in crate::events) fn parse_pid(record: &[u8]) -> SkippedRecord {
    try_parse_pid(record).unwrap_or(SkippedRecord::Ignored)
}

fn try_parse_pid(record: &[u8]) -> Option<SkippedRecord> {
    let bytes = record;
    let record = PerfRecord::split(bytes)?;
    match record.kind {
        RecordType::LOST => record.lost_count().map(SkippedRecord::Lost),
        RecordType::KSYMBOL => match parse(bytes) {
            ParsedRecord::Event(event) => Some(SkippedRecord::OfKernel(event)),
            _ => None,
        },
        RecordType::FORK | RecordType::EXIT | RecordType::COMM | RecordType::MMAP2 => {
            let pid = i32::from_ne_bytes(record.body.get(..4)?.try_into().ok()?);
            Some(SkippedRecord::Of(Pid(visible(pid)?)))
        }
        _ => None,
    }
}

fn event(record: &PerfRecord<'_>) -> Option<Event> {
    let (body, misc) = (RawData::Single(record.body), record.misc);
    match record.kind {
        RecordType::FORK => fork(&ForkOrExitRecord::parse::<LittleEndian>(body).ok()?),
        RecordType::EXIT => exit(&ForkOrExitRecord::parse::<LittleEndian>(body).ok()?),
        RecordType::COMM => comm_change(&CommOrExecRecord::parse::<LittleEndian>(body, misc).ok()?),
        RecordType::MMAP2 => {
            mmap(Mmap2Record::parse::<LittleEndian>(body, misc & !MISC_BUILD_ID).ok()?)
        }
        RecordType::KSYMBOL => kernel_code(record.body),
        _ => None,
    }
}

/// Parses the body of a PERF_RECORD_KSYMBOL: u64 address, u32 bytes, u16 type, u16 flags, and the
/// name, which ends with zeros.
fn kernel_code(body: &[u8]) -> Option<Event> {
    let (numbers, name) = body.split_at_checked(16)?;
    let start = u64::from_ne_bytes(numbers[..8].try_into().ok()?);
    let bytes = u32::from_ne_bytes(numbers[8..12].try_into().ok()?);
    let flags = u16::from_ne_bytes(numbers[14..].try_into().ok()?);
    let name = name.split(|byte| *byte == 0).next().filter(|name| !name.is_empty())?;
    Some(Event::KernelCode(KernelCodeEvent {
        start: VirtAddr(start),
        end: VirtAddr(start.checked_add(bytes.into())?),
        name: String::from_utf8_lossy(name).into(),
        is_removed: flags & KSYMBOL_UNREGISTER != 0,
    }))
}

/// Returns the number of a task if it is visible in the agent's PID namespace: others are 0 or -1.
fn visible(number: i32) -> Option<u32> {
    u32::try_from(number).ok().filter(|number| *number > 0)
}

fn fork(fork: &ForkOrExitRecord) -> Option<Event> {
    // The mappings of a parent outside the namespace are unknown: 0 is no process.
    let parent = Pid(visible(fork.ppid).unwrap_or(0));
    let parent_tid = Tid(visible(fork.ptid).unwrap_or(0));
    let (pid, tid) = (Pid(visible(fork.pid)?), Tid(visible(fork.tid)?));
    Some(Event::Fork(ForkEvent { pid, tid, parent, parent_tid }))
}

fn exit(exit: &ForkOrExitRecord) -> Option<Event> {
    Some(Event::Exit(ExitEvent { pid: Pid(visible(exit.pid)?), tid: Tid(visible(exit.tid)?) }))
}

fn comm_change(record: &CommOrExecRecord<'_>) -> Option<Event> {
    Some(Event::Comm(CommEvent {
        pid: Pid(visible(record.pid)?),
        tid: Tid(visible(record.tid)?),
        comm: comm(&record.name.as_slice()),
        is_exec: record.is_execve,
    }))
}

fn mmap(record: Mmap2Record<'_>) -> Option<Event> {
    let Mmap2FileId::InodeAndVersion(id) = record.file_id else { return None };
    let path = record.path.as_slice();
    let path = &path[..path.len().min(PATH_MAX)];
    Some(Event::Mmap(MmapEvent {
        pid: Pid(visible(record.pid)?),
        tid: Tid(visible(record.tid)?),
        start: VirtAddr(record.address),
        end: VirtAddr(record.address.checked_add(record.length)?),
        offset: record.page_offset,
        file: FileIdentity { major: id.major, minor: id.minor, inode: id.inode },
        path: String::from_utf8_lossy(path).into(),
    }))
}

#[cfg(test)]
mod tests {
    use super::super::perf_record::record_bytes;
    use super::*;

    /// A record with its trailer; only the time in it is set.
    fn record(kind: RecordType, misc: u16, body: &[u8]) -> Vec<u8> {
        let mut sample_id = [0; SAMPLE_ID_BYTES];
        sample_id[8..16].copy_from_slice(&99u64.to_ne_bytes());
        record_bytes(kind, misc, &[body, &sample_id].concat())
    }

    fn ints(numbers: &[i32]) -> Vec<u8> {
        numbers.iter().flat_map(|n| n.to_ne_bytes()).collect()
    }

    fn longs(numbers: &[u64]) -> Vec<u8> {
        numbers.iter().flat_map(|n| n.to_ne_bytes()).collect()
    }

    fn parse_event(bytes: &[u8]) -> Event {
        match parse(bytes) {
            ParsedRecord::Event(TimedEvent { time: 99, event }) => event,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn exec_is_a_comm_event_with_a_flag() {
        let body = [ints(&[7, 7]), b"cc1plus\0".to_vec()].concat();
        let expected = |is_exec| {
            Event::Comm(CommEvent { pid: Pid(7), tid: Tid(7), comm: "cc1plus".into(), is_exec })
        };
        assert_eq!(parse_event(&record(RecordType::COMM, 1 << 13, &body)), expected(true));
        assert_eq!(parse_event(&record(RecordType::COMM, 0, &body)), expected(false));
    }

    #[test]
    fn fork_from_outside_the_namespace_has_no_parent() {
        let body = [ints(&[8, 0, 9, 0]), vec![0; 8]].concat();
        let (parent, parent_tid) = (Pid(0), Tid(0));
        let expected = Event::Fork(ForkEvent { pid: Pid(8), tid: Tid(9), parent, parent_tid });
        assert_eq!(parse_event(&record(RecordType::FORK, 0, &body)), expected);
    }

    #[test]
    fn mmap_has_an_inode_even_with_the_build_id_flag_set() {
        let body = [
            ints(&[7, 7]),
            longs(&[0x1000, 0x2000, 0x3000]),
            ints(&[8, 1]),
            longs(&[42, 0]),
            ints(&[5, 2]),
            b"/bin/x\0\0".to_vec(),
        ]
        .concat();
        let expected = Event::Mmap(MmapEvent {
            pid: Pid(7),
            tid: Tid(7),
            start: VirtAddr(0x1000),
            end: VirtAddr(0x3000),
            offset: 0x3000,
            file: FileIdentity { major: 8, minor: 1, inode: 42 },
            path: "/bin/x".into(),
        });
        assert_eq!(parse_event(&record(RecordType::MMAP2, 0, &body)), expected);
        assert_eq!(parse_event(&record(RecordType::MMAP2, MISC_BUILD_ID, &body)), expected);
    }

    #[test]
    fn code_of_the_kernel_is_reported_also_while_process_events_are_skipped() {
        for (flags, is_removed) in [(0u16, false), (1, true)] {
            let numbers = [longs(&[0x1000]), ints(&[0x80])].concat();
            let kind = [1, flags].map(u16::to_ne_bytes).concat();
            let body = [numbers, kind, b"bpf_prog_0123_run\0\0\0\0\0\0\0".to_vec()].concat();
            let record = record(RecordType::KSYMBOL, 0, &body);
            let (start, end) = (VirtAddr(0x1000), VirtAddr(0x1080));
            let name = "bpf_prog_0123_run".into();
            let expected = Event::KernelCode(KernelCodeEvent { start, end, name, is_removed });
            assert_eq!(parse_event(&record), expected);
            let expected = SkippedRecord::OfKernel(TimedEvent { time: 99, event: expected });
            assert_eq!(parse_pid(&record), expected);
            for len in 0..record.len() {
                parse(&record[..len]);
            }
        }
    }

    #[test]
    fn lost_records_are_counted() {
        let lost = record(RecordType::LOST, 0, &longs(&[1, 17]));
        assert_eq!(parse(&lost), ParsedRecord::Lost(17));
    }

    #[test]
    fn truncated_records_are_ignored() {
        let whole = record(RecordType::COMM, 0, &[ints(&[7, 7]), b"x\0".to_vec()].concat());
        for len in 0..whole.len() {
            parse(&whole[..len]);
        }
        assert_eq!(parse(&whole[..20]), ParsedRecord::Ignored);
    }
}
