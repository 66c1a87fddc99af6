//! The layer of Go's function table (`.gopclntab`), which has the distance that sp has moved at
//! each instruction.
//!
//! Go writes call-frame information for debuggers only, and none if stripped. Its runtime unwinds
//! by the function table, which is always there.
//!
//! - The `pcsp` table of a function has sp's distance from the return address:
//!   `cfa = sp + distance + 8`.
//! - Functions that switch stacks write to sp. Since Go 1.21 they keep a frame pointer that leads
//!   back to the stack they left: inside of them `cfa = fp + 16`.
//! - Functions that are marked as the top of a stack, where the runtime stops, are roots.
//!
//! Source: the Go source tree, `runtime/symtab.go`, `runtime/runtime2.go` (`_func`),
//! `internal/abi/symtab.go`, `runtime/traceback.go`. Reads tables of Go 1.16 and newer.

mod module;
mod prologue;
mod table;

use std::ops::Range;

use crate::arch::{FP, SP, is_call_before};
use crate::code_reader::{CodeReader, ReadCode};
use crate::layers::{Layer, LayerStats};
use crate::rule::{Cfa, RegisterRule, Rule};
use prologue::Prologue;
pub(crate) use table::FunctionTable;
use table::GoFunction;

/// Bytes of code read of one file.
const CODE_READ_MAX: u64 = 512 << 20;
/// Bytes of a function searched for the instruction that switches stacks.
const SWITCH_SEARCHED: u64 = 512;

/// Bytes before a function that are read, too, for the call that may be there.
const BEFORE: u64 = 8;

/// Functions that the runtime treats as the top of a stack although they are not marked: they
/// switch to the scheduler's stack and never return. Before the switch they are ordinary.
const SWITCHING_ROOTS: [&[u8]; 2] = [b"runtime.mcall", b"runtime.morestack"];
/// Functions that are marked as the top although the interrupted code called them.
const SIGNAL_HANDLERS: &[u8] = b"runtime.sigtramp";
/// Functions in which signal handlers return: to the frame that the kernel made.
const SIGNAL_RETURNS: [&[u8]; 2] = [b"runtime.sigreturn__sigaction", b"runtime.sigreturn"];
/// Functions that a signal handler makes the interrupted code call, at whatever instruction it was.
const INJECTED: [&[u8]; 3] = [b"runtime.asyncPreempt", b"runtime.sigpanic", b"runtime.sigpanic0"];

/// The layer of Go's function table.
pub(crate) struct GoLayer<'a> {
    table: &'a FunctionTable,
    code: CodeReader<'a>,
    /// Number of the function after the current one.
    next: usize,
    current: Option<(GoFunction, Range<u64>)>,
    /// Entries of all functions that may still be read.
    work: usize,
    stats: LayerStats,
}

impl<'a> GoLayer<'a> {
    pub fn new(table: &'a FunctionTable, read: ReadCode<'a>) -> Self {
        let code = CodeReader::new(read, CODE_READ_MAX);
        let (next, current, work) = (0, None, table.work_max());
        Self { table, code, next, current, work, stats: LayerStats::default() }
    }
}

impl GoLayer<'_> {
    /// Returns the address from which on a function's rows apply: a byte before its first one in
    /// a function to which signal handlers return. Return addresses are looked up one byte before.
    fn begin(&mut self, number: usize) -> Option<u64> {
        let entry = self.table.entry(number)?;
        let is_returned_to = self.table.function(number).is_some_and(|f| f.is_one(&SIGNAL_RETURNS));
        if !is_returned_to {
            return Some(entry);
        }
        let before = self.code.get(entry.saturating_sub(BEFORE)..entry);
        Some(entry - u64::from(entry > 0 && !is_call_before(before)))
    }
}

impl Layer for GoLayer<'_> {
    fn next(&mut self, stretch: Range<u64>) -> Option<Range<u64>> {
        while self.table.entry(self.next)? < stretch.start || !self.table.is_described(self.next) {
            self.next += 1;
        }
        let range = self.begin(self.next)?..self.begin(self.next + 1)?;
        if range.start >= stretch.end {
            return None;
        }
        if range.is_empty() {
            self.stats.omissions.malformed += 1; // not sorted: the rest is not trusted
            return None;
        }
        let function = self.table.function(self.next);
        self.next += 1;
        let range = range.start..range.end.min(stretch.end);
        self.current = function.map(|function| (function, range.clone()));
        if self.current.is_none() {
            self.stats.omissions.malformed += 1;
        }
        self.stats.functions += 1;
        Some(range)
    }

    fn rows(&mut self, push: &mut dyn FnMut(u64, Rule)) {
        let Some((function, range)) = self.current.take() else { return };
        let Self { table, code, work, stats, .. } = self;
        let is_injected = function.is_one(&INJECTED);
        let mut push = |address, mut rule: Rule| {
            if is_injected && rule.ra == RegisterRule::SAVED_RA && !rule.is_gap() {
                rule.ra = RegisterRule::Interrupted;
            }
            stats.rows += 1;
            push(address, rule);
        };
        if function.is_one(&SIGNAL_RETURNS) {
            return push(range.start, Rule::SIGNAL);
        }
        let root = root_from(&function, &range, code);
        if root == Some(range.start) {
            return push(range.start, Rule::ROOT);
        }
        let mut at = range.start;
        let mut frame = Frame::default();
        if function.writes_sp {
            let first_move = table.first_move(&function, range.start, work);
            frame = Frame::of_switching(&range, first_move, code);
        }
        for (stretch, distance) in table.distances(&function, range.start, work) {
            if stretch.start >= range.end || root.is_some_and(|root| stretch.start >= root) {
                break;
            }
            frame.rows(&stretch, distance, code, &mut push);
            at = stretch.end;
        }
        match root {
            Some(root) => push(root, Rule::ROOT),
            None if at < range.end => push(at, Rule::NO_ROW), // padding, or a table that ends early
            None => {}
        }
    }

    fn stats(&self) -> LayerStats {
        self.stats
    }
}

/// Returns the address from which on a function is the root of its stack.
fn root_from(function: &GoFunction, range: &Range<u64>, code: &mut CodeReader<'_>) -> Option<u64> {
    if function.is_top && !function.name.starts_with(SIGNAL_HANDLERS) {
        return Some(range.start);
    }
    if function.is_one(&SWITCHING_ROOTS) { stack_switch(range, code) } else { None }
}

fn stack_switch(range: &Range<u64>, code: &mut CodeReader<'_>) -> Option<u64> {
    let end = range.end.min(range.start.saturating_add(SWITCH_SEARCHED));
    let at = prologue::stack_switch(code.get(range.start..end))?;
    Some(range.start + at as u64)
}

/// Reads the instructions after those that moved sp.
fn read_prologue(at: u64, code: &mut CodeReader<'_>) -> Prologue {
    prologue::read(code.get(at.saturating_sub(1)..at.saturating_add(prologue::LEN_MAX)))
}

/// The frame of a function, followed through its code.
#[derive(Default)]
struct Frame {
    /// How the function saves the frame pointer, once sp has moved.
    prologue: Option<Prologue>,
    /// Whether the CFA is relative to the frame pointer once that is set, because sp is written.
    by_fp: bool,
    /// The address at which sp is first written, in a function without a usable frame pointer.
    switch: Option<u64>,
}

impl Frame {
    /// Returns the frame of a function that writes sp. `first_move`: the address at which sp first
    /// moves by the table.
    fn of_switching(
        range: &Range<u64>,
        first_move: Option<u64>,
        code: &mut CodeReader<'_>,
    ) -> Self {
        let prologue = first_move.map(|at| read_prologue(at, code));
        let by_fp = matches!(prologue, Some(Prologue::SavesFp { set_after: Some(_), .. }));
        let switch = stack_switch(range, code).unwrap_or(range.start);
        Self { prologue: None, by_fp, switch: (!by_fp).then_some(switch) }
    }

    /// Pushes the rows of a stretch in which sp is `distance` bytes below the return address.
    fn rows(
        &mut self,
        stretch: &Range<u64>,
        distance: Option<i32>,
        code: &mut CodeReader<'_>,
        push: &mut impl FnMut(u64, Rule),
    ) {
        let Some(distance) = distance else { return push(stretch.start, Rule::NOT_EXPRESSIBLE) };
        let by_sp = |fp| Rule {
            cfa: Cfa::Register(SP, distance.saturating_add(8)),
            fp,
            base: RegisterRule::Undefined,
            ra: RegisterRule::SAVED_RA,
        };
        if distance <= 0 {
            push(stretch.start, by_sp(RegisterRule::SameValue));
            return self.push_gap_after_switch(stretch, push);
        }
        let is_first = self.prologue.is_none();
        let prologue = *self.prologue.get_or_insert_with(|| read_prologue(stretch.start, code));
        let Prologue::SavesFp { saved_after, set_after } = prologue else {
            push(stretch.start, by_sp(RegisterRule::Undefined));
            return self.push_gap_after_switch(stretch, push);
        };
        let after = |len: u64| stretch.start.saturating_add(if is_first { len } else { 0 });
        if after(saved_after) > stretch.start {
            push(stretch.start, by_sp(RegisterRule::SameValue));
        }
        push(after(saved_after), by_sp(RegisterRule::AtCfa(-2)));
        match set_after {
            Some(set_after) if self.by_fp => {
                push(after(set_after), BY_FP);
                let end = code.get(stretch.end.saturating_sub(BEFORE)..stretch.end);
                let freed = prologue::frees_frame(end).filter(|_| saved_after > 0);
                if let Some(len) = freed {
                    push(stretch.end - len, by_sp(RegisterRule::SameValue));
                }
            }
            _ => self.push_gap_after_switch(stretch, push),
        }
    }

    /// Pushes a gap after a switch of stacks: sp does not lead to the caller any more.
    fn push_gap_after_switch(&self, stretch: &Range<u64>, push: &mut impl FnMut(u64, Rule)) {
        if let Some(switch) = self.switch.filter(|switch| *switch < stretch.end) {
            push(switch.max(stretch.start), Rule::NOT_EXPRESSIBLE);
        }
    }
}

/// The rule of a frame whose frame pointer is set up.
const BY_FP: Rule = Rule {
    cfa: Cfa::Register(FP, 16),
    fp: RegisterRule::AtCfa(-2),
    base: RegisterRule::Undefined,
    ra: RegisterRule::SAVED_RA,
};

#[cfg(test)]
mod tests;
