//! The layer of call-frame information (CFI): the functions of one section and their rows.
//!
//! `.eh_frame` and `.debug_frame` hold one entry (FDE) per function, in any order. [`functions`]
//! lists them sorted by address; then only one function's rows are in memory at a time.
//! [`row_rule`] turns each row into a [`Rule`]. A row that no rule expresses becomes a counted
//! gap and costs no other row.
//!
//! A function whose call frames never go back to the height of its entry never returns. Where such
//! a function is the first of a stack that a program has made itself, as for a coroutine, its
//! return address is zero. Another function may be first if it would return to the start of one
//! that never returns. [`never_returns`] proves both to be roots.
//!
//! Code that overwrites its own frame has wrong call frames, and no rule ([`leaving`]).
//!
//! Source: DWARF 5 section 6.4, LSB 5.0 chapter 10.6.

mod expression;
mod functions;
mod leaving;
mod row_rule;

use std::hash::Hash;
use std::ops::Range;

use gimli::{BaseAddresses, UnwindContext, UnwindOffset, UnwindSection};

use crate::arch::SP;
use crate::code_reader::ReadCode;
use crate::layers::{Layer, LayerStats, is_padding};
use crate::omissions::Omissions;
use crate::rule::{Cfa, RegisterRule, Rule};
use crate::sections::Slice;
use functions::{Cies, FUNCTIONS_MAX, RowsError};
pub(crate) use functions::{Fde, fde_at};

/// Bytes of CFA instructions executed, as a multiple of the section's size. Every FDE also runs
/// those of its CIE, so a hostile file could ask for the square of its size.
const WORK_MAX: usize = 32;

/// Bytes from sp to the CFA where a function begins and where it returns.
const ENTRY_HEIGHT: i32 = 8;

/// The layer of one section of call-frame information.
pub(crate) struct CallFrameLayer<'s, 'a, S>
where
    S: UnwindSection<Slice<'a>>,
{
    section: &'s S,
    cies: Cies<'s, 'a, S>,
    /// Sorted, at most one per address: all up to where `rest` begins.
    functions: Vec<Fde<S::Offset>>,
    /// Addresses of the functions that are not listed yet.
    rest: Option<Range<u64>>,
    /// Functions listed at once.
    functions_max: usize,
    /// Index of the function after the current one.
    next: usize,
    /// Addresses of the current function. It ends where the next one starts if the two overlap.
    current: Range<u64>,
    /// Whether only padding is between it and the function before it.
    is_behind_padding: bool,
    /// Rows of the current function, kept for their allocation.
    rows: Vec<(u64, Rule)>,
    context: UnwindContext<usize>,
    /// Bytes of instructions that may still be executed.
    work: usize,
    /// The code of the functions; `None` if it cannot be read.
    code: Option<ReadCode<'s>>,
    /// Functions whose code may still be read.
    code_left: u32,
    /// Whether the rules of a function depend on its code, which cannot be read.
    pub lacks_code: bool,
    with_base: bool,
    /// Whether a rule has its CFA in [`BASE`](crate::arch::BASE).
    pub needs_base: bool,
    stats: LayerStats,
}

impl<'s, 'a, S> CallFrameLayer<'s, 'a, S>
where
    S: UnwindSection<Slice<'a>>,
    S::Offset: UnwindOffset<usize> + Hash,
{
    /// Lists the functions of a section.
    ///
    /// `bases`: what its pointers are relative to. `text`: functions outside of it were dropped by
    /// the linker. `with_base`: rules also say where [`BASE`](crate::arch::BASE) is saved.
    pub fn new(
        section: &'s S,
        bases: &'s BaseAddresses,
        text: Range<u64>,
        with_base: bool,
    ) -> Self {
        Self::in_pieces(section, bases, text, with_base, FUNCTIONS_MAX)
    }

    /// Lists at most `functions_max` functions at once.
    fn in_pieces(
        section: &'s S,
        bases: &'s BaseAddresses,
        text: Range<u64>,
        with_base: bool,
        functions_max: usize,
    ) -> Self {
        let work = section.section().len().saturating_mul(WORK_MAX);
        let mut layer = Self::of(section, bases, Vec::new(), work, with_base);
        let mut omissions = Omissions::default();
        layer.functions_max = functions_max;
        layer.list(text, &mut omissions);
        layer.stats.omissions = omissions;
        layer
    }

    /// Reads the code of the functions, too. What this depends on is left out without it.
    pub fn with_code(mut self, code: ReadCode<'s>) -> Self {
        self.code = Some(code);
        self
    }

    /// Lists the functions in a part of the text, or the first of them.
    fn list(&mut self, text: Range<u64>, omissions: &mut Omissions) {
        let piece = functions::list(&mut self.cies, &text, self.functions_max, omissions);
        self.rest = piece.rest.map(|rest| rest..text.end);
        self.functions = piece.functions;
        self.next = 0;
    }

    /// Lists the next functions if there are no more of those that were listed. What cannot be read
    /// is counted already.
    fn list_rest(&mut self) {
        while self.next >= self.functions.len() {
            let Some(rest) = self.rest.take() else { return };
            self.list(rest, &mut Omissions::default());
        }
    }

    /// Takes some functions of a section, sorted by address. `work`: bytes of instructions that
    /// may be executed.
    pub fn of(
        section: &'s S,
        bases: &'s BaseAddresses,
        mut functions: Vec<Fde<S::Offset>>,
        work: usize,
        with_base: bool,
    ) -> Self {
        functions.dedup_by_key(|function| function.start);
        Self {
            section,
            cies: Cies::new(section, bases),
            functions,
            rest: None,
            functions_max: FUNCTIONS_MAX,
            next: 0,
            current: 0..0,
            is_behind_padding: false,
            rows: Vec::new(),
            context: UnwindContext::new(),
            work,
            code: None,
            code_left: leaving::FUNCTIONS_MAX,
            lacks_code: false,
            with_base,
            needs_base: false,
            stats: LayerStats::default(),
        }
    }
}

impl<'a, S> Layer for CallFrameLayer<'_, 'a, S>
where
    S: UnwindSection<Slice<'a>>,
    S::Offset: UnwindOffset<usize> + Hash,
{
    fn next(&mut self, stretch: Range<u64>) -> Option<Range<u64>> {
        self.list_rest();
        while self.functions.get(self.next)?.start < stretch.start {
            self.next += 1;
            self.list_rest();
        }
        let function = &self.functions[self.next];
        if function.start >= stretch.end {
            return None;
        }
        let after = self.functions.get(self.next + 1).map(|next| next.start);
        let after = after.or(self.rest.as_ref().map(|rest| rest.start)).unwrap_or(stretch.end);
        self.next += 1;
        self.stats.functions += 1;
        self.current = function.start..function.end.min(after).min(stretch.end);
        self.is_behind_padding =
            stretch.start < function.start && is_padding(stretch.start, function.start);
        Some(self.current.clone())
    }

    fn rows(&mut self, push: &mut dyn FnMut(u64, Rule)) {
        let Self { section, cies, context, work, with_base, needs_base, stats, current, .. } = self;
        let Some(function) = self.functions.get(self.next.wrapping_sub(1)) else { return };
        let (rows, mut saves_results) = (&mut self.rows, false);
        rows.clear();
        let result = cies.rows(function, context, work, |start, row| {
            if start < current.end {
                stats.rows += 1;
                let rule = row_rule::rule_of(row, *section, *with_base, &mut stats.omissions);
                *needs_base |= rule.has_cfa_in_base();
                saves_results |= leaving::saves_results(row);
                rows.push((start, rule));
            }
        });
        if let Err(failure) = result {
            match failure {
                RowsError::Malformed => stats.omissions.malformed += 1,
                RowsError::Limit => stats.omissions.limit += 1,
            }
            // The end of the last row is unknown.
            let last = rows.pop().map_or(function.start, |(start, _)| start);
            rows.push((last, Rule::NOT_EXPRESSIBLE));
        }
        match self.code {
            Some(code) if saves_results && self.code_left > 0 => {
                self.code_left -= 1;
                stats.omissions.return_address += leaving::omit(rows, current.clone(), code);
            }
            Some(_) => {}
            None => self.lacks_code |= saves_results,
        }
        if never_returns(rows) {
            if self.is_behind_padding {
                push(function.start - 1, Rule::OUTSIDE); // no call returns to its start
            }
            rows.iter_mut().for_each(|(_, rule)| rule.ra = RegisterRule::ReturnOrRoot);
        }
        rows.iter().for_each(|(start, rule)| push(*start, *rule));
    }

    fn stats(&self) -> LayerStats {
        self.stats
    }
}

/// Returns whether a function never returns, nor leaves by a jump, once it has set up its frame: it
/// would be at the height of its entry there. Compilers describe each change of height.
fn never_returns(rows: &[(u64, Rule)]) -> bool {
    let is_called = |rule: &Rule| rule.ra == RegisterRule::SAVED_RA;
    let has_frame = |rule: &Rule| match rule.cfa {
        Cfa::Register(SP, height) => height > ENTRY_HEIGHT,
        Cfa::Register(..) | Cfa::AtRegister { .. } => true,
        _ => false,
    };
    match rows {
        [(_, entry), body @ ..] if !body.is_empty() => {
            entry.cfa == Cfa::Register(SP, ENTRY_HEIGHT)
                && is_called(entry)
                && body.iter().all(|(_, rule)| has_frame(rule) && is_called(rule))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::FP;
    use crate::elf::Elf;
    use crate::sections::CfiSections;
    use crate::test_file::bytes_of;

    const RULE: Rule = Rule {
        cfa: Cfa::Register(SP, 8),
        fp: RegisterRule::SameValue,
        base: RegisterRule::Undefined,
        ra: RegisterRule::SAVED_RA,
    };

    fn rows(cfas: &[Cfa]) -> Vec<(u64, Rule)> {
        (0x1000..).zip(cfas).map(|(at, cfa)| (at, Rule { cfa: *cfa, ..RULE })).collect()
    }

    #[test]
    fn function_that_never_returns_keeps_its_frame() {
        let sp = |height| Cfa::Register(SP, height);
        assert!(never_returns(&rows(&[sp(8), sp(16)])));
        assert!(never_returns(&rows(&[sp(8), sp(16), Cfa::Register(FP, 16), sp(40)])));
        let returning: [&[Cfa]; 6] = [
            &[],
            &[sp(8)],
            &[sp(8), sp(16), sp(8)],
            &[sp(8), Cfa::Register(FP, 16), sp(8)],
            &[sp(16), sp(24)], // a part of a function
            &[sp(8), Cfa::Root],
        ];
        for cfas in returning {
            assert!(!never_returns(&rows(cfas)), "{cfas:?}");
        }
        let mut jumping = rows(&[sp(8), sp(16)]);
        jumping[1].1.ra = RegisterRule::Register(FP);
        assert!(!never_returns(&jumping));
    }

    #[test]
    fn functions_listed_in_pieces_are_those_listed_at_once() {
        let whole = std::fs::read("/proc/self/exe").expect("the running executable is readable");
        let read = bytes_of(&whole);
        let elf = Elf::read(&read).expect("an ELF file");
        let text = elf.table_text().expect("it has code");
        let sections = CfiSections::read(&elf, false).expect("it has call frames");
        let section = sections.eh_frame();
        let all = |functions_max| {
            let (section, bases) = (&section, &sections.bases);
            let mut layer =
                CallFrameLayer::in_pieces(section, bases, text.clone(), false, functions_max);
            let mut rows = Vec::new();
            while let Some(function) = layer.next(text.clone()) {
                rows.push((function.start, None));
                layer.rows(&mut |at, rule| rows.push((at, Some(rule))));
            }
            (rows, layer.stats())
        };
        let at_once = all(FUNCTIONS_MAX);
        let functions = at_once.1.functions;
        assert!(functions > 1000, "{functions}");
        // Each piece takes a pass over the section.
        for functions_max in [functions as usize, functions as usize / 3, 1000] {
            assert_eq!(all(functions_max), at_once, "{functions_max} at once");
        }
    }
}
