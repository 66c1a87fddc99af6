//! Whether a called function returns, as its code says.

use std::collections::{HashMap, HashSet};

use iced_x86::{Instruction, OpKind, Register as Name};

use super::code::Code;
use super::flow::Flow;
use super::image::Image;
use super::starts::Starts;

/// Instructions read of one function.
const INSTRUCTIONS_MAX: usize = 4096;
/// Calls followed one from within the other.
const DEPTH_MAX: usize = 24;
/// Instructions read of all functions that one question leads to.
const QUESTION_MAX: usize = 64 << 10;

/// Answers that are remembered.
const KNOWN_MAX: usize = 1 << 18;

/// Whether a called function returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Returns {
    Yes,
    No,
    /// It is called through a register, or in another file, or too large to find out.
    Unknown,
}

/// Answers whether functions return, and remembers the answers.
#[derive(Debug, Default)]
pub(super) struct Callees {
    known: HashMap<u64, Returns>,
}

impl Callees {
    /// Returns whether the function that an instruction calls returns.
    pub fn returns(
        &mut self,
        code: &mut Code<'_>,
        image: &Image,
        starts: &Starts,
        call: &Instruction,
    ) -> Returns {
        let known = &mut self.known;
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        let mut question = Question {
            code,
            image,
            starts,
            known,
            pending: Vec::new(),
            instructions_left: QUESTION_MAX,
            is_open: false,
        };
        question.of_branch(call)
    }
}

/// One question, and the questions that it leads to.
struct Question<'q, 'a> {
    code: &'q mut Code<'a>,
    image: &'q Image,
    starts: &'q Starts,
    known: &'q mut HashMap<u64, Returns>,
    /// Functions that are being searched, each called by the one before.
    pending: Vec<u64>,
    instructions_left: usize,
    /// Whether the last answer depends on a function that is still being searched.
    is_open: bool,
}

impl Question<'_, '_> {
    fn of_branch(&mut self, branch: &Instruction) -> Returns {
        let is_word = branch.op0_kind() == OpKind::Memory
            && branch.memory_base() == Name::RIP
            && branch.memory_index() == Name::None;
        match branch.op0_kind() {
            OpKind::NearBranch64 => self.of_function(branch.near_branch64()),
            _ if is_word => self.of_word(branch.memory_displacement64()),
            _ => Returns::Unknown,
        }
    }

    /// Answers for the function whose address is in a word.
    fn of_word(&mut self, at: u64) -> Returns {
        if self.image.noreturn_words.contains(&at) {
            return Returns::No;
        }
        let target = self.image.relocated_word(at).filter(|target| self.code.contains(*target));
        target.map_or(Returns::Unknown, |target| self.of_function(target))
    }

    fn of_function(&mut self, start: u64) -> Returns {
        if self.image.noreturn_functions.contains(&start) {
            return Returns::No;
        }
        if let Some(known) = self.known.get(&start) {
            return *known;
        }
        if self.pending.len() == DEPTH_MAX || self.pending.contains(&start) {
            self.is_open = true;
            return Returns::Unknown;
        }
        self.pending.push(start);
        let was_open = std::mem::take(&mut self.is_open);
        let returns = self.search(start);
        self.pending.pop();
        if returns == Returns::Yes || !self.is_open || self.pending.is_empty() {
            self.known.insert(start, returns);
        }
        self.is_open |= was_open;
        returns
    }

    /// Searches a function for a return: first without passing any call, then behind calls that
    /// return, at last behind those that may.
    fn search(&mut self, start: u64) -> Returns {
        let mut search = Search { pending: vec![start], ..Search::default() };
        let mut leaves_unknown = false;
        loop {
            match search.run(self.code, self.starts, &mut self.instructions_left) {
                None => return Returns::Unknown,
                Some(true) if search.has_passed_unknown => return Returns::Unknown,
                Some(true) => return Returns::Yes,
                Some(false) => {}
            }
            if let Some(jump) = search.tail_calls.pop() {
                match self.of_branch(&jump) {
                    Returns::Yes => return Returns::Yes,
                    Returns::Unknown => leaves_unknown = true,
                    Returns::No => {}
                }
            } else if let Some(call) = search.calls.pop() {
                match self.of_branch(&call) {
                    Returns::Yes => search.pending.push(call.next_ip()),
                    Returns::Unknown => search.after_unknown.push(call.next_ip()),
                    Returns::No => {}
                }
            } else if let Some(after) = search.after_unknown.pop() {
                search.has_passed_unknown = true;
                search.pending.push(after);
            } else {
                return if leaves_unknown { Returns::Unknown } else { Returns::No };
            }
        }
    }
}

/// The search of one function for a return.
#[derive(Default)]
struct Search {
    /// Addresses from which to go on.
    pending: Vec<u64>,
    seen: HashSet<u64>,
    /// Calls that were reached and not passed.
    calls: Vec<Instruction>,
    /// Jumps through memory, as linkage tables have them.
    tail_calls: Vec<Instruction>,
    /// Addresses after calls of which it is unknown whether they return.
    after_unknown: Vec<u64>,
    /// Whether such a call was passed.
    has_passed_unknown: bool,
}

impl Search {
    /// Follows what is pending. Returns whether it led to a return; `None` at a limit.
    fn run(&mut self, code: &mut Code<'_>, starts: &Starts, left: &mut usize) -> Option<bool> {
        let mut instruction = Instruction::default();
        while let Some(address) = self.pending.pop() {
            let Some(mut at) = code.instructions(address) else { continue };
            loop {
                // What follows a call that does not return may be another function.
                let is_other =
                    self.has_passed_unknown && at.at != address && starts.contains(at.at);
                if is_other || !self.seen.insert(at.at) {
                    break;
                }
                *left = left.checked_sub(1)?;
                if self.seen.len() > INSTRUCTIONS_MAX {
                    return None;
                }
                if code.next(&mut at, &mut instruction).is_none() {
                    break;
                }
                if Flow::of(&instruction) == Flow::Return {
                    return Some(true);
                }
                if !self.passes(&instruction) {
                    break;
                }
            }
        }
        Some(false)
    }

    /// Notes where an instruction leads. Returns whether the next one is reached.
    fn passes(&mut self, instruction: &Instruction) -> bool {
        match Flow::of(instruction) {
            Flow::Next => return true,
            Flow::Condition(target) | Flow::Transaction(target) => {
                self.pending.push(target);
                return true;
            }
            Flow::Jump(target) => self.pending.push(target),
            Flow::IndirectJump => self.tail_calls.push(*instruction),
            Flow::Call => self.calls.push(*instruction),
            Flow::Return | Flow::End => {}
        }
        false
    }
}
