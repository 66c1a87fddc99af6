//! The comparison of one function.

use std::collections::BTreeMap;
use std::ops::Range;

use iced_x86::Instruction;

use super::frame::Frame;
use super::report::{DerivedDifference, DerivedReport};
use crate::derived::code::Code;
use crate::derived::flow::Flow;
use crate::derived::reason::Reason;
use crate::dwarf::RowStep;

/// The comparison of one function.
#[derive(Default)]
pub(super) struct FunctionCheck {
    /// Its first address.
    pub start: u64,
    verdicts: BTreeMap<u64, Verdict>,
    /// Instructions whose effect is exact, and where they lead to.
    steps: Vec<(u64, u64)>,
    /// Calls and the instructions after them, where one row of the file covers both.
    calls: Vec<(u64, u64)>,
}

/// The result at one instruction.
enum Verdict {
    Equal,
    NotComparable,
    Different(Box<DerivedDifference>),
    /// The rows of the file contradict each other.
    Inconsistent,
    GivenUp(Reason),
}

impl FunctionCheck {
    /// Compares the instructions that a row of the file covers. `frame`: returns what the
    /// derivation knows at an address. `not_reached`: the reason where it knows nothing.
    pub fn compare_row<'f>(
        &mut self,
        code: &mut Code<'_>,
        range: Range<u64>,
        frame: &dyn Fn(u64) -> Option<&'f Frame>,
        not_reached: Reason,
        dwarf: RowStep<'_>,
    ) {
        let Some(mut at) = code.instructions(range.start) else { return };
        let mut instruction = Instruction::default();
        while at.at < range.end {
            let address = at.at;
            if code.next(&mut at, &mut instruction).is_none() {
                break;
            }
            let verdict = match frame(address) {
                None => Verdict::GivenUp(not_reached),
                Some(frame) => Verdict::of(frame, address, dwarf),
            };
            self.verdicts.insert(address, verdict);
            self.note_successors(&instruction, range.end);
        }
    }

    fn note_successors(&mut self, instruction: &Instruction, row_end: u64) {
        let (address, next) = (instruction.ip(), instruction.next_ip());
        match Flow::of(instruction) {
            Flow::Next => self.steps.push((address, next)),
            Flow::Condition(target) => self.steps.extend([(address, next), (address, target)]),
            Flow::Jump(target) => self.steps.push((address, target)),
            Flow::Call if next < row_end => self.calls.push((address, next)),
            _ => {}
        }
    }

    /// Adds the results of the function to a report.
    pub fn finish(mut self, report: &mut DerivedReport) {
        self.find_inconsistent();
        report.instructions += self.verdicts.len() as u64;
        for verdict in self.verdicts.into_values() {
            match verdict {
                Verdict::Equal => report.equal += 1,
                Verdict::NotComparable => report.not_comparable += 1,
                Verdict::Different(difference) => report.wrong.push(*difference),
                Verdict::Inconsistent => report.inconsistent += 1,
                Verdict::GivenUp(reason) => *report.given_up.entry(reason).or_default() += 1,
            }
        }
    }

    /// Finds differences at which the file contradicts itself: by what it says of the instruction
    /// before, whose effect is exact, the derived row is right. A contradiction lasts beyond a call
    /// if the file's row does.
    fn find_inconsistent(&mut self) {
        let mut is_changed = true;
        while is_changed {
            is_changed = false;
            let steps = self.steps.iter().map(|step| (step, true));
            for ((from, to), is_exact) in steps.chain(self.calls.iter().map(|call| (call, false))) {
                let is_derived = match self.verdicts.get(from) {
                    Some(Verdict::Inconsistent) => true,
                    Some(Verdict::Equal) => is_exact,
                    _ => false,
                };
                if is_derived
                    && let Some(verdict @ Verdict::Different(_)) = self.verdicts.get_mut(to)
                {
                    *verdict = Verdict::Inconsistent;
                    is_changed = true;
                }
            }
        }
    }
}

impl Verdict {
    fn of(frame: &Frame, address: u64, dwarf: RowStep<'_>) -> Self {
        let rule = match frame.rule {
            Ok(rule) => rule,
            Err(reason) => return Self::GivenUp(reason),
        };
        match frame.compare(address, &rule, dwarf) {
            None => Self::NotComparable,
            Some(Ok(())) => Self::Equal,
            Some(Err(difference)) => Self::Different(Box::new(difference)),
        }
    }
}
