//! Layers of rows: where one source has no function, the next one below it is asked.
//!
//! From the top: code with wrong call frames, `.eh_frame`, `.debug_frame`, Go's function table,
//! code that linkers insert, code without call frames, Haskell code, rows derived from machine
//! code. [`fill`] asks each layer for stretches of text in the order of their addresses.

use std::collections::VecDeque;
use std::ops::Range;

use crate::omissions::Omissions;
use crate::rule::Rule;
use crate::table::TableBuilder;

/// Padding up to this alignment of the next function is no gap between functions. A longer gap may
/// be a function: compilers align to more only where they are asked to.
pub(crate) const ALIGNMENT_MAX: u64 = 16;

/// What a layer has returned and omitted so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LayerStats {
    /// Functions with rows.
    pub functions: u64,
    /// Rows in the file, before equal neighbours are merged.
    pub rows: u64,
    /// Rows that have no rule.
    pub omissions: Omissions,
}

/// A source of rows.
pub(crate) trait Layer {
    /// Moves to the next function that begins in a stretch and returns its addresses, cut at the
    /// end of the stretch; they may begin a byte before it. Stretches only ascend, and each
    /// function is returned once.
    fn next(&mut self, stretch: Range<u64>) -> Option<Range<u64>>;

    /// Pushes the rows of the current function in the order of their addresses. Rows at or after
    /// its end are ignored.
    fn rows(&mut self, push: &mut dyn FnMut(u64, Rule));

    fn stats(&self) -> LayerStats;
}

/// A layer of address ranges with one rule each. The simpler layers consist of these.
#[derive(Clone, Default)]
pub(crate) struct RangeLayer {
    /// Ranges that have not been returned yet, ascending.
    pub pending: VecDeque<(Range<u64>, Rule)>,
    current: Option<(u64, Rule)>,
    stats: LayerStats,
}

impl Layer for RangeLayer {
    /// Returns the part of the next range from a byte before the stretch to its end.
    fn next(&mut self, stretch: Range<u64>) -> Option<Range<u64>> {
        while self.pending.front()?.0.end <= stretch.start {
            self.pending.pop_front();
        }
        if self.pending.front()?.0.start >= stretch.end {
            return None;
        }
        let (range, rule) = self.pending.pop_front()?;
        if range.end > stretch.end {
            self.pending.push_front((stretch.end..range.end, rule));
        }
        let range = range.start.max(stretch.start.saturating_sub(1))..range.end.min(stretch.end);
        self.current = Some((range.start, rule));
        self.stats.functions += 1;
        self.stats.rows += 1;
        Some(range)
    }

    fn rows(&mut self, push: &mut dyn FnMut(u64, Rule)) {
        if let Some((start, rule)) = self.current.take() {
            push(start, rule);
        }
    }

    fn stats(&self) -> LayerStats {
        self.stats
    }
}

/// Fills a stretch of text from the topmost layer down. `on_function` is called after each
/// function, with the number of layers below the one that had it, and `on_gap` with each stretch
/// that no layer has.
pub(crate) fn fill(
    layers: &mut [&mut dyn Layer],
    stretch: Range<u64>,
    table: &mut TableBuilder,
    on_function: &mut dyn FnMut(usize, Range<u64>),
    on_gap: &mut dyn FnMut(Range<u64>),
) {
    let Some((layer, lower)) = layers.split_first_mut() else {
        on_gap(stretch.clone());
        if !is_padding(stretch.start, stretch.end) {
            table.push(stretch.start, Rule::NO_ROW);
        }
        return;
    };
    let mut at = stretch.start;
    while let Some(function) = layer.next(at..stretch.end) {
        if at < function.start {
            fill(lower, at..function.start, table, on_function, on_gap);
        }
        layer.rows(&mut |address, rule| {
            if address < function.end {
                table.push(address, rule);
            }
        });
        at = function.end;
        on_function(lower.len(), function);
    }
    if at < stretch.end {
        fill(lower, at..stretch.end, table, on_function, on_gap);
    }
}

/// Returns whether the bytes between two functions only align the second one.
pub(crate) fn is_padding(end: u64, next: u64) -> bool {
    let alignment = (1u64 << next.trailing_zeros().min(63)).min(ALIGNMENT_MAX);
    next - end < alignment
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::BLOCK_SHIFT_MAX;

    fn layer(ranges: Vec<(Range<u64>, Rule)>) -> RangeLayer {
        RangeLayer { pending: ranges.into(), ..RangeLayer::default() }
    }

    #[test]
    fn lower_layer_fills_only_gaps_of_the_upper() {
        let mut upper = layer(vec![(0x100..0x180, Rule::SIGNAL)]);
        let mut lower = layer(vec![
            (0x40..0x120, Rule::ROOT),
            (0x140..0x160, Rule::ROOT),
            (0x200..0x210, Rule::ROOT),
        ]);
        let mut table = TableBuilder::new(0, 0x1000, BLOCK_SHIFT_MAX);
        let mut functions = Vec::new();
        let layers: &mut [&mut dyn Layer] = &mut [&mut upper, &mut lower];
        let mut gaps = Vec::new();
        let mut on_function = |below, range| functions.push((below, range));
        fill(layers, 0..0x1000, &mut table, &mut on_function, &mut |gap| gaps.push(gap));
        assert_eq!(gaps, [0..0x40, 0x180..0x200, 0x210..0x1000]);
        assert_eq!(functions, [(0, 0x40..0x100), (1, 0x100..0x180), (0, 0x200..0x210)]);
        let rows: Vec<_> = table.finish().iter().collect();
        let expected = [
            (0x40, Rule::ROOT),
            (0x100, Rule::SIGNAL),
            (0x180, Rule::NO_ROW),
            (0x200, Rule::ROOT),
            (0x210, Rule::NO_ROW),
        ];
        assert_eq!(rows, expected);
    }
}
