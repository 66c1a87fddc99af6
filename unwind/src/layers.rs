//! Sources of rows, one below the other: what a layer has no function for is asked of the next.
//!
//! Call-frame information comes first, then Go's own function table, then what is known of code that
//! nothing speaks of. Each layer is asked for stretches of text in the order of their addresses.

use std::collections::VecDeque;
use std::ops::Range;

use crate::cfi::Omissions;
use crate::rule::Rule;
use crate::table::TableBuilder;

/// Padding up to this alignment of the next function is no gap between functions.
const ALIGNMENT_MAX: u64 = 64;

/// What a layer has seen and left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LayerStats {
    /// Functions with rows.
    pub functions: u64,
    /// Rows as the file has them, before equal neighbours are merged.
    pub rows: u64,
    /// What is missing.
    pub omissions: Omissions,
}

/// A source of rows.
pub(crate) trait Layer {
    /// Gives the next function that begins in a stretch of text, cut where the stretch ends; it may take a
    /// byte before. Stretches only rise, and a function that was given is not given again.
    fn next(&mut self, stretch: Range<u64>) -> Option<Range<u64>>;

    /// Gives the rows of the function that [`Layer::next`] gave last, in the order of their addresses;
    /// nothing at or behind its end counts.
    fn rows(&mut self, push: &mut dyn FnMut(u64, Rule));

    /// What it has seen so far.
    fn seen(&self) -> LayerStats;
}

/// Ranges of addresses with one rule each, given one after the other: what the simpler layers are made of.
#[derive(Clone, Default)]
pub(crate) struct RangeLayer {
    /// What was not given yet, in the order of addresses.
    pub waiting: VecDeque<(Range<u64>, Rule)>,
    last: Option<(u64, Rule)>,
    seen: LayerStats,
}

impl Layer for RangeLayer {
    /// Gives the next one, as far as it lies in the stretch and up to a byte before.
    fn next(&mut self, stretch: Range<u64>) -> Option<Range<u64>> {
        while self.waiting.front()?.0.end <= stretch.start {
            self.waiting.pop_front();
        }
        if self.waiting.front()?.0.start >= stretch.end {
            return None;
        }
        let (range, rule) = self.waiting.pop_front()?;
        let range = range.start.max(stretch.start.saturating_sub(1))..range.end.min(stretch.end);
        self.last = Some((range.start, rule));
        self.seen.functions += 1;
        self.seen.rows += 1;
        Some(range)
    }

    fn rows(&mut self, push: &mut dyn FnMut(u64, Rule)) {
        if let Some((start, rule)) = self.last.take() {
            push(start, rule);
        }
    }

    fn seen(&self) -> LayerStats {
        self.seen
    }
}

/// Fills a stretch of text from the topmost layer down. `given`: told of each function, and how many layers
/// are below the one that gave it.
pub(crate) fn fill(
    layers: &mut [&mut dyn Layer],
    stretch: Range<u64>,
    table: &mut TableBuilder,
    given: &mut dyn FnMut(usize, Range<u64>),
) {
    let Some((layer, lower)) = layers.split_first_mut() else {
        if !is_padding(stretch.start, stretch.end) {
            table.push(stretch.start, Rule::NO_ROW);
        }
        return;
    };
    let mut at = stretch.start;
    while let Some(function) = layer.next(at..stretch.end) {
        if at < function.start {
            fill(lower, at..function.start, table, given);
        }
        layer.rows(&mut |address, rule| {
            if address < function.end {
                table.push(address, rule);
            }
        });
        at = function.end;
        given(lower.len(), function);
    }
    if at < stretch.end {
        fill(lower, at..stretch.end, table, given);
    }
}

/// Says whether what lies between two functions is only there to align the second.
fn is_padding(end: u64, next: u64) -> bool {
    let alignment = (1u64 << next.trailing_zeros().min(63)).min(ALIGNMENT_MAX);
    next - end < alignment
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::BLOCK_SHIFT_MAX;

    fn ranges(all: Vec<(Range<u64>, Rule)>) -> RangeLayer {
        RangeLayer { waiting: all.into(), ..RangeLayer::default() }
    }

    #[test]
    fn a_lower_layer_speaks_only_where_the_upper_ones_are_silent() {
        let mut upper = ranges(vec![(0x100..0x180, Rule::SIGNAL)]);
        let mut lower = ranges(vec![
            (0x40..0x120, Rule::ROOT),
            (0x140..0x160, Rule::ROOT),
            (0x200..0x210, Rule::ROOT),
        ]);
        let mut table = TableBuilder::new(0, 0x1000, BLOCK_SHIFT_MAX);
        let mut given = Vec::new();
        let layers: &mut [&mut dyn Layer] = &mut [&mut upper, &mut lower];
        fill(layers, 0..0x1000, &mut table, &mut |below, range| given.push((below, range)));
        assert_eq!(given, [(0, 0x40..0x100), (1, 0x100..0x180), (0, 0x200..0x210)]);
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
