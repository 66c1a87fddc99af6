//! One batch to profiles that Pyroscope takes: one or more for each series, each within its limits.
//!
//! [`Pieces`] makes them one at a time, so that a large batch is never in memory twice. A piece's id
//! depends only on what it is of: one that is made again, after a restart too, has the same.
//!
//! - Values are `cpu/nanoseconds` alone, which is what Pyroscope's own agents send.
//! - Of a stack that is too deep the frames next to the root go. The server itself would cut the innermost ones.
//! - Of a sample's own labels `cut` and `guessed` are sent, if at all: the server makes a series of each value.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;
use std::sync::Arc;

use profile::labels::{CUT, GUESSED};
use profile::pprof::proto as pb;
use prost::Message;

use super::Limits;
use super::labels::{SeriesLabels, choose};
use super::proto::LabelPair;
use crate::batch::{Batch, subset};
use crate::sinks::symbolize::{Symbolize, leave_names_to_server};

/// The labels of samples that are worth a series of their own.
const SAMPLE_LABELS: [&str; 2] = [CUT, GUESSED];

/// What is wrong with a batch.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum EncodeError {
    /// It has other values.
    #[error("the window has no values of cpu in nanoseconds; it was not made by this program")]
    NoCpuTime,
}

/// What is sent along.
#[derive(Clone, Copy, Debug)]
pub(super) struct With {
    /// `cut` and `guessed` of samples.
    pub sample_labels: bool,
    /// Names of functions, but those that the server finds.
    pub symbolize: Symbolize,
}

/// One profile of a series, as it is sent.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    /// A UUID; the same whenever this piece is made.
    pub id: String,
    /// Labels of its series, sorted by name.
    pub labels: Arc<[LabelPair]>,
    /// pprof, not compressed. Empty if it would be too large.
    pub raw: Vec<u8>,
    /// Samples as they were counted, not rows.
    pub samples: u64,
    /// A single stack that is larger than the server takes.
    pub is_too_large: bool,
    part: Part,
}

impl Piece {
    /// What the server counts of it: the uncompressed profile and its labels.
    pub(super) fn bytes(&self) -> usize {
        self.raw.len() + label_bytes(&self.labels)
    }
}

/// Some samples of a series.
#[derive(Clone, Debug)]
struct Part {
    labels: Arc<[LabelPair]>,
    samples: Arc<[usize]>,
    range: Range<usize>,
}

/// The pieces of one batch, in the order of their labels.
pub(super) struct Pieces<'a> {
    profile: pb::Profile,
    limits: &'a Limits,
    cpu: usize,
    count: Option<usize>,
    /// The next is last.
    todo: Vec<Part>,
    back: Option<Piece>,
    /// Labels that were left out or cut, over all series.
    pub labels_lost: u64,
    /// Samples whose stack was cut.
    pub stacks_cut: u64,
}

impl<'a> Pieces<'a> {
    /// Takes a batch apart.
    ///
    /// # Errors
    /// [`EncodeError`] when there is nothing in it that could be sent.
    pub(super) fn new(
        batch: &'a Batch,
        limits: &'a Limits,
        with: With,
    ) -> Result<Self, EncodeError> {
        let cpu = batch.value_index("cpu", "nanoseconds").ok_or(EncodeError::NoCpuTime)?;
        let mut profile = batch.profile.clone();
        profile.comment.clear();
        keep_labels(&mut profile, with.sample_labels);
        if with.symbolize == Symbolize::Server {
            leave_names_to_server(&mut profile);
        }
        let stacks_cut = cut_stacks(&mut profile, limits.stack_frames, with.sample_labels);
        let own = if with.sample_labels { SAMPLE_LABELS.len() } else { 0 };
        let (todo, labels_lost) = parts(batch, limits.labels.saturating_sub(own));
        let count = batch.value_index("samples", "count");
        Ok(Self { profile, limits, cpu, count, todo, back: None, labels_lost, stacks_cut })
    }

    /// Comes back to a piece that the server found too large, in halves. Says whether that is possible.
    pub(super) fn halve(&mut self, piece: &Piece) -> bool {
        let Range { start, end } = piece.part.range;
        let middle = start + (end - start) / 2;
        if middle == start {
            return false;
        }
        self.todo.push(Part { range: middle..end, ..piece.part.clone() });
        self.todo.push(Part { range: start..middle, ..piece.part.clone() });
        true
    }

    /// The piece that [`Self::next`] gives next.
    pub(super) fn put_back(&mut self, piece: Piece) {
        self.back = Some(piece);
    }

    /// The most that the server takes of one profile: beyond a burst it would answer 429 for ever.
    fn bytes_max(&self) -> usize {
        let bytes = self.limits.profile_bytes.min(self.limits.burst_bytes);
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }

    fn piece(&self, part: Part) -> Piece {
        let samples = &part.samples[part.range.clone()];
        let profile = subset(&self.profile, samples, &[self.cpu]);
        let counted = samples.iter().map(|place| self.count_of(*place)).sum();
        Piece {
            id: id_of(&self.profile, &part),
            labels: part.labels.clone(),
            raw: profile.encode_to_vec(),
            samples: counted,
            is_too_large: false,
            part,
        }
    }

    fn count_of(&self, sample: usize) -> u64 {
        let value = self.count.and_then(|place| self.profile.sample[sample].value.get(place));
        value.map_or(1, |value| u64::try_from(*value).unwrap_or(0))
    }
}

impl Iterator for Pieces<'_> {
    type Item = Piece;

    fn next(&mut self) -> Option<Piece> {
        if let Some(piece) = self.back.take() {
            return Some(piece);
        }
        loop {
            let part = self.todo.pop()?;
            if part.range.len() > self.limits.profile_samples {
                let middle = part.range.start + part.range.len() / 2;
                self.todo.push(Part { range: middle..part.range.end, ..part.clone() });
                self.todo.push(Part { range: part.range.start..middle, ..part });
                continue;
            }
            let mut piece = self.piece(part);
            if piece.bytes() <= self.bytes_max() {
                return Some(piece);
            }
            if !self.halve(&piece) {
                (piece.raw, piece.is_too_large) = (Vec::new(), true);
                return Some(piece);
            }
        }
    }
}

/// The series of a batch with the labels that they have at the server, the last first, and how many labels
/// were lost. Series that differ in lost labels only are one.
fn parts(batch: &Batch, labels_max: usize) -> (Vec<Part>, u64) {
    let mut lost_of_all = 0;
    let mut by_labels: BTreeMap<Vec<(String, String)>, Vec<usize>> = BTreeMap::new();
    for series in batch.series() {
        let SeriesLabels { pairs, lost } = choose(&series.labels, labels_max);
        lost_of_all += lost;
        let key = pairs.into_iter().map(|pair| (pair.name, pair.value)).collect();
        by_labels.entry(key).or_default().extend(series.samples);
    }
    let part = |(pairs, samples): (Vec<(String, String)>, Vec<usize>)| Part {
        labels: pairs.into_iter().map(|(name, value)| LabelPair { name, value }).collect(),
        range: 0..samples.len(),
        samples: samples.into(),
    };
    (by_labels.into_iter().rev().map(part).collect(), lost_of_all)
}

/// Drops all labels of samples but those that are sent: their series' labels go beside the profile.
fn keep_labels(profile: &mut pb::Profile, with_sample_labels: bool) {
    let kept: Vec<i64> = (0i64..)
        .zip(&profile.string_table)
        .filter(|(_, text)| with_sample_labels && SAMPLE_LABELS.contains(&text.as_str()))
        .map(|(place, _)| place)
        .collect();
    for sample in &mut profile.sample {
        sample.label.retain(|label| label.str != 0 && kept.contains(&label.key));
    }
}

/// Cuts stacks that are deeper than the server takes, at the root, and says so in their `cut` label.
/// Gives how many samples that were.
fn cut_stacks(profile: &mut pb::Profile, depth: usize, say_so: bool) -> u64 {
    let is_deep = |sample: &pb::Sample| sample.location_id.len() > depth;
    if !profile.sample.iter().any(is_deep) {
        return 0;
    }
    let key = place_of_text(profile, CUT);
    let value = place_of_text(profile, &format!("user: deeper than {depth} frames"));
    let mut cut = 0;
    for sample in profile.sample.iter_mut().filter(|sample| is_deep(sample)) {
        cut += 1;
        sample.location_id.truncate(depth);
        if say_so && sample.label.iter().all(|label| label.key != key) {
            sample.label.push(pb::Label { key, str: value, ..pb::Label::default() });
        }
    }
    cut
}

fn place_of_text(profile: &mut pb::Profile, text: &str) -> i64 {
    let found = profile.string_table.iter().position(|known| known == text);
    let place = found.unwrap_or_else(|| {
        profile.string_table.push(text.to_owned());
        profile.string_table.len() - 1
    });
    place as i64
}

fn label_bytes(labels: &[LabelPair]) -> usize {
    labels.iter().map(|label| label.name.len() + label.value.len()).sum()
}

/// A UUID of version 8 (RFC 9562), made of what tells a piece from all others.
fn id_of(profile: &pb::Profile, part: &Part) -> String {
    let half = |salt: u64| {
        let mut hasher = DefaultHasher::new();
        (salt, profile.time_nanos, profile.duration_nanos).hash(&mut hasher);
        for label in part.labels.iter() {
            (&label.name, &label.value).hash(&mut hasher);
        }
        (part.range.start, part.range.end).hash(&mut hasher);
        hasher.finish()
    };
    let (high, low) = (half(0), half(1));
    let bits = (u128::from(high) << 64) | u128::from(low);
    let bits = bits & !(0xf << 76) | (0x8 << 76); // version 8
    let bits = bits & !(0x3 << 62) | (0x2 << 62); // variant of the RFC
    let hex = format!("{bits:032x}");
    let groups = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
    groups.join("-")
}
