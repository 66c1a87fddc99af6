//! By which mappings the kernel has walked: what was published of a process, and from when on.

use std::collections::VecDeque;
use std::ops::Range;

use profile::{FileOffset, VirtAddr};

use crate::events::RawSample;
use crate::processes::{AddressSpace, Mapping};

/// Nanoseconds for which a process maps nothing new before walks go by its mappings again.
const SETTLED_NS: u64 = 100_000_000;
/// Nanoseconds that pass before a process is published again, for each of its mappings.
const PAUSE_NS: u64 = 10_000;

/// What the kernel has, and had, of one process.
#[derive(Debug, Default)]
pub(super) struct Published {
    /// Where its mappings are; `None` once they are withdrawn.
    pub place: Option<Range<u32>>,
    /// From when on walks may go by which mappings, nanoseconds of CLOCK_MONOTONIC, oldest first.
    history: VecDeque<(u64, AddressSpace)>,
    /// It is not published before then: it maps one thing in the place of another all the time.
    settles: u64,
}

impl Published {
    /// Learns that walks go by these mappings from now on, and gives the place of those before. `known`: samples up to
    /// then have been counted.
    pub fn replace(
        &mut self,
        place: Range<u32>,
        memory: AddressSpace,
        now: u64,
        known: u64,
    ) -> Option<Range<u32>> {
        self.history.push_back((now, memory));
        while self.history.get(1).is_some_and(|(since, _)| *since <= known) {
            self.history.pop_front();
        }
        self.place.replace(place)
    }

    /// Learns that a walk went by mappings that had been replaced.
    pub fn unsettle(&mut self, now: u64) {
        self.settles = now + SETTLED_NS;
    }

    /// Learns that something was mapped.
    pub fn change(&mut self, now: u64) {
        if !self.is_settled(now) {
            self.unsettle(now);
        }
    }

    /// Whether walks in the kernel can go by its mappings. Until then ticks take their stack along, and are finished by the
    /// mappings of their time.
    pub fn is_settled(&self, now: u64) -> bool {
        self.settles <= now
    }

    /// Whether it is too early to publish again: what is large and changes all the time would take all our time.
    pub fn is_fresh(&self, now: u64) -> bool {
        self.history
            .back()
            .is_some_and(|(since, memory)| now < since + memory.count() as u64 * PAUSE_NS)
    }

    /// Gives all mappings that walks of samples not yet counted may have gone by.
    pub fn mappings(&self) -> impl Iterator<Item = &Mapping> {
        self.history.iter().flat_map(|(_, memory)| memory.iter())
    }

    /// Gives the mappings that a walk at this time went by.
    pub fn at(&self, time: u64) -> Option<&AddressSpace> {
        self.history.iter().rev().find(|(since, _)| *since <= time).map(|(_, memory)| memory)
    }
}

/// Counts the frames of a walk that are sure, when it went by `walked_by` and `memory` was mapped: up to the first one in
/// whose place something else was mapped by then, from which the walk went on by the wrong rows.
pub(super) fn sure_frames(
    sample: &RawSample,
    walked_by: &AddressSpace,
    memory: &AddressSpace,
) -> Option<usize> {
    if walked_by.is_unchanged(memory) {
        return None;
    }
    let lies_in = |(mapping, offset): (Mapping, FileOffset)| (mapping.executable, offset);
    let is_same = |at: VirtAddr| walked_by.find(at).map(lies_in) == memory.find(at).map(lies_in);
    let sure = sample.user.iter().position(|frame| !is_same(frame.lookup_address()))? + 1;
    // A walk that stands at this frame has not gone by its row yet.
    let is_untouched = sample.snapshot.is_some() && sure == sample.user.len();
    (!is_untouched).then_some(sure)
}
