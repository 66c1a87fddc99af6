//! Hands out slots: ranges of units that never cross from one slab into the next.

use std::collections::BTreeMap;
use std::ops::Range;

/// Units, counted over all slabs.
pub(super) type Slot = Range<u32>;

/// The free units, as ranges that do not touch.
#[derive(Clone, Debug)]
pub(super) struct SlotAllocator {
    /// End of each free range, by its start.
    free: BTreeMap<u32, u32>,
    slab_units: u32,
}

impl SlotAllocator {
    /// Starts without free units. `slab_units`: units of one slab.
    pub fn new(slab_units: u32) -> Self {
        Self { free: BTreeMap::new(), slab_units }
    }

    /// Takes the first free units that suffice; `None` when no free range does.
    pub fn allocate(&mut self, units: u32) -> Option<Slot> {
        let fits = |(start, end): (&u32, &u32)| (end - start >= units).then_some(*start);
        let start = self.free.iter().find_map(fits)?;
        let end = self.free.remove(&start)?;
        if start + units < end {
            self.free.insert(start + units, end);
        }
        Some(start..start + units)
    }

    /// Takes away the last slab that is free as a whole, if there are more than `spare`. Returns
    /// its number.
    pub fn remove_free_slab(&mut self, spare: usize) -> Option<u32> {
        let is_whole = |(start, end): &(&u32, &u32)| **end - **start == self.slab_units;
        let mut whole = self.free.iter().rev().filter(is_whole).map(|(start, _)| *start);
        let last = whole.next()?;
        if whole.count() < spare {
            return None;
        }
        self.free.remove(&last);
        Some(last / self.slab_units)
    }

    /// Frees units, also for the first time. Joins them with free neighbours in the same slab.
    pub fn release(&mut self, slot: Slot) {
        let Range { mut start, mut end } = slot;
        if start >= end {
            return;
        }
        let before = self.free.range(..=start).next_back().map(|(start, end)| (*start, *end));
        if let Some((neighbour, neighbour_end)) = before
            && neighbour_end == start
            && !start.is_multiple_of(self.slab_units)
        {
            self.free.remove(&neighbour);
            start = neighbour;
        }
        if !end.is_multiple_of(self.slab_units)
            && let Some(neighbour_end) = self.free.remove(&end)
        {
            end = neighbour_end;
        }
        self.free.insert(start, end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn released_neighbours_are_joined() {
        let mut slots = SlotAllocator::new(64);
        slots.release(1..64);
        let taken: Vec<_> =
            [10, 20, 33].iter().map(|n| slots.allocate(*n).expect("free units")).collect();
        assert_eq!(taken, [1..11, 11..31, 31..64]);
        assert_eq!(slots.allocate(1), None);
        for slot in [taken[0].clone(), taken[2].clone(), taken[1].clone()] {
            slots.release(slot);
        }
        assert_eq!(slots.allocate(63), Some(1..64));
    }

    #[test]
    fn slot_never_straddles_two_slabs() {
        let mut slots = SlotAllocator::new(64);
        slots.release(1..64);
        slots.release(64..128);
        assert_eq!(slots.allocate(64), Some(64..128));
        slots.release(64..128);
        assert_eq!(slots.allocate(65), None);
    }
}
