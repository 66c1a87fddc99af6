//! Stage 3, finish: completes the stacks that ticks could not finish in the kernel.

use std::collections::HashMap;

use profile::{ExecutableId, StackEnd, VirtAddr};

use super::resolve::ResolvedSample;
use crate::events::{RawSample, StackSnapshot};
use crate::processes::Executables;
use crate::tables::{RowStore, SnapshotUnwinder, WalkOutcome, WalkedStack};

/// Part of the snapshots kept at once that may wait for one executable: one whose table takes long
/// does not cut the stacks of others.
const EXECUTABLE_PART: usize = 2;

/// Finishes stack snapshots; keeps samples until the rows that they need are loaded.
pub(super) struct Finisher {
    /// Unfinished samples, by the executable whose rows they wait for.
    pending: HashMap<ExecutableId, PendingSamples>,
    /// Bytes of their snapshots.
    pending_bytes: usize,
    pending_bytes_max: usize,
    /// Stacks finished so far.
    pub finished: u64,
}

/// Samples that wait for the rows of one executable.
#[derive(Default)]
struct PendingSamples {
    samples: Vec<PendingSample>,
    /// Bytes of their snapshots.
    bytes: usize,
}

/// A sample that waits for the row of an address.
struct PendingSample {
    resolved: ResolvedSample,
    address: VirtAddr,
}

impl Finisher {
    /// `pending_bytes_max`: snapshots kept at once. A sample beyond it, or beyond its executable's
    /// part, does not wait.
    pub fn new(pending_bytes_max: usize) -> Self {
        Self { pending: HashMap::new(), pending_bytes: 0, pending_bytes_max, finished: 0 }
    }

    /// Finishes the stack of a sample. Returns the sample once it can be counted; `None` while it
    /// waits for rows.
    pub fn finish(
        &mut self,
        mut resolved: ResolvedSample,
        rows: &mut RowStore,
        executables: &Executables,
    ) -> Option<ResolvedSample> {
        let ResolvedSample { sample, memory, .. } = &mut resolved;
        let Some(snapshot) = sample.snapshot.take() else { return Some(resolved) };
        let mut unwinder = SnapshotUnwinder { rows, memory, executables, snapshot: &snapshot };
        match unwinder.walk(&sample.user) {
            WalkOutcome::Finished(stack) => {
                let end = stack.end;
                // A snapshot that is too short does not lead to the rows that the kernel misses,
                // and without them it would take such snapshots forever.
                if matches!(end, StackEnd::SnapshotEnd | StackEnd::Unreadable) {
                    rows.request_mapped(memory, executables);
                }
                self.finished += 1;
                resolved.take_walked(&snapshot, stack);
                Some(resolved)
            }
            WalkOutcome::MissingRows(executable, address) => {
                sample.snapshot = Some(snapshot);
                let refused = self.keep(executable, PendingSample { resolved, address });
                refused.map(|resolved| self.finish_now(resolved, rows, executables))
            }
        }
    }

    /// Finishes the stack of a sample that cannot wait any longer, with the rows that are there.
    pub fn finish_now(
        &mut self,
        mut resolved: ResolvedSample,
        rows: &mut RowStore,
        executables: &Executables,
    ) -> ResolvedSample {
        let ResolvedSample { sample, memory, .. } = &mut resolved;
        if let Some(snapshot) = sample.snapshot.take() {
            let mut unwinder = SnapshotUnwinder { rows, memory, executables, snapshot: &snapshot };
            let stack = unwinder.walk_by_loaded_rows(&sample.user);
            self.finished += 1;
            resolved.take_walked(&snapshot, stack);
        }
        resolved
    }

    /// Keeps a sample until rows are loaded, or returns it when that takes too much memory.
    fn keep(&mut self, executable: ExecutableId, sample: PendingSample) -> Option<ResolvedSample> {
        let bytes = snapshot_bytes(&sample.resolved);
        let pending = self.pending.entry(executable).or_default();
        let fits = self.pending_bytes + bytes <= self.pending_bytes_max
            && pending.bytes + bytes <= self.pending_bytes_max / EXECUTABLE_PART;
        if !fits {
            return Some(sample.resolved);
        }
        self.pending_bytes += bytes;
        pending.bytes += bytes;
        pending.samples.push(sample);
        None
    }

    /// Returns whether samples wait for rows.
    pub fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Takes the samples that wait for rows of an executable and whose row is there now.
    pub fn take_pending(
        &mut self,
        executable: ExecutableId,
        rows: &RowStore,
        executables: &Executables,
    ) -> Vec<ResolvedSample> {
        let is_there = |sample: &PendingSample| {
            !rows.is_missing(&sample.resolved.memory, executables, sample.address)
        };
        let found = self.pending.get_mut(&executable);
        let taken = found.map(|pending| pending.take(is_there)).unwrap_or_default();
        self.removed(taken)
    }

    /// Takes the samples that have waited too long, unfinished.
    pub fn take_overdue(&mut self, is_overdue: impl Fn(&RawSample) -> bool) -> Vec<ResolvedSample> {
        let is_overdue = |sample: &PendingSample| is_overdue(&sample.resolved.sample);
        let taken = self.pending.values_mut().flat_map(|pending| pending.take(is_overdue));
        let taken = taken.collect();
        self.removed(taken)
    }

    /// Accounts for samples that do not wait any more.
    fn removed(&mut self, taken: Vec<ResolvedSample>) -> Vec<ResolvedSample> {
        self.pending_bytes -= taken.iter().map(snapshot_bytes).sum::<usize>();
        self.pending.retain(|_, pending| !pending.samples.is_empty());
        taken
    }

    /// Returns the executables that unfinished samples have mapped.
    pub fn executables(&self) -> impl Iterator<Item = ExecutableId> {
        let samples = self.pending.values().flat_map(|pending| &pending.samples);
        let mappings = samples.flat_map(|sample| sample.resolved.memory.iter());
        mappings.map(|mapping| mapping.executable)
    }
}

impl ResolvedSample {
    /// Takes the stack that the walk of a snapshot has led to.
    fn take_walked(&mut self, snapshot: &StackSnapshot, stack: WalkedStack) {
        if let Some(interpreted) = &mut self.interpreted {
            let first = self.sample.user.len().saturating_sub(1);
            interpreted.match_anchors(first, snapshot.registers.sp, &stack.cfas);
        }
        (self.sample.user, self.sample.user_end) = (stack.frames, stack.end);
    }
}

impl PendingSamples {
    /// Takes some of the samples.
    fn take(&mut self, is_taken: impl Fn(&PendingSample) -> bool) -> Vec<ResolvedSample> {
        let taken = self.samples.extract_if(.., |sample| is_taken(sample));
        let taken: Vec<ResolvedSample> = taken.map(|sample| sample.resolved).collect();
        self.bytes -= taken.iter().map(snapshot_bytes).sum::<usize>();
        taken
    }
}

fn snapshot_bytes(resolved: &ResolvedSample) -> usize {
    resolved.sample.snapshot.as_ref().map_or(0, |snapshot| snapshot.stack.len())
}

#[cfg(test)]
mod tests {
    use profile::{Cpu, Pid, Tid};
    use unwind::Registers;
    use unwind::arch::REGISTERS;

    use super::*;
    use crate::events::StackSnapshot;
    use crate::processes::{AddressSpace, Identity};

    /// A sample whose snapshot has 100 bytes of stack.
    fn sample() -> PendingSample {
        let registers = Registers { sp: 8, ..Registers::interrupted(1, [0; REGISTERS]) };
        let stack = Box::new([0; 100]);
        let snapshot = StackSnapshot { registers, start: 8, stack, is_full: false };
        let sample = RawSample {
            sequence: 0,
            cpu: Cpu(0),
            pid: Pid(1),
            tid: Tid(1),
            comm: "x".into(),
            cgroup_id: 0,
            kernel: Box::new([]),
            user: Box::new([]),
            kernel_end: StackEnd::Absent,
            user_end: StackEnd::NoTable,
            snapshot: Some(Box::new(snapshot)),
        };
        let (process, memory) = (Identity::default(), AddressSpace::default());
        let resolved = ResolvedSample { time: 0, sample, process, memory, interpreted: None };
        PendingSample { resolved, address: VirtAddr(1) }
    }

    #[test]
    fn executable_whose_table_is_late_leaves_half_of_the_snapshots_to_others() {
        let (slow, other) = (ExecutableId(1), ExecutableId(2));
        let mut finisher = Finisher::new(1000);
        let refused = (0..20).filter(|_| finisher.keep(slow, sample()).is_some()).count();
        assert_eq!(refused, 15, "five of 100 bytes are half of the bound");
        assert!((0..5).all(|_| finisher.keep(other, sample()).is_none()));
        assert_eq!(finisher.take_overdue(|_| true).len(), 10);
        assert_eq!(finisher.pending_bytes, 0);
        assert!(finisher.keep(slow, sample()).is_none());
    }
}
