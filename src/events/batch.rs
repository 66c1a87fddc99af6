//! What the rings held in one turn of the reader.

use std::collections::HashSet;
use std::time::Duration;

use profile::Pid;

use super::event::{Event, LATE_RECORD_NS, TimedEvent};
use super::parse::{self, ParsedRecord, SkippedRecord};

/// Processes that skipped events can be of: the kernel's default number of pids, so that a storm of
/// forks does not reach it within one turn. With more, all processes are stale.
const SKIPPED_PIDS_MAX: usize = 32_768;

/// The events of one turn, and what was lost up to it.
#[derive(Debug, Default)]
pub struct EventBatch {
    /// Events in no particular order.
    pub events: Vec<TimedEvent>,
    /// Records of the sampler that could not be parsed.
    pub malformed: u64,
    /// Process events that did not fit into their ring.
    pub side_band_lost: u64,
    /// Process events that were skipped because their share of CPU time is used up.
    pub process_events_skipped: u64,
    /// The processes that skipped events are of, as far as they fit: `SKIPPED_PIDS_MAX`.
    pub skipped_pids: HashSet<Pid>,
    /// Skips process events.
    pub(super) skips_process_events: bool,
    /// Process events were missed because a CPU came online or went offline. Unlike those that did
    /// not fit, the kernel does not count them.
    pub has_missed_events: bool,
    /// Ticks lack something that the processor can publish: unwind rows or new mappings.
    pub(super) is_urgent: bool,
    /// perf's own records of ticks that did not fit into their ring.
    pub perf_samples_lost: u64,
    /// CPU time that the reader has used since the batch before.
    pub reader_cpu: Duration,
    /// Every record written before this time is in this batch or an earlier one, nanoseconds of
    /// CLOCK_MONOTONIC.
    pub drained_at: u64,
}

impl EventBatch {
    /// Returns the time up to which no further event can arrive, nanoseconds of CLOCK_MONOTONIC.
    pub fn complete_until(&self) -> u64 {
        self.drained_at.saturating_sub(LATE_RECORD_NS)
    }

    /// Returns the part of its events that are process events, 0 without any.
    pub fn process_events_part(&self) -> f64 {
        let samples = self.events.iter().filter(|timed| timed.event.is_of_tick()).count();
        let others = self.events.len() - samples;
        others as f64 / self.events.len().max(1) as f64
    }

    /// Adds the batch of the next turn.
    pub(super) fn append(&mut self, next: Self) {
        self.events.extend(next.events);
        self.malformed += next.malformed;
        self.side_band_lost += next.side_band_lost;
        self.process_events_skipped += next.process_events_skipped;
        let space = SKIPPED_PIDS_MAX.saturating_sub(self.skipped_pids.len());
        self.skipped_pids.extend(next.skipped_pids.into_iter().take(space));
        self.skips_process_events |= next.skips_process_events;
        self.has_missed_events |= next.has_missed_events;
        self.is_urgent |= next.is_urgent;
        self.perf_samples_lost += next.perf_samples_lost;
        self.reader_cpu += next.reader_cpu;
        self.drained_at = next.drained_at;
    }

    pub(super) fn add_sampler_record(&mut self, record: &[u8]) {
        let Some(timed) = parse::sampler_record(record) else {
            self.malformed += 1;
            return;
        };
        match &timed.event {
            Event::Sample(sample) => self.is_urgent |= sample.snapshot.is_some(),
            Event::Move(moved) if moved.missed > 0 => {
                self.process_events_skipped += moved.missed;
                self.skip_event_of(moved.pid);
            }
            Event::CodeObject(_) | Event::Interpreter(_) => {}
            _ => self.is_urgent = true,
        }
        self.events.push(timed);
    }

    /// Returns whether the processes of all events that were missed are in `skipped_pids`.
    pub fn knows_skipped_pids(&self) -> bool {
        self.side_band_lost == 0 && self.skipped_pids.len() < SKIPPED_PIDS_MAX
    }

    pub(super) fn add_side_band_record(&mut self, record: &[u8]) {
        if self.skips_process_events {
            return self.skip_side_band_record(record);
        }
        match parse::side_band_record(record) {
            ParsedRecord::Event(timed) => {
                self.is_urgent |= matches!(timed.event, Event::Mmap(_));
                self.events.push(timed);
            }
            ParsedRecord::Lost(count) => self.side_band_lost += count,
            ParsedRecord::Ignored => {}
        }
    }

    fn skip_side_band_record(&mut self, record: &[u8]) {
        match parse::side_band_pid(record) {
            SkippedRecord::Of(pid) => {
                self.process_events_skipped += 1;
                self.skip_event_of(pid);
            }
            SkippedRecord::OfKernel(event) => self.events.push(event),
            SkippedRecord::Lost(count) => self.side_band_lost += count,
            SkippedRecord::Ignored => {}
        }
    }

    fn skip_event_of(&mut self, pid: Pid) {
        if self.skipped_pids.len() < SKIPPED_PIDS_MAX {
            self.skipped_pids.insert(pid);
        }
    }

    pub(super) fn add_perf_sample_record(&mut self, record: &[u8]) {
        match parse::perf_sample_record(record) {
            ParsedRecord::Event(timed) => self.events.push(timed),
            ParsedRecord::Lost(count) => self.perf_samples_lost += count,
            ParsedRecord::Ignored => {}
        }
    }
}
