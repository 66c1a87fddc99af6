//! One function: follows its paths, and labels each of its instructions.

use std::ops::Range;

use iced_x86::Instruction;

use super::framed::{self, FrameProgress};
use super::path::DeadPaths;
use super::program::Program;
use super::reason::Reason;
use super::starts::Starts;
use super::state::State;
use super::walk::{Found, Walk};

/// Instructions of one function that are interpreted, each visit counted. A function of 150 KB
/// takes 200,000.
const INSTRUCTIONS_MAX: u64 = 1 << 19;
/// Paths of one function that turn out to be none after they were followed.
const RESTARTS_MAX: usize = 64;

/// What following a function has found.
pub(super) struct Function<T> {
    /// The label of each instruction, ascending, equal neighbours joined.
    pub runs: Vec<(Range<u64>, T)>,
    pub found: Found,
}

/// Follows the function that begins at `start`. `label`: returns the label of an instruction, from
/// the state before it.
///
/// # Errors
/// The reason why its rows cannot be trusted.
pub(super) fn follow<T: PartialEq>(
    program: &mut Program<'_>,
    starts: &Starts,
    start: u64,
    label: &mut dyn FnMut(&State) -> T,
) -> Result<Function<T>, Reason> {
    if program.follows_frames
        && let Some((frames, found)) = framed::follow(program, starts, start)
    {
        let label = |(range, frame): (_, FrameProgress)| (range, label(&frame.state()));
        return Ok(Function { runs: frames.into_iter().map(label).collect(), found });
    }
    let mut dead = DeadPaths::default();
    let mut left = INSTRUCTIONS_MAX.min(program.instructions_left);
    for _ in 0..RESTARTS_MAX {
        if left <= 1 {
            break;
        }
        let mut walk = Walk::new(program, starts, &dead, start, left);
        let result = walk.run();
        walk.program.instructions_left -= left - walk.instructions_left;
        left = walk.instructions_left;
        match result {
            Ok(()) if walk.has_overlong_table() => {}
            Ok(()) => return Ok(labelled(walk, label)),
            Err((_, path)) if dead.add(path) => {}
            Err((reason, _)) => return Err(reason),
        }
    }
    Err(Reason::Limit)
}

/// Goes through each block once more and labels its instructions.
fn labelled<T: PartialEq>(walk: Walk<'_, '_>, label: &mut dyn FnMut(&State) -> T) -> Function<T> {
    let Walk { program, blocks, found, .. } = walk;
    let mut runs = Vec::new();
    for (address, block) in &blocks {
        let Some(mut at) = program.code.instructions(*address) else { continue };
        let mut state = block.state.clone();
        let mut instruction = Instruction::default();
        while at.at < block.end {
            let from = at.at;
            if program.code.next(&mut at, &mut instruction).is_none() {
                break;
            }
            push_run(&mut runs, from..at.at, label(&state));
            program.transfer.apply(&mut state, &instruction);
        }
    }
    Function { runs, found }
}

/// Appends a run, joined with the last one if they touch and are equal. Where instructions overlap,
/// the first label stays.
fn push_run<T: PartialEq>(runs: &mut Vec<(Range<u64>, T)>, range: Range<u64>, label: T) {
    match runs.last_mut() {
        Some((last, value)) if last.end >= range.start && *value == label => {
            last.end = last.end.max(range.end);
        }
        Some((last, _)) => {
            let rest = range.start.max(last.end)..range.end;
            if rest.start < rest.end {
                runs.push((rest, label));
            }
        }
        None => runs.push((range, label)),
    }
}
