//! Follows all functions of a file, from the starts that are known and those that turn up.
//!
//! 1. Functions that certainly begin where they do: symbols, the entry point, and what such
//!    functions call.
//! 2. Code that is mentioned somewhere, if its own code proves that a function begins there.
//! 3. In the gaps between other rows, aligned code behind the end of a function, likewise.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::rc::Rc;

use iced_x86::Instruction;

use super::callees::Callees;
use super::code::Code;
use super::flow::Flow;
use super::function::{Function, follow};
use super::image::Image;
use super::mentions::Mentions;
use super::padding::is_padding;
use super::program::Program;
use super::reason::Reason;
use super::rows::Rows;
use super::starts::{Start, Starts};
use super::state::State;
use super::transfer::Transfer;
use crate::elf::Elf;

/// Instructions that are interpreted in any file.
const INSTRUCTIONS_BASE: u64 = 1 << 20;
/// Instructions that are interpreted for each byte of code without rows; compiled code takes one.
const INSTRUCTIONS_PER_BYTE: u64 = 8;
/// Alignment of functions that nothing mentions.
const ALIGNMENT: u64 = 16;

/// Labels an instruction, from the state before it.
type Label<'l, T> = &'l mut dyn FnMut(&State) -> T;

/// The derivation of a file's rows.
pub(super) struct Derivation<'a> {
    pub program: Program<'a>,
    pub starts: Starts,
    /// Functions with rows.
    pub functions: u64,
    /// Functions of which nothing is used, and why.
    given_up: BTreeMap<u64, Reason>,
    /// Functions with rows and with indirect jumps whose targets are unknown.
    unresolved: BTreeSet<u64>,
    followed: BTreeSet<u64>,
    /// Code that is no function, or that cannot be followed.
    failed: BTreeSet<u64>,
    queue: VecDeque<u64>,
    /// Where functions begin that are followed.
    wanted: Range<u64>,
}

/// Where code is searched for the addresses that it mentions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// In the whole file.
    File,
    /// In the gaps between ranges with rows of another source.
    Gaps,
    /// In the gaps of a part of the code, whose functions are not called from elsewhere as far as
    /// is known.
    Part {
        /// Its addresses.
        part: Range<u64>,
        /// The part and the code around it; all other code is taken for covered.
        region: Range<u64>,
        /// Whether compilers have written it, and not hands.
        is_compiled: bool,
    },
}

impl Scope {
    /// Returns where functions are searched for.
    fn region(&self) -> Range<u64> {
        match self {
            Self::File | Self::Gaps => 0..u64::MAX,
            Self::Part { region, .. } => region.clone(),
        }
    }
}

/// How a start was found that is not certain.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Hint {
    Mentioned,
    Aligned,
}

impl<'a> Derivation<'a> {
    /// Prepares a derivation. `image`: of the file. `boundaries`: addresses at which a function or
    /// a part of one begins. `covered`: ranges with rows of another source, ascending and disjoint.
    pub fn new(
        elf: &'a Elf<'a>,
        image: Rc<Image>,
        boundaries: &[u64],
        covered: Vec<Range<u64>>,
        scope: &Scope,
    ) -> Self {
        let region = scope.region();
        let mut code = Code::new(elf);
        let functions = Image::within(&image.functions, &region);
        let cold_parts = image.cold_parts.iter().filter(|address| region.contains(address));
        let mut synchronized: Vec<u64> = boundaries.to_vec();
        synchronized.extend(functions.iter().chain(cold_parts.clone()));
        synchronized.extend(covered.iter().flat_map(|range| [range.start, range.end]));
        synchronized.sort_unstable();
        let is_compiled = match scope {
            Scope::File | Scope::Gaps => covered.is_empty(),
            Scope::Part { is_compiled, .. } => *is_compiled,
        };
        let mut starts = Starts::new(covered, image.linkage.clone());
        let stretches = match scope {
            Scope::File => code.executable().to_vec(),
            Scope::Gaps | Scope::Part { .. } => gaps(&starts, &code),
        };
        let mentions = Mentions::read(elf, &mut code, &image, &synchronized, &stretches, &region);
        boundaries.iter().for_each(|address| starts.insert(*address, Start::Boundary));
        cold_parts.for_each(|address| starts.insert(*address, Start::Part));
        for address in functions.iter().filter(|address| code.contains(**address)) {
            starts.insert(*address, Start::Function);
        }
        let framed = mentions.framed.iter().filter(|_| matches!(scope, Scope::Part { .. }));
        framed.for_each(|address| starts.insert(address, Start::Function));
        let wanted = match scope {
            Scope::File | Scope::Gaps => 0..u64::MAX,
            Scope::Part { part, .. } => starts.last_before(part.start)..part.end,
        };
        let bytes: u64 = gaps(&starts, &code).iter().map(|gap| gap.end - gap.start).sum();
        let program = Program {
            elf,
            code,
            image,
            mentions,
            callees: Callees::default(),
            transfer: Transfer::new(),
            follows_open_tables: false,
            follows_frames: matches!(scope, Scope::Part { .. }),
            is_hand_written: !is_compiled,
            instructions_left: INSTRUCTIONS_BASE + INSTRUCTIONS_PER_BYTE * bytes,
        };
        Self {
            program,
            starts,
            functions: 0,
            given_up: BTreeMap::new(),
            unresolved: BTreeSet::new(),
            followed: BTreeSet::new(),
            failed: BTreeSet::new(),
            queue: VecDeque::new(),
            wanted,
        }
    }

    /// Follows all functions, and returns the label of each instruction that was reached.
    /// `conflict`: the label of code on which functions disagree.
    pub fn run<T: Copy + PartialEq>(&mut self, conflict: T, label: Label<'_, T>) -> Rows<T> {
        for address in self.program.mentions.calls.iter() {
            if self.starts.get(address) == Some(Start::Boundary) {
                self.starts.insert(address, Start::Function);
            }
        }
        // Once to find where functions begin, and once more knowing it.
        self.queue = self.wanted_functions();
        self.follow_queue(&mut Rows::new(()), &mut |_| ());
        self.queue = self.wanted_functions();
        self.followed.clear();
        self.given_up.clear();
        self.functions = 0;
        self.program.follows_open_tables = true;
        self.find_tables();

        let mut rows = Rows::new(conflict);
        self.follow_queue(&mut rows, label);
        for start in self.mentioned() {
            self.try_start(start, Hint::Mentioned, &mut rows, label);
        }
        if self.program.is_hand_written {
            self.follow_aligned(&mut rows, label);
        }
        rows
    }

    /// Returns why a function that begins at an address has no row where it is not reached.
    pub fn reason_at(&self, start: u64) -> Reason {
        match self.starts.get(start) {
            _ if self.given_up.contains_key(&start) => self.given_up[&start],
            Some(Start::Boundary) => Reason::Unproven,
            _ if self.unresolved.contains(&start) => Reason::JumpTable,
            _ => Reason::NotReached,
        }
    }

    /// Returns the code that may begin a function because something mentions it. Functions with
    /// call frames also jump to others; where no functions are known, jumps say nothing.
    fn mentioned(&self) -> Vec<u64> {
        let Mentions { calls, exits, code, .. } = &self.program.mentions;
        let exits = exits.iter().filter(|_| self.program.is_hand_written);
        let all = calls.iter().chain(exits).chain(code.iter());
        all.filter(|address| self.wanted.contains(address)).collect()
    }

    /// Returns the addresses at which functions begin that are followed.
    fn wanted_functions(&self) -> VecDeque<u64> {
        self.starts.functions().filter(|address| self.wanted.contains(address)).collect()
    }

    /// Follows code that is only mentioned to find the jump tables in it: one ends where another
    /// begins.
    fn find_tables(&mut self) {
        for start in self.mentioned() {
            let is_open = !self.starts.contains(start) && !self.starts.is_covered(start);
            if is_open && follow(&mut self.program, &self.starts, start, &mut |_| ()).is_err() {
                self.failed.insert(start);
            }
        }
    }

    /// Follows functions that certainly begin where they do.
    fn follow_queue<T: Copy + PartialEq>(&mut self, rows: &mut Rows<T>, label: Label<'_, T>) {
        while let Some(start) = self.queue.pop_front() {
            if self.starts.is_covered(start) || !self.followed.insert(start) {
                continue;
            }
            let function = follow(&mut self.program, &self.starts, start, label);
            match function.and_then(|function| self.accept(start, function, rows)) {
                Ok(()) => self.functions += 1,
                Err(reason) => {
                    self.given_up.insert(start, reason);
                }
            }
        }
    }

    /// Takes what was found of a function.
    ///
    /// # Errors
    /// [`Reason::Conflict`] if another function is a part of it.
    fn accept<T: Copy + PartialEq>(
        &mut self,
        start: u64,
        function: Function<T>,
        rows: &mut Rows<T>,
    ) -> Result<(), Reason> {
        let Function { runs, found } = function;
        if found.parts.iter().any(|part| self.starts.get(*part) == Some(Start::Function)) {
            return Err(Reason::Conflict);
        }
        for part in found.parts {
            self.starts.insert(part, Start::Part);
        }
        for target in found.calls.into_iter().chain(found.tail_calls) {
            let is_function =
                !self.program.image.is_linkage(target) && self.starts.insert_called(target);
            if is_function && self.wanted.contains(&target) {
                self.queue.push_back(target);
            }
        }
        if !found.unresolved_jumps.is_empty() {
            self.unresolved.insert(start);
        }
        runs.into_iter().for_each(|(range, value)| rows.insert(range, value));
        Ok(())
    }

    /// Follows code as if a function began there, and accepts it if its own code proves that: it
    /// returns with its return address on top of the stack, or leaves to another function so, and
    /// disagrees with nothing that is more certain. Returns whether it is accepted.
    fn try_start<T: Copy + PartialEq>(
        &mut self,
        start: u64,
        hint: Hint,
        rows: &mut Rows<T>,
        label: Label<'_, T>,
    ) -> bool {
        let is_open = self.starts.get(start).is_none_or(|start| start == Start::Boundary)
            && !self.starts.is_covered(start)
            && !self.followed.contains(&start)
            && !self.failed.contains(&start)
            && rows.get(start).is_none();
        if !is_open {
            return false;
        }
        let Ok(function) = follow(&mut self.program, &self.starts, start, label) else {
            self.failed.insert(start);
            return false;
        };
        let returns = !function.found.returns.is_empty();
        let leaves = !function.found.tail_calls.is_empty() && start.is_multiple_of(ALIGNMENT);
        let agrees = || function.runs.iter().all(|(range, value)| rows.agrees(range, *value));
        let is_proven = match hint {
            // Code may be entered at two heights of the stack. Then no row is right.
            Hint::Mentioned => returns || leaves && agrees(),
            Hint::Aligned => (returns || leaves) && agrees(),
        };
        if !is_proven || self.accept(start, function, rows).is_err() {
            return false;
        }
        self.functions += 1;
        self.starts.insert(start, Start::Function);
        self.followed.insert(start);
        self.follow_queue(rows, label);
        true
    }

    /// Follows code in the gaps between other rows as if a function began at each aligned address
    /// behind the end of another.
    fn follow_aligned<T: Copy + PartialEq>(&mut self, rows: &mut Rows<T>, label: Label<'_, T>) {
        for gap in self.gaps() {
            let mut at = gap.start;
            while at < gap.end {
                if let Some(end) = rows.end_at(at) {
                    at = end;
                    continue;
                }
                let is_followed =
                    at.is_multiple_of(ALIGNMENT) && self.try_start(at, Hint::Aligned, rows, label);
                if !is_followed {
                    at = self.next_candidate(at..gap.end);
                }
            }
        }
    }

    /// Returns the code between ranges with rows of another source.
    pub fn gaps(&self) -> Vec<Range<u64>> {
        gaps(&self.starts, &self.program.code)
    }

    /// Returns the address behind the padding at the start of a range; or if there is none, behind
    /// the first instruction after which no path goes on.
    fn next_candidate(&mut self, range: Range<u64>) -> u64 {
        let code = &mut self.program.code;
        let Some(mut at) = code.instructions(range.start) else { return range.end };
        let mut instruction = Instruction::default();
        let mut is_padded = false;
        while at.at < range.end {
            let address = at.at;
            let is_decoded = code.next(&mut at, &mut instruction).is_some();
            let is_filler = is_decoded && is_padding(&instruction);
            if is_padded && !is_filler {
                return address;
            }
            is_padded |= is_filler && address == range.start;
            if !is_decoded {
                at.at = address + 1;
            } else if Flow::of(&instruction).is_end() && !is_padded {
                return at.at;
            }
        }
        range.end
    }
}

fn gaps(starts: &Starts, code: &Code<'_>) -> Vec<Range<u64>> {
    code.executable().iter().flat_map(|range| starts.gaps(range.clone())).collect()
}
