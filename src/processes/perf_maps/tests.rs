//! Perf maps as they are read part by part.

use std::time::Duration;

use profile::{CodeNameId, Pid, Tid};

use super::marker::JitDumpId;
use super::process_map::{PerfMapPart, PerfMaps};
use super::text::MapEntry;
use crate::events::FileIdentity;
use crate::limits::{Owner, SharedPool};
use crate::processes::code_name_gap::CodeNameGap;

const PID: Pid = Pid(7);

/// A process whose map is followed.
struct Story {
    maps: PerfMaps,
    open_files: SharedPool,
    offset: u64,
}

impl Story {
    fn new(bytes: u64) -> Self {
        let mut maps = PerfMaps::new(bytes);
        assert!(maps.is_due((PID, Tid(7)), Owner::User(1)));
        Self { maps, open_files: SharedPool::new(100), offset: 0 }
    }

    fn part(&mut self, entries: &[(u64, u64, &str)]) -> PerfMapPart {
        let entry =
            |(start, end, name): &(u64, u64, &str)| MapEntry::new(*start, *end, (*name).to_owned());
        self.offset += 100;
        PerfMapPart {
            entries: entries.iter().map(entry).collect(),
            file: Some(tempfile::tempfile().expect("a file")),
            offset: self.offset,
            ..PerfMapPart::default()
        }
    }

    fn read(&mut self, entries: &[(u64, u64, &str)]) {
        let part = self.part(entries);
        self.maps.apply(PID, part, self.offset, &self.open_files);
        self.maps.end_read(PID, true, Duration::ZERO);
    }

    fn sample(&mut self, address: u64) -> CodeNameId {
        let id = self.maps.name_at(PID, address, u64::MAX);
        id.or_else(|| self.maps.pending_name(PID, address)).expect("space")
    }

    fn name(&self, id: CodeNameId) -> Result<String, CodeNameGap> {
        let (name, process) = self.maps.names.get(id).expect("it is retained");
        let gap = |last| process.map_or(last, |pid| self.maps.gap(pid, last));
        name.map(|name| name.name.to_string()).map_err(gap)
    }
}

#[test]
fn a_sample_has_the_name_of_its_time_or_the_first_one_after_it() {
    let mut story = Story::new(1 << 20);
    let early = story.sample(0x15);
    assert_eq!(story.name(early), Err(CodeNameGap::NoMap));
    story.read(&[(0x10, 0x20, "a")]);
    let (first, same) = (story.sample(0x15), story.sample(0x1f));
    assert_eq!(first, same, "one entry is one name");
    story.read(&[(0x10, 0x20, "b")]);
    let (second, none) = (story.sample(0x15), story.sample(0x25));
    assert_eq!([early, first].map(|id| story.name(id)), [Ok("a".into()), Ok("a".into())]);
    assert_eq!(story.name(second), Ok("b".into()));
    assert_eq!(story.name(none), Err(CodeNameGap::NoEntry));
    story.maps.remove(PID);
    assert_eq!(story.name(none), Err(CodeNameGap::NoEntry), "its process has exited");
}

#[test]
fn a_map_that_is_read_in_parts_has_names_once_it_is_whole() {
    let mut story = Story::new(1 << 20);
    story.read(&[(0x10, 0x20, "a")]);
    let part = story.part(&[(0x10, 0x20, "b"), (0x30, 0x40, "old")]);
    story.maps.apply(PID, PerfMapPart { has_more: true, ..part }, story.offset, &story.open_files);
    story.maps.end_read(PID, false, Duration::ZERO);
    let ids = [story.sample(0x15), story.sample(0x35)];
    story.read(&[(0x30, 0x40, "new"), (0x10, 0x11, "c")]);
    assert_eq!(ids.map(|id| story.name(id)), [Ok("b".into()), Ok("new".into())]);
}

#[test]
fn a_process_that_maps_a_jitdump_is_asked_at_once() {
    let mut story = Story::new(1 << 20);
    let is_due = |story: &mut Story| story.maps.is_due((PID, Tid(7)), Owner::User(1));
    for _ in 0..8 {
        story.maps.postpone(PID, CodeNameGap::NoMap);
    }
    assert!(!is_due(&mut story));
    let id = JitDumpId { file: FileIdentity::default(), pid: 7 };
    story.maps.expect_jit_dump(PID, id);
    assert!(is_due(&mut story));
    let part = PerfMapPart { jit_dump: Some(id), ..story.part(&[(0x10, 0x20, "a")]) };
    story.maps.apply(PID, part, 1, &story.open_files);
    story.maps.end_read(PID, true, Duration::ZERO);
    story.maps.expect_jit_dump(PID, id);
    assert!(!is_due(&mut story), "it is this jitdump that is held");
}

#[test]
fn a_map_takes_bounded_memory_and_its_names_are_returned() {
    let mut story = Story::new(100_000);
    for number in 0..10_000 {
        story.read(&[(number * 16, number * 16 + 16, "name")]);
        assert!(story.maps.memory() <= 100_000);
    }
    let refused = story.maps.pending_name(PID, 9_999 * 16 + 1);
    assert!(refused.is_none_or(|id| story.name(id) == Err(CodeNameGap::NoSpace)));
    story.maps.remove(PID);
    story.maps.remove_unused(1);
    assert_eq!((story.maps.memory(), story.open_files.used()), (0, 0));
}

#[test]
fn a_map_that_grows_for_ever_is_read_up_to_a_bound() {
    let mut story = Story::new(1 << 20);
    let unknown = story.sample(1);
    let mut parts = 0;
    loop {
        let part = PerfMapPart { has_more: true, parsed: 1 << 20, ..story.part(&[]) };
        if !story.maps.apply(PID, part, story.offset, &story.open_files) {
            break;
        }
        parts += 1;
    }
    assert!(parts <= 64 && !story.maps.has_bytes_left(PID), "{parts}");
    assert_eq!(story.name(unknown), Err(CodeNameGap::TooLarge));
}
