//! Slabs: memory shared with the kernel, within a limit of bytes.
//!
//! A slot is written only while it is unreferenced. Once retired, it is reused only after every
//! tick that may still read it has ended.

use super::slots::{Slot, SlotAllocator};
use crate::kernel::{WalkMaps, abi};

const SLAB_UNITS: u32 = (abi::SLAB_BYTES / abi::SLAB_UNIT_BYTES) as u32;
/// Slabs without content that are retained for what is loaded next.
const SPARE_SLABS: usize = 4;
/// Slabs that are removed at once: the kernel waits for running ticks each time.
const REMOVED_AT_ONCE: usize = 4;

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

    /// Removes slabs without content, a few at a time: no tick reads a slot that was freed.
    pub fn remove_empty(&mut self) {
        for _ in 0..REMOVED_AT_ONCE {
            let Some(number) = self.slots.remove_free_slab(SPARE_SLABS) else { return };
            self.maps.remove_slab(number);
        }
    }

    /// Adds a slab, or frees retired slots once the limit is reached. Returns whether either
    /// was possible.
    fn add_capacity(&mut self) -> bool {
        if self.maps.slabs() < self.slabs_max
            && let Ok(number) = self.maps.add_slab()
        {
            let first = number * SLAB_UNITS;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slabs_without_content_are_returned_but_for_a_few() {
        let mut slabs = Slabs::new(WalkMaps::in_user_space(), 64 << 20);
        let bytes = vec![1; abi::SLAB_BYTES];
        let mut slots: Vec<Slot> = (0..20).map(|_| slabs.store(&bytes).expect("space")).collect();
        let all = slabs.bytes();
        let kept = slots.remove(7);
        slabs.retire_all(slots);
        slabs.remove_empty();
        assert_eq!(slabs.bytes(), all, "ticks may read them");
        slabs.free_retired();
        slabs.remove_empty();
        assert_eq!(slabs.bytes(), all - (REMOVED_AT_ONCE * abi::SLAB_BYTES) as u64);
        (0..20).for_each(|_| slabs.remove_empty());
        // Besides the first one, which has no space for a whole slab.
        assert_eq!(slabs.bytes(), ((SPARE_SLABS + 2) * abi::SLAB_BYTES) as u64);
        assert_eq!(slabs.maps.read(kept.start), bytes);
        for _ in 0..10 {
            let slot = slabs.store(&bytes).expect("space");
            assert!(slot.start != kept.start && slabs.maps.read(slot.start) == bytes);
        }
    }
}
