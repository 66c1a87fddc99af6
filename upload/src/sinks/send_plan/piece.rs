//! Pieces of a batch: some samples of one series.

use std::ops::Range;
use std::sync::Arc;

use profile::Labels;

use crate::batch::Batch;

/// Some samples of one series.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Labels of the series, as the sink sends them.
    pub labels: Arc<Labels>,
    /// Indices of the series' samples in the batch.
    series: Arc<[usize]>,
    range: Range<usize>,
}

impl Piece {
    /// Returns a piece that is a whole series. `samples`: indices in the batch, ascending.
    pub fn of_series(labels: Labels, samples: Vec<usize>) -> Self {
        let range = 0..samples.len();
        Self { labels: Arc::new(labels), series: samples.into(), range }
    }

    /// Returns the indices of its samples in the batch.
    pub fn samples(&self) -> &[usize] {
        &self.series[self.range.clone()]
    }

    /// Returns which of the series' samples these are.
    pub fn range(&self) -> Range<usize> {
        self.range.clone()
    }

    /// Splits it in two; `None` for a single stack.
    pub fn halves(&self) -> Option<[Self; 2]> {
        let Range { start, end } = self.range;
        let middle = start + (end - start) / 2;
        let part = |range| Self { range, ..self.clone() };
        (middle > start).then(|| [part(start..middle), part(middle..end)])
    }
}

/// Splits pieces into two lists with about as many samples, between series if there are several;
/// `None` for a single stack.
pub(super) fn halves(pieces: &[Piece]) -> Option<[Vec<Piece>; 2]> {
    match pieces {
        [] => None,
        [piece] => piece.halves().map(|halves| halves.map(|half| vec![half])),
        pieces => {
            let all: usize = pieces.iter().map(|piece| piece.samples().len()).sum();
            let mut before = 0;
            let fits = |piece: &&Piece| {
                before += piece.samples().len();
                before <= all / 2
            };
            let middle = pieces.iter().take_while(fits).count().clamp(1, pieces.len() - 1);
            let (first, second) = pieces.split_at(middle);
            Some([first.to_vec(), second.to_vec()])
        }
    }
}

/// Returns the samples whose count is not 0.
pub(crate) fn counted(batch: &Batch, mut samples: Vec<usize>) -> Vec<usize> {
    let index = batch.value_index("samples", "count").unwrap_or(usize::MAX);
    let count = |sample: usize| batch.profile.sample.get(sample)?.value.get(index).copied();
    samples.retain(|sample| count(*sample).is_some_and(|count| count > 0));
    samples
}

/// Returns how often each sample of a batch was seen: its `samples/count`, or once.
pub(super) fn counts(batch: &Batch) -> Vec<u64> {
    let index = batch.value_index("samples", "count").unwrap_or(usize::MAX);
    let count = |value: &Vec<i64>| value.get(index).map_or(1, |count| (*count).max(0) as u64);
    batch.profile.sample.iter().map(|sample| count(&sample.value)).collect()
}
