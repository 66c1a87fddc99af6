//! The findings of a verification: counts, and the sites at which the two unwinders differ.

use std::collections::HashMap;

use profile::{ExecutableId, FileAddr, Frame, Pid};
use unwind::Rule;

use super::comparison::{Comparison, IncomparableReason, StackComparison, WalkEnd};
use super::dwarf::DwarfAgreement;

/// Sites stored at most. Differences at further sites are only counted.
const SITES_MAX: usize = 4096;

/// Numbers of ticks by the comparison of our stack with framehop's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ComparisonCounts {
    /// [`Comparison::Equal`].
    pub equal: u64,
    /// [`Comparison::Shorter`].
    pub shorter: u64,
    /// [`Comparison::Longer`].
    pub longer: u64,
    /// [`Comparison::Different`].
    pub different: u64,
    /// Both stacks claim to be complete.
    pub both_complete: u64,
    /// Equal stacks among `both_complete`.
    pub both_complete_equal: u64,
    /// Both stacks claim to be complete, and no frame of ours is marked as guessed.
    pub sure_complete: u64,
    /// Equal stacks among `sure_complete`.
    pub sure_complete_equal: u64,
    /// Stacks that are not equal, and DWARF agrees with ours.
    pub dwarf_ours: u64,
    /// Stacks that are not equal, and DWARF agrees with framehop.
    pub dwarf_framehop: u64,
    /// Stacks that are not equal, and DWARF agrees with neither.
    pub dwarf_neither: u64,
    /// Stacks that are not equal, and DWARF has no answer.
    pub dwarf_unknown: u64,
}

/// A tick that was compared.
#[derive(Clone, Copy, Debug)]
pub(super) struct ComparedTick {
    /// The last frame on which both agree.
    pub at: Frame,
    /// Which of the two DWARF agrees with, if the stacks are not equal.
    pub dwarf: Option<DwarfAgreement>,
    /// Whether a frame of ours is marked as guessed.
    pub is_guessed: bool,
}

impl ComparisonCounts {
    /// Returns the number of ticks compared to the end.
    pub fn compared(&self) -> u64 {
        self.equal + self.shorter + self.longer + self.different
    }

    fn add(&mut self, comparison: Comparison, both_complete: bool, tick: &ComparedTick) {
        let count = match comparison {
            Comparison::Equal => &mut self.equal,
            Comparison::Shorter => &mut self.shorter,
            Comparison::Longer => &mut self.longer,
            Comparison::Different => &mut self.different,
        };
        *count += 1;
        let is_equal = comparison == Comparison::Equal;
        self.both_complete += u64::from(both_complete);
        self.both_complete_equal += u64::from(both_complete && is_equal);
        let is_sure = both_complete && !tick.is_guessed;
        self.sure_complete += u64::from(is_sure);
        self.sure_complete_equal += u64::from(is_sure && is_equal);
        match tick.dwarf {
            None => {}
            Some(DwarfAgreement::Ours) => self.dwarf_ours += 1,
            Some(DwarfAgreement::Framehop) => self.dwarf_framehop += 1,
            Some(DwarfAgreement::Neither) => self.dwarf_neither += 1,
            Some(DwarfAgreement::Unknown) => self.dwarf_unknown += 1,
        }
    }
}

/// How two stacks differ, and after which frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DifferenceKind {
    /// Our stack compared with framehop's.
    pub comparison: Comparison,
    /// Whether both stacks claim to be complete.
    pub both_complete: bool,
    /// Which of the two DWARF agrees with about the next frame.
    pub dwarf: DwarfAgreement,
    /// Executable of the last frame on which both agree.
    pub executable: ExecutableId,
    /// Address of that frame.
    pub address: FileAddr,
}

/// All differences of one kind.
#[derive(Clone, Debug)]
pub struct DifferenceSite {
    /// Number of ticks.
    pub count: u64,
    /// One of the ticks.
    pub example: Difference,
}

/// One tick whose stacks are not equal.
#[derive(Clone, Debug)]
pub struct Difference {
    /// The thread's name.
    pub comm: Box<str>,
    /// The process.
    pub pid: Pid,
    /// Number of the last frame on which both agree; 0 is the innermost.
    pub depth: usize,
    /// Our next frame, or why there is none.
    pub ours: Result<Frame, WalkEnd>,
    /// framehop's next frame, or why there is none.
    pub theirs: Result<Frame, WalkEnd>,
    /// Our rule at the last frame on which both agree, if known.
    pub rule: Option<Rule>,
}

/// The findings of a verification.
#[derive(Debug, Default)]
pub struct Findings {
    /// Samples with a user stack.
    pub seen: u64,
    /// perf's records that were lost because its ring was full.
    pub records_lost: u64,
    /// Counts of all ticks compared.
    pub total: ComparisonCounts,
    /// Counts by the executable of the last frame on which both agree.
    pub by_executable: HashMap<ExecutableId, ComparisonCounts>,
    /// The differences by their kind.
    pub sites: HashMap<DifferenceKind, DifferenceSite>,
    not_compared: HashMap<IncomparableReason, u64>,
}

impl Findings {
    /// Counts a tick that was compared.
    pub(super) fn add(
        &mut self,
        compared: &StackComparison,
        tick: ComparedTick,
        difference: impl FnOnce() -> Difference,
    ) {
        let both_complete = compared.both_complete;
        let comparison = match compared.result {
            Ok(comparison) => comparison,
            Err(reason) => return self.not_compared(reason),
        };
        let Frame { executable, address, .. } = tick.at;
        self.total.add(comparison, both_complete, &tick);
        self.by_executable.entry(executable).or_default().add(comparison, both_complete, &tick);
        let Some(dwarf) = tick.dwarf else { return };
        let kind = DifferenceKind { comparison, both_complete, dwarf, executable, address };
        if let Some(site) = self.sites.get_mut(&kind) {
            site.count += 1;
        } else if self.sites.len() < SITES_MAX {
            self.sites.insert(kind, DifferenceSite { count: 1, example: difference() });
        }
    }

    /// Counts a tick that was not compared.
    pub(super) fn not_compared(&mut self, reason: IncomparableReason) {
        *self.not_compared.entry(reason).or_default() += 1;
    }

    /// Returns the numbers of ticks that were not compared, by reason. A tick whose record never
    /// came counts as one without perf record.
    pub fn reasons(&self) -> impl Iterator<Item = (IncomparableReason, u64)> {
        let with_reason: u64 = self.not_compared.values().sum();
        let no_record = self.seen.saturating_sub(self.total.compared() + with_reason);
        IncomparableReason::ALL.into_iter().map(move |reason| match reason {
            IncomparableReason::NoRecord => (reason, no_record),
            _ => (reason, self.not_compared.get(&reason).copied().unwrap_or(0)),
        })
    }
}
