//! What judging came to: counts, and the places where the two walks part.

use std::collections::HashMap;

use profile::{ExecutableId, FileAddr, Frame, Pid};
use unwind::Rule;

use super::dwarf::Opinion;
use super::verdict::{Compared, End, Reason, Verdict};

/// Places of difference that are kept; further ones are counted only.
const PLACES_MAX: usize = 4096;

/// Ticks by how ours stands beside theirs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// The same frames.
    pub equal: u64,
    /// Ours stops earlier, and agrees as far as it goes.
    pub shorter: u64,
    /// Ours goes on where theirs stops.
    pub longer: u64,
    /// They part at some frame.
    pub different: u64,
    /// Both say that they are complete.
    pub both_complete: u64,
    /// Of those, the ones that are equal.
    pub both_complete_equal: u64,
    /// Both say that they are complete, and no frame of ours is marked as guessed.
    pub sure_complete: u64,
    /// Of those, the ones that are equal.
    pub sure_complete_equal: u64,
    /// Of those that are not equal, the ones where DWARF agrees with ours.
    pub dwarf_ours: u64,
    /// With framehop.
    pub dwarf_theirs: u64,
    /// With neither.
    pub dwarf_neither: u64,
    /// Where it says nothing.
    pub dwarf_nothing: u64,
}

/// What is known of a tick that was compared.
#[derive(Clone, Copy, Debug)]
pub(super) struct Judged {
    /// The last frame on which both agree.
    pub at: Frame,
    /// What DWARF says of the next one, if they part.
    pub opinion: Option<Opinion>,
    /// Whether a frame of ours is marked as guessed.
    pub is_guessed: bool,
}

impl Counts {
    /// All that were compared.
    pub fn judged(&self) -> u64 {
        self.equal + self.shorter + self.longer + self.different
    }

    fn add(&mut self, verdict: Verdict, both_complete: bool, judged: &Judged) {
        let count = match verdict {
            Verdict::Equal => &mut self.equal,
            Verdict::Shorter => &mut self.shorter,
            Verdict::Longer => &mut self.longer,
            Verdict::Different => &mut self.different,
        };
        *count += 1;
        let is_equal = verdict == Verdict::Equal;
        self.both_complete += u64::from(both_complete);
        self.both_complete_equal += u64::from(both_complete && is_equal);
        let is_sure = both_complete && !judged.is_guessed;
        self.sure_complete += u64::from(is_sure);
        self.sure_complete_equal += u64::from(is_sure && is_equal);
        match judged.opinion {
            None => {}
            Some(Opinion::Ours) => self.dwarf_ours += 1,
            Some(Opinion::Theirs) => self.dwarf_theirs += 1,
            Some(Opinion::Neither) => self.dwarf_neither += 1,
            Some(Opinion::Nothing) => self.dwarf_nothing += 1,
        }
    }
}

/// Where walks part, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Kind {
    /// How ours stands beside theirs there.
    pub verdict: Verdict,
    /// Whether both say that they are complete.
    pub both_complete: bool,
    /// What DWARF says of what comes next.
    pub opinion: Opinion,
    /// Executable of the last frame on which both agree.
    pub executable: ExecutableId,
    /// Its address.
    pub address: FileAddr,
}

/// A place of difference.
#[derive(Clone, Debug)]
pub struct Place {
    /// Ticks whose walks part there.
    pub count: u64,
    /// One of them.
    pub example: Difference,
}

/// One tick on which the two walks are not the same.
#[derive(Clone, Debug)]
pub struct Difference {
    /// The thread's name.
    pub comm: Box<str>,
    /// The process.
    pub pid: Pid,
    /// Number of the last frame on which both agree, 0 is the innermost.
    pub depth: usize,
    /// Our next frame, or why there is none.
    pub ours: Result<Frame, End>,
    /// framehop's.
    pub theirs: Result<Frame, End>,
    /// Our rule at the last frame on which both agree, if it is known.
    pub rule: Option<Rule>,
}

/// All that was found.
#[derive(Debug, Default)]
pub struct Findings {
    /// Samples with a user stack.
    pub seen: u64,
    /// perf's records that found no room.
    pub records_lost: u64,
    /// All that were compared.
    pub total: Counts,
    /// By the executable of the last frame on which both agree.
    pub by_executable: HashMap<ExecutableId, Counts>,
    /// Where they part.
    pub places: HashMap<Kind, Place>,
    not_compared: HashMap<Reason, u64>,
}

impl Findings {
    /// Counts a tick that was compared.
    pub(super) fn add(
        &mut self,
        compared: &Compared,
        judged: Judged,
        difference: impl FnOnce() -> Difference,
    ) {
        let both_complete = compared.both_complete;
        let verdict = match compared.verdict {
            Ok(verdict) => verdict,
            Err(reason) => return self.not_compared(reason),
        };
        let at = judged.at;
        self.total.add(verdict, both_complete, &judged);
        self.by_executable.entry(at.executable).or_default().add(verdict, both_complete, &judged);
        let Some(opinion) = judged.opinion else { return };
        let Frame { executable, address } = at;
        let kind = Kind { verdict, both_complete, opinion, executable, address };
        if let Some(place) = self.places.get_mut(&kind) {
            place.count += 1;
        } else if self.places.len() < PLACES_MAX {
            self.places.insert(kind, Place { count: 1, example: difference() });
        }
    }

    /// Counts a tick that was not compared.
    pub(super) fn not_compared(&mut self, reason: Reason) {
        *self.not_compared.entry(reason).or_default() += 1;
    }

    /// Ticks that were not compared, by reason. What never met its other half has no perf record.
    pub fn reasons(&self) -> impl Iterator<Item = (Reason, u64)> {
        let known: u64 = self.not_compared.values().sum();
        let no_record = self.seen.saturating_sub(self.total.judged() + known);
        Reason::ALL.into_iter().map(move |reason| match reason {
            Reason::NoRecord => (reason, no_record),
            _ => (reason, self.not_compared.get(&reason).copied().unwrap_or(0)),
        })
    }
}
