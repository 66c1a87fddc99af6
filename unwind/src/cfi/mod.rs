//! The layer of call-frame information (CFI): the functions of one section and their rows.
//!
//! `.eh_frame` and `.debug_frame` hold one entry (FDE) per function, in any order. [`functions`]
//! lists them sorted by address; then only one function's rows are in memory at a time.
//! [`row_rule`] turns each row into a [`Rule`]. A row that no rule expresses becomes a counted
//! gap and costs no other row.
//!
//! Source: DWARF 5 section 6.4, LSB 5.0 chapter 10.6.

mod expression;
mod functions;
mod row_rule;

use std::hash::Hash;
use std::ops::Range;

use gimli::{BaseAddresses, UnwindContext, UnwindOffset, UnwindSection};

use crate::layers::{Layer, LayerStats};
use crate::omissions::Omissions;
use crate::rule::Rule;
use crate::sections::Slice;
use functions::{Cies, RowsError};
pub(crate) use functions::{Fde, fde_at};

/// Bytes of CFA instructions executed, as a multiple of the section's size. Every FDE also runs
/// those of its CIE, so a hostile file could ask for the square of its size.
const WORK_MAX: usize = 32;

/// The layer of one section of call-frame information.
pub(crate) struct CallFrameLayer<'s, 'a, S>
where
    S: UnwindSection<Slice<'a>>,
{
    section: &'s S,
    cies: Cies<'s, 'a, S>,
    /// Sorted, at most one per address.
    functions: Vec<Fde<S::Offset>>,
    /// Index of the function after the current one.
    next: usize,
    /// Addresses of the current function. It ends where the next one starts if the two overlap.
    current: Range<u64>,
    context: UnwindContext<usize>,
    /// Bytes of instructions that may still be executed.
    work: usize,
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
        let mut cies = Cies::new(section, bases);
        let mut omissions = Omissions::default();
        let functions = functions::list(&mut cies, &text, &mut omissions);
        let work = section.section().len().saturating_mul(WORK_MAX);
        let mut layer = Self::of(section, bases, functions, work, with_base);
        (layer.cies, layer.stats.omissions) = (cies, omissions);
        layer
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
            next: 0,
            current: 0..0,
            context: UnwindContext::new(),
            work,
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
        while self.functions.get(self.next)?.start < stretch.start {
            self.next += 1;
        }
        let function = &self.functions[self.next];
        if function.start >= stretch.end {
            return None;
        }
        let after = self.functions.get(self.next + 1).map_or(stretch.end, |next| next.start);
        self.next += 1;
        self.stats.functions += 1;
        self.current = function.start..function.end.min(after).min(stretch.end);
        Some(self.current.clone())
    }

    fn rows(&mut self, push: &mut dyn FnMut(u64, Rule)) {
        let Self { section, cies, context, work, with_base, needs_base, stats, current, .. } = self;
        let Some(function) = self.functions.get(self.next.wrapping_sub(1)) else { return };
        let mut last_row = function.start;
        let result = cies.rows(function, context, work, |start, row| {
            if start < current.end {
                last_row = start;
                stats.rows += 1;
                let rule = row_rule::rule_of(row, *section, *with_base, &mut stats.omissions);
                *needs_base |= rule.has_cfa_in_base();
                push(start, rule);
            }
        });
        if let Err(failure) = result {
            match failure {
                RowsError::Malformed => stats.omissions.malformed += 1,
                RowsError::Limit => stats.omissions.limit += 1,
            }
            push(last_row, Rule::NOT_EXPRESSIBLE); // the end of the last row is unknown
        }
    }

    fn stats(&self) -> LayerStats {
        self.stats
    }
}
