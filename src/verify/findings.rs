//! What judging came to: counts, and the places where the two walks part.

use std::collections::HashMap;

use profile::{ExecutableId, FileAddr, Frame, Pid};
use unwind::Rule;

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
    /// Of those, the ones in which our next frame is marked as guessed.
    pub different_guessed: u64,
    /// Both say that they are complete.
    pub both_complete: u64,
    /// Of those, the ones that are equal.
    pub both_complete_equal: u64,
}

impl Counts {
    /// All that were compared.
    pub fn judged(&self) -> u64 {
        self.equal + self.shorter + self.longer + self.different
    }

    fn add(&mut self, verdict: Verdict, both_complete: bool, guessed: bool) {
        let count = match verdict {
            Verdict::Equal => &mut self.equal,
            Verdict::Shorter => &mut self.shorter,
            Verdict::Longer => &mut self.longer,
            Verdict::Different => &mut self.different,
        };
        *count += 1;
        self.different_guessed += u64::from(guessed && verdict == Verdict::Different);
        self.both_complete += u64::from(both_complete);
        self.both_complete_equal += u64::from(both_complete && verdict == Verdict::Equal);
    }
}

/// Where walks part, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Kind {
    /// How ours stands beside theirs there.
    pub verdict: Verdict,
    /// Whether both say that they are complete.
    pub both_complete: bool,
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
    /// Counts a tick that was compared. `at`: the last frame on which both agree; `guessed`: whether our
    /// next one is.
    pub(super) fn add(
        &mut self,
        compared: &Compared,
        at: Frame,
        guessed: bool,
        difference: impl FnOnce() -> Difference,
    ) {
        let both_complete = compared.both_complete;
        let verdict = match compared.verdict {
            Ok(verdict) => verdict,
            Err(reason) => return self.not_compared(reason),
        };
        self.total.add(verdict, both_complete, guessed);
        self.by_executable.entry(at.executable).or_default().add(verdict, both_complete, guessed);
        if verdict == Verdict::Equal {
            return;
        }
        let kind = Kind { verdict, both_complete, executable: at.executable, address: at.address };
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
