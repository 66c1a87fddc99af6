//! Which parts of the slabs are free: whole units, never across two slabs.

use std::collections::BTreeMap;
use std::ops::Range;

/// Free units, as ranges that do not touch.
#[derive(Clone, Debug)]
pub(super) struct SlotAllocator {
    free: BTreeMap<u32, u32>,
    /// Units of a slab.
    slab: u32,
}

impl SlotAllocator {
    /// Knows no free place yet. `slab`: units of a slab.
    pub fn new(slab: u32) -> Self {
        Self { free: BTreeMap::new(), slab }
    }

    /// Takes so many units: the first that fit. `None` when there are none.
    pub fn take(&mut self, units: u32) -> Option<Range<u32>> {
        let fits = |(start, end): (&u32, &u32)| (end - start >= units).then_some(*start);
        let start = self.free.iter().find_map(fits)?;
        let end = self.free.remove(&start)?;
        if start + units < end {
            self.free.insert(start + units, end);
        }
        Some(start..start + units)
    }

    /// Gives units back, or for the first time; joins them with their neighbours in the slab.
    pub fn give(&mut self, range: Range<u32>) {
        let Range { mut start, mut end } = range;
        if start >= end {
            return;
        }
        let before = self.free.range(..=start).next_back().map(|(start, end)| (*start, *end));
        if let Some((neighbour, neighbour_end)) = before
            && neighbour_end == start
            && !start.is_multiple_of(self.slab)
        {
            self.free.remove(&neighbour);
            start = neighbour;
        }
        if !end.is_multiple_of(self.slab)
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
    fn what_is_given_back_is_whole_again() {
        let mut places = SlotAllocator::new(64);
        places.give(1..64);
        let taken: Vec<_> = [10, 20, 33].iter().map(|n| places.take(*n).expect("free")).collect();
        assert_eq!(taken, [1..11, 11..31, 31..64]);
        assert_eq!(places.take(1), None);
        for range in [taken[0].clone(), taken[2].clone(), taken[1].clone()] {
            places.give(range);
        }
        assert_eq!(places.take(63), Some(1..64));
    }

    #[test]
    fn nothing_straddles_two_slabs() {
        let mut places = SlotAllocator::new(64);
        places.give(1..64);
        places.give(64..128);
        assert_eq!(places.take(64), Some(64..128));
        places.give(64..128);
        assert_eq!(places.take(65), None);
    }
}
