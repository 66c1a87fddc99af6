//! The layer of Go: its function table (`.gopclntab`) knows how far sp has moved at each instruction.
//!
//! Go writes call-frame information for debuggers only, and none when stripped; but its runtime walks
//! stacks by the function table, which is always there. A function's `pcsp` entry gives sp's distance from the
//! return address, so `cfa = sp + distance + 8`. Functions that switch stacks write to sp; from Go 1.21 on these
//! keep a frame pointer that leads back to the stack they left, so `cfa = fp + 16` inside of them.
//! The runtime itself stops at functions that it has marked as the top of a stack: those are roots.
//!
//! Source: the Go source tree, `runtime/symtab.go`, `runtime/runtime2.go` (`_func`), `internal/abi/symtab.go`,
//! `runtime/traceback.go`. Tables of Go 1.16 and newer.

mod prologue;
mod table;

use std::ops::Range;

use crate::arch::{FP, SAVED_RA, SP};
use crate::code_reader::{CodeReader, ReadCode};
use crate::layers::{Layer, LayerStats};
use crate::rule::{Cfa, RegisterRule, Rule};
use prologue::Prologue;
use table::Function;
pub(crate) use table::FunctionTable;

/// Bytes of code that are read in one file.
const TEXT_READ_MAX: u64 = 512 << 20;
/// Bytes of a function that are searched for the instruction that switches stacks.
const SWITCH_SEARCHED: u64 = 512;

/// Functions that the runtime treats as the top of a stack though they have no mark: they switch to the
/// scheduler's stack and never return. Before the switch they are ordinary.
const SWITCHING_ROOTS: [&[u8]; 2] = [b"runtime.mcall", b"runtime.morestack"];
/// Marked as the top, but the interrupted code is behind it.
const SIGNAL_HANDLERS: &[u8] = b"runtime.sigtramp";

/// The layer of Go's function table.
pub(crate) struct GoLayer<'a> {
    table: &'a FunctionTable,
    text: CodeReader<'a>,
    /// Number of the function after that which was given last.
    next: usize,
    last: Option<(Function, Range<u64>)>,
    /// Entries of all functions that may still be read.
    work: usize,
    seen: LayerStats,
}

impl<'a> GoLayer<'a> {
    /// Has read no function yet.
    pub fn new(table: &'a FunctionTable, read: ReadCode<'a>) -> Self {
        let text = CodeReader::new(read, TEXT_READ_MAX);
        let (next, last, work) = (0, None, table.work_max());
        Self { table, text, next, last, work, seen: LayerStats::default() }
    }
}

impl Layer for GoLayer<'_> {
    fn next(&mut self, stretch: Range<u64>) -> Option<Range<u64>> {
        while self.table.entry(self.next)? < stretch.start {
            self.next += 1;
        }
        let range = self.table.entry(self.next)?..self.table.entry(self.next + 1)?;
        if range.start >= stretch.end {
            return None;
        }
        if range.is_empty() {
            self.seen.omissions.malformed += 1; // not sorted: what comes behind is not believed
            return None;
        }
        let function = self.table.function(self.next);
        self.next += 1;
        let range = range.start..range.end.min(stretch.end);
        self.last = function.map(|function| (function, range.clone()));
        if self.last.is_none() {
            self.seen.omissions.malformed += 1;
        }
        self.seen.functions += 1;
        Some(range)
    }

    fn rows(&mut self, push: &mut dyn FnMut(u64, Rule)) {
        let Some((function, range)) = self.last.take() else { return };
        let Self { table, text, work, seen, .. } = self;
        let mut push = |address, rule| {
            seen.rows += 1;
            push(address, rule);
        };
        let root = root_from(&function, &range, text);
        if root == Some(range.start) {
            return push(range.start, Rule::ROOT);
        }
        let mut at = range.start;
        let mut frame = Frame::default();
        if function.writes_sp {
            let first_move = table.first_move(&function, range.start, work);
            frame = Frame::of_switching(&range, first_move, text);
        }
        for (stretch, distance) in table.distances(&function, range.start, work) {
            if stretch.start >= range.end || root.is_some_and(|root| stretch.start >= root) {
                break;
            }
            frame.rows(&stretch, distance, text, &mut push);
            at = stretch.end;
        }
        match root {
            Some(root) => push(root, Rule::ROOT),
            None if at < range.end => push(at, Rule::NO_ROW), // padding, or a table that ends early
            None => {}
        }
    }

    fn seen(&self) -> LayerStats {
        self.seen
    }
}

/// Gives the address from which a function is the outermost frame of its stack.
fn root_from(function: &Function, range: &Range<u64>, text: &mut CodeReader<'_>) -> Option<u64> {
    if function.is_top && !function.name.starts_with(SIGNAL_HANDLERS) {
        return Some(range.start);
    }
    let is_switching = SWITCHING_ROOTS
        .iter()
        .any(|root| function.name.strip_prefix(*root).is_some_and(|rest| !is_name(rest)));
    if is_switching { stack_switch(range, text) } else { None }
}

/// Whether a name goes on: `runtime.mcall` may be followed by `.abi0`, but is no part of `runtime.mcall2`.
fn is_name(rest: &[u8]) -> bool {
    rest.first().is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
}

fn stack_switch(range: &Range<u64>, text: &mut CodeReader<'_>) -> Option<u64> {
    let end = range.end.min(range.start.saturating_add(SWITCH_SEARCHED));
    let at = prologue::stack_switch(text.get(range.start..end))?;
    Some(range.start + at as u64)
}

/// Reads what a function does where sp has moved.
fn read_prologue(at: u64, text: &mut CodeReader<'_>) -> Prologue {
    prologue::read(text.get(at.saturating_sub(1)..at.saturating_add(prologue::LEN_MAX)))
}

/// What is known of a function's frame on the way through it.
#[derive(Default)]
struct Frame {
    /// How the frame pointer is saved, once sp has moved.
    prologue: Option<Prologue>,
    /// Whether the frame pointer is to be gone by as soon as it is set: sp is written.
    by_fp: bool,
    /// Where sp is first written, in a function without a frame pointer that could be gone by.
    switch: Option<u64>,
}

impl Frame {
    /// Knows of a function that sets sp; `first_move`: where sp first moves as the table tells.
    fn of_switching(
        range: &Range<u64>,
        first_move: Option<u64>,
        text: &mut CodeReader<'_>,
    ) -> Self {
        let prologue = first_move.map(|at| read_prologue(at, text));
        let by_fp = matches!(prologue, Some(Prologue::SavesFp { set_after: Some(_), .. }));
        let switch = stack_switch(range, text).unwrap_or(range.start);
        Self { prologue: None, by_fp, switch: (!by_fp).then_some(switch) }
    }

    /// Gives the rows of a stretch in which sp is so far below the return address.
    fn rows(
        &mut self,
        stretch: &Range<u64>,
        distance: Option<i32>,
        text: &mut CodeReader<'_>,
        push: &mut impl FnMut(u64, Rule),
    ) {
        let Some(distance) = distance else { return push(stretch.start, Rule::NOT_EXPRESSIBLE) };
        let by_sp = |fp| Rule {
            cfa: Cfa::Register(SP, distance.saturating_add(8)),
            fp,
            base: RegisterRule::Undefined,
            ra: SAVED_RA,
        };
        if distance <= 0 {
            push(stretch.start, by_sp(RegisterRule::SameValue));
            return self.without_frame_pointer(stretch, push);
        }
        let is_first = self.prologue.is_none();
        let prologue = *self.prologue.get_or_insert_with(|| read_prologue(stretch.start, text));
        let Prologue::SavesFp { saved_after, set_after } = prologue else {
            push(stretch.start, by_sp(RegisterRule::Undefined));
            return self.without_frame_pointer(stretch, push);
        };
        let behind = |len: u64| stretch.start.saturating_add(if is_first { len } else { 0 });
        if behind(saved_after) > stretch.start {
            push(stretch.start, by_sp(RegisterRule::SameValue));
        }
        push(behind(saved_after), by_sp(RegisterRule::AtCfa(-2)));
        match set_after {
            Some(set_after) if self.by_fp => push(behind(set_after), BY_FP),
            _ => self.without_frame_pointer(stretch, push),
        }
    }

    /// Behind a switch of stacks sp says nothing of where the caller is.
    fn without_frame_pointer(&self, stretch: &Range<u64>, push: &mut impl FnMut(u64, Rule)) {
        if let Some(switch) = self.switch.filter(|switch| *switch < stretch.end) {
            push(switch.max(stretch.start), Rule::NOT_EXPRESSIBLE);
        }
    }
}

/// The caller by a frame pointer that is set up.
const BY_FP: Rule = Rule {
    cfa: Cfa::Register(FP, 16),
    fp: RegisterRule::AtCfa(-2),
    base: RegisterRule::Undefined,
    ra: SAVED_RA,
};

#[cfg(test)]
mod tests;
