//! One perf record of the side band becomes an [`Event`].

use byteorder::LittleEndian;
use linux_perf_event_reader as perf;
use perf::{CommOrExecRecord, ForkOrExitRecord, LostRecord, Mmap2FileId, Mmap2Record, RawData};
use profile::{Pid, Tid, VirtAddr};

use super::sample::comm;
use super::{CommEvent, Event, ExitEvent, FileIdentity, ForkEvent, MmapEvent, TimedEvent};

/// `struct perf_event_header`: u32 type, u16 misc, u16 size.
const HEADER_BYTES: usize = 8;
/// What the event asks each record to end with: u32 pid and tid, u64 time, u32 CPU and padding.
const SAMPLE_ID_BYTES: usize = 24;
const PATH_MAX: usize = 4096;
/// PERF_RECORD_MISC_MMAP_BUILD_ID of linux/perf_event.h. The kernel may set it for another profiler that asked for build
/// ids, and leave it set for us.
const MISC_BUILD_ID: u16 = 1 << 14;

/// What a record of the side band can say.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Parsed {
    /// Something happened to a process.
    Event(TimedEvent),
    /// So many records found no room.
    Lost(u64),
    /// Nothing of interest, or nothing understood.
    Nothing,
}

/// Parses a record with its header.
pub(super) fn parse(record: &[u8]) -> Parsed {
    try_parse(record).unwrap_or(Parsed::Nothing)
}

fn try_parse(record: &[u8]) -> Option<Parsed> {
    let (header, rest) = record.split_at_checked(HEADER_BYTES)?;
    let kind = u32::from_ne_bytes(header[..4].try_into().ok()?);
    let misc = u16::from_ne_bytes(header[4..6].try_into().ok()?);
    let (body, id) = rest.split_at_checked(rest.len().checked_sub(SAMPLE_ID_BYTES)?)?;
    let time = u64::from_ne_bytes(id[8..16].try_into().ok()?);
    let body = RawData::Single(body);

    let event = match perf::RecordType(kind) {
        perf::RecordType::FORK => started(&ForkOrExitRecord::parse::<LittleEndian>(body).ok()?)?,
        perf::RecordType::EXIT => exited(&ForkOrExitRecord::parse::<LittleEndian>(body).ok()?)?,
        perf::RecordType::COMM => {
            named(&CommOrExecRecord::parse::<LittleEndian>(body, misc).ok()?)?
        }
        perf::RecordType::MMAP2 => {
            mapped(Mmap2Record::parse::<LittleEndian>(body, misc & !MISC_BUILD_ID).ok()?)?
        }
        perf::RecordType::LOST => {
            return Some(Parsed::Lost(LostRecord::parse::<LittleEndian>(body).ok()?.count));
        }
        _ => return None,
    };
    Some(Parsed::Event(TimedEvent { time, event }))
}

/// A number of a task that the agent's pid namespace shows: others come as 0 or -1.
fn visible(number: i32) -> Option<u32> {
    u32::try_from(number).ok().filter(|number| *number > 0)
}

fn started(fork: &ForkOrExitRecord) -> Option<Event> {
    // A parent outside the namespace has mappings that we do not know: 0 is no process.
    let parent = Pid(visible(fork.ppid).unwrap_or(0));
    Some(Event::Fork(ForkEvent { pid: Pid(visible(fork.pid)?), parent }))
}

fn exited(exit: &ForkOrExitRecord) -> Option<Event> {
    Some(Event::Exit(ExitEvent { pid: Pid(visible(exit.pid)?), tid: Tid(visible(exit.tid)?) }))
}

fn named(record: &CommOrExecRecord<'_>) -> Option<Event> {
    Some(Event::Comm(CommEvent {
        pid: Pid(visible(record.pid)?),
        tid: Tid(visible(record.tid)?),
        comm: comm(&record.name.as_slice()),
        is_exec: record.is_execve,
    }))
}

fn mapped(record: Mmap2Record<'_>) -> Option<Event> {
    let Mmap2FileId::InodeAndVersion(id) = record.file_id else { return None };
    let file = FileIdentity { major: id.major, minor: id.minor, inode: id.inode };
    let path = record.path.as_slice();
    let path = &path[..path.len().min(PATH_MAX)];
    Some(Event::Mmap(MmapEvent {
        pid: Pid(visible(record.pid)?),
        tid: Tid(visible(record.tid)?),
        start: VirtAddr(record.address),
        end: VirtAddr(record.address.checked_add(record.length)?),
        offset: record.page_offset,
        file,
        path: String::from_utf8_lossy(path).into(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A record as the kernel lays it out: header, body, pid and tid, time, CPU.
    fn record(kind: u32, misc: u16, body: &[u8]) -> Vec<u8> {
        let size = (HEADER_BYTES + body.len() + SAMPLE_ID_BYTES) as u16;
        let mut bytes = Vec::new();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(misc.to_ne_bytes());
        bytes.extend(size.to_ne_bytes());
        bytes.extend(body);
        bytes.extend([0; 8]);
        bytes.extend(99u64.to_ne_bytes());
        bytes.extend([0; 8]);
        bytes
    }

    fn words(numbers: &[i32]) -> Vec<u8> {
        numbers.iter().flat_map(|n| n.to_ne_bytes()).collect()
    }

    fn event(bytes: &[u8]) -> Event {
        match parse(bytes) {
            Parsed::Event(TimedEvent { time: 99, event }) => event,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_exec_is_a_name_with_a_flag() {
        let body = [words(&[7, 7]), b"cc1plus\0".to_vec()].concat();
        let expected =
            |is_exec| CommEvent { pid: Pid(7), tid: Tid(7), comm: "cc1plus".into(), is_exec };
        assert_eq!(event(&record(3, 1 << 13, &body)), Event::Comm(expected(true)));
        assert_eq!(event(&record(3, 0, &body)), Event::Comm(expected(false)));
    }

    #[test]
    fn a_fork_from_outside_the_namespace_has_no_parent() {
        let body = [words(&[8, 0, 8, 0]), vec![0; 8]].concat();
        assert_eq!(
            event(&record(7, 0, &body)),
            Event::Fork(ForkEvent { pid: Pid(8), parent: Pid(0) })
        );
    }

    #[test]
    fn a_mapping_carries_an_inode_whatever_another_profiler_has_asked_for() {
        let mut body = words(&[7, 7]);
        body.extend([0x1000u64, 0x2000, 0x3000].iter().flat_map(|n| n.to_ne_bytes()));
        body.extend(words(&[8, 1]));
        body.extend([42u64.to_ne_bytes(), [0; 8]].concat());
        body.extend([words(&[5, 2]), b"/bin/x\0\0".to_vec()].concat());
        let expected = Event::Mmap(MmapEvent {
            pid: Pid(7),
            tid: Tid(7),
            start: VirtAddr(0x1000),
            end: VirtAddr(0x3000),
            offset: 0x3000,
            file: FileIdentity { major: 8, minor: 1, inode: 42 },
            path: "/bin/x".into(),
        });
        assert_eq!(event(&record(10, 0, &body)), expected);
        assert_eq!(event(&record(10, MISC_BUILD_ID, &body)), expected);
    }

    #[test]
    fn lost_records_are_counted() {
        let body = [1u64, 17].iter().flat_map(|n| n.to_ne_bytes()).collect::<Vec<u8>>();
        assert_eq!(parse(&record(2, 0, &body)), Parsed::Lost(17));
    }

    #[test]
    fn a_truncated_record_says_nothing() {
        let whole = record(3, 0, &[words(&[7, 7]), b"x\0".to_vec()].concat());
        for len in 0..whole.len() {
            parse(&whole[..len]);
        }
        assert_eq!(parse(&whole[..20]), Parsed::Nothing);
    }
}
