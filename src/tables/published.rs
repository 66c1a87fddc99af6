//! The mappings of one process that were published, and since when walks use them.

use std::collections::VecDeque;

use profile::{FileOffset, StackEnd, VirtAddr};

use super::slots::Slot;
use crate::events::{RawSample, UserFrame};
use crate::limits::Charge;
use crate::processes::{AddressSpace, Mapping};

/// Nanoseconds without a new mapping after which an unsettled process is published again. A process
/// is unsettled while it keeps remapping code: walks would use mappings that it has replaced since,
/// and their stacks would be cut.
const SETTLED_NS: u64 = 100_000_000;
/// Nanoseconds between two publications of a process, for each of its mappings.
const PAUSE_NS: u64 = 10_000;

/// What the kernel has, and had, of one process.
#[derive(Debug, Default)]
pub(super) struct PublishedMappings {
    /// Where its mappings are; `None` while they are withdrawn.
    pub slot: Option<Slot>,
    /// Pays for the slot.
    pub charge: Option<Charge>,
    /// The mappings that walks may have used, oldest first, each with the time of its publication
    /// in nanoseconds of CLOCK_MONOTONIC.
    history: VecDeque<(u64, AddressSpace)>,
    /// The process keeps replacing one mapping by another, and is not published before this time.
    unsettled_until: u64,
}

impl PublishedMappings {
    /// Records that walks use these mappings from now on. Returns the slot of the previous ones.
    /// `counted_until`: all samples up to this time are counted, so older history is dropped.
    pub fn replace(
        &mut self,
        slot: Slot,
        memory: AddressSpace,
        now: u64,
        counted_until: u64,
    ) -> Option<Slot> {
        self.history.push_back((now, memory));
        while self.history.get(1).is_some_and(|(since, _)| *since <= counted_until) {
            self.history.pop_front();
        }
        self.slot.replace(slot)
    }

    /// Records that a walk used mappings that had been replaced.
    pub fn unsettle(&mut self, now: u64) {
        self.unsettled_until = now + SETTLED_NS;
    }

    /// Records a new mapping: an unsettled process has to settle anew.
    pub fn note_change(&mut self, now: u64) {
        if !self.is_settled(now) {
            self.unsettle(now);
        }
    }

    /// Whether walks in the kernel can rely on the mappings. Until then ticks take a stack
    /// snapshot, which is finished by the mappings of its time.
    pub fn is_settled(&self, now: u64) -> bool {
        self.unsettled_until <= now
    }

    /// Whether it is too early to publish again: a large process that keeps changing would take
    /// all of the processor's time.
    pub fn was_just_published(&self, now: u64) -> bool {
        self.history
            .back()
            .is_some_and(|(since, memory)| now < since + memory.count() as u64 * PAUSE_NS)
    }

    /// Returns every mapping that walks of samples not counted yet may have used.
    pub fn mappings(&self) -> impl Iterator<Item = &Mapping> {
        self.history.iter().flat_map(|(_, memory)| memory.iter())
    }

    /// Cuts the stack of a sample where its walk used a mapping that had been replaced. Returns
    /// whether it did. `memory`: the mappings at the time of the sample.
    pub fn cut_at_stale_mapping(
        &self,
        time: u64,
        sample: &mut RawSample,
        memory: &AddressSpace,
    ) -> bool {
        let published = self.at(time);
        let reliable = published.and_then(|published| reliable_frames(sample, published, memory));
        let Some(reliable) = reliable else { return false };
        sample.user = sample.user[..reliable].into();
        (sample.user_end, sample.snapshot) = (StackEnd::MappingReplaced, None);
        true
    }

    /// Returns the mappings that a walk at this time used.
    fn at(&self, time: u64) -> Option<&AddressSpace> {
        self.history.iter().rev().find(|(since, _)| *since <= time).map(|(_, memory)| memory)
    }
}

/// Counts the frames up to the first one where `published` and `memory` differ: from there on, the
/// walk used the wrong rows. `None` when they never differ.
fn reliable_frames(
    sample: &RawSample,
    published: &AddressSpace,
    memory: &AddressSpace,
) -> Option<usize> {
    if published.is_unchanged(memory) {
        return None;
    }
    let file_and_offset = |(mapping, offset): (Mapping, FileOffset)| (mapping.executable, offset);
    let is_same = |address: VirtAddr| {
        published.find(address).map(file_and_offset) == memory.find(address).map(file_and_offset)
    };
    let differs = |frame: &UserFrame| !is_same(frame.lookup_address());
    let reliable = sample.user.iter().position(differs)? + 1;
    // A walk that stopped at this frame has not used its row yet.
    let is_row_unused = sample.snapshot.is_some() && reliable == sample.user.len();
    (!is_row_unused).then_some(reliable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::{Event, FileIdentity, MmapEvent, TimedEvent};
    use crate::processes::{Executables, Processes};
    use profile::{Cpu, Pid, Tid};

    const PID: Pid = Pid(7);

    /// Maps 4 KiB of code, and returns all mappings.
    fn map(processes: &mut Processes, start: u64, offset: u64) -> AddressSpace {
        let event = Event::Mmap(MmapEvent {
            pid: PID,
            tid: Tid(7),
            start: VirtAddr(start),
            end: VirtAddr(start + 0x1000),
            offset,
            file: FileIdentity::default(),
            path: "//anon".into(),
        });
        processes.apply(TimedEvent { time: 1, event });
        processes.address_space(PID)
    }

    fn sample(frames: &[u64]) -> RawSample {
        let frame = |address: &u64| UserFrame {
            address: VirtAddr(*address),
            is_exact: true,
            is_guessed: false,
        };
        RawSample {
            sequence: 0,
            cpu: Cpu(0),
            pid: PID,
            tid: Tid(7),
            comm: "worker".into(),
            cgroup_id: 1,
            kernel: [].into(),
            user: frames.iter().map(frame).collect(),
            kernel_end: StackEnd::Absent,
            user_end: StackEnd::Complete,
            snapshot: None,
        }
    }

    #[test]
    fn stack_is_cut_after_a_frame_whose_mapping_was_replaced() {
        let mut processes = Processes::new(Executables::new(0, 1 << 20, ""));
        map(&mut processes, 0x1000, 0);
        let before = map(&mut processes, 0x3000, 0);
        let after = map(&mut processes, 0x3000, 0x5000);
        let mut published = PublishedMappings::default();
        published.replace(1..2, before.clone(), 100, 0);
        let cut = |time, frames: &[u64], memory: &AddressSpace| {
            let mut sample = sample(frames);
            let is_cut = published.cut_at_stale_mapping(time, &mut sample, memory);
            (is_cut, sample.user.len(), sample.user_end)
        };
        let replaced = (true, 2, StackEnd::MappingReplaced);
        assert_eq!(cut(200, &[0x1100, 0x3100, 0x1200], &after), replaced);
        let complete = |frames| (false, frames, StackEnd::Complete);
        assert_eq!(cut(200, &[0x1100, 0x3100, 0x1200], &before), complete(3));
        assert_eq!(cut(200, &[0x1100, 0x1200], &after), complete(2));
        assert_eq!(cut(50, &[0x3100], &after), complete(1)); // nothing was published by then
    }
}
