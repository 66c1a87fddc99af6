//! Slabs: memory shared with the kernel, within a limit of bytes.
//!
//! A slot is written only while it is unreferenced. Once retired, it is reused only after every
//! tick that may still read it has ended.

use super::slots::{Slot, SlotAllocator};
use crate::kernel::{WalkMaps, abi};

const SLAB_UNITS: u32 = (abi::SLAB_BYTES / abi::SLAB_UNIT_BYTES) as u32;

/// The slabs of one sampler.
pub(super) struct Slabs {
    pub maps: WalkMaps,
    slots: SlotAllocator,
    slabs_max: u32,
    /// Slots that nothing refers to any more, but that ticks may still read.
    retired: Vec<Slot>,
}

impl Slabs {
    /// Starts without a slab. `bytes_max`: limit of all slabs; there is at least one.
    pub fn new(maps: WalkMaps, bytes_max: u64) -> Self {
        let slabs_max = (bytes_max / abi::SLAB_BYTES as u64).clamp(1, abi::SLABS_MAX.into()) as u32;
        Self { maps, slots: SlotAllocator::new(SLAB_UNITS), slabs_max, retired: Vec::new() }
    }

    /// Returns the limit in units.
    pub fn units_max(&self) -> u64 {
        u64::from(self.slabs_max) * u64::from(SLAB_UNITS)
    }

    /// Returns the limit in bytes.
    pub fn bytes_max(&self) -> u64 {
        self.units_max() * abi::SLAB_UNIT_BYTES as u64
    }

    /// Returns the bytes of kernel memory that slabs take now.
    pub fn bytes(&self) -> u64 {
        u64::from(self.maps.slabs()) * abi::SLAB_BYTES as u64
    }

    /// Stores bytes in a free slot: an empty slot for no bytes, `None` when no slot is free.
    pub fn store(&mut self, bytes: &[u8]) -> Option<Slot> {
        let units = bytes.len().div_ceil(abi::SLAB_UNIT_BYTES) as u32;
        if units == 0 {
            return Some(0..0);
        }
        if units > SLAB_UNITS {
            return None;
        }
        let slot = loop {
            if let Some(slot) = self.slots.allocate(units) {
                break slot;
            }
            if !self.add_capacity() {
                return None;
            }
        };
        self.maps.write(slot.start, bytes);
        Some(slot)
    }

    /// Retires a slot that nothing refers to any more.
    pub fn retire(&mut self, slot: Slot) {
        self.retired.push(slot);
    }

    /// Retires slots that nothing refers to any more.
    pub fn retire_all(&mut self, slots: impl IntoIterator<Item = Slot>) {
        self.retired.extend(slots);
    }

    /// Waits until no tick can read retired slots, then frees them.
    pub fn free_retired(&mut self) {
        self.maps.wait_for_ticks();
        for slot in self.retired.drain(..) {
            self.slots.release(slot);
        }
    }

    /// Adds a slab, or frees retired slots once the limit is reached. Returns whether either
    /// was possible.
    fn add_capacity(&mut self) -> bool {
        let slabs = self.maps.slabs();
        if slabs < self.slabs_max && self.maps.add_slab().is_ok() {
            let first = slabs * SLAB_UNITS;
            // `blocks` uses the numbers up to BLOCK_REFUSED for block states, so they are no slots.
            self.slots.release(first.max(abi::BLOCK_REFUSED + 1)..first + SLAB_UNITS);
            return true;
        }
        if self.retired.is_empty() {
            return false;
        }
        self.free_retired();
        true
    }
}
