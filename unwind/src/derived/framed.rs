//! Follows a function that sets up a frame pointer first, in a tenth of the time that the general
//! walk takes.
//!
//! Such a function needs no state but how much of its frame exists. Whatever does not fit, such as
//! an indirect jump or another use of the frame pointer, is left to the general walk.

use std::ops::Range;

use iced_x86::{Instruction, Mnemonic, OpKind, Register};

use super::callees::Returns;
use super::flow::Flow;
use super::program::Program;
use super::starts::Starts;
use super::state::State;
use super::value::Value;
use super::walk::Found;
use crate::arch::{FP, Register as Number, SP};

/// Bytes of one function that are followed; longer ones are rare.
const BYTES_MAX: u64 = 64 << 10;

/// How much of the frame exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FrameProgress {
    /// The return address is on top of the stack: at the start, and once the frame is gone.
    None,
    /// The caller's frame pointer is on top of the stack, and still in its register.
    Pushed,
    /// The frame pointer points to the frame.
    Set,
}

impl FrameProgress {
    /// Returns the machine state in such a frame: registers that do not lead to the caller are
    /// unknown.
    pub fn state(self) -> State {
        let mut state = State::at_entry();
        if self != Self::None {
            state.push(state.get(FP), 8);
        }
        if self == Self::Set {
            for number in (0..16).map(Number::from_number).filter(|r| ![SP, FP].contains(r)) {
                state.set(number, Value::Unknown);
            }
            state.set(FP, state.get(SP));
            state.set(SP, Value::Unknown);
        }
        state
    }
}

/// The walk through one function.
struct FramedWalk<'w, 'a> {
    program: &'w mut Program<'a>,
    starts: &'w Starts,
    start: u64,
    /// The length of the instruction at each distance from the start, and the frame there; 0 where
    /// none begins.
    seen: Vec<(u8, FrameProgress)>,
    pending: Vec<(u64, FrameProgress)>,
    found: Found,
}

/// The frame in each range of a function, ascending.
type FrameRanges = Vec<(Range<u64>, FrameProgress)>;

/// Follows the function that begins at `start`. Returns the frame in each of its ranges, ascending,
/// and what was found; `None` if only the general walk can follow it.
pub(super) fn follow(
    program: &mut Program<'_>,
    starts: &Starts,
    start: u64,
) -> Option<(FrameRanges, Found)> {
    let pending = vec![(start, FrameProgress::None)];
    let mut walk =
        FramedWalk { program, starts, start, seen: Vec::new(), pending, found: Found::default() };
    while let Some((address, frame)) = walk.pending.pop() {
        walk.follow_block(address, frame)?;
    }
    let mut runs: FrameRanges = Vec::new();
    let seen = (start..).zip(&walk.seen).filter(|(_, (length, _))| *length > 0);
    for (address, (length, frame)) in seen {
        let end = address + u64::from(*length);
        match runs.last_mut() {
            Some((last, known)) if last.end == address && *known == *frame => last.end = end,
            Some((last, _)) if last.end > address => return None, // instructions overlap
            _ => runs.push((address..end, *frame)),
        }
    }
    Some((runs, walk.found))
}

impl FramedWalk<'_, '_> {
    /// Follows code to where it ends, or was followed before. Returns `None` where only the general
    /// walk knows what to do.
    fn follow_block(&mut self, address: u64, mut frame: FrameProgress) -> Option<()> {
        let mut at = self.program.code.instructions(address)?;
        let mut instruction = Instruction::default();
        let next_start = self.starts.next(address);
        loop {
            if at.at >= next_start {
                // Another function: this one ends with a call that does not return.
                return (frame == FrameProgress::Set).then_some(());
            }
            let from = at.at;
            let into = from.checked_sub(self.start).filter(|into| *into < BYTES_MAX)? as usize;
            if self.seen.len() <= into {
                self.seen.resize(into + 1, (0, FrameProgress::None));
            }
            if let (1.., known) = self.seen[into] {
                return (known == frame).then_some(());
            }
            self.program.code.next(&mut at, &mut instruction)?;
            self.seen[into] = (instruction.len() as u8, frame);
            frame = match Flow::of(&instruction) {
                Flow::Next => next_frame(frame, from == self.start, &instruction)?,
                flow => match self.branch(flow, frame, &instruction)? {
                    true => frame,
                    false => return Some(()),
                },
            };
        }
    }

    /// Notes where an instruction leads. Returns whether it does to the next one.
    fn branch(
        &mut self,
        flow: Flow,
        frame: FrameProgress,
        instruction: &Instruction,
    ) -> Option<bool> {
        match flow {
            Flow::Next | Flow::Transaction(_) | Flow::IndirectJump => return None,
            Flow::End => {}
            Flow::Return => {
                self.found.returns.insert(instruction.ip());
                return (frame == FrameProgress::None).then_some(false);
            }
            Flow::Condition(target) => {
                self.jump(target, frame)?;
                return Some(true);
            }
            Flow::Jump(target) => self.jump(target, frame)?,
            Flow::Call => return self.call(frame, instruction),
        }
        Some(false)
    }

    fn jump(&mut self, target: u64, frame: FrameProgress) -> Option<()> {
        if self.starts.contains(target) || self.starts.is_covered(target) {
            if frame == FrameProgress::None {
                self.found.tail_calls.insert(target);
            }
            return (frame == FrameProgress::None || self.starts.is_covered(target)).then_some(());
        }
        self.pending.push((target, frame));
        Some(())
    }

    fn call(&mut self, frame: FrameProgress, call: &Instruction) -> Option<bool> {
        if frame != FrameProgress::Set {
            return None;
        }
        let Program { code, image, callees, .. } = &mut *self.program;
        if call.op0_kind() == OpKind::NearBranch64 {
            let target = call.near_branch64();
            if target == call.next_ip() {
                return None;
            }
            if code.contains(target) {
                self.found.calls.insert(target);
            }
        }
        Some(callees.returns(code, image, self.starts, call) != Returns::No)
    }
}

/// Returns the frame after an instruction that does not branch; `None` if it does anything else
/// with the frame than functions do.
fn next_frame(
    frame: FrameProgress,
    is_first: bool,
    instruction: &Instruction,
) -> Option<FrameProgress> {
    let is_of_fp = |operand: u32| {
        instruction.op_kind(operand) == OpKind::Register
            && instruction.op_register(operand).full_register() == Register::RBP
    };
    match (frame, instruction.mnemonic()) {
        (FrameProgress::None, Mnemonic::Endbr64) => Some(FrameProgress::None),
        (FrameProgress::None, Mnemonic::Push) if is_of_fp(0) => Some(FrameProgress::Pushed),
        (FrameProgress::Pushed, Mnemonic::Mov) if is_of_fp(0) => {
            (instruction.op1_register() == Register::RSP).then_some(FrameProgress::Set)
        }
        (FrameProgress::Set, Mnemonic::Pop) if is_of_fp(0) => Some(FrameProgress::None),
        (FrameProgress::Set, Mnemonic::Leave) => Some(FrameProgress::None),
        (FrameProgress::Set, Mnemonic::Push | Mnemonic::Cmp | Mnemonic::Test) => Some(frame),
        (FrameProgress::Set, Mnemonic::Enter) => None,
        (FrameProgress::Set, _) => {
            let is_written = is_of_fp(0)
                || instruction.op_count() > 1 && is_of_fp(1) && {
                    matches!(
                        instruction.mnemonic(),
                        Mnemonic::Xchg | Mnemonic::Xadd | Mnemonic::Mulx
                    )
                };
            (!is_written).then_some(frame)
        }
        // Before the frame is set up, and once it is gone, compilers do nothing but this.
        (FrameProgress::None, Mnemonic::Vzeroupper | Mnemonic::Nop) if !is_first => Some(frame),
        _ => None,
    }
}
