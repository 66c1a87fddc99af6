//! The executable mappings of one process at one moment.

use std::collections::BTreeMap;
use std::sync::Arc;

use profile::{ExecutableId, FileOffset, VirtAddr};

use crate::events::MmapEvent;

/// Mappings stored for one process; further ones are ignored.
const MAPPINGS_MAX: usize = 1 << 16;

/// A range of memory and the executable behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// First address.
    pub start: u64,
    /// Address after the last.
    pub end: u64,
    /// Offset in the file of the first address.
    pub offset: u64,
    /// The executable that is mapped.
    pub executable: ExecutableId,
}

/// A snapshot of the mappings of one process, cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct AddressSpace(Arc<Mappings>);

impl AddressSpace {
    /// Finds the mapping that covers an address, and the offset in its file.
    pub fn find(&self, address: VirtAddr) -> Option<(Mapping, FileOffset)> {
        self.0.find(address)
    }

    /// Returns whether nothing was mapped between the two snapshots.
    pub fn is_unchanged(&self, since: &Self) -> bool {
        Arc::ptr_eq(&self.0, &since.0)
    }

    /// Lists the mappings in the order of addresses.
    pub fn iter(&self) -> impl Iterator<Item = &Mapping> {
        self.0.by_start.values()
    }

    /// Returns the number of mappings.
    pub fn count(&self) -> usize {
        self.0.by_start.len()
    }

    /// Maps an executable.
    pub(super) fn insert(&mut self, mapped: &MmapEvent, executable: ExecutableId) {
        Arc::make_mut(&mut self.0).insert(mapped, executable);
    }
}

/// Mappings that never overlap: a new one replaces what it covers, as mmap does. The kernel reports
/// no munmap, and an address that is no longer mapped is never sampled.
#[derive(Clone, Debug, Default)]
pub(super) struct Mappings {
    by_start: BTreeMap<u64, Mapping>,
}

impl Mappings {
    /// Maps an executable.
    pub fn insert(&mut self, mapped: &MmapEvent, executable: ExecutableId) {
        let (start, end) = (mapped.start.0, mapped.end.0);
        if start >= end {
            return;
        }
        self.clear(start, end);
        if self.by_start.len() < MAPPINGS_MAX {
            self.by_start.insert(start, Mapping { start, end, offset: mapped.offset, executable });
        }
    }

    /// Finds the mapping that covers an address, and the offset in its file.
    pub fn find(&self, address: VirtAddr) -> Option<(Mapping, FileOffset)> {
        let (_, mapping) = self.by_start.range(..=address.0).next_back()?;
        let into = address.0 - mapping.start;
        (address.0 < mapping.end).then(|| (*mapping, FileOffset(mapping.offset.wrapping_add(into))))
    }

    /// Removes what lies in a range; mappings that extend beyond it keep the rest.
    fn clear(&mut self, start: u64, end: u64) {
        let overlapping: Vec<Mapping> = self
            .by_start
            .range(..end)
            .rev()
            .map(|(_, mapping)| *mapping)
            .take_while(|mapping| mapping.end > start)
            .collect();
        for old in overlapping {
            self.by_start.remove(&old.start);
            if old.start < start {
                self.by_start.insert(old.start, Mapping { end: start, ..old });
            }
            if old.end > end {
                let offset = old.offset.wrapping_add(end - old.start);
                self.by_start.insert(end, Mapping { start: end, offset, ..old });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::FileIdentity;
    use profile::{Pid, Tid};

    fn insert(mappings: &mut Mappings, start: u64, end: u64, offset: u64, executable: u32) {
        let mapped = MmapEvent {
            pid: Pid(1),
            tid: Tid(1),
            start: VirtAddr(start),
            end: VirtAddr(end),
            offset,
            file: FileIdentity::default(),
            path: "".into(),
        };
        mappings.insert(&mapped, ExecutableId(executable));
    }

    fn find(mappings: &Mappings, address: u64) -> Option<(u32, u64)> {
        mappings.find(VirtAddr(address)).map(|(mapping, offset)| (mapping.executable.0, offset.0))
    }

    #[test]
    fn an_address_is_found_only_in_its_mapping() {
        let mut mappings = Mappings::default();
        insert(&mut mappings, 100, 200, 1000, 1);
        let at = [99, 100, 199, 200].map(|address| find(&mappings, address));
        assert_eq!(at, [None, Some((1, 1000)), Some((1, 1099)), None]);
    }

    #[test]
    fn a_new_mapping_splits_the_one_it_lands_in() {
        let mut mappings = Mappings::default();
        insert(&mut mappings, 100, 200, 1000, 1);
        insert(&mut mappings, 140, 160, 0, 2);
        let at = [139, 140, 159, 160].map(|address| find(&mappings, address));
        assert_eq!(at, [Some((1, 1039)), Some((2, 0)), Some((2, 19)), Some((1, 1060))]);
    }

    #[test]
    fn a_new_mapping_replaces_all_that_it_covers() {
        let mut mappings = Mappings::default();
        for (start, executable) in [(100, 1), (120, 2), (140, 3)] {
            insert(&mut mappings, start, start + 20, 0, executable);
        }
        insert(&mut mappings, 110, 150, 0, 4);
        let at = [105, 110, 149, 150].map(|address| find(&mappings, address));
        assert_eq!(at, [Some((1, 5)), Some((4, 0)), Some((4, 39)), Some((3, 10))]);
        assert_eq!(mappings.by_start.len(), 3);
    }
}
