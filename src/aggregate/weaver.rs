//! Weaves the functions that an interpreter runs into the native frames of a stack.
//!
//! A group of functions runs in one native frame, that of the evaluation loop, and lies inside of
//! it. Which frame that is, an entry says, or in CPython up to 3.9 the address of the loop. What is
//! not known is never guessed: such functions come outside of all native frames, or with those that
//! they have called.

use std::collections::VecDeque;

use profile::{ExecutableId, Frame, StackEnd};

use crate::events::{RawSample, UserFrame};
use crate::kernel::abi::InterpreterEnd;
use crate::processes::{InterpretedElement, InterpretedStack, Processes};

/// Functions that run in one native frame, innermost first.
struct Group {
    /// Number of the native frame; `None` if it is not among those of the stack.
    native_frame: Option<usize>,
    functions: Vec<Frame>,
}

/// The functions of a stack that are not woven in yet.
pub(super) struct Weaver {
    groups: VecDeque<Group>,
    /// The file of the interpreter, once a group is woven in: native frames of it outside of that
    /// are machinery.
    machinery: Option<ExecutableId>,
    interpreter: ExecutableId,
    end: InterpreterEnd,
}

impl Weaver {
    /// `interpreted`: the functions of the sample; `processes`: makes their frames.
    pub fn new(
        interpreted: Option<&InterpretedStack>,
        sample: &RawSample,
        processes: &mut Processes,
    ) -> Self {
        let Some(stack) = interpreted else {
            let (interpreter, end) = (ExecutableId::UNKNOWN, InterpreterEnd::Complete);
            return Self { groups: VecDeque::new(), machinery: None, interpreter, end };
        };
        let mut groups: Vec<Vec<Frame>> = vec![Vec::new()];
        let (mut native_frames, mut last) = (Vec::new(), None);
        for element in &stack.elements {
            match element {
                InterpretedElement::Function(name) => {
                    // A function that calls itself has one frame many times.
                    let frame = match &last {
                        Some((known, frame)) if *known == name => *frame,
                        _ => processes.interpreted_frame(stack.language, sample.pid, name.clone()),
                    };
                    last = Some((name, frame));
                    if let Some(group) = groups.last_mut() {
                        group.push(frame);
                    }
                }
                InterpretedElement::Entry { native_frame, .. } => {
                    native_frames.push(*native_frame);
                    groups.push(Vec::new());
                }
            }
        }
        if native_frames.is_empty() {
            (groups, native_frames) = by_eval_loop(groups.concat(), stack, sample);
        }
        Self {
            groups: placed(groups, native_frames, sample.user.len()),
            machinery: None,
            interpreter: stack.interpreter,
            end: stack.end,
        }
    }

    /// Adds the functions that run in a native frame, inside of it.
    pub fn push_inside(&mut self, native_frame: usize, stack: &mut Vec<Frame>) {
        while self.groups.front().is_some_and(|group| group.native_frame == Some(native_frame)) {
            self.machinery = Some(self.interpreter);
            let group = self.groups.pop_front();
            group.into_iter().for_each(|group| stack.extend(group.functions));
        }
    }

    /// Returns a native frame, marked if it is machinery.
    pub fn marked(&self, frame: Frame) -> Frame {
        Frame { is_machinery: self.machinery == Some(frame.executable), ..frame }
    }

    /// Adds the functions whose native frame is missing.
    pub fn push_rest(&mut self, stack: &mut Vec<Frame>) {
        self.groups.drain(..).for_each(|group| stack.extend(group.functions));
    }

    /// Returns why a stack ends whose native frames end so: functions may be missing, too.
    pub fn end(&self, native: StackEnd) -> StackEnd {
        match self.end {
            _ if native != StackEnd::Complete => native,
            InterpreterEnd::Complete | InterpreterEnd::NoThread => native,
            InterpreterEnd::Depth => StackEnd::Depth,
            InterpreterEnd::Unreadable | InterpreterEnd::Malformed => StackEnd::Unreadable,
        }
    }
}

/// Divides functions into groups by the native frames that are in the evaluation loop, if there are
/// as many; otherwise the innermost of these has all.
fn by_eval_loop(
    functions: Vec<Frame>,
    stack: &InterpretedStack,
    sample: &RawSample,
) -> (Vec<Vec<Frame>>, Vec<Option<usize>>) {
    let is_loop = |frame: &UserFrame| stack.eval_loop.contains(&frame.lookup_address().0);
    let frames = sample.user.iter().enumerate().filter(|(_, frame)| is_loop(frame));
    let frames: Vec<Option<usize>> = frames.map(|(number, _)| Some(number)).collect();
    if frames.len() == functions.len() {
        return (functions.into_iter().map(|function| vec![function]).collect(), frames);
    }
    (vec![functions], frames.into_iter().take(1).collect())
}

/// Returns the groups with their native frames, ascending. One whose frame is not known, or is not
/// outside of that of the group before, goes with the next that is. `frames`: number of native
/// frames.
fn placed(
    groups: Vec<Vec<Frame>>,
    native_frames: Vec<Option<usize>>,
    frames: usize,
) -> VecDeque<Group> {
    let known = native_frames.into_iter().map(|frame| frame.filter(|number| *number < frames));
    let all = groups.into_iter().zip(known.chain(std::iter::repeat(None)));
    let (mut placed, mut waiting, mut last) = (VecDeque::new(), Vec::new(), None);
    for (functions, native_frame) in all {
        waiting.extend(functions);
        if native_frame.is_some() && native_frame > last {
            last = native_frame;
            let functions = std::mem::take(&mut waiting);
            placed.push_back(Group { native_frame, functions });
        }
    }
    if !waiting.is_empty() {
        placed.push_back(Group { native_frame: None, functions: waiting });
    }
    placed
}

#[cfg(test)]
mod tests {
    use super::*;
    use profile::{FileAddr, InterpretedLanguage};

    fn function(number: u64) -> Frame {
        Frame::new(InterpretedLanguage::Python.executable(), FileAddr(number))
    }

    /// Returns the numbers of the functions of each group, with its native frame.
    fn place(groups: &[&[u64]], native: &[Option<usize>]) -> Vec<(Option<usize>, Vec<u64>)> {
        let functions = |group: &&[u64]| group.iter().map(|number| function(*number)).collect();
        let groups = groups.iter().map(functions).collect();
        let numbers = |group: Group| {
            let numbers = group.functions.iter().map(|frame| frame.address.0).collect();
            (group.native_frame, numbers)
        };
        placed(groups, native.to_vec(), 10).into_iter().map(numbers).collect()
    }

    #[test]
    fn each_group_lies_inside_of_its_evaluation_loop() {
        let placed = place(&[&[1, 2], &[3], &[]], &[Some(0), Some(4)]);
        assert_eq!(placed, [(Some(0), vec![1, 2]), (Some(4), vec![3])]);
    }

    #[test]
    fn group_without_a_native_frame_goes_with_the_next_that_has_one() {
        let placed = place(&[&[1], &[2], &[3]], &[None, Some(4), Some(6)]);
        assert_eq!(placed, [(Some(4), vec![1, 2]), (Some(6), vec![3])]);
        let outermost = place(&[&[1], &[2], &[3]], &[Some(1), None]);
        assert_eq!(outermost, [(Some(1), vec![1]), (None, vec![2, 3])]);
    }

    #[test]
    fn native_frames_that_lead_back_are_not_used() {
        let back = place(&[&[1], &[2], &[3]], &[Some(5), Some(3), Some(7)]);
        assert_eq!(back, [(Some(5), vec![1]), (Some(7), vec![2, 3])]);
        let beyond = place(&[&[1], &[2]], &[Some(5), Some(10)]);
        assert_eq!(beyond, [(Some(5), vec![1]), (None, vec![2])]);
    }
}
