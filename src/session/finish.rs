//! Stage 3, finish: completes the stacks that ticks could not finish in the kernel.

use std::collections::HashMap;

use profile::{ExecutableId, StackEnd};

use super::resolve::ResolvedSample;
use crate::events::RawSample;
use crate::processes::Executables;
use crate::tables::{RowStore, SnapshotUnwinder, WalkOutcome};

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
    samples: Vec<ResolvedSample>,
    /// Bytes of their snapshots.
    bytes: usize,
}

impl Finisher {
    /// `pending_bytes_max`: snapshots kept at once. A sample beyond it, or beyond its executable's
    /// part, is counted with the frames that it has.
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
            WalkOutcome::Finished(frames, end) => {
                // A snapshot that is too short does not lead to the rows that the kernel misses,
                // and without them it would take such snapshots forever.
                if matches!(end, StackEnd::SnapshotEnd | StackEnd::Unreadable) {
                    rows.request_mapped(memory, executables);
                }
                (sample.user, sample.user_end) = (frames, end);
                self.finished += 1;
                Some(resolved)
            }
            WalkOutcome::MissingRows(executable) => {
                sample.snapshot = Some(snapshot);
                self.keep(executable, resolved)
            }
        }
    }

    /// Keeps a sample until rows are loaded, or returns it cut when that takes too much memory.
    fn keep(
        &mut self,
        executable: ExecutableId,
        resolved: ResolvedSample,
    ) -> Option<ResolvedSample> {
        let bytes = snapshot_bytes(&resolved);
        let pending = self.pending.entry(executable).or_default();
        let fits = self.pending_bytes + bytes <= self.pending_bytes_max
            && pending.bytes + bytes <= self.pending_bytes_max / EXECUTABLE_PART;
        if !fits {
            return Some(cut(resolved));
        }
        self.pending_bytes += bytes;
        pending.bytes += bytes;
        pending.samples.push(resolved);
        None
    }

    /// Returns whether samples wait for rows.
    pub fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Takes the samples that waited for an executable's rows, unfinished.
    pub fn take_pending(&mut self, executable: ExecutableId) -> Vec<ResolvedSample> {
        let PendingSamples { samples, bytes } =
            self.pending.remove(&executable).unwrap_or_default();
        self.pending_bytes -= bytes;
        samples
    }

    /// Takes the samples that have waited too long. Their stacks are cut.
    pub fn take_overdue(&mut self, is_overdue: impl Fn(&RawSample) -> bool) -> Vec<ResolvedSample> {
        let mut overdue = Vec::new();
        for pending in self.pending.values_mut() {
            let samples = pending.samples.extract_if(.., |resolved| is_overdue(&resolved.sample));
            for resolved in samples {
                let bytes = snapshot_bytes(&resolved);
                pending.bytes -= bytes;
                self.pending_bytes -= bytes;
                overdue.push(cut(resolved));
            }
        }
        self.pending.retain(|_, pending| !pending.samples.is_empty());
        overdue
    }

    /// Returns the executables that unfinished samples have mapped.
    pub fn executables(&self) -> impl Iterator<Item = ExecutableId> {
        let samples = self.pending.values().flat_map(|pending| &pending.samples);
        let mappings = samples.flat_map(|resolved| resolved.memory.iter());
        mappings.map(|mapping| mapping.executable)
    }
}

fn snapshot_bytes(resolved: &ResolvedSample) -> usize {
    resolved.sample.snapshot.as_ref().map_or(0, |snapshot| snapshot.stack.len())
}

/// Ends the stack of a sample where it is: the table that it needs is missing.
fn cut(mut resolved: ResolvedSample) -> ResolvedSample {
    if resolved.sample.snapshot.take().is_some() {
        resolved.sample.user_end = StackEnd::NoTable;
    }
    resolved
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
    fn sample() -> ResolvedSample {
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
        ResolvedSample { time: 0, sample, process, memory }
    }

    #[test]
    fn executable_whose_table_is_late_leaves_half_of_the_snapshots_to_others() {
        let (slow, other) = (ExecutableId(1), ExecutableId(2));
        let mut finisher = Finisher::new(1000);
        let cut = (0..20).filter_map(|_| finisher.keep(slow, sample())).count();
        assert_eq!(cut, 15, "five of 100 bytes are half of the bound");
        assert!((0..5).all(|_| finisher.keep(other, sample()).is_none()));
        assert_eq!(finisher.take_pending(slow).len(), 5);
        assert_eq!(finisher.take_overdue(|_| true).len(), 5);
        assert_eq!(finisher.pending_bytes, 0);
        assert!(finisher.keep(slow, sample()).is_none());
    }
}
