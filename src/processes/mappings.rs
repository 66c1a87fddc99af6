//! The executable mappings of one process at one moment.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use profile::{ExecutableId, FileOffset, VirtAddr};

use crate::events::MmapEvent;
use crate::limits::{Charge, Owner};

/// Mappings stored for one process.
const KNOWN_MAPPINGS_MAX: usize = 1 << 16;
/// Bytes that a mapping takes: a node of the map has space for 11, and is half full at least.
pub(super) const MAPPING_BYTES: u64 = 96;

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

impl Mapping {
    pub(super) fn of(mapped: &MmapEvent, executable: ExecutableId) -> Self {
        let MmapEvent { start, end, offset, .. } = *mapped;
        Self { start: start.0, end: end.0, offset, executable }
    }
}

/// A snapshot of the mappings of one process, cheap to clone.
///
/// Its memory is charged to the owner of the process for as long as any clone lives. Mappings
/// beyond the owner's part are left out, and the snapshot is incomplete.
#[derive(Clone, Debug, Default)]
pub struct AddressSpace(Arc<Mappings>);

impl AddressSpace {
    /// Returns an empty address space whose mappings are added to `charge`.
    pub(super) fn new(charge: Charge) -> Self {
        Self(Arc::new(Mappings { charge: Some(charge), ..Mappings::default() }))
    }

    /// Returns the address space of a process that was not read: empty and incomplete.
    pub fn unread() -> Self {
        Self(Arc::new(Mappings { is_incomplete: true, ..Mappings::default() }))
    }

    /// Finds the mapping that covers an address, and the offset in its file.
    pub fn find(&self, address: VirtAddr) -> Option<(Mapping, FileOffset)> {
        self.0.find(address)
    }

    /// Returns whether nothing was mapped between the two snapshots.
    pub fn is_unchanged(&self, since: &Self) -> bool {
        Arc::ptr_eq(&self.0, &since.0)
    }

    /// Returns whether mappings are missing: they did not fit, or were not read.
    pub fn is_incomplete(&self) -> bool {
        self.0.is_incomplete
    }

    /// Lists the mappings in the order of addresses.
    pub fn iter(&self) -> impl Iterator<Item = &Mapping> {
        self.0.by_start.values()
    }

    /// Lists the mappings that overlap a range.
    pub(super) fn overlapping(&self, start: u64, end: u64) -> impl Iterator<Item = &Mapping> {
        self.0.overlapping(start, end)
    }

    /// Lists the mapping before an address and the one after it, without the one that starts there.
    pub(super) fn neighbours(&self, start: u64) -> impl Iterator<Item = &Mapping> {
        let by_start = &self.0.by_start;
        let before = by_start.range(..start).next_back();
        let after = by_start.range((Bound::Excluded(start), Bound::Unbounded)).next();
        before.into_iter().chain(after).map(|(_, mapping)| mapping)
    }

    /// Returns the number of mappings.
    pub fn count(&self) -> usize {
        self.0.by_start.len()
    }

    /// Maps an executable. Returns false when the mapping does not fit.
    pub(super) fn insert(&mut self, mapped: &MmapEvent, executable: ExecutableId) -> bool {
        self.to_mut().insert(mapped, executable)
    }

    /// Removes what a new mapping covers without adding it: its executable is not known.
    pub(super) fn clear(&mut self, mapped: &MmapEvent) {
        let mappings = self.to_mut();
        mappings.clear(mapped.start.0, mapped.end.0);
        mappings.is_incomplete = true;
        if !mappings.settle_charge() {
            mappings.by_start.remove(&mapped.end.0); // the rest of a mapping that was split
            mappings.settle_charge();
        }
    }

    /// Charges another owner. Where the mappings do not fit into its part, none remain.
    pub(super) fn transfer(&mut self, owner: Owner) {
        let mappings = self.to_mut();
        let Some(charge) = &mut mappings.charge else { return };
        if !charge.transfer(owner) {
            *charge = charge.empty_of(owner);
            mappings.by_start.clear();
            mappings.is_incomplete = true;
        }
    }

    /// Marks the address space as incomplete.
    pub(super) fn set_incomplete(&mut self) {
        self.to_mut().is_incomplete = true;
    }

    /// Returns the mappings for a change; copies them if another snapshot shares them.
    fn to_mut(&mut self) -> &mut Mappings {
        if Arc::get_mut(&mut self.0).is_none() {
            self.0 = Arc::new(self.0.copy());
        }
        Arc::get_mut(&mut self.0).expect("the copy is not shared")
    }
}

/// Mappings that never overlap: a new one replaces what it covers, as mmap does. The kernel reports
/// no munmap, and an address that is no longer mapped is never sampled.
#[derive(Debug, Default)]
pub(super) struct Mappings {
    by_start: BTreeMap<u64, Mapping>,
    is_incomplete: bool,
    /// Pays for the memory; `None` without a bound.
    charge: Option<Charge>,
}

impl Mappings {
    /// Maps an executable. Returns false when the mapping does not fit.
    pub fn insert(&mut self, mapped: &MmapEvent, executable: ExecutableId) -> bool {
        let (start, end) = (mapped.start.0, mapped.end.0);
        if start >= end {
            return true;
        }
        self.clear(start, end);
        self.by_start.insert(start, Mapping::of(mapped, executable));
        if self.settle_charge() {
            return true;
        }
        self.is_incomplete = true;
        self.by_start.remove(&start);
        if !self.settle_charge() {
            self.by_start.remove(&end); // the rest of a mapping that was split
            self.settle_charge();
        }
        false
    }

    /// Lists the mappings that overlap a range, the last one first.
    fn overlapping(&self, start: u64, end: u64) -> impl Iterator<Item = &Mapping> {
        let until_end = self.by_start.range(..end.max(start)).rev().map(|(_, mapping)| mapping);
        until_end.take_while(move |mapping| mapping.end > start)
    }

    /// Finds the mapping that covers an address, and the offset in its file.
    pub fn find(&self, address: VirtAddr) -> Option<(Mapping, FileOffset)> {
        let (_, mapping) = self.by_start.range(..=address.0).next_back()?;
        let into = address.0 - mapping.start;
        (address.0 < mapping.end).then(|| (*mapping, FileOffset(mapping.offset.wrapping_add(into))))
    }

    /// Returns a copy with a charge of its own; an empty one when that does not fit.
    fn copy(&self) -> Self {
        let is_incomplete = self.is_incomplete;
        let Some(charge) = &self.charge else {
            return Self { by_start: self.by_start.clone(), is_incomplete, charge: None };
        };
        match charge.duplicate() {
            Some(charge) => {
                Self { by_start: self.by_start.clone(), is_incomplete, charge: Some(charge) }
            }
            None => Self {
                by_start: BTreeMap::new(),
                is_incomplete: true,
                charge: Some(charge.empty()),
            },
        }
    }

    /// Charges the mappings as they are now; returns false when they do not fit.
    fn settle_charge(&mut self) -> bool {
        if self.by_start.len() > KNOWN_MAPPINGS_MAX {
            return false;
        }
        let Some(charge) = &mut self.charge else { return true };
        let needed = self.by_start.len() as u64 * MAPPING_BYTES;
        match needed.checked_sub(charge.amount()) {
            Some(0) => true,
            Some(more) => charge.grow(more),
            None => {
                charge.shrink(charge.amount() - needed);
                true
            }
        }
    }

    /// Removes what lies in a range; mappings that extend beyond it keep the rest.
    fn clear(&mut self, start: u64, end: u64) {
        let overlapping: Vec<Mapping> = self.overlapping(start, end).copied().collect();
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
    use crate::limits::SharedPool;
    use profile::{Pid, Tid};

    fn mapped(start: u64, end: u64, offset: u64) -> MmapEvent {
        MmapEvent {
            pid: Pid(1),
            tid: Tid(1),
            start: VirtAddr(start),
            end: VirtAddr(end),
            offset,
            file: FileIdentity::default(),
            path: "".into(),
        }
    }

    fn insert(mappings: &mut Mappings, start: u64, end: u64, offset: u64, executable: u32) {
        assert!(mappings.insert(&mapped(start, end, offset), ExecutableId(executable)));
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

    /// Returns an address space of `count` mappings of 16 bytes, as far as they fit.
    fn filled(pool: &SharedPool, uid: u32, count: u64) -> AddressSpace {
        let mut space = AddressSpace::new(pool.empty_charge(Owner::User(uid)));
        for number in 0..count {
            space.insert(&mapped(number * 32, number * 32 + 16, 0), ExecutableId(1));
        }
        space
    }

    #[test]
    fn mappings_of_all_processes_and_snapshots_share_a_bound() {
        let pool = SharedPool::new(1000 * MAPPING_BYTES);
        let mut spaces: Vec<AddressSpace> = (0..40).map(|_| filled(&pool, 1, 60_000)).collect();
        assert!(pool.used() <= 500 * MAPPING_BYTES, "{} bytes", pool.used());
        assert!(spaces.iter().all(AddressSpace::is_incomplete));
        let bystander = filled(&pool, 2, 100);
        assert!(bystander.count() == 100 && !bystander.is_incomplete());

        // A snapshot that others share is copied at the next change, which does not fit.
        let before = spaces[0].clone();
        assert!(before.count() > 300);
        spaces[0].insert(&mapped(1 << 40, (1 << 40) + 16, 0), ExecutableId(2));
        assert!(before.count() > 300 && spaces[0].count() == 0 && spaces[0].is_incomplete());
        drop((before, spaces));
        assert_eq!(pool.used(), bystander.count() as u64 * MAPPING_BYTES);
    }

    #[test]
    fn mappings_never_stay_with_an_owner_that_they_are_not_of() {
        let pool = SharedPool::new(1000 * MAPPING_BYTES);
        let _full = filled(&pool, 1, 1000);
        let mut of_root = filled(&pool, 0, 100);
        of_root.transfer(Owner::User(1));
        assert!(of_root.count() == 0 && of_root.is_incomplete());
        assert_eq!(filled(&pool, 0, 100).count(), 100, "nothing of it is charged to root");
        let mut of_root = filled(&pool, 0, 100);
        of_root.transfer(Owner::User(2));
        assert!(of_root.count() == 100 && !of_root.is_incomplete());
    }

    #[test]
    fn a_mapping_that_does_not_fit_still_replaces_what_it_covers() {
        let pool = SharedPool::new(2 * MAPPING_BYTES);
        let mut space = filled(&pool, 1, 1);
        assert!(!space.insert(&mapped(4, 8, 0), ExecutableId(2)));
        let at = [0, 4, 8].map(|address| space.find(VirtAddr(address)).is_some());
        assert_eq!(at, [true, false, false]);
        assert_eq!(pool.used(), MAPPING_BYTES);
    }
}
