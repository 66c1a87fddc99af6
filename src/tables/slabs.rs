//! The kernel's slabs: room for bytes within a budget, which is used again only when no tick can look at it any more.

use std::ops::Range;

use super::slots::SlotAllocator;
use crate::kernel::{WalkMaps, abi};

const UNIT: usize = 8;
const SLAB_UNITS: u32 = (abi::SLAB_BYTES / UNIT) as u32;

/// Slabs, and which parts of them are free.
pub(super) struct Slabs {
    pub maps: WalkMaps,
    places: SlotAllocator,
    slabs_max: u32,
    /// What nothing names any more, and ticks may still look at.
    retired: Vec<Range<u32>>,
}

impl Slabs {
    /// Has no slab yet. `bytes_max`: what slabs may take.
    pub fn new(maps: WalkMaps, bytes_max: u64) -> Self {
        let slabs_max = (bytes_max / abi::SLAB_BYTES as u64).clamp(1, abi::SLABS_MAX.into()) as u32;
        Self { maps, places: SlotAllocator::new(SLAB_UNITS), slabs_max, retired: Vec::new() }
    }

    /// Units that the budget allows for.
    pub fn units_max(&self) -> u64 {
        u64::from(self.slabs_max) * u64::from(SLAB_UNITS)
    }

    /// Bytes that the budget allows for.
    pub fn bytes_max(&self) -> u64 {
        self.units_max() * UNIT as u64
    }

    /// Bytes that slabs take in the kernel.
    pub fn bytes(&self) -> u64 {
        u64::from(self.maps.slabs()) * abi::SLAB_BYTES as u64
    }

    /// Stores bytes; an empty range for no bytes, `None` when there is no room.
    pub fn store(&mut self, bytes: &[u8]) -> Option<Range<u32>> {
        let units = bytes.len().div_ceil(UNIT) as u32;
        if units == 0 {
            return Some(0..0);
        }
        if units > SLAB_UNITS {
            return None;
        }
        let place = loop {
            if let Some(place) = self.places.take(units) {
                break place;
            }
            if !self.make_room() {
                return None;
            }
        };
        self.maps.write(place.start, bytes);
        Some(place)
    }

    /// Learns that nothing names a place any more.
    pub fn retire(&mut self, place: Range<u32>) {
        self.retired.push(place);
    }

    /// Learns that nothing names these places any more.
    pub fn retire_all(&mut self, places: impl IntoIterator<Item = Range<u32>>) {
        self.retired.extend(places);
    }

    /// Gives back places that nothing names, once no tick can look at them any more.
    pub fn reuse_retired(&mut self) {
        self.maps.wait_for_ticks();
        for place in self.retired.drain(..) {
            self.places.give(place);
        }
    }

    /// Finds room: a new slab, else what was retired.
    fn make_room(&mut self) -> bool {
        let slabs = self.maps.slabs();
        if slabs < self.slabs_max && self.maps.add_slab().is_ok() {
            let first = slabs * SLAB_UNITS;
            // The first places have meanings of their own.
            self.places.give(first.max(abi::BLOCK_REFUSED + 1)..first + SLAB_UNITS);
            return true;
        }
        if self.retired.is_empty() {
            return false;
        }
        self.reuse_retired();
        true
    }
}
