//! perf's record format: the part that side band and perf samples share.

use linux_perf_event_reader::RecordType;
use profile::Pid;

use crate::events::event::TimedEvent;

/// `struct perf_event_header`: u32 type, u16 misc, u16 size.
const HEADER_BYTES: usize = 8;

/// What a record of a perf ring amounts to.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::events) enum ParsedRecord {
    /// An event.
    Event(TimedEvent),
    /// The kernel dropped this many records because the ring was full.
    Lost(u64),
    /// A record of no interest, or a malformed one.
    Ignored,
}

/// What is read of a record whose event is skipped.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::events) enum SkippedRecord {
    /// The process that the event is of.
    Of(Pid),
    /// An event of the kernel, which is not skipped: there are few.
    OfKernel(TimedEvent),
    /// The kernel dropped this many records because the ring was full.
    Lost(u64),
    /// A record of no interest, or a malformed one.
    Ignored,
}

/// A record, split after its header.
pub struct PerfRecord<'a> {
    pub kind: RecordType,
    pub misc: u16,
    pub body: &'a [u8],
}

impl<'a> PerfRecord<'a> {
    /// Splits a record; `None` when it is too short.
    pub fn split(record: &'a [u8]) -> Option<Self> {
        let (header, body) = record.split_at_checked(HEADER_BYTES)?;
        Some(Self {
            kind: RecordType(u32::from_ne_bytes(header[..4].try_into().ok()?)),
            misc: u16::from_ne_bytes(header[4..6].try_into().ok()?),
            body,
        })
    }

    /// Reads the count of a PERF_RECORD_LOST: u64 id, u64 lost.
    pub fn lost_count(&self) -> Option<u64> {
        Some(u64::from_ne_bytes(self.body.get(8..16)?.try_into().ok()?))
    }
}

/// Builds a record as the kernel lays it out.
#[cfg(test)]
pub fn record_bytes(kind: RecordType, misc: u16, body: &[u8]) -> Vec<u8> {
    let size = (HEADER_BYTES + body.len()) as u16;
    let kind = kind.0.to_ne_bytes();
    [&kind[..], &misc.to_ne_bytes(), &size.to_ne_bytes(), body].concat()
}
